"""What queues that follow from the declarations are called, by operators and in SQS.

The constructs make these queues, and functions find them by the same names: a list of them all
would outgrow a function's environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recourse.declare.shape import Shape
from recourse.queues.deadletters import deadletters_of


def steps_queues(shapes: Iterable[Shape[Any]]) -> list[str]:
    """The queue of each step of a choreography, called as the function that serves it."""
    return sorted({step.function for shape in shapes for step in shape.all})


def confirmer(service: str) -> str:
    """The queue, and the function, that confirms a service's holds."""
    return f"{service.title()}Confirm"


def confirmers(shapes: Iterable[Shape[Any]]) -> list[str]:
    """Those of every service that confirms."""
    steps = (step for shape in shapes for step in shape.all if step.confirms)
    return sorted({confirmer(step.service) for step in steps})


def redriven_queues(shapes: Iterable[Shape[Any]], *, choreography: bool) -> list[str]:
    """The queues that sagas bring, whose dead letters go back to them."""
    shapes = list(shapes)
    return [*(steps_queues(shapes) if choreography else ()), *confirmers(shapes)]


def operators_queues(shapes: Iterable[Shape[Any]], *, choreography: bool) -> list[str]:
    """The queues whose messages ask an operator to act on a saga that is not at rest.

    Dead-letter queues of consumers that act on a saga's end are not among them: their messages
    must be processed although the saga is at rest.
    """
    lost = [*(steps_queues(shapes) if choreography else ()), "Ledger", "Parked", "Sweeper"]
    return ["Parked", *(deadletters_of(name) for name in lost)]
