"""Two services of which each deed is made from a few facts, so that releases of them can be drawn.

A deed holds a thing, or charges at a provider elsewhere (`BOOKS`). It uses what it is asked and
given in earnest: what is missing is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from types import ModuleType
from typing import Any

from recourse.declare.step import Call, Decision, Item, Put, Update, action, confirm, undo
from recourse.errors import Refusal, TransientError

SERVICES = ("alpha", "beta")
BOOKS: dict[str, str] = {}
"""What the provider has done, by saga and step."""
UNHEARD: set[str] = set()
"""The steps whose charges are made, and whose answers are lost."""

SOLD_OUT: set[str] = set()
"""The steps that refuse, where their deed may."""


class NoMoreError(Refusal):
    """There is no more of it."""


@dataclass(frozen=True)
class Undoing:
    """How a deed is undone.

    Attributes:
        name: The function's name.
        asks: What it asks for, and whether it has to be there.
    """

    name: str
    asks: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Deed:
    """What the code of a release has of one action and its parts.

    Attributes:
        asks: What the action asks for, and whether it has to be there.
        reads: The steps whose results it looks up by name.
        undoing: Its undo.
        confirms: Whether it has a confirmation.
        external: Whether it charges elsewhere.
        finds: Whether it can find out what it charged.
        refuses: Whether it may refuse.
        numbers: Those fields of what it and its undo ask for that are whole numbers.
        either: Those that may be text or a whole number.
    """

    asks: Mapping[str, bool] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    undoing: Undoing | None = None
    confirms: bool = False
    external: bool = False
    finds: bool = False
    refuses: bool = False
    numbers: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()

    def type_of(self, name: str) -> Any:
        """The type of a field that is asked for."""
        if name in self.either:
            return str | int
        return int if name in self.numbers else str


Code = Mapping[str, Deed]
"""The deeds of a release, each by `service:name`."""


def install(code: Code) -> None:
    """Have the services be those of a release, as a process of it imports them."""
    for service in SERVICES:
        sys.modules[service] = ModuleType(service)
    for ref, deed in code.items():
        service, _, name = ref.partition(":")
        _write(sys.modules[service], name, deed)


def _write(module: ModuleType, name: str, deed: Deed) -> None:
    def keep(made: str, function: Callable[..., Any]) -> Any:
        function.__module__, function.__name__ = module.__name__, made
        function.__qualname__ = made
        return function

    def key(call: Call[Any]) -> str:
        return f"thing#{call.saga_id}#{call.step}"

    def act(call: Call[Any]) -> Decision[Any]:
        _use(call, deed, deed.asks)
        for step in deed.reads:
            call.results[step]
        if deed.refuses and call.step in SOLD_OUT:
            raise NoMoreError("there is no more")
        if deed.external:
            BOOKS[key(call)] = "CHARGED"
            if call.step in UNHEARD:
                raise TransientError("no answer")
        return _held(call)

    def _held(call: Call[Any]) -> Decision[Any]:
        row: Item = {"pk": key(call), "status": "HELD"}
        return Decision(result={"by": name}, writes=[Put(row)])

    def find(call: Call[Any]) -> Decision[Any] | None:
        _use(call, deed, deed.asks)
        return _held(call) if BOOKS.get(key(call)) == "CHARGED" else None

    options: dict[str, Any] = {"refuses": [NoMoreError]} if deed.refuses else {}
    if deed.external:
        options |= {"external": True}
        if deed.finds:
            keep(f"find_{name}", find)
            setattr(module, f"find_{name}", find)
            options |= {"find": find}
    asked = _ask(f"{name}Ask", module, deed, deed.asks)
    setattr(module, name, action(asked, **options)(keep(name, act)))
    if undoing := deed.undoing:

        def take_back(call: Call[Any]) -> Decision[Any]:
            _use(call, deed, undoing.asks)
            if deed.external:
                if call.result is not None and key(call) not in BOOKS:
                    raise LookupError(f"the provider knows of no {key(call)}")
                BOOKS[key(call)] = "CANCELLED"
                if call.item is None:
                    return Decision()
            assert call.item is not None and call.item["status"] in ("HELD", "CONFIRMED")
            return Decision(writes=[Update(key(call), put={"status": "RELEASED"})])

        asks = _ask(f"{undoing.name}Ask", module, deed, undoing.asks)
        made = undo(asks, reads=lambda call: [key(call)], external=deed.external)
        setattr(module, undoing.name, made(keep(undoing.name, take_back)))
    if deed.confirms:

        def book(call: Call[Any]) -> Decision[Any]:
            return Decision(writes=[Update(key(call), put={"status": "CONFIRMED"})])

        setattr(module, f"book_{name}", confirm()(keep(f"book_{name}", book)))


def _ask(name: str, module: ModuleType, deed: Deed, asks: Mapping[str, bool]) -> type[Any]:
    fields: list[Any] = [
        (one, deed.type_of(one)) if needed else (one, deed.type_of(one) | None, field(default=None))
        for one, needed in asks.items()
    ]
    made = make_dataclass(name, fields, frozen=True, kw_only=True)
    made.__module__ = module.__name__
    return made


def _use(call: Call[Any], deed: Deed, asks: Mapping[str, bool]) -> None:
    for name, needed in asks.items():
        given = getattr(call.ask, name)
        assert isinstance(given, deed.type_of(name)) or (given is None and not needed)
