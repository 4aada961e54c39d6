"""What a declaration may have at the most compiles to what Step Functions takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from recourse.declare.checks import MOST_HISTORY
from recourse.declare.declaration import Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.shape import Retry
from recourse.declare.step import Call, Decision, action, undo
from recourse.declare.step_checks import LONGEST_NAME
from recourse.errors import DeclarationError
from recourse.orchestration.compiler import compile_saga


@request_model
class Ask:
    order_id: str


@action()
def act(call: Call) -> Decision:
    return Decision()


@action()
def decide(call: Call) -> Decision:
    return Decision()


@action()
def follow(call: Call) -> Decision:
    return Decision()


@undo()
def take_back(call: Call) -> Decision:
    return Decision()


def declare(*steps: Step | Together) -> Saga:
    return Saga("shop", request=Ask, business_key="order_id", steps=steps)


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        for branch in state.get("Branches", []):
            yield from states(branch)


def test_the_longest_names_fit_the_name_of_a_state() -> None:
    long = [letter * LONGEST_NAME for letter in "abcd"]
    pair = ["e" * 38, "f" * 39]
    saga = declare(
        Step(long[0], act, undo=take_back),
        Together(*(Step(name, act, undo=take_back) for name in (long[1], "g", "h"))),
        Together(*(Step(name, act, undo=take_back) for name in pair)),
        Step(long[2], decide, pivot=True),
        Together(*(Step(name, follow) for name in (long[3], "i", "j"))),
    )
    names = [name for name, _ in states(compile_saga(saga))]
    assert " | ".join(pair) in names
    assert max(map(len, names)) == 80


def test_a_saga_may_begin_with_its_pivot() -> None:
    machine = compile_saga(declare(Step("first", decide, pivot=True), Step("second", follow)))
    assert machine["States"]["first.settle"]["Catch"][0]["Next"] == "Undone?"
    assert not any(name.endswith(".undo") for name in machine["States"])


def history(machine: dict[str, Any]) -> int:
    """The events of the longest way through a machine, each task failing as often as it may."""

    @cache
    def most(name: str) -> int:
        state = machine["States"][name]
        events = 2 + sum(history(branch) for branch in state.get("Branches", []))
        if state["Type"] == "Parallel":
            events += 2
        if state["Type"] == "Task":
            # Of each try that it is scheduled, started, and failed or timed out.
            events += 3 * (1 + sum(retry["MaxAttempts"] for retry in state["Retry"]))
        ways = {state[key] for key in ("Next", "Default") if key in state}
        ways |= {way["Next"] for key in ("Catch", "Choices") for way in state.get(key, [])}
        return events + max(map(most, ways), default=0)

    return most(machine["StartAt"])


@pytest.mark.parametrize("attempts", [4, 20, 100])
@pytest.mark.parametrize("beside", [1, 4])
def test_a_run_stays_within_its_history_however_often_everything_is_tried(
    attempts: int, beside: int
) -> None:
    """Past it Step Functions ends the run, with whatever it holds."""
    retry = Retry(attempts=attempts)
    accepted: Saga | None = None
    for groups in range(1, 100):
        steps = [
            Together(*(Step(f"s{n}_{m}", act, undo=take_back, retry=retry) for m in range(beside)))
            for n in range(groups)
        ]
        try:
            accepted = declare(*steps, Step("pivot", decide, pivot=True, retry=retry))
        except DeclarationError:
            break
    else:
        pytest.fail("nothing was refused")
    assert accepted is not None
    assert history(compile_saga(accepted)) <= MOST_HISTORY
    assert len(accepted.all) > 10


def test_the_timescale_multiplies_timeouts_and_backoffs_in_whole_seconds() -> None:
    saga = declare(Step("capture", decide, pivot=True))
    fast = compile_saga(saga, 0.1)["States"]["capture"]
    slow = compile_saga(saga)["States"]["capture"]
    assert (slow["TimeoutSeconds"], fast["TimeoutSeconds"]) == (30, 3)
    assert slow["Retry"][1]["MaxDelaySeconds"] == 10
    assert fast["Retry"][1]["IntervalSeconds"] == 1
