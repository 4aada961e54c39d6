"""The feed: every owner's events in the order in which they arrived, for as long as they are kept.

An owner's feed is rows at positions 1, 2, 3 … without a gap, under one partition key; position 0
holds the head, the position of the newest. New events, the head and the last sequence of each saga
are written in one transaction, so an event is in the feed once, however often it is appended. A
reader that knows a position has seen everything up to it: it continues from there, at a cost that
does not depend on the length of the feed. Where a row is missing because it is only being written
(DynamoDB shows the rows of a transaction one after another), a page ends before it.

One owner's events are appended one transaction after another, hundreds a second at the most; the
feeds of different owners are independent.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from recourse.declare.step import AtLeast, Item
from recourse.errors import RecourseError
from recourse.events import Event
from recourse.store import retention
from recourse.store.contention import ConditionFailedError, InvalidItemError
from recourse.store.cursors import BadCursorError, CursorError
from recourse.store.expressions import ABSENT
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MAX_BATCH_EVENTS = 40
"""Events that one transaction appends: with their sagas and the head, DynamoDB accepts 100 rows."""
MAX_BATCH_BYTES = 3 * 1024 * 1024
"""Their size together: DynamoDB accepts 4 MB."""
FORMER_RETENTION = 14 * 24 * 3600
"""Seconds for which rows were kept that do not say when they were written."""
UNSETTLED = timedelta(minutes=1)
"""How long a row may be missing because it is only being written; after that it has expired."""
_CURSOR = re.compile(r"1:(\d{1,15}):([0-9a-f]{16})", re.ASCII)


class ForeignCursorError(CursorError):
    """The cursor is of another owner's feed."""


class InvalidEventError(RecourseError):
    """Events that can never be appended to a feed."""


class ExpiredCursorError(CursorError):
    """What comes after the cursor is no longer kept."""


class Entry(NamedTuple):
    """An event in a feed.

    Attributes:
        position: Its position in its owner's feed, from 1.
        event: The event, with its `sequence` within its saga.
    """

    position: int
    event: Event


def cursor_of(owner: str, position: int) -> str:
    """The cursor with which an owner continues after a position."""
    text = f"1:{position}:{_tag(owner)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(owner: str, cursor: str) -> int:
    """The position that a cursor of an owner's feed stands for.

    Raises:
        BadCursorError: It is not a valid cursor.
        ForeignCursorError: It is of another owner's feed.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = _CURSOR.fullmatch(base64.b64decode(padded, "-_", validate=True).decode())
    except ValueError as problem:
        raise BadCursorError(cursor) from problem
    if not found:
        raise BadCursorError(cursor)
    if found[2] != _tag(owner):
        raise ForeignCursorError(cursor)
    return int(found[1])


class Feed:
    """The table of all feeds.

    Usage::

        feed = Feed(dynamodb, "feed")
        feed.append("asha", events)
        for entry in feed.read("asha", after=41):
            print(entry.position, entry.event.type)

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._table = Table(dynamodb, table, ("pk", "position"))

    def head(self, owner: str) -> int:
        """The position of the newest event; 0 where there is none."""
        return self._head(owner)[0]

    def read(self, owner: str, after: int | None, limit: int = 100) -> list[Entry]:
        """The events after a position, in order and without a gap; a page may be short.

        Args:
            owner: The owner.
            after: The last known position; None to begin with the oldest event that is kept.
            limit: How many at most.

        Raises:
            BadCursorError: The feed has not reached this position.
            ExpiredCursorError: Some of what comes after it is no longer kept.
        """
        known = self.start(owner) if after is None else after
        rows = self._rows(owner, known + 1, limit)
        found: list[Entry] = []
        for position, row in enumerate(rows, known + 1):
            if row["position"] != position:
                if not found and _is_settled(row):
                    raise ExpiredCursorError(known)
                break
            found.append(Entry(position, Event.parse(row["event"])))
        if not rows:
            head, newest = self._head(owner)
            if known > head:
                raise BadCursorError(f"the feed has {head} events")
            if known < head and _is_settled(newest):
                raise ExpiredCursorError(known)
        return found

    def start(self, owner: str) -> int:
        """The position before that of the oldest event that is kept."""
        oldest = self._rows(owner, 1, 1)
        if oldest:
            return int(oldest[0]["position"]) - 1
        head, row = self._head(owner)
        return head if row and _is_settled(row) else 0

    def since(self, owner: str, moment: float) -> int:
        """The position after which the events come that were appended at a time or later.

        Args:
            owner: The owner.
            moment: The time, in seconds of the epoch; an event's own `time` is a little earlier.
        """
        low, high = self.start(owner) + 1, self.head(owner) + 1
        while low < high:
            middle = (low + high) // 2
            row = next(iter(self._rows(owner, middle, 1)), None)
            if row is None or _written_at(row) >= moment:
                high = middle
            else:
                low = row["position"] + 1
        return low - 1

    def append(self, owner: str, events: Iterable[Event], *, guest: bool = False) -> int:
        """Append events, each once: those that the feed has already are skipped.

        Args:
            owner: Whose feed it is.
            events: Events with their `sequence`; those of a saga in order, and without a gap from
                the first one that is not in the feed.
            guest: Whether their sagas are somebody else's, of which the feed has some events only.

        Returns:
            How many were new.

        Raises:
            InvalidEventError: DynamoDB will never accept them, or one has no sequence.
            ContentionError: Others kept appending to the same feed, or its table is throttled.
        """
        return sum(
            self._table.retry(partial(self._append, owner, batch, guest), what="the feed")
            for batch in _batches(events)
        )

    def erase(self, owner: str) -> None:
        """Delete an owner's feed.

        The last sequence of each saga stays: an event that is delivered again is not new.
        """
        while True:
            head, _ = self._head(owner)
            for position in self.positions(owner):
                self._table.delete((_key(owner), position))
            if not head:
                return
            # Only if nothing was appended meanwhile: else its row has come after the look.
            with suppress(ConditionFailedError):
                self._table.delete((_key(owner), 0), when={"head": head})

    def about(self, reader: str, sagas: Collection[str]) -> Iterator[Entry]:
        """The events in a feed that are about some sagas."""
        when = {"pk": _key(reader), "position": AtLeast(1)}
        for row in self._table.query(when, consistent=True):
            if row["saga_id"] in sagas:
                yield Entry(row["position"], Event.parse(row["event"]))

    def rewrite(self, reader: str, position: int, event: Event) -> None:
        """Replace an event in a feed; one that has expired meanwhile stays away."""
        with suppress(ConditionFailedError):
            there = {"position": position}
            self._table.update((_key(reader), position), set={"event": event.to_json()}, when=there)

    def positions(self, owner: str) -> list[int]:
        """The positions of an owner's events that are kept."""
        when = {"pk": _key(owner), "position": AtLeast(1)}
        return [row["position"] for row in self._table.query(when, consistent=True)]

    def _append(self, owner: str, events: Sequence[Event], guest: bool) -> int:
        reader = owner if guest else None
        try:
            head, _ = self._head(owner)
            known = self._known({event.saga_id for event in events}, reader)
        except InvalidItemError as problem:
            raise InvalidEventError(str(problem)) from None
        new = [event for event in events if _sequence(event) > known[event.saga_id]]
        if not new:
            return 0
        last = {event.saga_id: _sequence(event) for event in new}
        writes = [
            self._advance(_key(owner), head, head + len(new)),
            *(self._advance(_saga(one, reader), known[one], seq) for one, seq in last.items()),
            *(self._row(owner, position, one) for position, one in enumerate(new, head + 1)),
        ]
        try:
            self._table.transact(writes)
        except InvalidItemError as problem:
            raise InvalidEventError(str(problem)) from None
        return len(new)

    def _advance(self, key: str, was: int, head: int) -> TransactWriteItemTypeDef:
        """The request to move a head, if it is still what it was."""
        row = {"pk": key, "position": 0, "head": head, "at": int(time.time())}
        return self._table.put_request(row, when={"head": was} if was else ABSENT)

    def _row(self, owner: str, position: int, event: Event) -> TransactWriteItemTypeDef:
        """The request to write an event.

        It needs no condition: who moves the head from before it to behind it writes this position.
        """
        return self._table.put_request(
            {
                "pk": _key(owner),
                "position": position,
                "event": event.to_json(),
                "owner": owner,
                "saga_id": event.saga_id,
                "at": (now := int(time.time())),
                "expires_at": now + retention.for_a_time("feed"),
            }
        )

    def _head(self, owner: str) -> tuple[int, Item]:
        row = self._table.get((_key(owner), 0)) or {}
        return row.get("head", 0), row

    def _known(self, sagas: Iterable[str], reader: str | None) -> dict[str, int]:
        """The last sequence of each saga that is in the feed; 0 where none is."""
        ordered = sorted(sagas)
        rows = self._table.get_many([(_saga(saga, reader), 0) for saga in ordered])
        return {saga: row["head"] if row else 0 for saga, row in zip(ordered, rows, strict=True)}

    def _rows(self, owner: str, first: int, limit: int) -> list[Item]:
        """The rows that one call reads; there may be more."""
        when = {"pk": _key(owner), "position": AtLeast(first)}
        return list(self._table.query(when, consistent=True, size=limit, pages=1))


def _batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events in batches of which one transaction appends each."""
    batch: list[Event] = []
    size = 0
    for one in events:
        weight = len(one.to_json().encode())
        if batch and (len(batch) == MAX_BATCH_EVENTS or size + weight > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def _sequence(event: Event) -> int:
    if event.sequence is None:
        raise InvalidEventError(f"event {event.id} must have a sequence, got none")
    return event.sequence


def _key(owner: str) -> str:
    return f"feed#{owner}"


def _saga(saga_id: str, reader: str | None) -> str:
    """The key of a saga's last sequence in its owner's feed, or in that of a reader."""
    return f"saga#{saga_id}" if reader is None else f"saga#{saga_id}#{_tag(reader)}"


def _tag(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def _written_at(row: Mapping[str, Any]) -> float:
    """When an event's row was written, in seconds of the epoch."""
    return float(row["at"] if "at" in row else row["expires_at"] - FORMER_RETENTION)


def _is_settled(row: Mapping[str, Any]) -> bool:
    """Whether a row is so old that a row missing before it has expired."""
    return bool(time.time() - _written_at(row) > UNSETTLED.total_seconds())
