"""One trace a saga: whatever happens in it is in a span of the trace that it was started in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.declare.ids import Traceparent
from recourse.declare.limits import EVENT
from recourse.declare.step import Call
from recourse.events import Event
from recourse.orchestration.markers import Markers
from recourse.run.task import Task
from recourse.testing.ground import LEDGER
from recourse.testing.handlers import Killed
from tests.feeding import Feeding
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, stock

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = SENT[3:35]
coordinations = pytest.mark.parametrize("coordination", get_args(Coordination))


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made:
        stock(made)
        yield made


@pytest.fixture(scope="module")
def feeding(shared: Ground) -> Feeding:
    return Feeding(shared)


@pytest.fixture
def published(shared: Ground) -> Iterator[list[Event]]:
    found: list[Event] = []

    def keep(params: dict[str, Any], **_: Any) -> None:
        found.extend(Event.parse(e["Message"]) for e in params["PublishBatchRequestEntries"])

    shared.sns.meta.events.register("provide-client-params.sns.PublishBatch", keep)
    yield found
    shared.sns.meta.events.unregister("provide-client-params.sns.PublishBatch", keep)


@coordinations
@pytest.mark.parametrize(
    "faults", [{}, {"payment": "reject"}, {"flight.undo": "error", "capture": "reject"}]
)
def test_all_that_happens_is_in_the_trace_that_the_caller_sent(
    shared: Ground,
    feeding: Feeding,
    published: list[Event],
    coordination: Coordination,
    faults: Any,
) -> None:
    key = f"{coordination} {faults}"
    begun = Traceparent.sent(SENT)
    saga = shared.start(
        "travel-booking", TRIP, key=key, faults=faults, coordination=coordination, trace=begun
    )
    shared.settle()
    feeding.settle()
    row = shared.row(LEDGER, saga)
    assert row is not None
    entered = [Event.from_dict(one) for one in row["entered"]]
    fed = [entry.event for entry in feeding.feed.read("asha", 0, 500)]
    for said in (published, entered, [one for one in fed if one.saga_id == saga]):
        assert len(said) > 5
        for event in said:
            assert event.saga_id == saga
            assert event.traceparent == spans(saga, event), event.id


def spans(saga: str, event: Event) -> str:
    """Where an event is in the trace."""
    if event.kind == "started":
        return SENT
    side = event.step and ("undo" if event.kind in ("undone", "undo_failed") else "action")
    found = Traceparent(SENT).at(saga, event.step, side)
    assert (found.trace_id, found[:3], found[-3:]) == (TRACE, "00-", "-01")
    return found


@coordinations
def test_a_saga_that_nobody_traces_has_a_trace_of_its_own(
    shared: Ground, coordination: Coordination
) -> None:
    first, second = (
        shared.start(
            "travel-booking", TRIP, key=f"own {coordination} {n}", coordination=coordination
        )
        for n in range(2)
    )
    shared.settle()
    found = [Traceparent(shared.view(saga)["traceparent"]) for saga in (first, second)]
    assert len({one.trace_id for one in found}) == 2
    for saga, one in zip((first, second), found, strict=True):
        row = shared.row(LEDGER, saga)
        assert row is not None
        assert one == one.at(saga) == Traceparent.sent(one)
        assert {e["traceparent"][3:35] for e in row["entered"]} == {one.trace_id}
        assert row["entered"][-1]["traceparent"] == one, "it ends in its own span"


def test_a_step_is_given_its_span_to_send_it_on(shared: Ground) -> None:
    asked: list[Call[Any]] = []
    call = Task.call

    def keep(task: Task, *of: Any) -> Any:
        found = call(task, *of)
        asked.append(found[0])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "call", keep)
        saga = shared.start(
            "travel-booking", TRIP, key="given", faults={"payment": "crash"},
            trace=Traceparent.sent(SENT),
        )  # fmt: skip
        shared.settle()
    flight = {one.traceparent for one in asked if one.step == "flight"}
    begun = Traceparent(SENT)
    tries = [one.traceparent for one in asked if one.step == "payment"]
    assert {begun.at(saga, "flight", side) for side in ("action", "undo")} <= flight
    assert len(tries) > 2 and begun.at(saga, "payment", "action") in tries, "the same in each try"


def test_what_is_delivered_again_and_what_is_made_again_is_in_the_same_span(
    shared: Ground, published: list[Event]
) -> None:
    saga = shared.start(
        "travel-booking", TRIP, key="again", trace=Traceparent.sent(SENT), run=False
    )
    killed: list[str] = []

    def kill(function: str, task: dict[str, Any], run: Any) -> Any:
        found = run()
        if task["step"] == "payment" and not killed:
            killed.append(function)
            raise Killed
        return found

    shared.mishap = kill
    record = shared.ledger.get(saga)
    assert record is not None
    shared.runs.start(record)
    shared.settle()
    assert killed
    markers = Markers(
        shared.dynamodb, LEDGER, {name: name for name in shared.services}, shared.ledger.shapes
    )
    made = {one.id: one.traceparent for one in markers.read(record).events()}
    told = {one.id: one.traceparent for one in published}
    assert {name: told[name] for name in made} == made
    for name, table in (("flight", "flights"), ("payment", "payments")):
        shared.dynamodb.delete_item(
            TableName=table, Key={"pk": {"S": f"outbox#{saga}.{name}.done"}}
        )
    assert {one.id: one.traceparent for one in markers.read(record).events()} == made


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        SENT.upper(),
        SENT + "-more",
        SENT.replace("00-", "ff-", 1),
        f"{SENT},{SENT}",
        SENT[:-1],
        "\x1b[2J" + SENT[4:],
        "00-" + "९" * 32 + "-00f067aa0ba902b7-01",
        "0" * 100_000,
    ],
)
def test_a_header_that_is_not_valid_is_ignored(header: str) -> None:
    assert Traceparent.sent(header) is None


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (SENT, SENT),
        (SENT[:-2] + "00", SENT[:-2] + "00"),
        (SENT[:-2] + "ff", SENT),
        (SENT.replace("00-", "cc-", 1) + "-what comes later", SENT),
    ],
)
def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known(header: str, read: str) -> None:
    assert Traceparent.sent(header) == read


def test_the_largest_event_of_a_saga_has_room_for_its_trace(shared: Ground) -> None:
    saga = shared.start("travel-booking", TRIP, key="size", coordination="choreography", run=False)
    row = shared.row(LEDGER, f"outbox#{saga}.started")
    assert row is not None
    said = json.loads(row["event"])
    without = json.dumps(said | {"traceparent": None})
    assert len(json.dumps(said)) - len(without) <= 64, "of the 16 KiB for a saga's own data"
    assert len(row["event"]) < EVENT


def test_x_ray_is_given_the_same_id(shared: Ground) -> None:
    found: list[str] = []

    def keep(params: dict[str, Any], **_: Any) -> None:
        found.append(params["traceHeader"])

    shared.sfn.meta.events.register("provide-client-params.stepfunctions.StartExecution", keep)
    saga = shared.start("travel-booking", TRIP, key="x-ray", trace=Traceparent.sent(SENT))
    shared.sfn.meta.events.unregister("provide-client-params.stepfunctions.StartExecution", keep)
    own = Traceparent(SENT).at(saga).span_id
    assert found == [f"Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent={own}"]


def test_a_feed_is_relayed_with_it(shared: Ground, feeding: Feeding) -> None:
    inbox = feeding.subscribe("traced")
    saga = shared.start("travel-booking", TRIP, key="fed", trace=Traceparent.sent(SENT))
    shared.settle()
    feeding.settle()
    said = []
    while got := shared.sqs.receive_message(QueueUrl=inbox, MaxNumberOfMessages=10).get("Messages"):
        said += [json.loads(one["Body"]) for one in got]
        for one in got:
            shared.sqs.delete_message(QueueUrl=inbox, ReceiptHandle=one["ReceiptHandle"])
    mine = [one for one in said if one["subject"] == saga]
    assert len(mine) == 8 and {one["traceparent"][3:35] for one in mine} == {TRACE}
