"""Rows of DynamoDB as plain Python, and back.

Integers only: money is counted in minor units, and a float is refused rather than rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The value of DynamoDB's JSON; a set of strings, which only updates make, as a frozenset."""
    ((kind, inner),) = value.items()
    match kind:
        case "S" | "BOOL":
            return inner
        case "N":
            return int(inner)
        case "NULL":
            return None
        case "M":
            return {key: decode(item) for key, item in inner.items()}
        case "L":
            return [decode(item) for item in inner]
        case "SS":
            return frozenset(inner)
    raise TypeError(f"must be of type S, BOOL, N, NULL, M, L or SS, got {kind}")


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row as DynamoDB's JSON."""
    return {key: encode(value) for key, value in item.items()}


def decode_item(item: Mapping[str, Any]) -> Item:
    """The row of DynamoDB's JSON."""
    return {key: decode(value) for key, value in item.items()}
