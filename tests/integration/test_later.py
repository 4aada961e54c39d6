"""A step that is done later: once, when it is due, or never, whatever happens meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination
from recourse.errors import TransientError
from recourse.events import moment
from recourse.testing.ground import Ground, ground
from tests.integration.delaying import DAY, LATER, STEPS

keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
each_step = pytest.mark.parametrize("step", STEPS)
BEFORE_PIVOT = ("hold", "check_in", "settle")
DELAY = 3 * DAY


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    made: Ground
    with ground({saga.name: saga for saga in LATER.values()}) as made, made.clock.standing():
        yield made


@pytest.fixture
def own(shared: Ground) -> Ground:
    shared.wipe()
    return shared


def start(made: Ground, step: str, coordination: Coordination, **faults: str) -> str:
    number = next(keys)
    saga = made.start(
        f"stay-{step.replace('_', '-')}",
        {"stay_id": f"s-{number}", "stay": {"arrives_at": None}},
        key=f"{number}",
        faults={name.replace("__", "."): fault for name, fault in faults.items()},
        coordination=coordination,
    )
    made.settle()
    return saga


def rows(made: Ground) -> dict[str, str]:
    return {key.partition("#")[0]: row["status"] for (_, key), row in made.business_rows().items()}


def must_rest_at(made: Ground, saga: str, step: str) -> None:
    seen = made.view(saga)
    assert seen["status"] == "RUNNING", seen
    done = STEPS[: STEPS.index(step)]
    statuses = {name: "DONE" if name in done else "PENDING" for name in STEPS}
    assert made.statuses(saga) == statuses
    assert set(rows(made)) == set(done)
    assert "begins_at" in next(one for one in seen["steps"] if one["name"] == step)


def must_succeed(made: Ground, saga: str) -> None:
    made.settle()
    seen = made.view(saga)
    assert seen["status"] == "SUCCEEDED", seen
    assert rows(made) == {"hold": "HELD", "check_in": "HELD", "settle": "PAID", "thank": "SENT"}
    assert not any("begins_at" in step for step in seen["steps"])
    record = made.ledger.get(saga)
    assert record is not None and record.due_at is None


def must_be_compensated(made: Ground, saga: str, step: str) -> dict[str, Any]:
    made.settle()
    seen = made.view(saga)
    assert seen["status"] == "COMPENSATED", seen
    left = [name for name in STEPS[: STEPS.index(step)] if name in ("hold", "check_in")]
    assert rows(made) == dict.fromkeys(left, "RELEASED"), "what was not due has had no effect"
    return seen


def paths(made: Ground, saga: str) -> list[str]:
    record = made.ledger.get(saga)
    assert record is not None
    return [event.path for event in record.entered if not event.is_hidden]


@each_coordination
@each_step
def test_a_step_is_done_when_it_is_due_and_not_before(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    must_rest_at(own, saga, step)
    own.clock.sleep(DELAY - 0.1)
    assert own.sweep() == {}
    own.settle()
    must_rest_at(own, saga, step)
    own.clock.sleep(60)
    assert own.sweep() == {saga: "went on, for a step of it was due"}
    must_succeed(own, saga)
    expected = ["started", *(f"{name}.done" for name in STEPS), "succeeded"]
    at = expected.index(f"{step}.done")
    assert paths(own, saga) == [*expected[:at], f"{step}.later", f"{step}.due", *expected[at:]]
    assert own.sweep() == {}


@each_coordination
@each_step
def test_one_that_fires_late_and_twice_does_no_harm(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    own.clock.sleep(20 * DAY)
    record = own.ledger.get(saga)
    assert record is not None
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(own.sweeper._wake, record) for _ in range(2)]:
            one.result()
    own.settle(twice=True)
    own.sweeper._wake(record)
    own.sweep()
    must_succeed(own, saga)
    assert paths(own, saga).count(f"{step}.due") == 1


@each_coordination
@each_step
def test_one_that_fires_early_by_another_clock_waits_on(
    own: Ground, step: str, coordination: Coordination
) -> None:
    """The sweeper's clock is ahead of that of the step's function."""
    saga = start(own, step, coordination)
    ahead = own.clock.seconds() + DELAY + 60
    replace(own.sweeper, clock=lambda: ahead).sweep()
    own.settle()
    assert (own.statuses(saga)[step], step in rows(own)) == ("RUNNING", False)
    own.clock.sleep(DELAY + 300)
    for _ in range(2):
        own.sweep()
        own.settle()
    must_succeed(own, saga)


@each_coordination
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_a_cancel_before_it_is_due_undoes_what_was_done(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    assert own.cancel(saga)
    seen = must_be_compensated(own, saga, step)
    assert seen["reason"]["error"] == "StepCancelledError"
    own.clock.sleep(DELAY + 60)
    assert own.sweep() == {}
    must_be_compensated(own, saga, step)


@each_coordination
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_a_cancel_whose_wake_up_is_lost_is_made_up_for(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    record = own.ledger.get(saga)
    assert record is not None and own.runs.cancel(record)
    own.settle()
    own.clock.sleep(600)
    own.sweep()
    must_be_compensated(own, saga, step)


@each_coordination
def test_after_the_pivot_it_is_too_late_to_cancel(own: Ground, coordination: Coordination) -> None:
    saga = start(own, "thank", coordination)
    assert not own.cancel(saga)
    own.clock.sleep(DELAY)
    own.sweep()
    must_succeed(own, saga)


@each_coordination
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_a_cancel_at_the_moment_it_is_due_is_one_or_the_other(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    own.clock.sleep(DELAY + 1)
    own.ledger.wake(saga, at=moment(datetime.fromtimestamp(own.clock.seconds(), UTC)))
    assert own.cancel(saga)
    for _ in range(3):
        own.settle()
        own.clock.sleep(600)
        own.sweep()
    seen = own.view(saga)
    assert seen["status"] == "COMPENSATED", seen
    assert set(rows(own).values()) <= {"RELEASED"}


@each_coordination
@each_step
def test_the_time_that_it_rests_is_not_of_the_deadline(
    own: Ground, step: str, coordination: Coordination
) -> None:
    """It is an hour; a sweep that finds it just after the step was due lets it go on."""
    saga = start(own, step, coordination)
    own.clock.sleep(DELAY + 1)
    own.sweep()
    own.clock.sleep(61)
    assert "cancelled" not in str(own.sweep())
    must_succeed(own, saga)


@each_coordination
@each_step
def test_a_wake_up_that_is_lost_is_made_up_for(
    own: Ground, step: str, coordination: Coordination
) -> None:
    saga = start(own, step, coordination)
    own.clock.sleep(DELAY + 1)
    own.ledger.wake(saga, at=moment(datetime.fromtimestamp(own.clock.seconds(), UTC)))
    own.relay()
    for name in own.queues:
        own.lose(name)
    own.clock.sleep(600)
    own.sweep()
    must_succeed(own, saga)


@each_coordination
@each_step
def test_that_it_rests_is_known_though_the_event_is_lost(
    own: Ground, step: str, coordination: Coordination
) -> None:
    number = next(keys)
    saga = own.start(
        f"stay-{step.replace('_', '-')}",
        {"stay_id": f"s-{number}", "stay": {"arrives_at": None}},
        key=f"{number}",
        coordination=coordination,
    )
    while own.relay() or any(own.deliver(name) for name in own.queues if name != "ledger"):
        for message in list(own._backend["ledger"].messages):
            if f"{step}.later" in message.body:
                own._backend["ledger"]._messages.remove(message)
        own.deliver("ledger")
    own.clock.sleep(600)
    own.sweep()
    own.settle()
    must_rest_at(own, saga, step)
    own.clock.sleep(DELAY)
    own.sweep()
    must_succeed(own, saga)


@pytest.mark.parametrize(("days", "again"), [(1, True), (60, False)])
def test_what_is_older_than_any_inbox_is_not_published_again(
    own: Ground, days: int, again: bool
) -> None:
    """Who has had it two months ago has forgotten that, and would act on it once more."""
    saga = start(own, "check_in", "choreography")
    record = own.ledger.get(saga)
    assert record is not None
    own.clock.sleep(days * DAY)
    behind = replace(record, entered=record.entered[:1])
    healed = own.sweeper._republish_lost(behind, [])
    assert [event.path for event in healed.entered] == ["started", "hold.done", "check_in.later"]
    assert bool(own.rows("ledger", f"outbox#{saga}.hold.done")) == again


@each_coordination
@each_step
@pytest.mark.parametrize("fault", ["crash:1", "timeout:1", "duplicate", "error:2"])
def test_it_is_done_once_under_a_fault(
    own: Ground, step: str, coordination: Coordination, fault: str
) -> None:
    saga = start(own, step, coordination, **{step: fault})
    must_rest_at(own, saga, step)
    own.clock.sleep(DELAY + 60)
    own.sweep()
    must_succeed(own, saga)


@each_coordination
def test_a_refusal_of_what_was_due_is_a_refusal(own: Ground, coordination: Coordination) -> None:
    saga = start(own, "check_in", coordination, check_in="reject")
    own.clock.sleep(DELAY + 60)
    own.sweep()
    seen = must_be_compensated(own, saga, "check_in")
    assert seen["reason"]["error"] == "NoRoomError"


@each_coordination
@pytest.mark.parametrize("fault", ["crash", "error", "timeout"])
def test_what_is_due_and_always_fails_is_undone(
    own: Ground, coordination: Coordination, fault: str
) -> None:
    """In a choreography a step has not failed that has acted after all."""
    saga = start(own, "check_in", coordination, check_in=fault)
    for _ in range(3):
        own.clock.sleep(DELAY + 60)
        own.sweep()
        own.settle()
    if coordination == "choreography" and fault != "error":
        must_succeed(own, saga)
        return
    assert own.view(saga)["status"] == "COMPENSATED"
    assert set(rows(own).values()) == {"RELEASED"}


# Very many, and such as fail.


def test_one_that_cannot_be_looked_at_holds_up_nobody(
    own: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = start(own, "check_in", "choreography")
    own.clock.sleep(1)
    good = start(own, "check_in", "choreography")
    own.clock.sleep(DELAY + 60)
    wake = own.ledger.wake

    def refuse(saga_id: str, *, at: str) -> Any:
        if saga_id == bad:
            raise TransientError("it cannot be written now")
        return wake(saga_id, at=at)

    with monkeypatch.context() as patch:
        patch.setattr(own.ledger, "wake", refuse)
        with pytest.raises(ExceptionGroup) as problems:
            own.sweep()
        assert [one.__notes__ for one in problems.value.exceptions] == [[f"saga {bad}"]]
        assert own.sweep() == {}, "it is put off"
    own.settle()
    assert own.view(good)["status"] == "SUCCEEDED"
    own.clock.sleep(301)
    assert list(own.sweep()) == [bad]
    own.settle()
    assert own.view(bad)["status"] == "SUCCEEDED"


def test_what_is_left_of_a_round_is_the_oldest_of_the_next(
    own: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagas: list[str] = []
    for _ in range(40):
        sagas.append(start(own, "hold", "choreography"))
        own.clock.sleep(1)
    own.clock.sleep(DELAY)
    wake = own.ledger.wake

    def slow(saga_id: str, *, at: str) -> Any:
        own.clock.sleep(2)
        return wake(saga_id, at=at)

    monkeypatch.setattr(own.ledger, "wake", slow)
    first = own.sweep()
    assert 0 < len(first) < len(sagas)
    assert set(first) == set(sagas[: len(first)]), "the oldest"
    second = own.sweep()
    assert not first.keys() & second.keys()
    for _ in range(3):
        own.sweep()
    own.settle()
    assert {own.view(saga)["status"] for saga in sagas} == {"SUCCEEDED"}
