"""How a saga is declared: once, each step with its undo.

::

    TRAVEL_BOOKING = Saga(
        "travel-booking",
        request=TripRequest,
        business_key="trip_id",
        steps=[
            Together(
                Step("flight", flights.hold, undo=flights.release, takes=["flight"]),
                Step("hotel", hotels.hold, undo=hotels.release, takes=["hotel"]),
            ),
            Step("payment", payments.authorise, undo=payments.void, takes=["payment"],
                 after=["flight", "hotel"]),
            Step("capture", payments.capture, pivot=True),
            Step("invoice", invoices.issue, after=["capture"]),
        ],
    )

A declaration that could lose money is refused when it is built, with the step's name in the
message: see `DeclarationError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, dataclass_transform

from recourse import limits
from recourse.step import Deed, Refusal

Coordination = Literal["orchestration", "choreography"]
Role = Literal["compensable", "pivot", "retriable"]

T = TypeVar("T")
_SAGA_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_STEP_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class DeclarationError(ValueError):
    """A saga that could not keep its guarantees; the message names the step and says why."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def request_model(cls: type[T]) -> type[T]:
    """Make a class the shape of a request: keyword-only, frozen, strict, unknown fields refused.

    It is a plain dataclass, for step functions must not load a validator that they never use; the
    API validates it with pydantic, and constraints are those of `annotated_types`.
    """
    made = dataclass(frozen=True, kw_only=True)(cls)
    made.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return made


@dataclass(frozen=True, slots=True)
class Retry:
    """How a task is tried again: exponential back-off with full jitter and a cap.

    Attributes:
        attempts: Tries in all, the first one included; at least 4, so that a passing fault never
            decides the outcome.
        interval: Seconds before the second try at the most.
        cap: Seconds between tries at the most.
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
"""A function that could not even be called is called again for half an hour; that is no try."""


@dataclass(frozen=True)
class Step:
    """One step: what it does, how it is undone, what it takes and how long it may take.

    Args:
        name: Unique in its saga, lower case with underscores.
        action: What it does.
        undo: What takes its effect back; required before the pivot, refused from the pivot on.
        confirm: How its hold becomes a booking once the pivot has acted; optional.
        takes: Fields of the request that it is given. A step whose every such field is absent from
            the request is left out.
        after: Earlier steps whose results it is given.
        pivot: Whether it decides the saga: before it everything is undone, after it nothing.
        timeout: Seconds one attempt may take.
        retry: How it is tried again.
        result_bytes: What its result may have, in bytes (`recourse.limits.size`); an equal part of
            what is left for those that do not say.
    """

    name: str
    action: Deed
    undo: Deed | None = None
    confirm: Deed | None = None
    takes: Sequence[str] = ()
    after: Sequence[str] = ()
    pivot: bool = False
    timeout: float = 30
    retry: Retry | None = None
    result_bytes: int | None = None

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
    """Steps that run at the same time; if one fails, all of them are undone."""

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        object.__setattr__(self, "steps", steps)


@dataclass(frozen=True)
class Saga:
    """A saga: its request, its steps in order, and the one that decides it.

    Args:
        name: Lower case with dashes; part of URLs, event types and resource names.
        request: The class of the start request, made by `request_model`.
        business_key: The field of the request that holds the caller's own id.
        steps: In order; a `Together` holds those that run at the same time.
        coordination: What a start gets that does not ask for one.
        express: Whether its state machine is an Express one: cheaper, at most five minutes.
        deadline: Seconds after which a saga whose pivot has not acted is cancelled.
        contact: The field of the request that holds whom to tell how it ended, with a `name` and
            an `email`; nobody is told where none is named.

    Raises:
        DeclarationError: It could not keep its guarantees.
    """

    name: str
    request: type
    business_key: str
    steps: Sequence[Step | Together]
    coordination: Coordination = "orchestration"
    express: bool = False
    deadline: float = 3600
    contact: str | None = None
    groups: tuple[tuple[Step, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        groups = tuple(s.steps if isinstance(s, Together) else (s,) for s in self.steps)
        object.__setattr__(self, "groups", groups)
        _check(self)

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
        """Whether some request leaves the step out."""
        known = {f.name: f for f in fields(self.request)}
        return bool(step.takes) and all(known[n].default is not MISSING for n in step.takes)

    def retry(self, step: Step) -> Retry:
        """How the step is tried again."""
        return step.retry or (FORWARD if self.role(step.name) == "retriable" else Retry())

    def patience(self, step: Step) -> Retry:
        """How it is tried again after an error that may pass, where there is no way back."""
        return max(PASSING, self.retry(step), key=lambda retry: retry.attempts)


def _check(saga: Saga) -> None:
    if not _SAGA_NAME.fullmatch(saga.name):
        raise DeclarationError(f"saga {saga.name!r}: a name is lower case, digits and dashes")
    if not is_dataclass(saga.request):
        raise DeclarationError(f"saga {saga.name!r}: its request is no @request_model class")
    known = {f.name: f for f in fields(saga.request)}
    key = known.get(saga.business_key)
    if key is None or key.default is not MISSING:
        raise DeclarationError(
            f"saga {saga.name!r}: the business key {saga.business_key!r} is no required field of "
            f"{saga.request.__name__}"
        )
    if saga.deadline <= 0:
        raise DeclarationError(f"saga {saga.name!r}: a deadline is a positive number of seconds")
    if saga.contact is not None and saga.contact not in known:
        raise DeclarationError(
            f"saga {saga.name!r}: the contact {saga.contact!r} is no field of "
            f"{saga.request.__name__}"
        )
    pivots = [step.name for step in saga.all if step.pivot]
    if len(pivots) != 1:
        raise DeclarationError(
            f"saga {saga.name!r} has {len(pivots)} pivots {pivots}: exactly one step decides it"
        )
    earlier: set[str] = set()
    seen: set[str] = set()
    for group in saga.groups:
        if not group:
            raise DeclarationError(f"saga {saga.name!r}: a Together without steps")
        for step in group:
            if step.name in seen:
                raise DeclarationError(f"step {step.name!r} is declared twice")
            seen.add(step.name)
            _check_step(saga, step, alone=len(group) == 1, known=known, earlier=earlier)
        earlier |= {step.name for step in group}
    _check_shares(saga)


def _check_shares(saga: Saga) -> None:
    most, taken = limits.results(len(saga.all)), sum(saga.shares.values())
    for name, share in saga.shares.items():
        if share < limits.LEAST or taken > most:
            raise DeclarationError(
                f"step {name!r} of {saga.name!r}: its result would have {share} bytes of the "
                f"{most} that {len(saga.all)} steps have together; each needs {limits.LEAST}: "
                "declare a smaller result_bytes, or fewer steps"
            )


def _check_step(
    saga: Saga, step: Step, *, alone: bool, known: Mapping[str, Field[Any]], earlier: set[str]
) -> None:
    def refuse(why: str) -> DeclarationError:
        return DeclarationError(f"step {step.name!r} of {saga.name!r}: {why}")

    role = saga.role(step.name)
    if not _STEP_NAME.fullmatch(step.name):
        raise refuse("a name is lower case, digits and underscores")
    if role == "pivot" and not alone:
        raise refuse("the pivot decides alone, it cannot run together with others")
    if role == "compensable" and step.undo is None:
        raise refuse("it comes before the pivot and has no undo")
    if role == "pivot" and step.undo is not None:
        raise refuse("it is the pivot, which is never undone, yet it has an undo")
    if role == "retriable" and step.undo is not None:
        raise refuse("it comes after the pivot, where nothing is undone, yet it has an undo")
    if role != "compensable" and step.confirm is not None:
        raise refuse("only what is held before the pivot can be confirmed by it")
    for error in step.action.refuses:
        if not (isinstance(error, type) and issubclass(error, Refusal)):
            raise refuse(f"it declares {error!r}, which is no Refusal: nothing would catch it")
        if role == "retriable":
            raise refuse(
                f"it may raise {error.__name__}, but after the pivot nothing catches a refusal"
            )
    for name in step.takes:
        if name not in known:
            raise refuse(f"it takes {name!r}, which the request does not have")
    if step.pivot and saga.optional(step):
        raise refuse("it is the pivot, and a request could leave it out")
    for name in step.after:
        if name not in earlier:
            raise refuse(f"it is given the result of {name!r}, which is no earlier step")
    if step.timeout <= 0:
        raise refuse("a timeout is a positive number of seconds")
    retry = saga.retry(step)
    if retry.attempts < 4 or retry.interval <= 0 or retry.cap < retry.interval:
        raise refuse("a retry has at least 4 attempts and an interval of at most its cap")
