"""Rows of DynamoDB as plain Python, and back.

Integers only: money is counted in minor units, and a float is refused rather than rounded. Rows of
tables that are not ours may hold anything; what is read of them is not lost, only never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from recourse.declare.step import Item


def encode(value: Any) -> dict[str, Any]:
    """One value in DynamoDB's own JSON.

    Raises:
        TypeError: It is something that a row does not hold, a float among them.
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
    raise TypeError(f"a row holds no {type(value).__name__}: {value!r}")


def decode(value: Mapping[str, Any]) -> Any:
    """The plain value of one in DynamoDB's own JSON; a set is frozen, a fraction is a Decimal."""
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
    raise TypeError(f"a row holds no {kind}")


def _number(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row in DynamoDB's own JSON."""
    return {key: encode(value) for key, value in item.items()}


def decode_item(item: Mapping[str, Any]) -> Item:
    """The plain row of one in DynamoDB's own JSON."""
    return {key: decode(value) for key, value in item.items()}
