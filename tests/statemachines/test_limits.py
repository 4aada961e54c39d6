"""What a declaration may have at the most compiles to what Step Functions takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from recourse.asl import compile_saga
from recourse.declaration import MOST_HISTORY
from recourse.saga import DeclarationError, Retry, Saga, Step, Together, request_model
from recourse.step import Call, Decision, action, undo


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


def test_the_longest_names_are_what_the_name_of_a_state_can_hold() -> None:
    """80 characters, and no name is refused that would have fitted."""
    long = ["a" * 73, "b" * 73, "c" * 73]
    pair = ["d" * 38, "e" * 39]
    saga = declare(
        Step(long[0], act, undo=take_back),
        Together(*(Step(name, act, undo=take_back) for name in pair)),
        Step(long[1], decide, pivot=True),
        Together(*(Step(name, follow) for name in ("f", "g"))),
        Step(long[2], follow),
    )
    longest = max(len(name) for name, _ in states(compile_saga(saga)))
    assert longest == 80
    assert max(len(name) for name, s in states(compile_saga(saga)) if s["Type"] == "Parallel") == 80


def test_a_saga_may_begin_with_its_pivot() -> None:
    machine = compile_saga(declare(Step("first", decide, pivot=True), Step("second", follow)))
    assert machine["States"]["first.settle"]["Catch"][0]["Next"] == "Undone?"
    assert not any(name.endswith(".undo") for name in machine["States"])


def history(saga: Saga) -> int:
    """The events of a run in which every task that there is fails as often as it may."""
    events = 0
    for _, state in states(compile_saga(saga)):
        tries = sum(retry["MaxAttempts"] for retry in state.get("Retry", []))
        # Entered and exited; of each try that it is scheduled, started, and failed or timed out.
        events += 2 + (3 * (1 + tries) if state["Type"] == "Task" else 0)
        events += 2 * (state["Type"] == "Parallel")
    return events


@pytest.mark.parametrize("attempts", [4, 20, 100])
@pytest.mark.parametrize("beside", [1, 4])
def test_a_run_stays_within_its_history_however_often_everything_is_tried(
    attempts: int, beside: int
) -> None:
    """Past it Step Functions ends the run, with whatever it holds."""
    retry = Retry(attempts=attempts)
    accepted: Saga | None = None
    for groups in range(5, 400, 5):
        steps = [
            Together(*(Step(f"s{n}_{m}", act, undo=take_back, retry=retry) for m in range(beside)))
            for n in range(groups)
        ]
        try:
            accepted = declare(*steps, Step("pivot", decide, pivot=True, retry=retry))
        except DeclarationError as refused:
            assert "events of history" in str(refused)
            break
    else:
        pytest.fail("nothing was refused")
    assert accepted is not None
    assert MOST_HISTORY / 3 < history(accepted) <= MOST_HISTORY
