"""Invoices on the ground: of each kind the first is printed, and all others are that one again.

Printing one takes longer than all the rest of its saga, and tests/unit/test_invoices.py is about
what is printed. A kind is everything but numbers, amounts and keys, as long as these are ASCII: any
other text is printed as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recourse import Call, Money
from recourse.testing.patching import replaced
from services import invoices

_print = invoices._pdf
_printed: dict[Any, bytes] = {}


def _again(call: Call, title: str, lines: list[dict[str, Any]], amount: Money) -> bytes:
    if not all(one.isascii() for one in (call.business_key, *(line["text"] for line in lines))):
        return _print(call, title, lines, amount)
    texts = tuple((line["text"].split()[0], "covered" in line) for line in lines)
    kind = call.saga, title.split()[0], texts, amount.currency
    return _printed.get(kind) or _printed.setdefault(kind, _print(call, title, lines, amount))


@contextmanager
def once() -> Iterator[None]:
    """Print each kind once in this process, for the length of a block."""
    with replaced(invoices, "_pdf", _again):
        yield
