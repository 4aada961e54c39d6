"""The ledger's writes: whatever comes between what one has read and what it writes is not lost.

Nothing here knows how a write is made. Each is met by each other one before each of its calls that
write, and what is then in the table is what would be there if the other had come first. Each is
answered at each of its calls in every way in which AWS says that it is not now, and where it is
asked for again all is as if it had been asked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.declaration import Step, Together
from recourse.declare.ids import SagaId
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.errors import ContentionError
from recourse.events import Event, error
from recourse.ledger.ledger import KeyReusedError, Ledger, NothingToResolveError
from recourse.ledger.record import Record
from recourse.store.aws import is_transient
from recourse.store.contention import MAX_TRIES
from recourse.store.items import encode, encode_item
from recourse.testing import calls
from recourse.testing.ground import LEDGER
from tests.events import event
from tests.ground import Ground, ground
from tests.integration.large import decide, left, take_back

S1 = SagaId.of("small", "asha", "one")
NOW = "2026-11-28T10:00:00.000Z"


@request_model
class SmallRequest:
    """Nothing but its key: moto takes as long as a row has parts."""

    small_id: str


SAGA = Saga(
    "small",
    request=SmallRequest,
    business_key="small_id",
    steps=[
        Together(*(Step(name, left, undo=take_back, takes=()) for name in ("flight", "hotel"))),
        Step("capture", decide, pivot=True),
    ],
)
NEW = Record(
    saga_id=S1,
    saga=SAGA.name,
    owner="asha",
    business_key="t-1",
    coordination="choreography",
    request={"small_id": "t-1"},
    body="a digest",
    started_at=NOW,
)
SCHEDULED = replace(NEW, begins_at="2026-12-24T12:35:00.000Z", scheduled=True)
OOPS = error("OopsError", "it went wrong")


def told(kind: str, step: str, **data: Any) -> Event:
    occasion = f"r{data['run']}" if data.get("outcome") == "parked" else ""
    more = {"run": 0} | data
    return event(S1, SAGA.name, kind, step=step, occasion=occasion, time=NOW, **more)


def stuck(step: str, run: int = 0) -> Event:
    return told("undo_failed", step, error=OOPS, outcome="parked", run=run)


def undone(step: str, **data: Any) -> Event:
    return told("undone", step, follows=["done"], **data)


WAITS = told("undone", "flight", follows=["done", "nothing"], id=f"{S1}.waits")
STUCK = [
    told("done", "flight"),
    told("done", "hotel"),
    told("failed", "capture", error=OOPS),
    stuck("flight"),
    stuck("hotel"),
]
PREPARED: dict[str, Mapping[Any, Any]] = {"nothing": {}}
"""What is in the table, as moto has it: it replaces rows, and changes none."""


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground({SAGA.name: SAGA}) as made:
        made.ledger.start(SCHEDULED)
        PREPARED["scheduled"] = dict(made._tables[LEDGER].items)
        made._tables[LEDGER].items.clear()
        made.ledger.start(NEW)
        assert made.ledger.record_events(S1, STUCK).status == "COMPENSATION_FAILED"
        PREPARED["stuck"] = dict(made._tables[LEDGER].items)
        yield made


@pytest.fixture(autouse=True)
def still(place: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is there, and time stands still."""
    prepare(place, "nothing")
    for module in ("recourse.events.event", "recourse.ledger.ledger"):
        monkeypatch.setattr(f"{module}.now", lambda: NOW)
    monkeypatch.setattr("recourse.events.outbox.expiry", lambda: 0)


@dataclass(frozen=True)
class Write:
    """Something that is asked of the ledger."""

    name: str
    ask: Callable[[Ledger], Any]

    def run(self, ledger: Ledger) -> object:
        """What is answered; an error by its class."""
        try:
            return self.ask(ledger)
        except (KeyReusedError, NothingToResolveError) as no:
            return type(no)


def resolve(step: str, *, skip: bool) -> Callable[[Ledger], Record]:
    return lambda ledger: ledger.resolve(S1, step, skip=skip, reason=f"of {step}", by="me")


AT_FIRST = [
    Write("start", lambda ledger: ledger.start(NEW)),
    Write("start by others", lambda ledger: ledger.start(replace(NEW, body="another"))),
    Write(
        "start by another coordination",
        lambda ledger: ledger.start(
            replace(NEW, coordination="orchestration"), any_coordination=False
        ),
    ),
]
LATER = [
    Write("start again", lambda ledger: ledger.start(NEW)),
    Write("take one", lambda ledger: ledger.record_events(S1, [undone("hotel")])),
    Write("take what waits", lambda ledger: ledger.record_events(S1, [WAITS])),
    Write("skip", resolve("flight", skip=True)),
    Write("skip another", resolve("hotel", skip=True)),
    Write("recover", lambda ledger: ledger.recover(S1, 0, not_before="t1", failure={"a": OOPS})),
    Write("put off", lambda ledger: ledger.put_off(S1, not_before="t2")),
    Write("tell again", lambda ledger: ledger.republish(S1, [undone("flight")], at="t3")),
]
UNTIL_THEN = [
    Write("start again", lambda ledger: ledger.start(SCHEDULED)),
    Write("start at once", lambda ledger: ledger.start(NEW)),
    Write("begin", lambda ledger: ledger.begin(S1, at="t4")),
    Write("call off", lambda ledger: ledger.call_off(S1, at="t4")),
    Write("put off", lambda ledger: ledger.put_off(S1, not_before="t2")),
]
BESIDE = {"nothing": AT_FIRST, "stuck": LATER, "scheduled": UNTIL_THEN}
each_write = pytest.mark.parametrize(
    ("what", "write"),
    [
        pytest.param(what, write, id=f"{what}: {write.name}")
        for what, writes in BESIDE.items()
        for write in writes
    ],
)


def prepare(place: Ground, what: str) -> None:
    """Let there be nothing, a saga that begins later, or one whose undos wait for an operator."""
    place._tables[LEDGER].items.clear()
    place._tables[LEDGER].items.update(PREPARED[what])


def table(place: Ground) -> dict[str, Mapping[str, Any]]:
    """All that is there, but for how often it was written."""
    return {row["pk"]: row | {"version": 0} for row in place.rows(LEDGER, "")}


def answer(place: Ground, write: Write) -> object:
    """What is answered, but for how often it was written."""
    found = write.run(place.ledger)
    if isinstance(found, tuple):
        return replace(found[0], version=0), found[1]
    return replace(found, version=0) if isinstance(found, Record) else found


def made(place: Ground, write: Write, what: str) -> list[calls.Call]:
    """The calls that a write makes where nothing is in its way."""
    prepare(place, what)
    with calls.recorded() as found:
        write.run(place.ledger)
    return found


@each_write
def test_what_comes_between_a_read_and_its_write_is_as_if_it_had_come_before(
    place: Ground, what: str, write: Write
) -> None:
    writes = sum(call.operation in calls.WRITES for call in made(place, write, what))
    assert writes
    for second in BESIDE[what]:
        prepare(place, what)
        expected = answer(place, second), answer(place, write), table(place)
        for number in range(writes):
            prepare(place, what)
            between: list[object] = []
            with calls.before(lambda: between.append(answer(place, second)), number=number):  # noqa: B023
                last = answer(place, write)
            assert (*between, last, table(place)) == expected, (second, number)


def test_of_two_starts_at_once_one_is_the_first(place: Ground) -> None:
    """Whoever is told that it was the first runs the saga."""
    found: list[tuple[Record, bool]] = []
    with calls.before(lambda: found.append(place.ledger.start(NEW))):
        found.append(place.ledger.start(NEW))
    found.append(place.ledger.start(NEW))
    assert [is_first for _, is_first in found] == [True, False, False]
    assert len({record.saga_id for record, _ in found}) == 1


@each_write
def test_what_is_in_the_way_of_a_call_may_pass_and_asked_again_it_is_done_once(
    place: Ground, what: str, write: Write
) -> None:
    asked = made(place, write, what)
    once = table(place)
    ways = [
        (number, name, after)
        for number, call in enumerate(asked)
        for name in calls.passing(call.operation)
        for after in (False, True)
        if not after or name in ("an answer that was lost", "InternalServerError")
    ]
    for number, name, after in ways:
        prepare(place, what)
        refused = calls.passing(asked[number].operation)[name]
        with calls.answered(refused, number=number, after=after) as hit:
            try:
                write.run(place.ledger)
            except (ClientError, BotoCoreError) as problem:
                is_passing_now = isinstance(problem, BotoCoreError) or is_transient(problem)
                assert is_passing_now, (number, name, problem)
        assert len(hit) == 1
        write.run(place.ledger)
        assert table(place) == once, (number, name, after)


@each_write
def test_whatever_decides_is_read_as_it_is(place: Ground, what: str, write: Write) -> None:
    prepare(place, what)
    with calls.recorded() as asked:
        for _ in range(2):
            write.run(place.ledger)
            list(place.ledger.queries.unfinished("2027"))
            place.ledger.queries.page(owner="asha")
    reads = [call.parameters for call in asked if call.operation == "GetItem"]
    reads += [
        call.parameters["RequestItems"][LEDGER]
        for call in asked
        if call.operation == "BatchGetItem"
    ]
    assert reads and all(one.get("ConsistentRead") for one in reads)


def test_what_is_always_overtaken_is_given_up_and_says_so(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(place, "stuck")
    before = table(place)
    naps: list[float] = []
    monkeypatch.setattr("recourse.store.contention.time.sleep", naps.append)
    overtaken = calls.error("ConditionalCheckFailedException")
    with (
        calls.answered(overtaken, "PutItem", times=MAX_TRIES) as hit,
        pytest.raises(ContentionError, match=f"saga {S1}: a row has changed .* {MAX_TRIES} times"),
    ):
        place.ledger.put_off(S1, not_before="t2")
    assert (len(hit), len(naps), sum(naps) < 5) == (MAX_TRIES, MAX_TRIES - 1, True)
    assert table(place) == before
    with calls.answered(overtaken, "PutItem", times=MAX_TRIES - 1):
        assert place.ledger.put_off(S1, not_before="t2").not_before == "t2"


def test_what_operators_have_decided_of_one_step_outlasts_what_they_decide_of_another(
    place: Ground,
) -> None:
    prepare(place, "stuck")
    place.ledger.resolve(S1, "flight", skip=True, reason="it has left", by="me")
    skipped = undone("flight", outcome="skipped", run=1)
    place.ledger.record_events(S1, [skipped, stuck("hotel", run=1)])
    found = place.ledger.resolve(S1, "hotel", skip=True, reason="it is paid", by="you")
    assert found.skips == {"flight.undo": "it has left", "hotel.undo": "it is paid"}
    assert [(one["step"], one["by"]) for one in found.resolutions] == [
        ("flight", "me"),
        ("hotel", "you"),
    ]
    run = found.input(SAGA)
    assert (run["saga"]["recover"], run["saga"]["skips"]) == (2, found.skips)
    last = place.ledger.record_events(S1, [undone("hotel", outcome="skipped", run=2)])
    assert last.status == "COMPENSATED"


def test_a_row_that_is_no_saga_is_none(place: Ground) -> None:
    """The ledger's table holds outbox rows and leases too."""
    row = {"pk": S1, "event": "{}"}
    place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(row))
    assert place.ledger.get(S1) is None
    place.dynamodb.delete_item(TableName=LEDGER, Key={"pk": encode(S1)})
    with suppress(LookupError):
        place.ledger.put_off(S1, not_before="t2")
        raise AssertionError("it was put off")
