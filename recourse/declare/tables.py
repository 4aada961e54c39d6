"""Tables that exist already, whose rows a step writes in the transaction of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from recourse.errors import DeclarationError

KeyPart = str | int
RowKey = KeyPart | tuple[KeyPart, KeyPart]
"""The key of a row: its one value, or two where its table has a sort key."""
TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
"""What DynamoDB takes as the name of a table."""
LONGEST_KEY = 255
"""Characters of the name of an attribute that is part of a key."""


@dataclass(frozen=True, slots=True)
class ExistingTable:
    """A table that is not the service's own, in the account and region of its stage.

    Its rows are written with the service's own or not at all, and what a function may do there
    follows from the declaration::

        ORDERS = ExistingTable("orders", key=("customer", "order_id"))

        @action(tables=[ORDERS], reads=lambda call: [ORDERS.row(call.owner, call.business_key)])
        def bill(call: Call) -> Decision:
            key = (call.owner, call.business_key)
            billed = Update(key, put={"billed": True}, when={"billed": False}, table=ORDERS)
            return Decision(writes=[billed, Put({"pk": f"bill#{call.saga_id}"})])

    Attributes:
        name: What it is called, there or here: the CDK context `table_<name>`, in lower case, says
            what its stage calls it where that is another name.
        key: The attribute that its rows are found by, or two where it has a sort key.

    Raises:
        DeclarationError: DynamoDB has no table of such a name or key.
    """

    name: str
    key: str | tuple[str, str]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not TABLE_NAME.fullmatch(self.name):
            raise DeclarationError(
                "the name of an existing table must be 3 to 255 letters, digits, '_', '-' and '.', "
                f"got {self.name!r}"
            )
        if self.variable == "TABLE_NAME":
            raise DeclarationError(
                f"an existing table must not be declared as {self.name!r}, for TABLE_NAME is the "
                "service's own: declare another name, and say this one by the CDK context"
            )
        names = (self.key,) if isinstance(self.key, str) else self.key
        if (
            not isinstance(names, tuple)
            or not all(isinstance(one, str) and 1 <= len(one) <= LONGEST_KEY for one in names)
            or not 1 <= len(names) == len(set(names)) <= 2
        ):
            raise DeclarationError(
                f"the key of the existing table {self.name!r} must be the name of an attribute, or "
                f"a tuple of two, each of 1 to {LONGEST_KEY} characters, got {self.key!r}"
            )

    @property
    def variable(self) -> str:
        """The environment variable that says what it is called where the function runs."""
        return f"TABLE_{re.sub('[^A-Z0-9]', '_', self.name.upper())}"

    @property
    def key_names(self) -> tuple[str, ...]:
        """The attributes of its key."""
        return (self.key,) if isinstance(self.key, str) else self.key

    def row(self, *key: KeyPart) -> Row:
        """A row of it, for `reads`: `ORDERS.row("c1", "o7")`.

        Raises:
            ValueError: Its key has another number of parts, or they are not text or whole numbers.
        """
        parts = all(isinstance(one, str | int) and not isinstance(one, bool) for one in key)
        if len(key) != len(self.key_names) or not parts:
            raise ValueError(
                f"a row of {self.name!r} must be named by {' and '.join(self.key_names)}, "
                f"text or whole numbers, got {key!r}"
            )
        return Row(self, key[0] if len(key) == 1 else (key[0], key[1]))


class Row(NamedTuple):
    """A row of an existing table: which one, not what it holds."""

    table: ExistingTable
    key: RowKey


def check_key(table: ExistingTable | None, key: RowKey) -> None:
    """Hold the key of a row to its table; the service's own where there is none.

    Raises:
        ValueError: It is not a key of that table.
    """
    if table is not None:
        table.row(*(key if isinstance(key, tuple) else (key,)))
    elif not isinstance(key, str):
        raise ValueError(
            f"a row of the service's own table must be named by its 'pk', text, got {key!r}: "
            "write table=... where it is another table's"
        )


def key_of(table: ExistingTable | None, item: Mapping[str, Any]) -> RowKey:
    """The key of a row; of one in the service's own table where there is none.

    Raises:
        ValueError: A part of the key is missing, or not text or a whole number.
    """
    names = ("pk",) if table is None else table.key_names
    parts = tuple(item.get(name) for name in names)
    key: Any = parts if len(parts) > 1 else parts[0]
    check_key(table, key)
    return cast("RowKey", key)
