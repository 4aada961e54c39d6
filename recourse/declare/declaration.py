"""The declaration of a saga, valid or not: its steps, and what follows from them.

`recourse.declare.checks` validates it; `recourse.declare.saga.Saga` is a valid one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal

from recourse.declare import limits
from recourse.declare.hints import types_of
from recourse.declare.request import may_be_none
from recourse.declare.step import Action, Confirm, Result, Undo

Coordination = Literal["orchestration", "choreography"]
Role = Literal["compensable", "pivot", "retriable"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How a task is tried again: exponential back-off with full jitter and a cap.

    ::

        Step("invoice", invoices.issue, after=["flight"], retry=Retry(attempts=12, cap=300))

    Attributes:
        attempts: Tries in all, the first one included: 4 to 100. Fewer, and a passing fault would
            decide the outcome; more, and one step could fill the history of its run.
        interval: Seconds before the second try at the most.
        cap: Seconds between tries at the most; up to 900.
    """

    attempts: int = 4
    interval: float = 1
    cap: float = 10


FORWARD = Retry(attempts=8, interval=1, cap=60)
"""After the pivot there is no way back, so a step is tried for longer before it is parked."""
PASSING = Retry(attempts=16, interval=1, cap=60)
"""An error that may pass is waited out, for minutes, where nothing is left but to ask an operator:
by an undo, by what settles a pivot, and by a step after it."""
THROTTLED = Retry(attempts=60, interval=1, cap=60)
"""A function that could not be called is called again for half an hour; none of that is a try."""


@dataclass(frozen=True)
class Step(Generic[Result]):
    """One step: what it does, how it is undone, what it takes and how long it may take.

    ::

        Step("flight", flights.hold, undo=flights.release, confirm=flights.book, takes=["flight"])
        Step("payment", payments.authorise, undo=payments.void, takes=["payment"], after=["flight"])
        Step("capture", payments.capture, pivot=True)

    Args:
        name: Unique in its saga, lower case with underscores, at most 69 characters.
        action: What it does.
        undo: What takes its effect back, given what the action answers; required before the
            pivot, refused from the pivot on.
        confirm: How its hold becomes a booking once the pivot has acted; optional.
        takes: Fields of the request that it is given: each makes the field of this name of what
            the action asks for, and fits it by type. A step whose every such field is None in the
            request is left out; one that takes a field that cannot be None never is.
        after: Earlier steps whose results it is given.
        pivot: Whether it decides the saga: before it everything is undone, after it nothing.
        timeout: Seconds one attempt may take, 1 to 900.
        retry: How it is tried again.
        result_bytes: What its result may have, in bytes (`recourse.declare.limits.size`); an equal
            part of what is left for those that do not say.
    """

    name: str
    action: Action[Any, Result]
    undo: Undo[Any, Result] | None = None
    confirm: Confirm | None = None
    takes: Sequence[str] = ()
    after: Sequence[str] = ()
    pivot: bool = False
    timeout: float = 30
    retry: Retry | None = None
    result_bytes: int | None = None

    @property
    def parts(self) -> tuple[Action[Any, Any] | Undo[Any, Any] | Confirm, ...]:
        """Its action, and its undo and its confirmation where it has them."""
        return tuple(one for one in (self.action, self.undo, self.confirm) if one is not None)

    @property
    def service(self) -> str:
        """The service whose table the step writes, by the name of its module."""
        return self.action.decide.__module__.rpartition(".")[2]

    @property
    def function(self) -> str:
        """The function that serves it, named for what it does: `FlightsHold`."""
        return self.service.title().replace("_", "") + self.action.decide.__name__.title().replace(
            "_", ""
        )


@dataclass(frozen=True)
class Together:
    """Steps that run at the same time; if one fails, all of them are undone.

    ::

        Together(
            Step("flight", flights.hold, undo=flights.release, takes=["flight"]),
            Step("hotel", hotels.hold, undo=hotels.release, takes=["hotel"]),
        )
    """

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        object.__setattr__(self, "steps", steps)


@dataclass(frozen=True)
class Declaration:
    """A saga as it is written down; the fields are those of `recourse.declare.saga.Saga`."""

    name: str
    request: type
    business_key: str
    steps: Sequence[Step | Together]
    coordination: Coordination = "orchestration"
    deadline: float = 3600
    contact: str | None = None
    groups: tuple[tuple[Step, ...], ...] = field(init=False, repr=False)

    @cached_property
    def all(self) -> tuple[Step, ...]:
        """Every step, in the order of the declaration."""
        return tuple(step for group in self.groups for step in group)

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """Every step by its name."""
        return {step.name: step for step in self.all}

    @cached_property
    def shares(self) -> dict[str, int]:
        """The bytes that the result of each step may have."""
        shares = limits.shares([step.result_bytes for step in self.all])
        return dict(zip(self.by_name, shares, strict=True))

    @cached_property
    def pivot(self) -> Step:
        """The step that decides the saga."""
        return next(step for step in self.all if step.pivot)

    @cached_property
    def _rank(self) -> dict[str, int]:
        return {step.name: rank for rank, group in enumerate(self.groups) for step in group}

    def rank(self, step: str) -> int:
        """The position of the step's group, from 0."""
        return self._rank[step]

    def role(self, step: str) -> Role:
        """What failing means for the step: undone, deciding, or tried until it is done."""
        distance = self.rank(step) - self.rank(self.pivot.name)
        return "compensable" if distance < 0 else "pivot" if distance == 0 else "retriable"

    def left_out(self, step: Step, request: Mapping[str, Any]) -> bool:
        """Whether a request leaves the step out: it has none of the fields that the step takes."""
        return bool(step.takes) and all(request.get(name) is None for name in step.takes)

    def optional(self, step: Step) -> bool:
        """Whether some request leaves the step out: all that it takes may be None, by type."""
        return bool(step.takes) and self._may_be_none.issuperset(step.takes)

    @cached_property
    def _may_be_none(self) -> frozenset[str]:
        types = types_of(self.request)
        return frozenset(name for name in types if may_be_none(types[name]))

    def retry(self, step: Step) -> Retry:
        """How the step is tried again."""
        return step.retry or (FORWARD if self.role(step.name) == "retriable" else Retry())

    def patience(self, step: Step) -> Retry:
        """How it is tried again after an error that may pass, where there is no way back."""
        return max(PASSING, self.retry(step), key=lambda retry: retry.attempts)
