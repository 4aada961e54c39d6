"""What DynamoDB would count: the capacity units of every row and index entry, by partition key.

moto charges nothing and knows no partitions. The rules are AWS's: a write takes a unit for each KB
of the larger of the old and the new row, twice that in a transaction, and its failed condition
takes as much; an index is written where what it holds of the row changes, and where its key
changes the old entry goes and the new one comes; a read takes a unit for each 4 KB, half of that
where it may be a moment old.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from moto.dynamodb.models import DynamoDBBackend

from recourse.testing.patching import replaced

Row = Mapping[str, Any]
"""A row in DynamoDB's own JSON."""
_PARTITION = re.compile(r"(\S+) = (:\w+)")


class Partition(NamedTuple):
    """A partition key of a table, or of an index of it; `within` is empty for the table's own."""

    table: str
    within: str
    key: str


@dataclass(frozen=True)
class Use:
    """What a run has taken of one partition.

    Attributes:
        writes: Write units.
        reads: Read units.
        by: Whose work it was, as `Meter.of` said at the time.
    """

    writes: float
    reads: float
    by: frozenset[str]


class Meter:
    """Counts capacity units.

    Attributes:
        of: Whose work it is that is counted now.
        records: Every change of a row, as streams carry it, by table and what it is: INSERT or
            MODIFY, and what the row's key has before its first number sign, if it has one.
    """

    def __init__(self) -> None:
        self.of = ""
        self.records: Counter[tuple[str, str]] = Counter()
        self._writes: Counter[Partition] = Counter()
        self._reads: Counter[Partition] = Counter()
        self._by: dict[Partition, set[str]] = defaultdict(set)
        self._at = threading.local()

    def found(self) -> dict[Partition, Use]:
        """What every partition has been used for."""
        return {
            place: Use(self._writes[place], self._reads[place], frozenset(by))
            for place, by in self._by.items()
        }

    def forget(self) -> None:
        """Begin anew."""
        self.records.clear()
        self._writes.clear()
        self._reads.clear()
        self._by.clear()

    # Writes, at moto's tables.

    def written(self, backend: Any, table: str, key: Row, write: Callable[[], Any]) -> Any:
        """Count a write of a row by what it makes of it."""
        before = _image(backend, table, key)
        try:
            return write()
        finally:
            after = _image(backend, table, key)
            self._changed(backend.get_table(table), before, after)

    def transacted(self, write: Callable[[], Any]) -> Any:
        """Count what is written meanwhile as a transaction's."""
        self._at.factor = 2
        try:
            return write()
        finally:
            self._at.factor = 1

    def checked(self, table: str, row: Row | None, key: str) -> None:
        """Count a transaction's check of a row."""
        self._count(self._writes, Partition(table, "", key), 2 * _units(row, 1024))

    def _changed(self, table: Any, before: Row | None, after: Row | None) -> None:
        row = after or before
        if row is None:
            return
        factor = getattr(self._at, "factor", 1)
        units = max(_units(before, 1024), _units(after, 1024))
        key = _text(row[table.hash_key_attr])
        self._count(self._writes, Partition(table.name, "", key), factor * units)
        if before == after:
            return
        kind = key.partition("#")[0] if "#" in key else ""
        self.records[table.name, f"{'MODIFY' if before else 'INSERT'} {kind}"] += 1
        for index in table.global_indexes:
            self._indexed(table, index, before, after)

    def _indexed(self, table: Any, index: Any, before: Row | None, after: Row | None) -> None:
        old, new = _entry(table, index, before), _entry(table, index, after)
        if old == new:
            return
        name = next(one["AttributeName"] for one in index.schema if one["KeyType"] == "HASH")
        keys = {one["AttributeName"] for one in index.schema}
        moved = old and new and any(old[key] != new[key] for key in keys)
        for entry in [old, new] if moved else [new or old]:
            if entry:
                place = Partition(table.name, index.name, _text(entry[name]))
                self._count(self._writes, place, max(_units(old, 1024), _units(new, 1024)))

    # Reads, at the client.

    def watch(self, dynamodb: Any) -> None:
        """Count what a client reads."""
        events = dynamodb.meta.events
        events.register("provide-client-params.dynamodb", self._asked)
        for call in ("GetItem", "BatchGetItem", "Query"):
            events.register(f"after-call.dynamodb.{call}", getattr(self, f"_{call}"))

    def _asked(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = params

    def _GetItem(self, parsed: Any, context: dict[str, Any], **_: Any) -> None:
        asked = context["asked"]
        self._read(asked["TableName"], asked["Key"], parsed.get("Item"), asked)

    def _BatchGetItem(self, parsed: Any, context: dict[str, Any], **_: Any) -> None:
        for table, asked in context["asked"]["RequestItems"].items():
            rows = {_text(row["pk"]): row for row in parsed.get("Responses", {}).get(table, [])}
            for key in asked["Keys"]:
                self._read(table, key, rows.get(_text(key["pk"])), asked)

    def _Query(self, parsed: Any, context: dict[str, Any], **_: Any) -> None:
        asked = context["asked"]
        found = _PARTITION.search(asked["KeyConditionExpression"])
        assert found, asked
        key = _text(asked["ExpressionAttributeValues"][found[2]])
        size = sum(map(_size, parsed.get("Items", [])))
        units = max(1, math.ceil(size / 4096)) * (1 if asked.get("ConsistentRead") else 0.5)
        place = Partition(asked["TableName"], asked.get("IndexName", ""), key)
        self._count(self._reads, place, units)

    def _read(self, table: str, key: Row, row: Row | None, asked: Mapping[str, Any]) -> None:
        units = _units(row, 4096) * (1 if asked.get("ConsistentRead") else 0.5)
        self._count(self._reads, Partition(table, "", _text(key["pk"])), units)

    def _count(self, into: Counter[Partition], place: Partition, units: float) -> None:
        into[place] += units  # type: ignore[assignment]
        self._by[place].add(self.of)


@contextmanager
def metered(dynamodb: Any) -> Iterator[Meter]:
    """Count what is written to moto's tables and read by a client, for the length of a block."""
    meter = Meter()
    meter.watch(dynamodb)
    put, update, transact = (
        DynamoDBBackend.put_item,
        DynamoDBBackend.update_item,
        DynamoDBBackend.transact_write_items,
    )

    def put_item(backend: Any, table: str, item: Row, *args: Any, **options: Any) -> Any:
        def write() -> Any:
            return put(backend, table, item, *args, **options)  # type: ignore[arg-type]

        return meter.written(backend, table, item, write)

    def update_item(backend: Any, table: str, key: Row, *args: Any, **options: Any) -> Any:
        def write() -> Any:
            return update(backend, table, key, *args, **options)  # type: ignore[arg-type]

        return meter.written(backend, table, key, write)

    def transact_write_items(backend: Any, transact_items: list[dict[str, Any]]) -> Any:
        for item in transact_items:
            ((kind, one),) = item.items()
            if kind == "ConditionCheck":
                row = _image(backend, one["TableName"], one["Key"])
                meter.checked(one["TableName"], row, _text(one["Key"]["pk"]))
        return meter.transacted(lambda: transact(backend, transact_items))

    with (
        replaced(DynamoDBBackend, "put_item", put_item),
        replaced(DynamoDBBackend, "update_item", update_item),
        replaced(DynamoDBBackend, "transact_write_items", transact_write_items),
    ):
        yield meter


def _image(backend: Any, table: str, key: Row) -> Row | None:
    """A row as it is now."""
    schema = backend.get_table(table)
    names = filter(None, (schema.hash_key_attr, schema.range_key_attr))
    found = backend.get_item(table, {name: key[name] for name in names})
    return dict(found.to_json()["Attributes"]) if found else None


def _entry(table: Any, index: Any, row: Row | None) -> Row | None:
    """What an index holds of a row; nothing where the row lacks one of its keys."""
    keys = [one["AttributeName"] for one in index.schema]
    if row is None or any(key not in row for key in keys):
        return None
    if index.projection["ProjectionType"] == "ALL":
        return row
    names = {*keys, table.hash_key_attr, *index.projection.get("NonKeyAttributes", ())}
    return {name: row[name] for name in names if name in row}


def _units(row: Row | None, unit: int) -> int:
    """How many units a row takes; one that is not there takes one."""
    return max(1, math.ceil(_size(row or {}) / unit))


def _size(row: Row) -> int:
    return sum(len(name.encode()) + _value_size(value) for name, value in row.items())


def _value_size(value: Any) -> int:
    ((kind, inner),) = value.items()
    match kind:
        case "S":
            return len(inner.encode())
        case "N":
            return len(inner.lstrip("-0.")) // 2 + 2
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(v) for name, v in inner.items())
        case "L":
            return 3 + sum(1 + _value_size(one) for one in inner)
    return 1


def _text(value: Mapping[str, Any]) -> str:
    """A partition key, in DynamoDB's own JSON or moto's, as text."""
    return str(value["S"])
