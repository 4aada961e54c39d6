"""Guarantee 15: what a step returns or says is bounded, and what is too large stops nobody."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from recourse import limits
from recourse.saga import Coordination
from tests.integration.large import BEFORE, LARGE, STEPS, asked
from tests.moto.ground import LEDGER, Ground, ground

SHARE = min(LARGE.shares.values())
QUOTES = 2
"""A text has quotation marks round it."""
keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground({"large": LARGE}) as made:
        yield made


def run(place: Ground, coordination: Coordination, **steps: dict[str, Any]) -> str:
    saga_id = place.start("large", asked(**steps), key=f"{next(keys)}", coordination=coordination)
    place.settle()
    return saga_id


def effects(place: Ground, saga_id: str) -> set[str]:
    """The steps that have acted and were not undone."""
    acted = {row["pk"].split("#")[2] for row in place.rows("large", f"effect#{saga_id}")}
    return acted - {row["pk"].split("#")[2] for row in place.rows("large", f"undone#{saga_id}")}


@each_coordination
@pytest.mark.parametrize("step", [*BEFORE, "decide"])
def test_a_result_that_is_too_large_is_refused_before_it_is_committed(
    place: Ground, step: str, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, **{step: {"result": 100_000}})
    view = place.view(saga_id)
    assert view["status"] == "COMPENSATED"
    assert view["reason"] == {
        "step": step,
        "error": "ResultTooLargeError",
        "message": f"step {step!r}: its result must be at most {SHARE} bytes, got 100002",
    }
    assert place.row("large", f"effect#{saga_id}#{step}") is None
    assert effects(place, saga_id) == set()


@each_coordination
def test_a_result_that_is_too_large_after_the_pivot_is_parked(
    place: Ground, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, after={"result": 100_000})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("RUNNING", "ResultTooLargeError")
    assert place.statuses(saga_id)["after"] == "FAILED"
    assert effects(place, saga_id) == set(STEPS) - {"after"}


@each_coordination
def test_a_row_that_dynamodb_would_not_take_is_refused_with_the_steps_name(
    place: Ground, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, middle={"row": limits.ITEM})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("COMPENSATED", "ResultTooLargeError")
    assert "step 'middle': a row must be at most" in view["reason"]["message"]


@each_coordination
def test_what_an_undo_returns_is_measured_too(place: Ground, coordination: Coordination) -> None:
    saga_id = run(
        place, coordination, middle={"undone": 100_000}, decide={"refusal": 1}, left={"undone": 9}
    )
    assert place.view(saga_id)["status"] == "COMPENSATION_FAILED"
    (stuck,) = (s for s in place.view(saga_id)["steps"] if s["status"] == "UNDO_FAILED")
    assert (stuck["name"], stuck["error"]) == ("middle", "ResultTooLargeError")
    assert effects(place, saga_id) == {"middle"}


@each_coordination
def test_every_share_used_to_the_full_fits_wherever_it_is_carried(
    place: Ground, coordination: Coordination
) -> None:
    full = {name: {"result": SHARE - QUOTES} for name in STEPS}
    full["left"]["more"] = "x" * (limits.REQUEST - limits.size(asked(**full)) - 100)
    assert limits.REQUEST - 200 < limits.size(asked(**full)) <= limits.REQUEST
    saga_id = run(place, coordination, **full)
    assert place.view(saga_id)["status"] == "SUCCEEDED"
    assert effects(place, saga_id) == set(STEPS)
    if coordination == "orchestration":
        history = place.sfn.get_execution_history(
            executionArn=place.execution(saga_id)["executionArn"], maxResults=1000
        )["events"]
        for event in history:
            for details in (event[name] for name in event if name.endswith("EventDetails")):
                for carried in (details.get("input", ""), details.get("output", "")):
                    assert len(carried.encode()) <= limits.CARRIED, event
    for row in (*place.rows("large", "outbox#"), *place.rows(LEDGER, "outbox#")):
        assert len(row["event"].encode()) <= limits.EVENT
    for table in ("large", LEDGER):
        for row in place.rows(table, ""):
            limits.check_rows("any", [row])


@each_coordination
@pytest.mark.parametrize("step", [*BEFORE, "decide"])
def test_a_refusal_of_any_length_is_cut_and_holds_up_nobody(
    place: Ground, step: str, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, **{step: {"refusal": 300_000}})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("COMPENSATED", "WordyError")
    assert view["reason"]["message"].endswith(f"xxx{limits.MARK}")
    assert len(json.dumps(view["reason"]["message"], ensure_ascii=False).encode()) <= limits.TEXT


@each_coordination
@pytest.mark.parametrize("kind", [ValueError, LookupError])
def test_the_text_of_any_error_is_cut(
    place: Ground, kind: type[Exception], coordination: Coordination
) -> None:
    def fails(function: str, task: dict[str, Any], run_it: Any) -> Any:
        if task["step"] == "middle" and task["phase"] == "action":
            raise kind('"' * 300_000)
        return run_it()

    place.mishap, before = fails, place.mishap
    try:
        saga_id = run(place, coordination)
    finally:
        place.mishap = before
    reason = place.view(saga_id)["reason"]
    assert (reason["step"], reason["error"]) == ("middle", kind.__name__)
    assert reason["message"].endswith(limits.MARK)
    assert len(json.dumps(reason["message"], ensure_ascii=False).encode()) <= limits.TEXT
