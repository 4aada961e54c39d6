"""What the author of a step writes: a function that acts, one that undoes it, and nothing else.

Both only *decide*: from the request, the results of earlier steps and the current items of their
own table they return a `Decision`: what to write and what to answer. The runtime commits it in one
transaction with the barrier's marker and the outbox row, so an author sees neither. `action`,
`undo` and `confirm` have an example.

`recourse.declare.asks` says which types the class of an ask may have. This module is
longer than other modules: a third of it is what docs/reference.md is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from types import GenericAlias, MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast

from recourse.declare.ids import SagaId
from recourse.declare.tables import ExistingTable, Row, RowKey, check_key, key_of
from recourse.errors import Refusal

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from recourse.declare.wait import Question, Wait
else:
    from typing import TypeVar as _TypeVar

    def TypeVar(name, *, default, **variance):
        """One with a default, which Python has from 3.13 on; before, only a type checker looks."""
        return _TypeVar(name, **variance)


Item = dict[str, Any]
"""A row of a table as plain Python: str, int, bool, None, list and dict; never a float.

::

    row: Item = {"pk": "slot#s-1", "free": 3, "price": {"amount": 48000, "currency": "INR"}}
"""


@dataclass(frozen=True)
class Nothing:
    """What a step is asked that takes nothing."""


Ask = TypeVar("Ask", default=object)
Ask_co = TypeVar("Ask_co", covariant=True, default=object)
Ask_contra = TypeVar("Ask_contra", contravariant=True, default=Any)
Result = TypeVar("Result", default=Any)
Result_co = TypeVar("Result_co", covariant=True, default=Any)
Given_co = TypeVar("Given_co", covariant=True, default=Any)
Given_contra = TypeVar("Given_contra", contravariant=True, default=Any)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A condition on a number of a row: it is `value` or more.

    ::

        Update("slot#s-1", add={"free": -1}, when={"free": AtLeast(1)})
    """

    value: int


@dataclass(frozen=True, slots=True)
class Put:
    """A new row. It must not exist: rows change status, they are never overwritten or deleted.

    ::

        Put({"pk": f"visit#{call.saga_id}", "slot": "s-1", "status": "HELD"})

    Args:
        item: The row, its key among it.
        table: Whose row it is, where it is not the service's own table's.
    """

    item: Item
    table: ExistingTable | None = None

    def __post_init__(self) -> None:
        key_of(self.table, self.item)  # refuses what has none


@dataclass(frozen=True, slots=True)
class Update:
    """A change to one row: numbers to add, attributes to set or remove, and when that may happen.

    ::

        Update(f"visit#{call.saga_id}", put={"status": "RELEASED"}, when={"status": "HELD"})

    Args:
        key: The row's `pk`; in another table its key, a tuple where that has two parts.
        add: Integers added to attributes.
        put: Attributes set.
        when: What must hold: attribute to exact value, or to `AtLeast(n)`. Where it does
            not, the row has changed since it was read: the step reads again and decides again.
        table: Whose row it is, where it is not the service's own table's.
        remove: Attributes removed, if they are there.
    """

    key: RowKey
    add: Mapping[str, int] = field(default_factory=dict)
    put: Mapping[str, Any] = field(default_factory=dict)
    when: Mapping[str, Any] = field(default_factory=dict)
    table: ExistingTable | None = None
    remove: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_key(self.table, self.key)


Write = Put | Update

MOST_WRITES = 96
"""How many writes a decision may have.

A transaction has at most 100 operations. Of those an undo's takes up to four for the barrier: its
marker, the check of the action's, and two outbox rows (the undo, and the failure that the action
did not live to record); an action's takes two and a confirmation's one. What an action holds has
to fit its undo, so the limit is one for all of them.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A file stored before the step commits, under a key made from the saga id and the step.

    The key is deterministic, so storing it again changes nothing; it is visible once the row that
    names it is committed::

        key = f"receipts/{call.saga_id}/{call.step}"
        Decision(
            writes=[Put({"pk": f"receipt#{call.saga_id}", "document": key})],
            documents=[Document(key, "Paid: ₹480.00".encode(), "text/plain; charset=utf-8")],
        )
    """

    key: str
    body: bytes
    content_type: str


def plain(value: Any) -> Any:
    """A value as JSON has it: of a dataclass, as money is, its fields; views become copies."""
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type | AtLeast):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value


def plain_write(write: Write) -> Write:
    """A write whose values are plain."""
    if isinstance(write, Put):
        return replace(write, item=plain(write.item))
    return replace(write, put=plain(write.put), when=plain(write.when))


@dataclass(frozen=True, slots=True)
class Decision(Generic[Result_co]):
    """What a step writes and answers; `Decision[Held]` answers a `Held`, such as a `TypedDict`.

    All of it is plain, whatever it was made of: `result` is JSON without floats, rows are rows::

        held = {"pk": f"visit#{call.saga_id}", "price": Money(48000, "INR"), "status": "HELD"}
        Decision(result={"price": held["price"]}, writes=[Put(held)])

    Raises:
        ValueError: There are more writes than one transaction holds.
    """

    result: Result_co = cast("Any", None)  # noqa: RUF009
    writes: Sequence[Write] = ()
    documents: Sequence[Document] = ()

    def __post_init__(self) -> None:
        if len(self.writes) > MOST_WRITES:
            raise ValueError(f"{len(self.writes)} writes: one transaction holds {MOST_WRITES}")
        object.__setattr__(self, "result", plain(self.result))
        object.__setattr__(self, "writes", tuple(map(plain_write, self.writes)))


def frozen(value: Any) -> Any:
    """JSON that cannot be changed: objects are read-only views, lists are tuples."""
    if isinstance(value, dict):
        return MappingProxyType({name: frozen(one) for name, one in value.items()})
    if isinstance(value, list):
        return tuple(frozen(one) for one in value)
    return value


@dataclass(frozen=True, slots=True)
class Call(Generic[Ask_co, Given_co]):
    """What a step is given; to change any of it is an error.

    `Call[HoldAsk]` is a call with that ask; of a plain `Call` the ask is not type-checked.
    `Call[HoldAsk, Held]` is what an undo is given whose action answers `Decision[Held]`.

    The runtime makes them; so does a test, which needs nothing else to try a step::

        call = Call(
            saga_id=SagaId.of("travel-booking", "asha", "key-1"),
            saga="travel-booking",
            step="flight",
            owner="asha",
            business_key="t-1",
            started_at="2026-11-28T09:00:00.000Z",
            ask=flights.HoldAsk(flight=flights.Seats(id="AI-202", seats=1)),
            results={},
            items=[None],  # there is no such flight
        )
        with pytest.raises(flights.UnknownFlightError):
            flights.hold(call)

    Attributes:
        saga_id: Where every key of the step comes from.
        saga: The saga's name.
        step: The step's name.
        owner: Who started the saga.
        business_key: The caller's own id of it.
        started_at: When the saga started, ISO 8601 in UTC.
        ask: What is asked: those fields of the start request that the step takes, as the class
            that the step names.
        results: The results of those earlier steps that it takes; None where one was left out.
        result: What the action returned; only an undo has it. None too where an external action
            began and never committed.
        items: The current rows named by `reads`, in that order; None where there is no such row.
        deadline: The moment, in UTC, after which this try must not call a provider any more; set
            only where the action or the undo is `external`.
        traceparent: The step's span in the saga's trace, as the W3C's header of that name: send it
            to what the step calls. None where the saga was started by a release without traces.
    """

    saga_id: SagaId
    saga: str
    step: str
    owner: str
    business_key: str
    started_at: str
    ask: Ask_co
    results: Mapping[str, Any]
    result: Given_co = cast("Any", None)  # noqa: RUF009
    items: Sequence[Item | None] = ()
    deadline: datetime | None = None
    traceparent: str | None = None

    # Where an annotation is evaluated: before Python 3.13 no parameter could be left out of it.
    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", frozen(self.results))
        object.__setattr__(self, "result", frozen(self.result))

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


Reads = Sequence[str | Row]
"""Which rows a decision needs: the keys of those of the service's own table, and others' rows."""


def _reads_nothing(call: Call) -> Reads:
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
class _Decider(Generic[Ask_contra, Given_contra, Result_co]):
    """What an action, an undo and a confirmation have in common; each is its one self."""

    decide: Callable[[Call[Ask_contra, Given_contra]], Decision[Result_co]]
    ask: type[Any] = Nothing
    reads: Callable[[Call[Ask_contra, Given_contra]], Reads] = _reads_nothing
    tables: Sequence[ExistingTable] = ()
    made_by: ClassVar[str]
    """The decorator that makes it."""

    @property
    def ref(self) -> str:
        """Where it is, for `resolve`: `package.module:function`."""
        return ref(self.decide)

    @property
    def may_read(self) -> bool:
        """Whether it says which rows it reads; else it reads none."""
        return self.reads is not _reads_nothing

    def __call__(self, call: Call[Ask_contra, Given_contra]) -> Decision[Result_co]:
        """Decide; for tests, which need nothing else."""
        return self.decide(call)


@dataclass(frozen=True, eq=False)
class Action(_Decider[Ask_contra, Any, Result_co]):
    """What a step does: the function that decides it, and what the runtime must know of it.

    Attributes:
        decide: What it writes and answers.
        ask: The class of what it is asked.
        reads: The rows that it decides by.
        tables: The tables that exist already and that it writes too.
        refuses: Every refusal that it may raise.
        documents: Whether it stores documents.
        external: Whether it acts outside DynamoDB too.
        find: Asks the provider, by key, what an external pivot has done.
        settings: The environment variables that its step's functions are given.
        secrets: Those that have the ARN of a secret, which its step's functions may read.
        keeps: Text that stays when its owner's data are erased: the reason, by the field's name.
        keeps_documents: Why its documents stay then; empty where they go.
        waits: How it waits for somebody's decision, where it may ask a question.
    """

    refuses: Sequence[type[Refusal]] = ()
    documents: bool = False
    external: bool = False
    find: Callable[[Call[Ask_contra]], Decision | None] | None = None
    settings: Sequence[str] = ()
    secrets: Sequence[str] = ()
    keeps: Mapping[str, str] = field(default_factory=dict)
    keeps_documents: str = ""
    waits: Wait | None = None
    made_by: ClassVar[str] = "@action"


@dataclass(frozen=True, eq=False)
class Undo(_Decider[Ask_contra, Given_contra, Any]):
    """What takes an action's effect back; `external` where that is outside DynamoDB too."""

    external: bool = False
    made_by: ClassVar[str] = "@undo"


@dataclass(frozen=True, eq=False)
class Confirm(_Decider[object, Any, Any]):
    """How a hold becomes a booking. It is asked nothing: the hold's row says what is held."""

    made_by: ClassVar[str] = "@confirm"


def action(
    ask: type[Ask] = cast("Any", Nothing),  # noqa: B008
    *,
    reads: Callable[[Call[Ask]], Reads] = _reads_nothing,
    tables: Sequence[ExistingTable] = (),
    refuses: Sequence[type[Refusal]] = (),
    documents: bool = False,
    external: bool = False,
    find: Callable[[Call[Ask]], Decision | None] | None = None,
    settings: Sequence[str] = (),
    secrets: Sequence[str] = (),
    keeps: Mapping[str, str] | None = None,
    keeps_documents: str = "",
    waits: Wait | None = None,
) -> Callable[[Callable[[Call[Ask]], Decision[Result] | Question]], Action[Ask, Result]]:
    """Declare the action of a step: what it writes and answers, or a refusal.

    ::

        class SlotTakenError(Refusal): ...

        @dataclass(frozen=True, kw_only=True)
        class HoldAsk:
            slot: str

        @action(HoldAsk, reads=lambda call: [f"slot#{call.ask.slot}"], refuses=[SlotTakenError])
        def hold(call: Call[HoldAsk]) -> Decision:
            if call.item is None or call.item["free"] < 1:
                raise SlotTakenError(f"{call.ask.slot} is taken")
            return Decision(
                writes=[
                    Update(f"slot#{call.ask.slot}", add={"free": -1}, when={"free": AtLeast(1)}),
                    Put({"pk": f"visit#{call.saga_id}", "slot": call.ask.slot, "status": "HELD"}),
                ]
            )

    Args:
        ask: The class of what it is asked, a frozen dataclass (`recourse.declare.asks`). Its fields
            are the fields of the request that a step `takes`, by name and type.
        reads: The rows that the decision needs, read consistently in one call; it may refuse what
            has too many.
        tables: Tables that exist already, whose rows it reads or writes besides.
        refuses: Every refusal it may raise.
        documents: Whether it stores documents; only then does its function get the right to.
        external: Whether it acts outside DynamoDB: it calls a provider, with a key made from the
            saga id and the step as the provider's idempotency key, and not past `call.deadline`.
            Its undo must be external too.
        find: For an external pivot, which has no undo: asks the provider, by that key, what was
            done, and decides as the action would have; None where nothing was done.
        settings: The environment variables that it, its undo and `find` read, such as
            `MAIL_PROVIDER`. Each has the value of the CDK context of the same name in lower case,
            and is empty if there is none. It must not be secret: everyone who may view a function
            can read its environment.
        secrets: The environment variables, such as `MAIL_SECRET`, that have the ARN of a secret in
            Secrets Manager, from the context in the same way. Its step's functions may read it
            (`recourse.store.secrets`); where there is none, they may read no secret.
        keeps: Which text in its service's rows and results stays when its owner's data are erased
            (`recourse.erasure`), and why: `{"flight_id": "seats are counted by it"}`. All other
            text goes; numbers, amounts of money, keys, `saga_id`, `step` and `status` stay.
        keeps_documents: Why the documents of its service stay then, such as a law; else they go.
        waits: How it waits for somebody's decision; only then may it return a `Question`
            (`recourse.declare.wait`).
    """
    known = (ask, reads, tables, refuses, documents, external, find, settings, secrets)
    more = (keeps or {}, keeps_documents, waits)
    return lambda decide: Action(cast("Any", decide), *known, *more)


def undo(
    ask: type[Ask] = cast("Any", Nothing),  # noqa: B008
    *,
    reads: Callable[[Call[Ask]], Reads] = _reads_nothing,
    tables: Sequence[ExistingTable] = (),
    external: bool = False,
) -> Callable[[Callable[[Call[Ask, Result]], Decision]], Undo[Ask, Result]]:
    """Declare the undo of a step. It is called only where the action has acted, at most once.

    ::

        @undo(reads=lambda call: [f"visit#{call.saga_id}"])
        def release(call: Call) -> Decision:
            key, slot = f"visit#{call.saga_id}", call.item["slot"]
            return Decision(
                writes=[
                    Update(key, put={"status": "RELEASED"}, when={"status": "HELD"}),
                    Update(f"slot#{slot}", add={"free": 1}),
                ]
            )

    Args:
        ask: The class of what it is asked, if it needs any of that: the action's, or another.
        reads: The rows that the decision needs.
        tables: As an action's; what it does not declare it cannot write.
        external: Whether it takes back an effect outside DynamoDB. It is called too, with
            `result=None`, where the action began and never committed: nothing may have happened.
    """
    return lambda decide: Undo(decide, ask, reads, tables, external)


def confirm(
    *,
    reads: Callable[[Call], Reads] = _reads_nothing,
    tables: Sequence[ExistingTable] = (),
) -> Callable[[Callable[[Call], Decision]], Confirm]:
    """Declare how a hold becomes a booking, once the saga's pivot has acted.

    ::

        @confirm()
        def book(call: Call) -> Decision:
            key = f"visit#{call.saga_id}"
            return Decision(
                writes=[Update(key, put={"status": "CONFIRMED"}, when={"status": "HELD"})]
            )

    Args:
        reads: The rows that the decision needs.
        tables: As an action's; what it does not declare it cannot write.
    """
    return lambda decide: Confirm(decide, reads=reads, tables=tables)
