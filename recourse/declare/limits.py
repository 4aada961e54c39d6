"""Limits of size: what a saga may carry in all, and the share of each of its parts.

AWS carries at most 256 KiB: the state of a Step Functions run, and an event with its attributes on
SNS. Either may contain all data of a saga: the request, every result, and the caught errors of the
steps that failed. Each has its share, defined here; a declaration may lower it. A step's result is
measured before it is committed, so every committed result fits into events and runs too.

A share is in bytes as `size` counts them: of the JSON in UTF-8 or of the row in DynamoDB, whichever
is more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recourse.errors import ResultTooLargeError

CARRIED = 256 * 1024
"""The most bytes of a run's state, and of an event on SNS with its attributes."""
EVENT = CARRIED - 4 * 1024
"""The most bytes of an event's text; the rest is for its attributes."""
ITEM = 400 * 1024
"""The most bytes of a row in DynamoDB."""
REQUEST = 64 * 1024
"""The most bytes of a start request."""
ABOUT = 16 * 1024
"""Bytes reserved for the saga's own data: owner, faults, skips, attempts, an event's frame."""
TEXT = 1024
"""The most bytes of an error's text as a JSON string; longer texts are cut."""
CAUGHT = 3 * 1024
"""Bytes of one caught error in a run's state: its text, escaped once more, and its frame."""
LEAST = 1024
"""The smallest share of a step's result; a saga whose steps would have less has too many."""
MARK = " […]"
"""The end of a text that was cut."""


def size(value: Any) -> int:
    """The bytes of a value: as JSON or as an attribute in DynamoDB, whichever is more."""
    return max(len(json.dumps(value, ensure_ascii=False).encode()), _stored(value))


def words(problem: BaseException) -> str:
    """A failure as a reason: its class name and its text, cut where it is long."""
    return cut(f"{type(problem).__name__}: {problem}")


def cut(text: str, most: int = TEXT) -> str:
    """A text of at most so many bytes as a JSON string; a text that was cut ends in `MARK`."""
    text = text.encode(errors="replace").decode()
    if len(_quoted(text)) <= most:
        return text
    low, high = 0, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_quoted(text[:middle] + MARK)) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low] + MARK


def results(steps: int) -> int:
    """The bytes that all results of a saga have together; nothing, or less, for too many steps."""
    return CARRIED - REQUEST - ABOUT - CAUGHT * steps


def shares(declared: Sequence[int | None]) -> list[int]:
    """The bytes that the result of each step may have.

    Args:
        declared: What each step declares; what is left is shared equally by those that do not.
    """
    rest = results(len(declared)) - sum(own for own in declared if own is not None)
    equal = rest // max(1, declared.count(None))
    return [equal if own is None else own for own in declared]


def check_result(step: str, result: Any, most: int) -> None:
    """Hold a result to the share of its step.

    Raises:
        ResultTooLargeError: It is larger.
    """
    found = size(result)
    if found > most:
        raise ResultTooLargeError(
            f"step {step!r}: its result must be at most {most} bytes, got {found}"
        )


def check_row(step: str, key: Any, row: Mapping[str, Any]) -> None:
    """Hold a new row to what DynamoDB takes.

    Raises:
        ResultTooLargeError: It is larger.
    """
    found = sum(len(name.encode()) + _stored(value) for name, value in row.items())
    if found > ITEM:
        raise ResultTooLargeError(
            f"step {step!r}: a row must be at most {ITEM} bytes, got {found} in {key!r}"
        )


def _quoted(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _stored(value: Any) -> int:
    """The bytes of a value in DynamoDB, as AWS's developer guide counts them."""
    match value:
        case str():
            return len(value.encode())
        case bool() | None:
            return 1
        case int():
            return (len(str(abs(value))) + 1) // 2 + 2
        case Mapping():
            return 3 + sum(1 + len(key.encode()) + _stored(one) for key, one in value.items())
        case list() | tuple():
            return 3 + sum(1 + _stored(one) for one in value)
    raise TypeError(f"a row holds no {type(value).__name__}: {value!r}")
