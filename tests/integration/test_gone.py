"""What a saga in flight needs was taken out by force: that is said, with what can be done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from recourse.declare import shape
from recourse.declare.declaration import Coordination
from recourse.declare.shape import ShapeError
from recourse.errors import NoVersionError
from recourse.functions import kit
from recourse.orchestration.sweeper import LONGEST_DELAY, MAX_RECOVERIES
from recourse.project import SHAPES, earlier_at, recorded_at, text_of_shapes
from recourse.testing.handlers import MISSING, arn
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.calling import Answer
from tests.integration.test_api import asha, operator, problem, resolve, standing
from tests.integration.trips import TRIP, must_agree, stock

SAGA = SAGAS["travel-booking"]
TRIES = {step: SAGA.retry(SAGA.by_name[step]).attempts for step in ("invoice", "hotel")}
PARKED = {
    "invoice": ({"invoice": f"reject:{TRIES['invoice']}"}, "SUCCEEDED"),
    "hotel": ({"capture": "reject", "hotel.undo": f"reject:{TRIES['hotel']}"}, "COMPENSATED"),
}
"""A step that is stuck, by which faults, and what becomes of the saga when it is resolved."""
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
each_stuck = pytest.mark.parametrize("step", PARKED)


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


def parked(made: Ground, step: str, coordination: Coordination) -> str:
    faults, _ = PARKED[step]
    key = f"{step}-{coordination}-{len(made.rows('ledger', ''))}"
    saga_id = made.start(SAGA.name, TRIP, key=key, faults=faults, coordination=coordination)
    made.settle()
    return saga_id


def without(*functions: str) -> Any:
    """What a deployment serves that has no such functions."""
    return lambda: [
        SimpleNamespace(
            name=saga.name, all=[one for one in saga.all if one.function not in functions]
        )
        for saga in SAGAS.values()
    ]


def must_be_said(answer: Answer, *words: str) -> None:
    detail = problem(answer, 409, "not-deployed")["detail"]
    assert all(word in detail for word in (*words, "deploy, and try again")), detail


@each_coordination
@each_stuck
@pytest.mark.parametrize("action", ["retry", "skip"])
def test_an_operator_is_told_that_a_steps_function_is_gone_before_anything_is_decided(
    shared: Ground,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    coordination: Coordination,
    action: str,
) -> None:
    saga_id = parked(shared, step, coordination)
    before = asha.get(saga_id).json
    digest = shape.digest(shape.record(SAGA))
    for gone in (SAGA.by_name[step], SAGA.pivot):
        with monkeypatch.context() as patch:
            patch.setattr(kit, "deployed", without(gone.function))
            answer = resolve(saga_id, step, action=action, reason="why")
        must_be_said(answer, gone.name, gone.function, digest, f"{SAGA.name}{SHAPES}")
    assert asha.get(saga_id).json == before
    assert resolve(saga_id, step, action="retry").status == 202
    shared.settle()
    assert must_agree(shared, saga_id) == PARKED[step][1]


@each_coordination
@each_stuck
def test_an_operator_is_told_that_the_version_of_the_machine_is_gone(
    shared: Ground, monkeypatch: pytest.MonkeyPatch, step: str, coordination: Coordination
) -> None:
    saga_id = parked(shared, step, coordination)

    def version(_: Any) -> str:
        raise NoVersionError("the machine of 'travel-booking' has no version for the shape")

    with monkeypatch.context() as patch:
        patch.setattr(kit, "runs", lambda: replace(shared.runs, version=version))
        must_be_said(resolve(saga_id, step, action="retry"), "has no version")
        patch.setattr(kit, "known", lambda: ("order",))
        must_be_said(resolve(saga_id, step, action="retry"), "neither declared nor recorded")
    assert asha.get(saga_id).json["status"] in ("RUNNING", "COMPENSATION_FAILED")


@each_coordination
def test_a_cancel_whose_pivot_is_gone_says_so(
    shared: Ground, monkeypatch: pytest.MonkeyPatch, coordination: Coordination
) -> None:
    saga_id = shared.start(
        SAGA.name, TRIP, key=f"cancel-{coordination}", coordination=coordination, run=False
    )
    with monkeypatch.context() as patch:
        patch.setattr(kit, "deployed", without(SAGA.pivot.function))
        for who in (asha, operator):
            must_be_said(who("POST", f"/sagas/{saga_id}/cancel"), SAGA.pivot.function)
    assert asha("POST", f"/sagas/{saga_id}/cancel").status == 202


@each_coordination
@each_stuck
def test_a_retry_whose_function_somebody_has_deleted_parks_again_and_says_why(
    shared: Ground, step: str, coordination: Coordination
) -> None:
    """Nothing of the deployment shows it: only the call does."""
    saga_id = parked(shared, step, coordination)
    function = SAGA.by_name[step].function
    kept = shared.functions.pop(function)
    try:
        assert resolve(saga_id, step, action="retry").status == 202
        shared.settle()
        for _ in range(MAX_RECOVERIES + 1):  # a step before the pivot cannot be looked up either
            shared.clock.sleep(LONGEST_DELAY.total_seconds())
            shared.sweep()
            shared.settle()
    finally:
        shared.functions[function] = kept
    view = next(one for one in asha.get(saga_id).json["steps"] if one["name"] == step)
    assert view["error"] == (MISSING if step == "invoice" else "RecoveryFailedError")
    assert f"Function not found: {arn(function)}" in view["message"]
    # The sweeper has not tried the undo, so its fault is met once more.
    for _ in range(2 if step == "hotel" else 1):
        assert resolve(saga_id, step, action="retry").status == 202
        shared.settle()
    assert must_agree(shared, saga_id) == PARKED[step][1]


def test_what_the_code_has_no_longer_stops_nobody_who_needs_only_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the local cloud code is saved before it is compiled: lists and queues go on."""
    (tmp_path / "gone_sagas.py").write_text("SAGAS = {}\n")
    recorded = shape.record(SAGA)
    recorded["groups"][0][0]["action"] = "services.flights:gone"
    (tmp_path / f"{SAGA.name}{SHAPES}").write_text(text_of_shapes([recorded], []))
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = recorded_at("gone_sagas:SAGAS")
    assert found.name == SAGA.name
    with pytest.raises(ShapeError, match=r"services\.flights:gone is gone"):
        earlier_at("gone_sagas:SAGAS")
    sys.modules.pop("gone_sagas")
