"""The shape of a saga: all that its surroundings need of a declaration, and none of its functions.

The ledger, a history, a choreography, the compiler and an operator see a saga through the shape
that it began with, whatever the declaration has become since. A declaration is a shape itself;
`RecordedShape` is one that was written down, and is known by its digest:

    recorded = shape.record(TRAVEL_BOOKING)      # JSON, for a table or statemachines/*.shape.json
    shape.digest(recorded)                       # "5f0c9a7e21b3d468"
    shape.read(recorded).role("payment")         # "compensable"
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

from recourse.declare import limits
from recourse.declare.later import Later
from recourse.declare.wait import Waits
from recourse.errors import RecourseError

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


class ShapeError(RecourseError, ValueError):
    """What should be a recorded shape is none; the message says why."""


class AnyStep(Protocol):
    """A step, declared (`recourse.declare.declaration.Step`) or recorded (`RecordedStep`)."""

    @property
    def name(self) -> str:
        """Its name, unique in its saga."""

    @property
    def takes(self) -> Sequence[str]:
        """The fields of the request that it is given."""

    @property
    def after(self) -> Sequence[str]:
        """The steps whose results it is given."""

    @property
    def pivot(self) -> bool:
        """Whether it decides the saga."""

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""

    @property
    def retry(self) -> Retry | None:
        """How it is tried again; None for the default of its role."""

    @property
    def result_bytes(self) -> int | None:
        """What its result may have, in bytes; None for an equal part."""

    @property
    def service(self) -> str:
        """The service whose table it writes."""

    @property
    def function(self) -> str:
        """The function that serves it."""

    @property
    def refusals(self) -> frozenset[str]:
        """The names of the refusals that its action may raise."""

    @property
    def confirms(self) -> bool:
        """Whether its hold becomes a booking once the pivot has acted."""

    @property
    def external(self) -> bool:
        """Whether its action acts outside DynamoDB."""

    @property
    def documents(self) -> bool:
        """Whether its action stores documents."""

    @property
    def waits(self) -> Waits | None:
        """How it waits for somebody's decision, where it may."""

    @property
    def later(self) -> Later | None:
        """When it is due, where it is not at once."""


S = TypeVar("S", bound=AnyStep)


class Shape(ABC, Generic[S]):
    """What follows from the steps of a saga.

    Attributes:
        name: The saga's name.
        groups: Its steps in order; those of a group run at the same time.
        deadline: Seconds after which it is cancelled, if its pivot has not acted.
        contact: The field of the request that holds whom to notify of the end, if there is one.
        reverse: The name of the saga that reverses it, if there is one.
    """

    name: str
    groups: tuple[tuple[S, ...], ...]
    deadline: float
    contact: str | None
    reverse: str | None

    @property
    def written(self) -> Shape[Any]:
        """What of it is recorded."""
        return self

    @cached_property
    def request_types(self) -> Mapping[str, Any]:
        """The types of the fields that steps take, as `recourse.declare.json_types` writes them.

        A field is not there if its type cannot be written, or an earlier release has not done so.
        """
        return {}

    @abstractmethod
    def optional(self, step: S) -> bool:
        """Whether some request leaves the step out: all that it takes may be None, by type."""

    @cached_property
    def all(self) -> tuple[S, ...]:
        """Every step, in the order of the declaration."""
        return tuple(step for group in self.groups for step in group)

    @cached_property
    def by_name(self) -> dict[str, S]:
        """Every step by its name."""
        return {step.name: step for step in self.all}

    @cached_property
    def shares(self) -> dict[str, int]:
        """The bytes that the result of each step may have."""
        shares = limits.shares([step.result_bytes for step in self.all])
        return dict(zip(self.by_name, shares, strict=True))

    @cached_property
    def pivot(self) -> S:
        """The step that decides the saga."""
        return next(step for step in self.all if step.pivot)

    @cached_property
    def waiting(self) -> dict[str, S]:
        """The steps that may wait for somebody's decision, by what their questions are called."""
        return {step.waits.name: step for step in self.all if step.waits}

    @property
    def rests(self) -> bool:
        """Whether a saga may rest at one of its steps, for somebody's decision or for a time."""
        return any(step.waits or step.later for step in self.all)

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

    def left_out(self, step: S, request: Mapping[str, Any]) -> bool:
        """Whether a request leaves the step out: it has none of the fields that the step takes."""
        return bool(step.takes) and all(request.get(name) is None for name in step.takes)

    def retry(self, step: S) -> Retry:
        """How the step is tried again."""
        return step.retry or (FORWARD if self.role(step.name) == "retriable" else Retry())

    def patience(self, step: S) -> Retry:
        """How it is tried again after an error that may pass, where there is no way back."""
        return max(PASSING, self.retry(step), key=lambda retry: retry.attempts)


@dataclass(frozen=True, kw_only=True)
class RecordedStep:
    """A step as it was recorded.

    Attributes:
        name: Its name.
        action: Where its action is: `package.module:function`, as `undo` and `confirm` are.
        undo: Where its undo is, if it has one.
        confirm: Where its confirmation is, if it has one.
        takes: The fields of the request that it is given.
        after: The steps whose results it is given.
        optional: Whether some request leaves it out.
        pivot: Whether it decides the saga.
        external: Whether its action acts outside DynamoDB.
        documents: Whether its action stores documents.
        timeout: Seconds that one attempt may take.
        retry: How it is tried again.
        result_bytes: What its result may have, in bytes.
        refusals: The names of the refusals that its action may raise.
        waits: How it waits for somebody's decision, where it may.
        later: When it is due, where it is not at once.
    """

    name: str
    action: str
    undo: str | None = None
    confirm: str | None = None
    takes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    optional: bool = False
    pivot: bool = False
    external: bool = False
    documents: bool = False
    timeout: float = 30
    retry: Retry = field(default_factory=Retry)
    result_bytes: int = limits.LEAST
    refusals: frozenset[str] = frozenset()
    waits: Waits | None = None
    later: Later | None = None

    @property
    def service(self) -> str:
        """The service whose table it writes, by the name of its module."""
        return service_of(self.action)

    @property
    def function(self) -> str:
        """The function that serves it, named for what it does."""
        return function_of(self.action)

    @property
    def confirms(self) -> bool:
        """Whether its hold becomes a booking once the pivot has acted."""
        return self.confirm is not None

    @property
    def refs(self) -> dict[str, str | None]:
        """Where its functions are, by part."""
        return {"action": self.action, "undo": self.undo, "confirm": self.confirm}


@dataclass(frozen=True, kw_only=True)
class RecordedShape(Shape[RecordedStep]):
    """A shape as it was recorded; its fields are those of `Shape`."""

    name: str
    groups: tuple[tuple[RecordedStep, ...], ...]
    deadline: float
    contact: str | None = None
    reverse: str | None = None
    request_types: Mapping[str, Any] = field(default_factory=dict)

    def optional(self, step: RecordedStep) -> bool:
        """Whether some request left the step out."""
        return step.optional


def service_of(ref: str) -> str:
    """The service of an action, by the name of its module."""
    return ref.partition(":")[0].rpartition(".")[2]


def function_of(ref: str) -> str:
    """The function that serves an action: `FlightsHold` for `services.flights:hold`."""
    names = service_of(ref), ref.partition(":")[2]
    return "".join(one.title().replace("_", "") for one in names)


def record(shape: Shape[Any]) -> dict[str, Any]:
    """A shape as JSON: the same for the same shape, and for what was read from that."""
    shape = shape.written
    about = {"saga": shape.name, "deadline": shape.deadline}
    if shape.contact is not None:
        about["contact"] = shape.contact
    if shape.reverse is not None:
        about["reverse"] = shape.reverse
    if shape.request_types:
        about["request"] = dict(shape.request_types)
    return about | {"groups": [[_recorded(shape, step) for step in one] for one in shape.groups]}


def _recorded(shape: Shape[Any], step: Any) -> dict[str, Any]:
    retry = shape.retry(step)
    said = {
        "name": step.name,
        **step.refs,
        "takes": list(step.takes),
        "after": list(step.after),
        "optional": shape.optional(step),
        "pivot": step.pivot,
        "external": step.external,
        "documents": step.documents,
        "timeout": step.timeout,
        "retry": [retry.attempts, retry.interval, retry.cap],
        "result_bytes": shape.shares[step.name],
        "refusals": sorted(step.refusals),
        "waits": step.waits and asdict(step.waits),
        "later": step.later and said_of(step.later),
    }
    return {name: value for name, value in said.items() if value not in (None, False, [], {})}


def said_of(later: Later) -> dict[str, Any]:
    """When a step is due, as JSON: what its shape has of it, and its task."""
    return {name: value for name, value in asdict(later).items() if value is not None}


def digest(recorded: Mapping[str, Any]) -> str:
    """What a recorded shape is known by: 16 hexadecimal digits of the hash of its JSON."""
    text = json.dumps(recorded, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(recorded: Mapping[str, Any]) -> RecordedShape:
    """The shape that was recorded.

    Raises:
        ShapeError: It is not one; the message says why.
    """
    try:
        groups = tuple(tuple(_step(one) for one in group) for group in recorded["groups"])
        found = RecordedShape(
            name=recorded["saga"],
            groups=groups,
            deadline=recorded["deadline"],
            contact=recorded.get("contact"),
            reverse=recorded.get("reverse"),
            request_types=recorded.get("request", {}),
        )
        pivots = [step.name for step in found.all if step.pivot]
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise ShapeError(f"this is not a recorded shape of a saga: {problem!r}") from problem
    if len(pivots) != 1 or len(found.by_name) != len(found.all):
        raise ShapeError(
            f"this is not a recorded shape of {found.name}: it must have one pivot and no name "
            f"twice, got the pivots {pivots} of {[step.name for step in found.all]}"
        )
    return found


def _step(said: Mapping[str, Any]) -> RecordedStep:
    known = {name: value for name, value in said.items() if name in RecordedStep.__annotations__}
    known |= {name: tuple(said.get(name, ())) for name in ("takes", "after")}
    known |= {"retry": Retry(*said["retry"]), "refusals": frozenset(said.get("refusals", ()))}
    known |= {"waits": Waits(**said["waits"])} if "waits" in said else {}
    known |= {"later": Later(**said["later"])} if "later" in said else {}
    return RecordedStep(**known)
