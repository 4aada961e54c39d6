"""The declaration of a saga, valid or not: its steps, and what follows from them.

`recourse.declare.checks` validates it; `recourse.declare.saga.Saga` is a valid one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, cast

from recourse.declare.hints import types_of
from recourse.declare.json_types import UnwritableError, write
from recourse.declare.later import Later
from recourse.declare.request import may_be_none
from recourse.declare.shape import (
    RecordedShape,
    RecordedStep,
    Retry,
    Shape,
    ShapeError,
    function_of,
    service_of,
)
from recourse.declare.step import Action, Confirm, Result, Undo, resolve
from recourse.declare.wait import Waits

Coordination = Literal["orchestration", "choreography"]


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
        delay: Seconds, up to a year, that the saga rests before the step is done, once it has come
            to it.
        not_before: In place of that, where the request has the moment until which it rests: the
            dotted path of a `Moment` within a field that the step takes. Without a moment there,
            or with one that has passed, the step is done at once.
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
    delay: float | None = None
    not_before: str | None = None

    @property
    def parts(self) -> tuple[Action[Any, Any] | Undo[Any, Any] | Confirm, ...]:
        """Its action, and its undo and its confirmation where it has them."""
        return tuple(one for one in (self.action, self.undo, self.confirm) if one is not None)

    @property
    def refs(self) -> dict[str, str | None]:
        """Where its functions are, by part: `package.module:function`."""
        return {
            "action": self.action.ref,
            "undo": self.undo.ref if self.undo else None,
            "confirm": self.confirm.ref if self.confirm else None,
        }

    @property
    def service(self) -> str:
        """The service whose table the step writes, by the name of its module."""
        return service_of(self.action.ref)

    @property
    def function(self) -> str:
        """The function that serves it, named for what it does: `FlightsHold`."""
        return function_of(self.action.ref)

    @property
    def refusals(self) -> frozenset[str]:
        """The names of the refusals that its action may raise."""
        return frozenset(kind.__name__ for kind in self.action.refuses)

    @property
    def confirms(self) -> bool:
        """Whether its hold becomes a booking once the pivot has acted."""
        return self.confirm is not None

    @property
    def external(self) -> bool:
        """Whether its action acts outside DynamoDB."""
        return self.action.external

    @property
    def documents(self) -> bool:
        """Whether its action stores documents."""
        return self.action.documents

    @property
    def waits(self) -> Waits | None:
        """How it waits for somebody's decision, where it may."""
        wait = self.action.waits
        return Waits(wait.name, wait.scope, wait.within, wait.remind) if wait else None

    @property
    def later(self) -> Later | None:
        """When it is due, where it is not at once."""
        at_once = self.delay is None and self.not_before is None
        return None if at_once else Later(self.delay, self.not_before)


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
class Declaration(Shape[Step]):
    """A saga as it is written down; the fields are those of `recourse.declare.saga.Saga`."""

    name: str
    request: type
    business_key: str
    steps: Sequence[Step | Together]
    coordination: Coordination = "orchestration"
    deadline: float = 3600
    contact: str | None = None
    reverse: str | None = None
    groups: tuple[tuple[Step, ...], ...] = field(init=False, repr=False)

    def optional(self, step: Step) -> bool:
        """Whether some request leaves the step out: all that it takes may be None, by type."""
        return bool(step.takes) and self._may_be_none.issuperset(step.takes)

    @cached_property
    def request_types(self) -> Mapping[str, Any]:
        """The types of the fields that steps take, as `json_types.write` has them."""
        types, found = types_of(self.request), {}
        for name in sorted({name for step in self.all for name in step.takes}):
            with suppress(UnwritableError):
                found[name] = write(types[name])
        return found

    @cached_property
    def _may_be_none(self) -> frozenset[str]:
        types = types_of(self.request)
        return frozenset(name for name in types if may_be_none(types[name]))


def part_of(step: RecordedStep, part: str) -> Action[Any, Any] | Undo[Any, Any] | Confirm | None:
    """A part of a recorded step, as the code has it now; None where the step has none.

    Args:
        step: The step.
        part: `action`, `undo` or `confirm`.

    Raises:
        ShapeError: The code has it no longer.
    """
    ref = step.refs[part]
    if ref is None:
        return None
    try:
        found = resolve(ref)
    except (ImportError, AttributeError, ValueError) as problem:
        raise ShapeError(
            f"step {step.name!r}: its {part} {ref} is gone: {problem}; a saga in flight may need "
            "it: put it back, or have `recourse upgrade --retire` take the shape out of its file; "
            "one by which no saga has begun may be taken out by hand"
        ) from problem
    kind = {"action": Action, "undo": Undo, "confirm": Confirm}[part]
    if not isinstance(found, kind):
        raise ShapeError(f"step {step.name!r}: {ref} is no {part}, got {found!r:.80}")
    return cast("Action[Any, Any] | Undo[Any, Any] | Confirm", found)


def with_functions(step: Step[Any] | RecordedStep) -> Step[Any]:
    """A step with its functions: of a recorded one, as the code has them now.

    Raises:
        ShapeError: The code has one of them no longer; the message says which.
    """
    if isinstance(step, Step):
        return step
    named = [name for name, ref in step.refs.items() if ref is not None]
    parts: dict[str, Any] = {name: part_of(step, name) for name in named}
    return Step(
        step.name,
        **parts,
        takes=step.takes,
        after=step.after,
        pivot=step.pivot,
        timeout=step.timeout,
        retry=step.retry,
        result_bytes=step.result_bytes,
        delay=step.later.delay if step.later else None,
        not_before=step.later.not_before if step.later else None,
    )


@dataclass(frozen=True, kw_only=True)
class Earlier(Shape[Step[Any]]):
    """A shape that sagas in flight may have, beside the declaration: with the functions of now.

    ::

        Earlier(recorded=shape.read(json.loads(text))).by_name["payment"].action.ref

    Attributes:
        recorded: The shape.

    Raises:
        ShapeError: The code has a function of it no longer; the message names saga and step.
    """

    recorded: RecordedShape
    groups: tuple[tuple[Step[Any], ...], ...] = field(init=False, repr=False)
    name: str = field(init=False)
    deadline: float = field(init=False, repr=False)
    contact: str | None = field(init=False, repr=False)
    reverse: str | None = field(init=False, repr=False)
    request_types: Mapping[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        recorded = self.recorded
        try:
            groups = tuple(tuple(map(with_functions, group)) for group in recorded.groups)
        except ShapeError as problem:
            raise ShapeError(f"saga {recorded.name!r}, {problem}") from problem
        kept = ("name", "deadline", "contact", "reverse", "request_types")
        same = {name: getattr(recorded, name) for name in kept}
        for name, value in {"groups": groups, **same}.items():
            object.__setattr__(self, name, value)

    @property
    def written(self) -> Shape[Any]:
        """As it was recorded, whatever its functions have become."""
        return self.recorded

    def optional(self, step: Step[Any]) -> bool:
        """Whether some request left the step out."""
        return self.recorded.by_name[step.name].optional
