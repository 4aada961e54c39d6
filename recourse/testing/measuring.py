"""Gap: moto measures, compares, copies and reads rows from scratch, however often it has done so.

For each attribute that is put into a row it measures all of them, and of two texts it works out of
what type they are whenever they are compared, which for a query is all keys of a table. That is a
fifth of the time of tests whose tables have some hundred rows. For each attribute that an index or
a query shows it reads the whole row, and what it reads of a map or a list it copies once for each
map and list that it is in. For a query it sorts all of the table, looks through it, and sorts what
it found.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import local
from typing import Any

from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import Table
from moto.dynamodb.models.utilities import bytesize

from recourse.testing.patching import replaced

LARGEST = 405_000
"""Bytes of a row, as moto has it."""
_project = Item.project
_hash, _equal, _less = DynamoType.__hash__, DynamoType.__eq__, DynamoType.__lt__
_query = Table.query
_asked_for = local()
"""The rows that a query of this thread looks through, while it does."""


def _size(name: str, value: Any) -> int:
    measured = value.size() if type(value) is DynamoType else bytesize(str(value))
    return int(bytesize(name) + measured)


def _put(row: LimitedSizeDict, name: str, value: Any) -> None:
    sizes: dict[str, int] = row.__dict__.setdefault("sizes", {})
    for other in row.keys() - sizes.keys():  # those that were copied
        sizes[other] = _size(other, row[other])
    sizes[name] = _size(name, value)
    for gone in sizes.keys() - row.keys() - {name}:
        del sizes[gone]
    if sum(sizes.values()) > LARGEST:
        raise ItemSizeTooLarge
    dict.__setitem__(row, name, value)


def _text(one: DynamoType, other: DynamoType) -> bool:
    return one.type == "S" and other.type == "S"


def _shown(row: Item, paths: list[list[str]]) -> Item:
    """Some of a row, of which nothing is read but what these paths begin with."""
    needed = {name for path in paths for name in (path[0], path[0].rpartition("[")[0])}
    part = Item(row.hash_key, row.range_key, {})
    for name in needed & row.attrs.keys():
        dict.__setitem__(part.attrs, name, row.attrs[name])
    return _project(part, paths)


def _plain(one: DynamoType) -> dict[str, Any]:
    """An attribute as JSON has it, which shares nothing with the row."""
    value = one.value
    if one.type == "M":
        return {"M": {name: _plain(part) for name, part in value.items()}}
    if one.type == "L":
        return {"L": [_plain(part) for part in value]}
    if one.type == "B" and isinstance(value, str):
        return {"B": b64decode(value)}
    return {one.type: list(value) if isinstance(value, list) else value}


def _copied(one: DynamoType, _: object = None) -> DynamoType:
    made = object.__new__(DynamoType)
    made.type, value = one.type, one.value
    if one.type == "M":
        made.value = {name: _copied(part) for name, part in value.items()}
    elif one.type == "L":
        made.value = [_copied(part) for part in value]
    else:
        made.value = list(value) if isinstance(value, list) else value
    return made


def _copied_row(row: Item, _: object) -> Item:
    made: Item = object.__new__(Item)
    made.hash_key = _copied(row.hash_key)
    made.range_key = row.range_key and _copied(row.range_key)
    made.attrs = LimitedSizeDict.__new__(LimitedSizeDict)
    for name, value in row.attrs.items():
        dict.__setitem__(made.attrs, name, _copied(value))
    return made


def _rows(table: Table) -> list[Any]:
    if table.range_key_attr:
        return [row for of_hash in table.items.values() for row in of_hash.values()]
    return list(table.items.values())


def _in_order(table: Table) -> list[Item]:
    """All rows of a table, each of whose keys is looked at once; in a query, those it is for."""
    if (asked_for := getattr(_asked_for, "rows", None)) is not None:
        return list(asked_for)
    if table.range_key_attr:
        return sorted(
            _rows(table), key=lambda row: (row.hash_key.cast_value, row.range_key.cast_value)
        )
    return sorted(_rows(table), key=lambda row: row.hash_key.cast_value)


def _queried(table: Table, key: DynamoType | None, *how: Any, **more: Any) -> Any:
    """A query, which looks through the rows of its key alone; moto sorts what it finds."""
    rows = _rows(table)
    for name, value in more.get("hash_key_conditions") or [(table.hash_key_attr, key)]:
        have = [(row, row.attrs.get(name)) for row in rows]
        if value.type == "S":  # moto looks at their types once more
            rows = [row for row, own in have if own and own.value == value.value]
        else:
            rows = [row for row, own in have if own and own == value]
    _asked_for.rows = rows
    try:
        return _query(table, key, *how, **more)
    finally:
        _asked_for.rows = None


@contextmanager
def once() -> Iterator[None]:
    """Measure and copy each attribute once, compare texts as they are, and read what is shown."""

    def hashed(self: DynamoType) -> int:
        return hash(("S", self.value)) if self.type == "S" else _hash(self)

    def equal(self: DynamoType, other: DynamoType) -> bool:
        return self.value == other.value if _text(self, other) else _equal(self, other)

    def other_than(self: DynamoType, other: DynamoType) -> bool:
        return not equal(self, other)

    def less(self: DynamoType, other: DynamoType) -> bool:
        return self.value < other.value if _text(self, other) else _less(self, other)

    with ExitStack() as stack:
        for name, mine in (
            ("__hash__", hashed),
            ("__eq__", equal),
            ("__ne__", other_than),
            ("__lt__", less),
        ):
            stack.enter_context(replaced(DynamoType, name, mine))
        stack.enter_context(replaced(LimitedSizeDict, "__setitem__", _put))
        stack.enter_context(replaced(Item, "project", _shown))
        stack.enter_context(replaced(Item, "__deepcopy__", _copied_row))
        stack.enter_context(replaced(DynamoType, "__deepcopy__", _copied))
        stack.enter_context(replaced(DynamoType, "to_regular_json", _plain))
        stack.enter_context(replaced(Table, "all_items", _in_order))
        stack.enter_context(replaced(Table, "query", _queried))
        yield
