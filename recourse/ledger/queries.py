"""Lists of sagas: a page of those that match, and the unfinished ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from recourse.ledger.history import AT_REST, STATUSES, Status
from recourse.ledger.listing import (
    BY_DUE,
    BY_KEY,
    BY_OWNER,
    BY_OWNER_KEY,
    BY_OWNER_STATUS,
    BY_QUESTION,
    BY_STATUS,
    UNDER_WAY,
    Index,
    entries,
    in_statuses,
    with_due,
    with_key,
    with_owner_key,
    with_questions,
)
from recourse.ledger.record import Record, just_after
from recourse.store.cursors import cursor_after, started_of
from recourse.store.expressions import Between
from recourse.store.table import Table

MOST_EXAMINED = 1000
"""How many sagas one page examines: if few match, it is short, and its cursor continues."""
UNFINISHED_AT_ONCE = 25
"""How many unfinished sagas are read at once; few, for the sweeper takes a while for each."""


class SagaQueries:
    """Queries for sagas.

    ::

        records, cursor = queries.page(owner="asha", status="RUNNING", limit=20)
        more, cursor = queries.page(owner="asha", status="RUNNING", limit=20, cursor=cursor)

    Args:
        table: The ledger's table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def page(
        self,
        *,
        owner: str | None = None,
        saga: str | None = None,
        status: Status | None = None,
        business_key: str | None = None,
        cursor: str | None = None,
        limit: int = 20,
    ) -> tuple[list[Record], str | None]:
        """A page of sagas, the newest first, and the cursor of the next one.

        Args:
            owner: Only this owner's sagas; None for all owners'.
            saga: Only those of this declaration.
            status: Only those in this status.
            business_key: Only those with this business key.
            cursor: The cursor of the page before; None for the first page.
            limit: How many at most, 1 to 100.

        Returns:
            The sagas, and a cursor if there may be more. One page examines `MOST_EXAMINED` sagas;
            if few of them match, it is short or empty, and has a cursor all the same.

        Raises:
            BadCursorError: The cursor is not one that a page has returned.
            ContentionError: The table is throttled.
        """
        before = started_of(cursor)
        index, partitions = BY_STATUS, in_statuses([status] if status else STATUSES)
        if business_key is not None:
            index, partitions = BY_KEY, with_key(business_key)
        if owner is not None:
            index, partitions = BY_OWNER, [owner]
        if owner is not None and business_key is not None:
            index, partitions = BY_OWNER_KEY, with_owner_key(owner, business_key)

        def wanted(one: Mapping[str, Any]) -> bool:
            """Whether an entry or a row matches; an entry of `BY_STATUS` has no `status`."""
            return saga in (None, one["saga"]) and status in (None, one.get("status", status))

        few = saga is None and status is None
        walk = entries(
            self._table,
            index,
            partitions,
            before=before,
            newest_first=True,
            size=limit + 1 if few else max(limit + 1, MOST_EXAMINED // len(partitions)),
        )
        found: list[Record] = []
        unread: list[str] = []
        place = ""
        examined = 0
        for entry in islice(walk, MOST_EXAMINED):
            if wanted(entry):
                if len(found) == limit:
                    return found, cursor_after(place)
                unread.append(entry["pk"])
            examined, place = examined + 1, entry["started"]
            if len(found) + len(unread) == limit:
                # The row decides: an index may lag behind it.
                found += [one for one in self._rows(unread) if wanted(one.__dict__)]
                unread = []
        found += [one for one in self._rows(unread) if wanted(one.__dict__)]
        return found, cursor_after(place) if examined == MOST_EXAMINED else None

    def in_flight(self, owner: str, most: int) -> int:
        """How many sagas of an owner are in flight; no more than `most` are counted.

        In flight is what is RUNNING or COMPENSATING and waits neither for somebody's decision nor
        for an operator. The index is behind its rows by as much as DynamoDB takes to fill it, which
        is mostly some milliseconds.
        """
        index, found = BY_OWNER_STATUS, 0
        for status in UNDER_WAY:
            when = {index.attribute: owner, index.sort: Between(f"{status}#", f"{status}#~")}
            if found < most:
                walk = self._table.query(when, index=index.name, size=most - found)
                found += sum(1 for _ in islice(walk, most - found))
        return found

    def unfinished(self, started_before: str, after: str | None = None) -> Iterator[Record]:
        """The unfinished sagas that were started before a time, the oldest first.

        Those that wait are not among them: for somebody's decision or a time (`due`), or for an
        operator.

        Args:
            started_before: The time, in RFC 3339.
            after: Only sagas after this `Record.place`, to continue where another round stopped.
        """
        walk = entries(
            self._table,
            BY_STATUS,
            in_statuses(UNDER_WAY, waiting=False),
            after=after,
            before=started_before,
            newest_first=False,
            size=UNFINISHED_AT_ONCE,
        )
        while ids := [entry["pk"] for entry in islice(walk, UNFINISHED_AT_ONCE)]:
            yield from (one for one in self._rows(ids) if one.status in UNDER_WAY)

    def waiting(self, question: str, subject: str, *, after: str | None = None) -> Iterator[Record]:
        """The sagas that wait for a decision that somebody may take, the most urgent first.

        Args:
            question: Only with questions that are called so.
            subject: Who may decide: those put to them, or to nobody in particular.
            after: Only after this `due_at`, to continue where a page stopped.
        """
        found = self._resting(BY_QUESTION, with_questions(question, subject), after=after)
        yield from (one for one in found if one.waits_for)

    def due(self, at: str) -> Iterator[Record]:
        """The sagas that wait and with which something is to be done by a time, the oldest first.

        Args:
            at: The time, in RFC 3339; what is due at that very moment is among them.
        """
        found = self._resting(BY_DUE, with_due(), before=just_after(at))
        yield from (one for one in found if one.is_due(at))

    def _resting(
        self, index: Index, partitions: Sequence[str], **place: str | None
    ) -> Iterator[Record]:
        size = UNFINISHED_AT_ONCE
        walk = entries(self._table, index, partitions, newest_first=False, size=size, **place)
        while ids := [entry["pk"] for entry in islice(walk, size)]:
            yield from self._rows(ids)

    def not_at_rest(self) -> Iterator[Record]:
        """Every saga that may still move: under way, or waiting for an operator."""
        statuses = [one for one in STATUSES if one not in AT_REST]
        partitions = in_statuses(statuses)
        walk = entries(self._table, BY_STATUS, partitions, newest_first=False, size=MOST_EXAMINED)
        while ids := [entry["pk"] for entry in islice(walk, UNFINISHED_AT_ONCE)]:
            yield from (one for one in self._rows(ids) if one.status not in AT_REST)

    def _rows(self, ids: Sequence[str]) -> list[Record]:
        """The rows of these ids that exist, read consistently and in this order."""
        return [Record.from_row(row) for row in self._table.get_many(ids) if row]
