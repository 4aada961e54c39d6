"""A saga waits for somebody's decision: once, in time, and whatever happens meanwhile."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.orchestration.executions import Run, Runs
from recourse.testing.course import courses, effect, run
from recourse.testing.ground import Ground, ground
from recourse.testing.search import search
from recourse.testing.world import World
from tests.integration.asking import DAY, SPENDING

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
SAGAS = {"spending": SPENDING}


@pytest.fixture
def own() -> Iterator[Ground]:
    made: Ground
    with ground(SAGAS) as made:
        yield made


def start(made: Ground, coordination: Coordination, amount: int = 500, **faults: str) -> str:
    """Start one that waits, unless it is small."""
    named = {name.replace("__", "."): fault for name, fault in faults.items()}
    body = {"spending_id": f"s-{next(keys)}", "amount": amount}
    saga = made.start(
        "spending", body, key=f"{next(keys)}", faults=named, coordination=coordination
    )
    made.settle()
    return saga


def rows(made: Ground, saga: str) -> dict[str, str]:
    """The status of each row of a saga, by what it is."""
    found = {}
    for (_, key), row in made.business_rows().items():
        what, _, whose = key.partition("#")
        if whose == saga:
            found[what] = row.get("status", "SPENT")
    return found


def must_wait(made: Ground, saga: str) -> None:
    seen = made.view(saga)
    assert (seen["status"], made.statuses(saga)["approval"]) == ("RUNNING", "RUNNING")
    assert rows(made, saga) == {"reserve": "HELD", "approval": "OPEN"}
    record = made.ledger.get(saga)
    assert record is not None and record.waits_for == "approvals"


def must_end(made: Ground, saga: str, status: str, approval: str) -> dict[str, Any]:
    made.settle()
    seen = made.view(saga)
    assert seen["status"] == status, seen
    whole = {"reserve": "HELD", "earmark": "HELD", "spent": "SPENT"}
    gone = {"reserve": "RELEASED"}
    kept = whole if status == "SUCCEEDED" else gone
    assert rows(made, saga) == {**kept, "approval": approval}
    record = made.ledger.get(saga)
    assert record is not None and record.waits_for is None and record.due_at is None
    return seen


@each_coordination
def test_what_needs_nobody_waits_for_nobody(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination, amount=50)
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
def test_a_saga_waits_and_goes_on_by_the_answer(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    must_wait(own, saga)
    outcome = own.decide(saga, "approval", approved=True, by="approver-1")
    assert outcome.taken
    seen = must_end(own, saga, "SUCCEEDED", "APPROVED")
    assert seen["steps"][1]["result"] == {"by": "approver-1", "reserved": 500}
    kinds = [event.path for event in own.ledger.get(saga).entered]  # type: ignore[union-attr]
    assert kinds == [
        *("started", "reserve.done", "approval.asked", "approval.done"),
        *("earmark.done", "spend.done", "succeeded"),
    ]


@each_coordination
def test_a_no_compensates_with_its_reason(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    assert own.decide(saga, "approval", approved=False, reason="too dear").taken
    seen = must_end(own, saga, "COMPENSATED", "DENIED")
    assert seen["reason"] == {"step": "approval", "error": "DeniedError", "message": "too dear"}


@each_coordination
def test_an_answer_that_raises_a_refusal_is_a_no_without_writes(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    assert own.decide(saga, "approval", approved=True, reason="too much").taken
    seen = must_end(own, saga, "COMPENSATED", "OPEN")
    assert seen["reason"]["error"] == "TooMuchError"


@each_coordination
def test_the_first_answer_is_the_only_one(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    with ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(own.decide, saga, "approval", approved=yes, reason="so", by=by)
            for yes, by in ((True, "a"), (False, "b"), (True, "c"), (False, "d"))
        ]
    outcomes = [one.result() for one in answers]
    (first,) = [one for one in outcomes if one.taken]
    assert first.answer is not None
    assert {one.answer and one.answer["by"] for one in outcomes} == {first.answer["by"]}
    yes = first.answer["approved"]
    must_end(own, saga, *(("SUCCEEDED", "APPROVED") if yes else ("COMPENSATED", "DENIED")))
    again = own.decide(saga, "approval", approved=not yes, reason="so", by="late")
    assert not again.taken and again.answer == first.answer


@each_coordination
def test_a_cancel_withdraws_the_question(own: Ground, coordination: Coordination) -> None:
    saga = start(own, coordination)
    assert own.cancel(saga)
    outcome = own.decide(saga, "approval", approved=True)
    assert (outcome.taken, outcome.answer, outcome.late) == (False, None, False)
    seen = must_end(own, saga, "COMPENSATED", "WITHDRAWN")
    assert seen["reason"]["error"] == "StepCancelledError"
    assert own.statuses(saga)["approval"] == "UNDONE"


@each_coordination
def test_a_cancel_whose_own_withdrawal_is_lost_is_made_up_for(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    record = own.ledger.get(saga)
    assert record is not None and own.runs.cancel(record)
    own.settle()
    own.clock.sleep(3600)
    own.sweep()
    must_end(own, saga, "COMPENSATED", "WITHDRAWN")


@each_coordination
def test_a_question_is_told_once_more_and_then_its_time_is_up(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.clock.sleep(DAY - 60)
    assert own.sweep() == {}
    own.clock.sleep(120)
    assert "told once more" in own.sweep()[saga]
    own.settle()
    assert own.sweep() == {}
    must_wait(own, saga)
    own.clock.sleep(6 * DAY)
    outcome = own.decide(saga, "approval", approved=True)
    assert (outcome.taken, outcome.late) == (False, True), "at that second nobody may any more"
    must_wait(own, saga)
    assert "is up" in own.sweep()[saga]
    seen = must_end(own, saga, "COMPENSATED", "WITHDRAWN")
    assert seen["reason"]["error"] == "NoAnswerError"
    assert own.statuses(saga)["approval"] == "UNDONE"
    record = own.ledger.get(saga)
    assert record is not None
    assert [event.path for event in record.entered].count("approval.reminded") == 1
    assert not own.decide(saga, "approval", approved=True).taken


@each_coordination
def test_a_waiting_saga_is_not_taken_for_a_silent_or_a_late_one(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    own.clock.sleep(3600)
    assert own.sweep() == {}, "no reminder is due"
    assert own.decide(saga, "approval", approved=True).taken
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
def test_a_decision_whose_wake_up_is_lost_is_made_up_for(
    own: Ground, coordination: Coordination
) -> None:
    """The API's process ends after the answer is taken, and every event of it is lost."""
    saga = start(own, coordination)
    record = own.ledger.get(saga)
    assert record is not None
    step = own.ledger.shape(record).by_name["approval"]
    answer = {"approved": True, "reason": "", "by": "a", "at": "2026-11-30T00:00:00.000Z"}
    own.runs.decide(record, step, {**answer, "id": "1"})
    own.ledger.answered(saga)
    own.relay()
    for name in own.queues:
        own.lose(name)
    own.clock.sleep(3600)
    for _ in range(3):
        own.sweep()
        own.settle()
        own.clock.sleep(600)
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
def test_a_decision_of_which_nothing_is_known_is_found_when_something_is_due(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination)
    record = own.ledger.get(saga)
    assert record is not None
    step = own.ledger.shape(record).by_name["approval"]
    answer = {"approved": True, "reason": "", "by": "a", "at": "2026-11-30T00:00:00.000Z"}
    own.runs.decide(record, step, {**answer, "id": "1"})
    own.relay()
    for name in own.queues:
        own.lose(name)
    own.clock.sleep(DAY + 60)
    for _ in range(3):
        own.sweep()
        own.settle()
        own.clock.sleep(600)
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
@pytest.mark.parametrize("fault", ["crash:1", "timeout:1", "duplicate", "error:2"])
def test_a_question_is_asked_once_under_a_fault(
    own: Ground, coordination: Coordination, fault: str
) -> None:
    saga = start(own, coordination, approval=fault)
    must_wait(own, saga)
    assert own.decide(saga, "approval", approved=True).taken
    must_end(own, saga, "SUCCEEDED", "APPROVED")


@each_coordination
@pytest.mark.parametrize("fault", ["error", "late"])
def test_a_question_that_cannot_be_asked_is_undone(
    own: Ground, coordination: Coordination, fault: str
) -> None:
    saga = start(own, coordination, approval=fault)
    own.settle()
    assert own.view(saga)["status"] == "COMPENSATED"
    assert rows(own, saga) == {"reserve": "RELEASED"}


@each_coordination
@pytest.mark.parametrize("fault", ["crash", "timeout"])
def test_a_question_whose_step_never_answers_is_asked_or_withdrawn(
    own: Ground, coordination: Coordination, fault: str
) -> None:
    saga = start(own, coordination, approval=fault)
    own.settle()
    if own.view(saga)["status"] == "RUNNING":
        must_wait(own, saga)
        own.cancel(saga)
    must_end(own, saga, "COMPENSATED", "WITHDRAWN")


@each_coordination
def test_a_later_step_that_refuses_withdraws_what_was_decided(
    own: Ground, coordination: Coordination
) -> None:
    saga = start(own, coordination, earmark="reject")
    must_wait(own, saga)
    assert own.decide(saga, "approval", approved=True).taken
    seen = must_end(own, saga, "COMPENSATED", "WITHDRAWN")
    assert seen["reason"]["step"] == "earmark"


def test_an_answer_that_comes_before_its_run_has_ended_waits_for_that(
    own: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of one saga at once could undo what the other goes forward with."""
    saga = start(own, "orchestration")
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "describe", lambda *_: Run("RUNNING"))
        assert own.decide(saga, "approval", approved=True).taken
    own.settle()
    assert own.statuses(saga)["earmark"] == "RUNNING", "no run goes on"
    assert "goes on" in own.hear_of_end(saga)[saga]
    must_end(own, saga, "SUCCEEDED", "APPROVED")
    assert own.hear_of_end(saga) == {}


def test_a_run_that_goes_on_is_not_opened_once_another_was(own: Ground) -> None:
    saga = start(own, "orchestration")
    own.decide(saga, "approval", approved=True)
    later = own.ledger.recover(saga, 1, not_before="2026-11-30T10:00:00.000Z", failure={})
    assert later.run == 2
    for before in (0, 1):
        assert own.ledger.resume(saga, before) == later, "a decision that was heard late"


@each_coordination
def test_whatever_a_decision_says_follows_its_question(
    own: Ground, coordination: Coordination
) -> None:
    """So the ledger takes it in after that, in whichever order they arrive."""
    for approved in (True, False):
        saga = start(own, coordination)
        own.decide(saga, "approval", approved=approved, reason="so")
        own.settle()
        record = own.ledger.get(saga)
        assert record is not None
        said = [one for one in record.entered if one.answer]
        assert [(one.kind, one.follows) for one in said] == [
            ("done" if approved else "failed", ["asked"])
        ]


def test_a_run_that_was_decided_and_is_killed_is_undone(own: Ground) -> None:
    saga = start(own, "orchestration", earmark="reject")
    record = own.ledger.get(saga)
    assert record is not None
    step = own.ledger.shape(record).by_name["approval"]
    answer = {"approved": True, "reason": "", "by": "a", "at": "2026-11-30T00:00:00.000Z"}
    own.runs.decide(record, step, {**answer, "id": "1"})
    opened = own.ledger.resume(saga, record.run)
    assert own.sweeper.handle_run_end(f"{saga}-r{opened.run}", "ABORTED", None)
    must_end(own, saga, "COMPENSATED", "WITHDRAWN")


def _world() -> World:
    def reserved(ground: Ground) -> None:
        """Nothing is spent that nobody has approved."""
        for row in ground.rows("asking", "spent#"):
            approval = ground.row("asking", row["pk"].replace("spent#", "approval#"))
            assert approval is not None and approval["status"] == "APPROVED"

    asks = {"spending": {"spending_id": "s-1", "amount": 500}}
    return World(sagas=SAGAS, samples=asks, always={"reserved": reserved})


def test_a_saga_that_waits_comes_to_its_end_whatever_disturbs_its_question() -> None:
    world = _world()
    touching = [
        course
        for course in courses(SPENDING)
        if ("approval" in str(course) and ":1" not in str(course)) or "somebody" in str(course)
    ]
    assert {"somebody says no", "somebody says nothing"} <= {
        one for course in touching for one in re.findall(r"somebody says \w+", str(course))
    }
    with world.keeping():
        effects = {"spending": effect(world, "spending")}
        for course in touching:
            run(world, course, effects)


def test_sagas_that_wait_come_to_their_ends_whatever_happens_at_once() -> None:
    world = _world()
    with world.keeping():
        search(world, "spending", {"spending": effect(world, "spending")}, examples=20)
