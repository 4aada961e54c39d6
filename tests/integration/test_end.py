"""The end is the end: nothing enters ledger or feed after the terminal event; all come to one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from recourse import events
from recourse.declare.declaration import Coordination
from recourse.errors import TransientError
from recourse.events import Event
from recourse.orchestration.executions import Runs
from recourse.testing.ground import LEDGER
from tests.events import event
from tests.feeding import Feeding
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, must_agree, stock

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
OOPS = events.error("OopsError", "it went wrong")


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    with ground() as made:
        stock(made)
        yield made


@pytest.fixture(scope="module")
def feeding(made: Ground) -> Feeding:
    return Feeding(made)


def start(made: Ground, coordination: Coordination, **faults: str) -> str:
    named = {name.replace("__", "."): fault for name, fault in faults.items()}
    return made.start(
        "travel-booking", TRIP, key=f"end-{next(keys)}", faults=named, coordination=coordination
    )


def fed(feeding: Feeding, saga_id: str) -> list[str]:
    """What the feed has of a saga: the last parts of the events' types, in order."""
    feeding.settle()
    found, after = [], None
    while entries := feeding.feed.read("asha", after):
        after = entries[-1].position
        found += [e.event.type for e in entries if e.event.saga_id == saga_id]
    return [kind.removeprefix("recourse.travel-booking.") for kind in found]


def late(saga_id: str) -> list[Event]:
    """Whatever may still be told of a saga at rest."""
    stuck = {"outcome": "parked", "run": 0, "attempts": 4, "entered_at": None, "error": OOPS}
    plain = {"run": 0, "attempts": 1, "entered_at": None}
    told: list[tuple[str, str, str, dict[str, Any]]] = [
        ("failed", "invoice", "r0", stuck),
        ("undo_failed", "payment", "r0", stuck),
        ("undo_failed", "flight", "r1", {**stuck, "run": 1, "early": True}),
        ("failed", "capture", "", {**plain, "error": OOPS, "early": True}),
        ("failed", "hotel", "", {**plain, "error": OOPS}),
        ("done", "invoice", "again", {**plain, "result": None}),
        ("undone", "car", "again", {**plain, "follows": []}),
    ]
    return [
        event(saga_id, "travel-booking", kind, step=step, occasion=occasion, **data)
        for kind, step, occasion, data in told
    ]


@each_coordination
@pytest.mark.parametrize(
    ("faults", "ending"),
    [
        ({}, "succeeded"),
        ({"invoice": "crash"}, "succeeded"),
        ({"capture": "reject"}, "compensated"),
        ({"capture": "reject", "payment__undo": "crash:1"}, "compensated"),
        ({"capture": "reject", "flight__undo": "crash:1"}, "compensated"),
        ({"payment": "reject", "car__undo": "crash"}, "compensated"),
        ({"payment": "late"}, "compensated"),
    ],
)
def test_nothing_enters_after_the_terminal_event_whatever_it_is(
    made: Ground, feeding: Feeding, coordination: Coordination, faults: dict[str, str], ending: str
) -> None:
    saga_id = start(made, coordination, **faults)
    made.settle(twice=True)
    if made.view(saga_id)["status"] == "COMPENSATION_FAILED":
        # An author's function that cannot be asked again: an operator takes it upon himself.
        for step, status in made.statuses(saga_id).items():
            if status == "UNDO_FAILED":
                made.resolve(saga_id, step, skip=True)
                made.settle()
    record = made.ledger.get(saga_id)
    assert record is not None and record.status == ending.upper()
    before = fed(feeding, saga_id)
    assert (before[-1], before.count(ending)) == (ending, 1)
    for told in late(saga_id):
        made.sqs.send_message(QueueUrl=made.queues[LEDGER], MessageBody=told.to_json())
    rows = [row for table in (*made.services, LEDGER) for row in made.rows(table, "outbox#")]
    for row in rows:
        if (again := json.loads(row["event"]))["subject"] == saga_id:
            made.sqs.send_message(QueueUrl=made.queues[LEDGER], MessageBody=json.dumps(again))
    made.settle()
    assert made.ledger.get(saga_id) == record, "its row does not even grow"
    assert fed(feeding, saga_id) == before
    assert made.dead_lettered(LEDGER) == []


def test_compensation_failed_comes_before_compensated_and_is_not_the_end(
    made: Ground, feeding: Feeding
) -> None:
    saga_id = start(made, "orchestration", capture="reject", hotel__undo="reject:4")
    made.settle()
    assert fed(feeding, saga_id)[-1] == "compensation_failed"
    made.resolve(saga_id, "hotel", skip=False)
    made.settle()
    kinds = fed(feeding, saga_id)
    assert (kinds[-1], kinds.count("compensation_failed")) == ("compensated", 1)


# Starts that are never taken.


@pytest.mark.parametrize("hidden", [False, True], ids=["no run", "not shown"])
def test_a_start_that_step_functions_never_takes_ends_at_its_deadline(
    made: Ground, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    saga_id = made.start("travel-booking", TRIP, key=f"never-{next(keys)}", run=False)
    made.clock.sleep(61)

    def refuse(runs: Runs, record: Any) -> Any:
        raise TransientError("StateMachineDeleting")

    def deny(**_: Any) -> Any:
        raise made.sfn.exceptions.ClientError(
            {"Error": {"Code": "AccessDeniedException"}}, "DescribeExecution"
        )

    monkeypatch.setattr(Runs, "start", refuse)
    if hidden:
        monkeypatch.setattr(made.sfn, "describe_execution", deny)
    with pytest.raises(ExceptionGroup) as problems:
        made.sweep()
    assert any(saga_id in str(one.__notes__) for one in problems.value.exceptions)
    made.settle()
    assert made.view(saga_id)["status"] == "RUNNING", "its deadline has not come"
    assert made.sweep(1e-9)[saga_id] == "cancelled, past its deadline"
    made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"
    reason = made.view(saga_id)["reason"]
    assert (reason["step"], reason["error"]) == ("capture", "StepCancelledError")
    for table in made.services:
        for row in made.rows(table, f"marker#{saga_id}#"):
            assert row["outcome"] in ("cancelled", "empty")


def test_a_run_that_only_seems_absent_is_undone_by_the_events_as_well(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had done is undone even if Step Functions never answers again."""
    cut = made.mishap

    def stop(function: str, task: dict[str, Any], run: Any) -> Any:
        answer = run()
        if (task.get("step"), task.get("phase")) == ("payment", "action"):
            arn = made.execution(task["saga"]["id"])["executionArn"]
            made.sfn.stop_execution(executionArn=arn)
        return answer

    made.mishap = stop
    saga_id = start(made, "orchestration")
    made.mishap = cut
    made.settle()

    def deny(**_: Any) -> Any:
        raise made.sfn.exceptions.ClientError(
            {"Error": {"Code": "AccessDeniedException"}}, "DescribeExecution"
        )

    with monkeypatch.context() as patch:
        patch.setattr(made.sfn, "describe_execution", deny)
        made.clock.sleep(61)
        made.sweep(1e-9)
        made.settle()
    assert must_agree(made, saga_id) == "COMPENSATED"
    assert made.statuses(saga_id)["payment"] == "UNDONE"
    assert made.sweep().get(saga_id) is None
