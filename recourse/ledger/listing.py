"""The ledger's indexes, from which lists of sagas are read, and how they are read.

An entry holds keys and the attributes that a list filters by, and nothing else: it is written when
a saga starts and when its status changes, not at each event; the sagas are read from their rows.

Partitions that all sagas would share are split into `SHARDS`, by a checksum of the saga's id, and a
reader merges them. An owner's lists are one partition each: all sagas of an owner go through one
feed anyway (`recourse.feed.feed`), whose limit is lower.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recourse.declare.step import Item
from recourse.store.expressions import Between, LessThan, MoreThan
from recourse.store.table import Table

SHARDS = 8
"""Into how many partitions an index over all sagas is split.

A partition takes 1,000 writes a second, and a saga is written at most twice to the partition of a
status: 4,000 sagas a second. The number may grow but never shrink: entries stay in their partitions
and a reader merges all of them. A list over all statuses queries `SHARDS` times six.
"""


class Index(NamedTuple):
    """A global secondary index of the ledger's table.

    Attributes:
        name: Its name.
        attribute: Its partition key.
        includes: The attributes that its entries hold besides keys.
        sort: Its sort key, which orders each of its partitions.
    """

    name: str
    attribute: str
    includes: tuple[str, ...]
    sort: str = "started"


BY_STATUS = Index("listed-by-status", "listed_status", ("saga",))
BY_OWNER = Index("listed-by-owner", "owner", ("saga", "status"))
BY_OWNER_KEY = Index("listed-by-owner-key", "listed_owner_key", ("saga", "status"))
BY_KEY = Index("listed-by-key", "listed_key", ("saga", "status"))
BY_QUESTION = Index("listed-by-question", "listed_question", ("saga",), "due_at")
"""Of the sagas that wait for somebody's decision alone: by what their questions are called, and to
whom they are put, so that nobody's list reads what others are asked."""
BY_DUE = Index("listed-by-due", "listed_due", ("saga",), "due_at")
"""Of the sagas that wait alone, for a decision or for a time: by when something is to be done."""
BY_OWNER_STATUS = Index("listed-by-owner-status", "owner", ("saga",), "listed_status")
"""An owner's sagas by what `BY_STATUS` has them under: those in flight are counted. Both keys are
attributes that rows had before, so that functions of an earlier release read what is written."""
INDEXES = (BY_STATUS, BY_OWNER, BY_OWNER_KEY, BY_KEY, BY_QUESTION, BY_DUE, BY_OWNER_STATUS)
UNDER_WAY = ("RUNNING", "COMPENSATING")
"""The statuses of sagas that have not ended and in which no undo has failed for good."""
WAITING = "WAITING"
"""What stands for the status of a saga that waits in `BY_STATUS`: its status is RUNNING, and the
sweeper, which looks after all that run, has no need to see it."""
PARKED = "PARKED"
"""What stands there for the status of one that runs and waits for an operator, likewise."""

Entry = Item
"""A saga in an index: `pk`, `started`, the partition key and the attributes it includes."""


def shard_of(saga_id: str, shards: int) -> int:
    """The shard of a saga, 0 to `shards` - 1; it never changes."""
    return zlib.crc32(saga_id.encode()) % shards


def attributes(
    saga_id: str,
    owner: str,
    business_key: str,
    status: str,
    due_at: str | None = None,
    waits_for: str | None = None,
    asks: str | None = None,
    parked: bool = False,
) -> dict[str, str]:
    """The attributes of a saga's row that only the indexes need."""
    shard = shard_of(saga_id, SHARDS)
    place = WAITING if due_at else PARKED if parked else status
    found = {
        BY_STATUS.attribute: f"{place}#{shard}",
        BY_OWNER_KEY.attribute: _digest(owner, business_key),
        BY_KEY.attribute: f"{_digest(business_key)}#{shard}",
    }
    if due_at is not None:
        found[BY_DUE.attribute] = f"{WAITING}#{shard}"
    if waits_for is not None:
        found[BY_QUESTION.attribute] = f"{_digest(waits_for, asks or '')}#{shard}"
    return found


def is_parked(row: Mapping[str, Any]) -> bool:
    """Whether a row of the ledger is of a saga that runs and waits for an operator."""
    return str(row.get(BY_STATUS.attribute, "")).startswith(f"{PARKED}#")


def in_statuses(statuses: Collection[str], *, waiting: bool = True) -> list[str]:
    """The partitions of all owners' sagas with one of these statuses, in `BY_STATUS`.

    Args:
        statuses: The statuses.
        waiting: Whether those that wait, for a decision, a time or an operator, are among those
            that run.
    """
    also = [PARKED, WAITING] if waiting and "RUNNING" in statuses else []
    return [f"{status}#{shard}" for status in (*statuses, *also) for shard in range(SHARDS)]


def with_questions(name: str, subject: str) -> list[str]:
    """The partitions of questions that are called so and that a subject may decide.

    They are put to the subject, or to nobody in particular; in `BY_QUESTION`.
    """
    each = [_digest(name, to) for to in ("", subject)]
    return [f"{one}#{shard}" for one in each for shard in range(SHARDS)]


def with_due() -> list[str]:
    """The partitions of all sagas that wait, in `BY_DUE`."""
    return [f"{WAITING}#{shard}" for shard in range(SHARDS)]


def with_owner_key(owner: str, business_key: str) -> list[str]:
    """The partition of one owner's sagas with a business key, in `BY_OWNER_KEY`."""
    return [_digest(owner, business_key)]


def with_key(business_key: str) -> list[str]:
    """The partitions of all owners' sagas with a business key, in `BY_KEY`."""
    return [f"{_digest(business_key)}#{shard}" for shard in range(SHARDS)]


def entries(
    table: Table,
    index: Index,
    partitions: Sequence[str],
    *,
    after: str | None = None,
    before: str | None = None,
    newest_first: bool,
    size: int,
) -> Iterator[Entry]:
    """The entries of several partitions of an index, merged by its sort key, each saga once.

    Args:
        table: The ledger's table.
        index: The index.
        partitions: The values of its partition key.
        after: Only entries whose sort key is after this.
        before: Only entries whose sort key is before this.
        newest_first: Whether the newest come first; else the oldest do.
        size: How many entries of a partition a query reads at once.
    """
    if after is not None and before is not None and after >= before:
        return
    between = _between(index.sort, after, before)
    each = [
        table.query(
            {index.attribute: value, **between},
            index=index.name,
            newest_first=newest_first,
            size=size,
        )
        for value in partitions
    ]
    last = after
    for entry in heapq.merge(*each, key=lambda one: one[index.sort], reverse=newest_first):
        # A saga whose status has just changed may be in two partitions for a moment.
        if entry[index.sort] not in (last, before):
            last = entry[index.sort]
            yield entry


def _between(sort: str, after: str | None, before: str | None) -> dict[str, Any]:
    """The condition on a sort key; it takes only one, so two bounds are an inclusive BETWEEN."""
    if after is not None and before is not None:
        return {sort: Between(after, before)}
    if before is not None:
        return {sort: LessThan(before)}
    return {} if after is None else {sort: MoreThan(after)}


def _digest(*parts: str) -> str:
    """A partition key of bounded length, unique to the parts that it is made from."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
