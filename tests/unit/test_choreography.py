"""Who listens to whom, from the declaration alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from recourse.choreography import Cue, cue, cues, describe, listeners
from recourse.saga import Saga, Step, Together
from recourse.step import Call, Decision, action, undo
from statemachines import SAGAS
from tests.integration.test_shapes import TOUR

TRAVEL = SAGAS["travel-booking"]
WHOLE: dict[str, Any] = {name: {"id": "1"} for name in ("flight", "hotel", "car", "payment")}


def event(saga: Saga, path: str, **data: Any) -> dict[str, Any]:
    step, _, _ = path.rpartition(".")
    named = {"step": step} if step else {}
    return {"type": f"recourse.{saga.name}.{path}", "data": named | data}


def moves(saga: Saga, path: str, request: dict[str, Any]) -> dict[str, Cue]:
    """The steps that an event moves, and how."""
    told = event(saga, path)
    found = {step.name: cue(saga, step, told, request) for step in saga.all}
    return {name: moved for name, moved in found.items() if moved}


def test_the_first_steps_act_on_the_start() -> None:
    acts = Cue("action", frozenset())
    assert moves(TRAVEL, "started", WHOLE) == {"flight": acts, "hotel": acts, "car": acts}


def test_steps_that_run_together_are_joined_in_the_one_after_them() -> None:
    joined = Cue("action", frozenset({"flight", "hotel", "car"}))
    assert moves(TRAVEL, "hotel.done", WHOLE) == {"payment": joined}
    fewer = Cue("action", frozenset({"flight", "hotel"}))
    assert moves(TRAVEL, "hotel.done", WHOLE | {"car": None}) == {"payment": fewer}


def test_what_runs_together_with_a_step_that_failed_undoes() -> None:
    beside = Cue("undo", frozenset({"hotel"}))
    assert moves(TRAVEL, "hotel.failed", WHOLE) == {"flight": beside, "car": beside}


def test_what_comes_before_a_step_undoes_when_that_is_undone_or_is_lost() -> None:
    for path in ("payment.undone", "payment.undo_failed"):
        back = Cue("undo", frozenset({"payment"}))
        assert moves(TRAVEL, path, WHOLE) == {"flight": back, "hotel": back, "car": back}
    assert moves(TRAVEL, "payment.failed", WHOLE) == {}, "its own undo goes first"


def test_a_pivot_that_fails_turns_the_step_before_it() -> None:
    assert moves(TRAVEL, "capture.failed", WHOLE) == {
        "payment": Cue("undo", frozenset({"capture"}))
    }


def test_nothing_after_the_pivot_undoes_and_nothing_is_moved_by_an_ending() -> None:
    for path in ("invoice.failed", "succeeded", "compensated", "compensation_failed"):
        assert moves(TRAVEL, path, WHOLE) == {}


def test_a_step_that_is_left_out_is_passed_over_in_both_directions() -> None:
    without = {**WHOLE, "flight": None, "tour_id": "t"}
    acts = Cue("action", frozenset())
    assert moves(TOUR, "started", without) == {"hotel": acts, "car": acts}
    assert moves(TOUR, "started", WHOLE) == {"flight": acts}
    both = Cue("undo", frozenset({"hotel", "car"}))
    assert moves(TOUR, "hotel.undone", WHOLE) == {"flight": both}
    assert moves(TOUR, "hotel.undone", without) == {}


def test_a_subscription_has_all_that_may_move_a_step_whatever_is_left_out() -> None:
    every = ("started", *(f"{s.name}.{w}" for s in TOUR.all for w in WHATS))
    for left_out in ((), ("flight",), ("car",), ("flight", "car")):
        request = WHOLE | dict.fromkeys(left_out)
        for path in every:
            for name in moves(TOUR, path, request):
                heard = cues(TOUR, TOUR.by_name[name])
                assert f"recourse.tour.{path}" in heard.forward + heard.backward, (name, path)


WHATS = ("done", "failed", "undone", "undo_failed")


@pytest.mark.of_all
def test_a_subscription_has_nothing_that_never_moves_the_step() -> None:
    for saga in (*SAGAS.values(), TOUR):
        whole: dict[str, Any] = {name: {} for step in saga.all for name in step.takes}
        may_go = [step for step in saga.all if saga.optional(step)]
        requests = [
            whole | {name: None for step in out for name in step.takes}
            for some in range(len(may_go) + 1)
            for out in itertools.combinations(may_go, some)
        ]
        for step in saga.all:
            heard = cues(saga, step)
            for kind in heard.forward + heard.backward:
                path = kind.removeprefix(f"recourse.{saga.name}.")
                assert any(cue(saga, step, event(saga, path), one) for one in requests), kind


@pytest.mark.of_all
def test_one_queue_serves_all_steps_of_a_function() -> None:
    heard = listeners(SAGAS.values())
    assert set(heard) == {step.function for saga in SAGAS.values() for step in saga.all}
    for function, kinds in heard.items():
        served = {s.name for s in SAGAS.values() if function in {step.function for step in s.all}}
        assert {kind.split(".")[1] for kind in kinds} == served


@action()
def act(call: Call) -> Decision:
    return Decision()


@undo()
def take_back(call: Call) -> Decision:
    return Decision()


def test_a_saga_that_begins_with_its_pivot_has_nobody_who_undoes() -> None:
    saga = Saga(
        "bare",
        request=TOUR.request,
        business_key="tour_id",
        steps=[Step("decide", act, pivot=True), Together(Step("a", act), Step("b", act))],
    )
    assert all(not cues(saga, step).backward for step in saga.all)
    assert moves(saga, "decide.done", WHOLE).keys() == {"a", "b"}


@pytest.mark.of_all
@pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
def test_the_page_shows_every_step(saga: Saga) -> None:
    page = describe(saga)
    assert "flowchart LR" in page
    for step in saga.all:
        assert f"| {step.name}{'*' if step.pivot else ''} |" in page
