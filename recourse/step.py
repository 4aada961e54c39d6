"""What the author of a step writes: a function that acts, one that undoes it, and nothing else.

Both only *decide*: from the request, the results of earlier steps and the current items of their
own table they return a `Decision`, what to write and what to answer. The runtime commits it in one
transaction with the barrier's marker and the outbox row, so an author sees neither::

    @action(reads=flight_key, refuses=[SeatUnavailableError])
    def hold(call: Call) -> Decision: ...

    @undo(reads=booking_key)
    def release(call: Call) -> Decision: ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, ClassVar

Item = dict[str, Any]
"""A row of a table as plain Python: str, int, bool, None, list and dict; never a float."""


class Refusal(Exception):
    """The business says no (no seat left, card declined): no effect, and no point in a retry.

    Subclass it for each reason that somebody acts on; the class name is what every surface shows.
    """


class TransientError(Exception):
    """It did not work now and may work later: a conflict, a throttle, a provider that is down."""


class StepTimedOutError(TransientError):
    """The step gave no answer in its time; it may or may not have acted."""


class StepCrashedError(TransientError):
    """The step's process ended without an answer; it may or may not have acted."""


class StepCancelledError(Exception):
    """The step was undone or cancelled before it acted, and never will act."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A condition on a number of a row: it is `value` or more."""

    value: int


@dataclass(frozen=True, slots=True)
class Put:
    """A new row. It must not exist: rows change status, they are never overwritten or deleted."""

    item: Item


@dataclass(frozen=True, slots=True)
class Update:
    """A change to one row: numbers to add, attributes to set, and when that may happen.

    Args:
        key: The row's `pk`.
        add: Integers added to attributes.
        put: Attributes set.
        when: What must hold: attribute to exact value, or to `AtLeast(n)`. Where it does
            not, the row has changed since it was read: the step reads again and decides again.
    """

    key: str
    add: Mapping[str, int] = field(default_factory=dict)
    put: Mapping[str, Any] = field(default_factory=dict)
    when: Mapping[str, Any] = field(default_factory=dict)


Write = Put | Update

MOST_WRITES = 96
"""How many writes a decision may have.

A transaction has at most 100 operations. Of those an undo's takes up to four for the barrier: its
marker, the check of the action's, and two outbox rows (the undo, and the failure that the action
did not live to tell); an action's takes two and a confirmation's one. What is held by an action
has to fit its undo, so the same goes for all of them.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A file stored before the step commits, under a key made from the saga id and the step.

    The key is deterministic, so storing it again changes nothing; nobody sees it until the row that
    names it is committed.
    """

    key: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a step writes and answers. `result` must be JSON without floats.

    Raises:
        ValueError: There are more writes than one transaction holds.
    """

    result: Any = None
    writes: Sequence[Write] = ()
    documents: Sequence[Document] = ()

    def __post_init__(self) -> None:
        if len(self.writes) > MOST_WRITES:
            raise ValueError(f"{len(self.writes)} writes: one transaction holds {MOST_WRITES}")


@dataclass(frozen=True, slots=True)
class Call:
    """What a step is given.

    Attributes:
        saga_id: Where every key of the step comes from.
        saga: The saga's name.
        step: The step's name.
        owner: Who started the saga.
        business_key: The caller's own id of it.
        started_at: When the saga started, ISO 8601 in UTC.
        request: Those fields of the start request that the step takes.
        results: The results of those earlier steps that it takes; None where one was left out.
        result: What the action returned; only an undo has it. None too where an external action
            began and never committed.
        items: The current rows named by `reads`, in that order; None where there is no such row.
        deadline: The moment, in UTC, after which this try must not call a provider any more; set
            only where the action or the undo is `external`.
    """

    saga_id: str
    saga: str
    step: str
    owner: str
    business_key: str
    started_at: str
    request: Mapping[str, Any]
    results: Mapping[str, Any]
    result: Any = None
    items: Sequence[Item | None] = ()
    deadline: datetime | None = None

    @property
    def item(self) -> Item | None:
        """The first of the rows read."""
        return self.items[0]

    def remaining(self) -> float:
        """Seconds until the deadline, never below 0; infinite where there is none.

        What a provider is called with as its time-out: `min(call.remaining(), 10)`.
        """
        if self.deadline is None:
            return math.inf
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())


Decide = Callable[[Call], Decision]
Reads = Callable[[Call], Sequence[str]]
Find = Callable[[Call], Decision | None]


def _reads_nothing(call: Call) -> Sequence[str]:
    return ()


def ref(function: Callable[..., Any]) -> str:
    """Where a function is: `package.module:function`."""
    return f"{function.__module__}:{function.__name__}"


def resolve(ref: str) -> object:
    """What is at `package.module:function`: how a step's own function finds what it runs.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such name.
    """
    module, _, name = ref.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True, eq=False)
class _Decider:
    """What an action, an undo and a confirmation have in common; each is its one self."""

    decide: Decide
    reads: Reads = _reads_nothing
    made_by: ClassVar[str]
    """The decorator that makes it."""

    @property
    def ref(self) -> str:
        """Where it is, for `resolve`: `package.module:function`."""
        return ref(self.decide)

    def __call__(self, call: Call) -> Decision:
        """Decide; for tests, which need nothing else."""
        return self.decide(call)


@dataclass(frozen=True, eq=False)
class Action(_Decider):
    """What a step does: the function that decides it, and what the runtime must know of it.

    Attributes:
        decide: What it writes and answers.
        reads: The keys of the rows that it decides by.
        refuses: Every refusal that it may raise.
        documents: Whether it stores documents.
        external: Whether it acts outside DynamoDB too.
        find: Asks the provider, by key, what an external pivot has done.
        settings: The environment variables that its step's functions are told.
    """

    refuses: Sequence[type[Refusal]] = ()
    documents: bool = False
    external: bool = False
    find: Find | None = None
    settings: Sequence[str] = ()
    made_by: ClassVar[str] = "@action"


@dataclass(frozen=True, eq=False)
class Undo(_Decider):
    """What takes an action's effect back; `external` where that is outside DynamoDB too."""

    external: bool = False
    made_by: ClassVar[str] = "@undo"


@dataclass(frozen=True, eq=False)
class Confirm(_Decider):
    """How a hold becomes a booking."""

    made_by: ClassVar[str] = "@confirm"


def action(
    *,
    reads: Reads = _reads_nothing,
    refuses: Sequence[type[Refusal]] = (),
    documents: bool = False,
    external: bool = False,
    find: Find | None = None,
    settings: Sequence[str] = (),
) -> Callable[[Decide], Action]:
    """Declare the action of a step.

    Args:
        reads: The keys of the rows that the decision needs, read consistently in one call; it
            may refuse what has too many.
        refuses: Every refusal it may raise.
        documents: Whether it stores documents; only then does its function get the right to.
        external: Whether it acts outside DynamoDB: it calls a provider, with a key made from the
            saga id and the step as the provider's idempotency key, and not past `call.deadline`.
            Its undo must be external too.
        find: For an external pivot, which has no undo: asks the provider, by that key, what was
            done, and decides as the action would have; None where nothing was done.
        settings: The environment variables that it, its undo and `find` read, such as
            `MAIL_PROVIDER`. Its step's functions are told each by the CDK context of the same name
            in lower case, and an empty text where there is none. Nothing secret: a function's
            environment can be read by whoever may look at it.
    """
    return lambda decide: Action(decide, reads, refuses, documents, external, find, settings)


def undo(*, reads: Reads = _reads_nothing, external: bool = False) -> Callable[[Decide], Undo]:
    """Declare the undo of a step. It is called only where the action has acted, at most once.

    Args:
        reads: The keys of the rows that the decision needs.
        external: Whether it takes back an effect outside DynamoDB. It is called too, with
            `result=None`, where the action began and never committed: nothing may have happened.
    """
    return lambda decide: Undo(decide, reads, external)


def confirm(*, reads: Reads = _reads_nothing) -> Callable[[Decide], Confirm]:
    """Declare how a hold becomes a booking, once the saga's pivot has acted."""
    return lambda decide: Confirm(decide, reads)
