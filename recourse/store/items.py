"""Rows of DynamoDB as plain Python, and back.

Integers only: money is counted in minor units, and a float is refused rather than rounded. Rows of
existing tables of other applications may hold other types, which are read but never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from recourse.declare.step import Item


def encode(value: Any) -> dict[str, Any]:
    """A value as DynamoDB's JSON: `encode(2)` is `{"N": "2"}`.

    Raises:
        TypeError: It is of a type that rows do not hold, such as float.
    """
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case None:
            return {"NULL": True}
        case Mapping():
            return {"M": {key: encode(item) for key, item in value.items()}}
        case list() | tuple():
            return {"L": [encode(item) for item in value]}
    raise TypeError(
        f"must be a str, bool, int, None, mapping or list, got {type(value).__name__}: {value!r}"
    )


def decode(value: Mapping[str, Any]) -> Any:
    """The plain value of DynamoDB's JSON; a set becomes a frozenset, a fraction a Decimal."""
    ((kind, inner),) = value.items()
    match kind:
        case "S" | "BOOL" | "B":
            return inner
        case "N":
            return _number(inner)
        case "NULL":
            return None
        case "M":
            return {key: decode(item) for key, item in inner.items()}
        case "L":
            return [decode(item) for item in inner]
        case "SS" | "BS":
            return frozenset(inner)
        case "NS":
            return frozenset(map(_number, inner))
    raise TypeError(f"must be of type S, BOOL, N, NULL, M, L, SS or NS, got {kind}")


def _number(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row as DynamoDB's JSON."""
    return {key: encode(value) for key, value in item.items()}


def decode_item(item: Mapping[str, Any]) -> Item:
    """The row of DynamoDB's JSON."""
    return {key: decode(value) for key, value in item.items()}
