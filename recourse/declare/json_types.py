"""What a value of a type is in JSON; and types that are written down, and read again.

A shape has the types of what its steps take, so that a later release can tell whether what it asks
can be made of a request of before. They are written by what a value can be, without the names of
classes::

    written = write(dict[str, int] | None)    # ["null", {"by name": "int"}]
    read(written)                             # Mapping[str, int] | None
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import is_dataclass, make_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from recourse.declare.hints import UNIONS, bare, types_of
from recourse.errors import RecourseError

AS_TEXT = (date, time, timedelta, UUID, Decimal)
"""What is text in the JSON of a request."""
LISTS = (list, tuple, set, frozenset, Sequence, Set)
"""What is a list there."""
OBJECTS = (dict, Mapping)
"""What is an object there, besides dataclasses."""
_NAMED = {str: "str", int: "int", bool: "bool", float: "float", NoneType: "null", Any: "any"}
_BY_NAME = {name: hint for hint, name in _NAMED.items()}


class UnwritableError(RecourseError, TypeError):
    """A type of which it is not known what its values are in JSON."""


def parts(hint: Any) -> Iterator[Any]:
    """The types of which a value in JSON has one: those of a union, and each literal."""
    hint = bare(hint)
    if get_origin(hint) in UNIONS:
        for one in get_args(hint):
            yield from parts(one)
    elif get_origin(hint) is Literal:
        yield from (NoneType if one is None else Literal[one] for one in get_args(hint))
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield from (Literal[one.value] for one in hint)
    elif isinstance(hint, type) and issubclass(hint, AS_TEXT):
        yield str
    else:
        yield NoneType if hint is None else hint


def is_class(cls: Any) -> bool:
    """Whether it is a dataclass, rather than one of its instances."""
    return isinstance(cls, type) and is_dataclass(cls)


def items(hint: Any) -> list[Any]:
    """The types of a list's items: of each, where it has so many; else one for all of them."""
    return [one for one in get_args(hint) or (Any,) if one is not ...]


def write(hint: Any) -> Any:
    """A type as JSON; the same for types whose values are the same.

    Raises:
        UnwritableError: It, or a type within it, is none of those that requests are made of.
    """
    return _write(hint, ())


def _write(hint: Any, above: tuple[type, ...]) -> Any:
    by_text = {repr(one): one for one in (_write_one(part, above) for part in parts(hint))}
    written = [by_text[text] for text in sorted(by_text)]
    return written if written[1:] else written[0]


def _write_one(part: Any, above: tuple[type, ...]) -> Any:
    origin, of = get_origin(part), get_args(part)
    if part is object:
        return "any"
    if is_class(part):
        if part in above:
            return {"above": above.index(part)}
        within = (part, *above)
        return {"fields": {name: _write(one, within) for name, one in types_of(part).items()}}
    if origin is Literal:
        return {"only": of[0]}
    if (origin or part) in OBJECTS:
        return {"by name": _write((*of, Any, Any)[1], above)}
    if (origin or part) in LISTS:
        each = items(part)
        if each[1:]:
            return {"these": [_write(one, above) for one in each]}
        return {"each": _write(each[0], above)}
    try:
        return _NAMED[part]
    except (KeyError, TypeError):
        raise UnwritableError(f"{part!r:.80} is no type of a request") from None


def read(written: Any) -> Any:
    """The type that was written; what was a class is one again, of another name.

    Raises:
        UnwritableError: It is none; also one that only a later release writes.
    """
    try:
        return _read(written, ())
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise UnwritableError(f"{written!r:.80} is no written type") from problem


def _read(written: Any, above: tuple[type, ...]) -> Any:
    if isinstance(written, list):
        return Union[tuple(_read(one, above) for one in written)]  # noqa: UP007
    if isinstance(written, str):
        return _BY_NAME[written]
    ((how, of),) = written.items()
    if how == "only":
        return Literal[of]
    if how == "by name":
        return Mapping[str, _read(of, above)]  # type: ignore[misc]
    if how == "each":
        return Sequence[_read(of, above)]  # type: ignore[misc]
    if how == "these":
        return tuple[tuple(_read(one, above) for one in of)]  # type: ignore[misc]
    if how == "above":
        return above[of]
    if how != "fields":
        raise ValueError(how)
    made = make_dataclass("object", [])
    made.__annotations__ = {name: _read(one, (made, *above)) for name, one in of.items()}
    return made
