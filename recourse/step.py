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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        result: What the action returned; only an undo has it, and an undo always has it.
        items: The current rows named by `reads`, in that order; None where there is no such row.
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

    @property
    def item(self) -> Item | None:
        """The first of the rows read."""
        return self.items[0]


Decide = Callable[[Call], Decision]
Reads = Callable[[Call], Sequence[str]]


def _reads_nothing(call: Call) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Deed:
    """One side of a step: the function that decides, and what the runtime must know of it."""

    decide: Decide
    reads: Reads
    refuses: tuple[type[Refusal], ...] = ()
    documents: bool = False

    @property
    def ref(self) -> str:
        """Where it is: `package.module:function`."""
        return f"{self.decide.__module__}:{self.decide.__name__}"

    def __call__(self, call: Call) -> Decision:
        """Decide; for tests, which need nothing else."""
        return self.decide(call)


def action(
    *,
    reads: Reads = _reads_nothing,
    refuses: Sequence[type[Refusal]] = (),
    documents: bool = False,
) -> Callable[[Decide], Deed]:
    """Declare the action of a step.

    Args:
        reads: The keys of the rows that the decision needs, read consistently in one call; it
            may refuse what has too many.
        refuses: Every refusal it may raise.
        documents: Whether it stores documents; only then does its function get the right to.
    """
    return lambda decide: Deed(decide, reads, tuple(refuses), documents)


def undo(*, reads: Reads = _reads_nothing) -> Callable[[Decide], Deed]:
    """Declare the undo of a step. It is called only where the action has acted, at most once."""
    return lambda decide: Deed(decide, reads)


def confirm(*, reads: Reads = _reads_nothing) -> Callable[[Decide], Deed]:
    """Declare how a hold becomes a booking, once the saga's pivot has acted."""
    return lambda decide: Deed(decide, reads)
