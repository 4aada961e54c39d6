"""The fault matrix: each step under each fault ends as guaranteed, by the services' own counts."""

from __future__ import annotations

import itertools
import random

import pytest

from recourse.run.faults import FAULTS, UnknownFaultError, parse
from statemachines import SAGAS
from tests.ground import Ground
from tests.integration.trips import TRIP, must_agree, must_be_whole

SAGA = SAGAS["travel-booking"]
STEPS = [step.name for step in SAGA.all]
BEFORE_PIVOT = [name for name in STEPS if SAGA.role(name) == "compensable"]
keys = itertools.count()


def run(ground: Ground, **faults: str) -> tuple[str, str]:
    """A trip under faults, settled; its id and its status."""
    asked = {name.replace("__", "."): fault for name, fault in faults.items()}
    if asked:
        parse(", ".join(f"{name}={fault}" for name, fault in asked.items()), SAGA)
    saga = ground.start("travel-booking", TRIP, key=f"k{next(keys)}", faults=asked)
    ground.settle()
    return saga, must_agree(ground, saga)


def test_without_a_fault_every_effect_is_there_once(shared: Ground) -> None:
    saga, status = run(shared)
    assert status == "SUCCEEDED"
    assert set(shared.statuses(saga).values()) == {"DONE"}
    entered = shared.entered(saga)
    assert sum(entered.values()) == len(SAGA.all) + 1 + 1, "steps, the group, one terminal state"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_every_fault_of_every_step_before_the_pivot(shared: Ground, step: str, fault: str) -> None:
    saga, status = run(shared, **{step: fault})
    statuses = shared.statuses(saga)
    if fault == "duplicate":
        assert status == "SUCCEEDED"
        return
    assert status == "COMPENSATED"
    reason = shared.view(saga)["reason"]
    assert reason["step"] == step
    acted = fault in ("crash", "timeout")
    assert statuses[step] == ("UNDONE" if acted else "FAILED")
    assert statuses["invoice"] == statuses["capture"] == "PENDING"
    expected = {
        "error": "TransientError",
        "crash": "StepCrashedError",
        "timeout": "StepTimedOutError",
        "late": "StepTimedOutError",
        "reject": SAGA.by_name[step].action.refuses[0].__name__,
    }
    assert reason["error"] == expected[fault]
    shown = {s["name"]: (s["error"], s["message"]) for s in shared.view(saga)["steps"]}
    assert shown[step] == (expected[fault], reason["message"]), "the same on every surface"
    attempts = {s["name"]: s["attempts"] for s in shared.view(saga)["steps"]}[step]
    assert attempts == (1 if fault == "reject" else 4)


@pytest.mark.parametrize("fault", ["error:2", "crash:1", "crash:3", "timeout:1", "late:2"])
@pytest.mark.parametrize("step", [*BEFORE_PIVOT, "capture"])
def test_a_fault_that_passes_does_not_decide(shared: Ground, step: str, fault: str) -> None:
    saga, status = run(shared, **{step: fault})
    assert status == "SUCCEEDED"
    assert set(shared.statuses(saga).values()) == {"DONE"}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("reject", "COMPENSATED"),
        ("error", "COMPENSATED"),
        ("late", "COMPENSATED"),
        ("crash", "SUCCEEDED"),
        ("timeout", "SUCCEEDED"),
        ("duplicate", "SUCCEEDED"),
    ],
)
def test_the_pivot_under_every_fault_is_settled(shared: Ground, fault: str, status: str) -> None:
    saga, ended = run(shared, capture=fault)
    assert ended == status
    if status == "COMPENSATED":
        assert shared.view(saga)["reason"]["step"] == "capture"
        assert shared.statuses(saga)["capture"] == "FAILED"


@pytest.mark.parametrize(("fault", "times"), [("error", 18), ("reject", 10)])
def test_a_step_after_the_pivot_that_stays_failing_parks_and_is_resolved(
    shared: Ground, fault: str, times: int
) -> None:
    saga, status = run(shared, invoice=f"{fault}:{times}")
    assert status == "RUNNING"
    assert shared.statuses(saga)["invoice"] == "FAILED"
    assert shared.execution(saga)["error"] == "Parked"
    shared.resolve(saga, "invoice", skip=False)
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"
    view = shared.view(saga)
    assert view["reason"] is None
    assert view["steps"][-1]["attempts"] == times + 1, "counted on over the runs"


@pytest.mark.parametrize("fault", ["crash", "timeout"])
def test_a_step_after_the_pivot_that_acted_is_done(shared: Ground, fault: str) -> None:
    saga, status = run(shared, invoice=fault)
    # The effect is there though nobody ever heard: parked by the machine, done by its event.
    assert status in ("RUNNING", "SUCCEEDED")
    must_be_whole(shared, saga)


def test_a_step_after_the_pivot_can_be_skipped(shared: Ground) -> None:
    saga, _ = run(shared, invoice="error")
    shared.resolve(saga, "invoice", skip=True)
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"
    assert shared.statuses(saga)["invoice"] == "SKIPPED"


@pytest.mark.parametrize("fault", ["error:2", "crash:2", "timeout:1", "reject:1", "duplicate"])
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_an_undo_under_a_fault_that_passes(shared: Ground, step: str, fault: str) -> None:
    saga, status = run(shared, capture="reject", **{f"{step}__undo": fault})
    assert status == "COMPENSATED"
    assert shared.statuses(saga)[step] == "UNDONE"


@pytest.mark.parametrize(("fault", "times"), [("error", 18), ("reject", 6)])
@pytest.mark.parametrize("step", BEFORE_PIVOT)
def test_an_undo_that_fails_for_good_lets_the_others_run_and_is_retried(
    shared: Ground, step: str, fault: str, times: int
) -> None:
    saga, status = run(shared, capture="reject", **{f"{step}__undo": f"{fault}:{times}"})
    assert status == "COMPENSATION_FAILED"
    statuses = shared.statuses(saga)
    assert statuses[step] == "UNDO_FAILED"
    assert {statuses[name] for name in BEFORE_PIVOT if name != step} == {"UNDONE"}
    shared.resolve(saga, step, skip=False)
    shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"
    view = next(s for s in shared.view(saga)["steps"] if s["name"] == step)
    assert (view["status"], view["undo_attempts"], view["error"]) == ("UNDONE", times + 1, None)


@pytest.mark.parametrize("fault", ["crash", "timeout"])
def test_an_undo_that_acts_and_never_answers(shared: Ground, fault: str) -> None:
    saga, status = run(shared, capture="reject", hotel__undo=fault)
    assert status in ("COMPENSATED", "COMPENSATION_FAILED")
    if status == "COMPENSATION_FAILED":
        shared.resolve(saga, "hotel", skip=True)
        shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"


def test_an_undo_that_is_skipped_leaves_what_was_held_for_the_operator(
    shared: Ground,
) -> None:
    saga, _ = run(shared, capture="reject", hotel__undo="error")
    shared.resolve(saga, "hotel", skip=True)
    shared.settle()
    assert shared.view(saga)["status"] == "COMPENSATED"
    assert shared.statuses(saga)["hotel"] == "SKIPPED"
    booking = shared.row("hotels", f"booking#{saga}#hotel")
    assert booking is not None and booking["status"] == "HELD"
    record = shared.ledger.get(saga)
    assert record is not None and record.resolutions[0]["reason"] == "a test"


@pytest.mark.parametrize("seed", range(4))
def test_events_in_any_order_and_twice_tell_the_same(shared: Ground, seed: int) -> None:
    chance = random.Random(seed)
    ended = {}
    for name, faults in {
        "booked": {},
        "declined": {"payment": "reject"},
        "crashed": {"hotel": "crash"},
        "stuck": {"capture": "error", "car.undo": "error"},
    }.items():
        ended[name] = shared.start("travel-booking", TRIP, key=f"{name}{seed}", faults=faults)
    shared.settle(shuffle=chance, twice=True)
    statuses = {name: must_agree(shared, saga) for name, saga in ended.items()}
    assert statuses == {
        "booked": "SUCCEEDED",
        "declined": "COMPENSATED",
        "crashed": "COMPENSATED",
        "stuck": "COMPENSATION_FAILED",
    }


def test_two_faults_in_one_group(shared: Ground) -> None:
    saga, status = run(shared, flight="reject", hotel="crash", car="late")
    assert status == "COMPENSATED"
    assert shared.view(saga)["reason"]["step"] in ("flight", "hotel", "car")


def test_a_fault_that_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownFaultError):
        parse("invoice=late", SAGA)
