"""What something still waits for does not expire: sagas that stand for months end as others do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from recourse.declare.checks import LONGEST_DEADLINE
from recourse.declare.declaration import Coordination
from recourse.declare.saga import Saga
from recourse.events import event as event_module
from recourse.events import moment
from recourse.events.outbox import expiry
from recourse.queues.inbox import Inbox
from recourse.store import retention
from recourse.testing.ground import LEDGER
from statemachines import SAGAS
from tests.ground import Ground
from tests.integration.test_every_saga import must_be_as_told, sample, start, supply

DAYS = 24 * 3600
MONTHS = 200 * DAYS
keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


@pytest.fixture
def made(bare: Ground) -> Iterator[Ground]:
    """A ground whose sagas may wait for a year."""
    supply(bare)
    bare.deploy({name: replace(saga, deadline=LONGEST_DEADLINE) for name, saga in SAGAS.items()})
    bare.clock.reset()
    yield bare
    bare.deploy(SAGAS)
    bare.clock.reset()


def pass_time(ground: Ground, seconds: float) -> None:
    """Move on, and let DynamoDB delete what has expired then."""
    ground.clock.sleep(seconds)
    for table in (*ground.services, LEDGER):
        for row in ground.rows(table, ""):
            if row.get("expires_at", float("inf")) <= ground.clock.seconds():
                ground.dynamodb.delete_item(TableName=table, Key={"pk": {"S": row["pk"]}})


def stuck_in(saga: Saga) -> Iterator[tuple[str, dict[str, str], str]]:
    """A step of each kind that may be parked, by which faults, and what becomes of the saga."""
    first, last = saga.all[0], saga.all[-1]
    yield first.name, {saga.pivot.name: "reject", f"{first.name}.undo": "reject"}, "COMPENSATED"
    if saga.role(last.name) == "retriable":
        yield last.name, {last.name: "reject"}, "SUCCEEDED"


PARKED = [
    pytest.param(saga, *stuck, id=f"{saga.name}-{stuck[0]}")
    for saga in SAGAS.values()
    for stuck in stuck_in(saga)
]


@pytest.mark.of_all
@each_coordination
@pytest.mark.parametrize(("saga", "step", "faults", "status"), PARKED)
def test_a_saga_that_was_parked_for_months_is_resolved(
    made: Ground,
    saga: Saga,
    step: str,
    faults: dict[str, str],
    status: str,
    coordination: Coordination,
) -> None:
    saga_id = start(made, saga, faults, coordination)
    made.settle()
    pass_time(made, MONTHS)
    assert not any(made.rows(table, "outbox#") for table in made.services), "these have expired"
    made.resolve(saga_id, step, skip=True)
    made.settle()
    assert must_be_as_told(made, saga, saga_id) == status


JOINS = [
    pytest.param(saga, step.function, id=f"{saga.name}-{step.name}")
    for saga in SAGAS.values()
    for group in saga.groups
    for step in group
    if len(group) > 1
]


@pytest.mark.parametrize(("saga", "late"), JOINS)
def test_a_step_that_joins_others_waits_for_months_for_the_last_of_them(
    made: Ground, saga: Saga, late: str
) -> None:
    saga_id = start(made, saga, {}, "choreography")
    made.settle(without=late)
    pass_time(made, MONTHS)
    made.settle()
    assert must_be_as_told(made, saga, saga_id) == "SUCCEEDED"


def test_whoever_has_an_inbox_is_told_nothing_again_that_it_may_have_forgotten(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a choreography that waits for long: what it has said since is published again."""
    told = retention.for_a_time("events")
    monkeypatch.setattr(
        event_module, "now", lambda: moment(datetime.fromtimestamp(made.clock.seconds(), UTC))
    )
    saga = made.sagas[next(iter(SAGAS))]
    body: Any = sample(saga)
    saga_id = made.start(saga.name, body, key="long", coordination="choreography")
    first, second = saga.groups[0], saga.groups[1]
    made.settle(without=second[0].function)
    made.clock.sleep(told * 0.9)
    made.settle(without=saga.pivot.function)
    made.clock.sleep(told * 0.2)
    made.stream.fetch()
    assert "published its events again" in made.sweep()[saga_id]
    again = {one["dynamodb"]["Keys"]["pk"]["S"].split("#")[1] for one in made.stream.fetch()}
    assert f"{saga_id}.{second[0].name}.done" in again
    assert not again & {f"{saga_id}.{what}" for what in ("started", f"{first[0].name}.done")}
    made.clock.sleep(told)
    assert made.sweep() == {}, "all of it is old by now"
    made.clock.sleep(saga.deadline)
    assert made.sweep()[saga_id] == "cancelled, past its deadline"


def test_a_consumer_knows_an_event_for_as_long_as_a_message_of_it_may_be_on_its_way(
    made: Ground,
) -> None:
    """Published again on its outbox row's last day, dead-lettered, redriven: each at the last."""
    inbox = Inbox(made.dynamodb, LEDGER)
    assert inbox.once("an-event")
    queue = 14 * DAYS
    pass_time(made, expiry() - made.clock.seconds() + 3 * queue - 60)
    assert not inbox.once("an-event")
    pass_time(made, 120)
    assert inbox.once("an-event"), "it is not kept for good"
