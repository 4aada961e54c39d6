"""How often, and how long, a step of a choreography is tried."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from recourse.choreography.routing import Trigger
from recourse.declare.shape import AnyStep, Shape
from recourse.run.failures import may_pass


def longest(function: str, shapes: Iterable[Shape[Any]]) -> float:
    """The longest timeout of the steps that a function serves, in seconds."""
    steps: Iterable[AnyStep] = (step for shape in shapes for step in shape.all)
    return max(step.timeout for step in steps if step.function == function)


def must_succeed(shape: Shape[Any], step: AnyStep, trigger: Trigger) -> bool:
    """Whether there is no way back: an undo, or an action after the pivot."""
    return trigger.side == "undo" or shape.role(step.name) == "retriable"


def most(shape: Shape[Any], step: AnyStep, trigger: Trigger) -> int:
    """The maximum number of attempts of a step."""
    return (
        shape.patience(step) if must_succeed(shape, step, trigger) else shape.retry(step)
    ).attempts


def most_after(shape: Shape[Any], step: AnyStep, trigger: Trigger, problem: Exception) -> int:
    """The maximum number of attempts of a step that has failed with this error."""
    if may_pass(problem):
        return most(shape, step, trigger)
    return shape.retry(step).attempts if must_succeed(shape, step, trigger) else 1


def pause(shape: Shape[Any], step: AnyStep, attempt: int) -> float:
    """Seconds until the next attempt: exponential, capped, with full jitter."""
    retry = shape.retry(step)
    return random.uniform(0, min(retry.cap, retry.interval * 2**attempt))
