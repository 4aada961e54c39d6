"""Expressions of DynamoDB: what an update changes, and conditions on rows.

A condition is a mapping, all of whose entries must hold, or a list of mappings, one of which must::

    {"status": "HELD", "free": AtLeast(2)}
    [{"lease": ABSENT}, {"lease_ends": AtMost(now)}]

An attribute is compared with an exact value, or by one of the operators below. In place of a
mapping, `ABSENT` and `PRESENT` are conditions on the whole row. An attribute within another is a
tuple of names: `("slots", "s0")`. A condition on an attribute that does not exist does not hold,
except `ABSENT` and `Not`.

The operators are named tuples: every function makes these classes when it starts, and a dataclass
takes seven times as long to make.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from recourse.declare.step import AtLeast
from recourse.store.items import encode

Path = str | tuple[str, ...]
"""An attribute, or one within others."""


class Presence(Enum):
    """Whether a row or an attribute must exist."""

    ABSENT = "attribute_not_exists"
    PRESENT = "attribute_exists"


ABSENT, PRESENT = Presence.ABSENT, Presence.PRESENT
When = Presence | Mapping[Any, Any] | Sequence["Presence | Mapping[Any, Any]"]
"""A condition on a row; the keys of a mapping are paths."""


class Attribute(NamedTuple):
    """Another attribute, to compare with: `{"uses": LessThan(Attribute("max_uses"))}`."""

    path: Path


class LessThan(NamedTuple):
    """The attribute is less."""

    value: Any


class AtMost(NamedTuple):
    """The attribute is less or equal."""

    value: Any


class MoreThan(NamedTuple):
    """The attribute is greater."""

    value: Any


class Between(NamedTuple):
    """The attribute is at least `low` and at most `high`."""

    low: Any
    high: Any


class Not(NamedTuple):
    """The attribute has another value, or does not exist.

    Compare with a value, not with an `Attribute`: AWS does not say whether two missing ones differ.
    """

    value: Any


class FewerThan(NamedTuple):
    """The attribute is a set, a list or a map that has fewer members."""

    bound: int


class IfAbsent(NamedTuple):
    """A value that is set only if the attribute does not exist: `set={"since": IfAbsent(now)}`."""

    value: Any


class Append(NamedTuple):
    """Values that are appended to a list, which is created if it does not exist."""

    values: Sequence[Any]


_OPERATORS: Mapping[type, str] = {
    AtLeast: ">=",
    AtMost: "<=",
    LessThan: "<",
    MoreThan: ">",
    Not: "<>",
}


class Expressions:
    """The expressions of one request, which share their names and values.

    Args:
        key: The partition key's attribute, which every row has.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    @property
    def parameters(self) -> dict[str, Any]:
        """The names and values, as parameters of a request."""
        found: dict[str, Any] = {}
        if self._names:
            found["ExpressionAttributeNames"] = {at: name for name, at in self._names.items()}
        if self._values:
            found["ExpressionAttributeValues"] = self._values
        return found

    def condition(self, when: When) -> str:
        """The expression of a condition."""
        if isinstance(when, Presence):
            return f"{when.value}({self._name(self._key)})"
        if isinstance(when, Mapping):
            return " AND ".join(self._holds(path, wanted) for path, wanted in when.items())
        return " OR ".join(f"({self.condition(one)})" for one in when)

    def change(
        self,
        set: Mapping[Any, Any],
        add: Mapping[Any, int | Collection[str]],
        remove: Iterable[Path],
        discard: Mapping[Any, Collection[str]],
    ) -> str:
        """The expression of an update; see `Table.update`."""
        clauses = {
            "SET": [f"{self._name(path)} = {self._new(path, new)}" for path, new in set.items()],
            "ADD": [f"{self._name(path)} {self._more(more)}" for path, more in add.items()],
            "REMOVE": [self._name(path) for path in remove],
            "DELETE": [f"{self._name(path)} {self._more(less)}" for path, less in discard.items()],
        }
        return " ".join(f"{word} {', '.join(each)}" for word, each in clauses.items() if each)

    def _holds(self, path: Path, wanted: Any) -> str:
        name = self._name(path)
        match wanted:
            case Presence():
                return f"{wanted.value}({name})"
            case Between(low, high):
                return f"{name} BETWEEN {self._operand(low)} AND {self._operand(high)}"
            case FewerThan(bound):
                return f"size({name}) < {self._operand(bound)}"
        if operator := _OPERATORS.get(type(wanted)):
            return f"{name} {operator} {self._operand(wanted.value)}"
        return f"{name} = {self._operand(wanted)}"

    def _new(self, path: Path, new: Any) -> str:
        match new:
            case IfAbsent(value):
                return f"if_not_exists({self._name(path)}, {self._value(encode(value))})"
            case Append(values):
                before = f"if_not_exists({self._name(path)}, {self._value(encode([]))})"
                return f"list_append({before}, {self._value(encode(values))})"
        return self._value(encode(new))

    def _more(self, more: int | Collection[str]) -> str:
        """The operand of ADD, a number or a set of strings, or of DELETE, a set."""
        if isinstance(more, int):
            return self._value(encode(more))
        return self._value({"SS": sorted(more)})

    def _operand(self, of: Any) -> str:
        return self._name(of.path) if isinstance(of, Attribute) else self._value(encode(of))

    def _name(self, path: Path) -> str:
        names = (path,) if isinstance(path, str) else path
        return ".".join(self._names.setdefault(name, f"#{len(self._names)}") for name in names)

    def _value(self, encoded: Mapping[str, Any]) -> str:
        name = f":{len(self._values)}"
        self._values[name] = encoded
        return name
