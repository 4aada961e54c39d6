"""Gap: moto hands streams to functions while the transaction is still open, and ignores filters.

Here the records wait in a list until they are fetched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.dynamodb.models.table import StreamRecord, StreamShard

from recourse.testing.patching import replaced


class Stream:
    """The records of every table's stream, in the order in which they were written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []
        self._followed: dict[str, list[dict[str, Any]]] = {}
        self._apart: set[str] = set()

    def add(self, record: dict[str, Any]) -> None:
        """Take a record."""
        with self._lock:
            self._records.append(record)

    def follow(self, table: str, *, apart: bool = False) -> list[dict[str, Any]]:
        """Every change of a table from now on; `apart` from what all the others say."""
        if apart:
            self._apart.add(table)
        return self._followed.setdefault(table, [])

    def take(self, table: str, record: dict[str, Any]) -> None:
        """Take a change of a table: an insert, and any other where somebody follows it."""
        with self._lock:
            if table in self._followed:
                self._followed[table].append(record)
        if record["eventName"] == "INSERT" and table not in self._apart:
            self.add(record)

    def wants(self, table: str, name: str) -> bool:
        """Whether anybody wants such a change of a table."""
        return name == "INSERT" or table in self._followed

    def fetch(self) -> list[dict[str, Any]]:
        """All that has come since the last fetch."""
        with self._lock:
            records, self._records = self._records, []
            return records

    def give_back(self, records: list[dict[str, Any]]) -> None:
        """Put records back, before those that have come since."""
        with self._lock:
            self._records[:0] = records


@contextmanager
def collected() -> Iterator[Stream]:
    """Collect the inserts of every table that has a stream, and what else somebody follows."""
    stream = Stream()

    def add(shard: Any, old: Any, new: Any) -> None:
        table, name = shard.table, "INSERT" if old is None else "MODIFY"
        if new is not None and stream.wants(table.name, name):
            kind = table.stream_specification["StreamViewType"]
            stream.take(table.name, StreamRecord(table, kind, name, old, new, 1).to_json())

    with replaced(StreamShard, "add", add):
        yield stream
