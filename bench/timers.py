"""Ten thousand sagas that wait, and as many that are due at the same minute.

They are copies of one row of the ledger, each with its own id. A call of AWS is taken to last
`LATENCY`, by the machine's clock, for several are made at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from bench.figures import Figure, say
from bench.samples import sample, things
from recourse.declare.ids import SagaId
from recourse.events import moment
from recourse.ledger.record import Record, due_place
from recourse.orchestration import sweeper
from recourse.store.items import encode_item
from recourse.testing.ground import LEDGER
from statemachines.transfer import TRANSFER
from statemachines.visit import VISIT
from tests.ground import Ground, ground

SAGAS = 10_000
ALONE = 200
"""How many are begun one after the other, for comparison."""
LATENCY = 0.02
"""Seconds that a call of AWS is taken to last."""
MOST_ROUND = 5.0
"""Seconds that a round may take while nothing is due."""
MOST_ROUNDS = 10


def measure() -> list[Figure]:
    """Let the sweeper go round, over what waits and over what is due."""
    with ground() as place:
        for (kind, thing), body in things().items():
            place.put(kind, thing, body)
        quiet = _waiting(place)
        place.wipe()
        rounds, took, faster = _due(place)
    return [
        Figure(
            what="a round of the sweeper while nothing is due",
            size=f"{SAGAS} visits that wait for a decision",
            figure=f"{quiet:.2f} s",
            alternative=f"{MOST_ROUND:g} s",
            ratio=quiet / MOST_ROUND,
            most=1,
        ),
        Figure(
            what="rounds until all are begun that are due at the same minute",
            size=f"{SAGAS} transfers, {LATENCY * 1000:.0f} ms a call of AWS",
            figure=f"{rounds}, of {took / rounds:.0f} s each",
            alternative=f"{MOST_ROUNDS} rounds",
            ratio=rounds / MOST_ROUNDS,
            most=1,
        ),
        Figure(
            what="sagas begun in a second, several at once",
            size=f"the same; {ALONE} one after the other",
            figure=f"{SAGAS / took:.0f}",
            alternative=f"{SAGAS / took / faster:.0f}, one after the other",
            ratio=faster,
            least=2,
        ),
    ]


def _waiting(place: Ground) -> float:
    """How long a round takes over visits that wait, in seconds."""
    place.put("policies", "asha-family", {"covers": {"percent": 80}, "decision": "manual"})
    body = {**sample(VISIT), "policy_id": "asha-family"}
    first = place.start(VISIT.name, body, key="waiting")
    place.settle()
    _copy(place, first)
    place.clock.sleep(3600)
    begun = time.perf_counter()
    done = place.sweep()
    took = time.perf_counter() - begun
    assert done == {}, done
    return took


def _due(place: Ground) -> tuple[int, float, float]:
    """How many rounds it takes to begin what is due, the seconds of all, and how much faster."""
    at = moment(datetime.fromtimestamp(place.clock.seconds() + 60, UTC))
    first = place.start(
        TRANSFER.name, sample(TRANSFER), key="due", coordination="choreography", begins_at=at
    )
    _copy(place, first)
    place.clock.sleep(61)
    with _lasting(place), mock.patch.object(sweeper, "AT_ONCE", 1):
        limit = ALONE * LATENCY * 4 * 2
        with mock.patch.object(sweeper, "ROUND_TIME_LIMIT", limit):
            begun = time.perf_counter()
            alone = len(place.sweep()) / (time.perf_counter() - begun)
    rounds, took, number = 0, 0.0, 0
    nothing = mock.patch.object(place.ledger.queries, "unfinished", lambda *_: iter(()))
    with _lasting(place), nothing:  # what has begun goes on by itself, elsewhere
        while rounds < 2 * MOST_ROUNDS:
            begun = time.perf_counter()
            begins = len(place.sweep())
            if not begins:
                break
            rounds, number = rounds + 1, number + begins
            took += time.perf_counter() - begun
            say(f"round {rounds}: {begins} begun, {number} in all, {took:.0f} s")
    return rounds, took, number / took / alone


def _copy(place: Ground, saga_id: str) -> None:
    """Let there be as many sagas as this one, in the same state."""
    row: dict[str, Any] | None = place.row(LEDGER, saga_id)
    assert row is not None
    record = Record.from_row(row)
    assert record.due_at is not None
    due = record.due_at.partition("#")[0]
    for number in range(1, SAGAS):
        copy = SagaId.of(record.saga, "asha", f"copy-{number}")
        made = replace(record, saga_id=copy, due_at=due_place(due, copy))
        place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(made.to_row()))


@contextmanager
def _lasting(place: Ground) -> Iterator[None]:
    """Let each call of DynamoDB take its time."""

    def called(**_: Any) -> None:
        time.sleep(LATENCY)

    hooks = place.dynamodb.meta.events
    hooks.register("before-call", called)
    yield
    hooks.unregister("before-call", called)
