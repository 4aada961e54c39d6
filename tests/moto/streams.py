"""Gap: moto hands streams to functions while the transaction is still open, and ignores filters.

Here the records wait in a list until they are fetched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.dynamodb.models.table import StreamRecord, StreamShard

from tests.moto.patching import replaced


class Stream:
    """The records of every table's stream, in the order in which they were written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> None:
        """Take a record."""
        with self._lock:
            self._records.append(record)

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
    """Collect the inserts of every table that has a stream."""
    stream = Stream()

    def add(shard: Any, old: Any, new: Any) -> None:
        if old is None:
            kind = shard.table.stream_specification["StreamViewType"]
            record = StreamRecord(shard.table, kind, "INSERT", old, new, 1)
            stream.add(record.to_json())

    with replaced(StreamShard, "add", add):
        yield stream
