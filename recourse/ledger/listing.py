"""The indexes that lists of sagas are read from, and how they are read.

An entry holds keys and what a list filters by, nothing else: it is written when a saga begins and
when its status changes, and not at each event; the sagas themselves are read from their rows.

What all sagas would share is spread over `SHARDS` partitions, by a digest of the saga's id, and
read by merging them. An owner's lists are one partition each, for one owner's sagas stand in one
feed anyway (`recourse.feed.feed`), which bears less.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recourse.declare.step import Item
from recourse.store.expressions import Between, LessThan, MoreThan
from recourse.store.table import Table

SHARDS = 8
"""How many partitions share what all sagas share.

One bears 1,000 writes a second, and of a shard's sagas each is written there twice at the most in
one status: 4,000 sagas a second. It may grow, never shrink: sagas stay where they were put, and a
reader merges as many as there are. A list of every status asks `SHARDS` times the five statuses.
"""


@dataclass(frozen=True)
class Index:
    """A global secondary index of the ledger's table; `started` orders each of its partitions.

    Attributes:
        name: Its name.
        attribute: Its partition key.
        includes: What its entries hold besides keys.
    """

    name: str
    attribute: str
    includes: tuple[str, ...]


BY_STATUS = Index("listed-by-status", "listed_status", ("saga",))
BY_OWNER = Index("listed-by-owner", "owner", ("saga", "status"))
BY_OWNER_KEY = Index("listed-by-owner-key", "listed_owner_key", ("saga", "status"))
BY_KEY = Index("listed-by-key", "listed_key", ("saga", "status"))
INDEXES = (BY_STATUS, BY_OWNER, BY_OWNER_KEY, BY_KEY)

Entry = Item
"""What an index holds of a saga: `pk`, `started`, its partition key and what the index includes."""


def shard_of(saga_id: str, shards: int) -> int:
    """Which of so many shards a saga belongs to, for ever."""
    return zlib.crc32(saga_id.encode()) % shards


def attributes(saga_id: str, owner: str, business_key: str, status: str) -> dict[str, str]:
    """The attributes of a saga's row that only the indexes need."""
    shard = shard_of(saga_id, SHARDS)
    return {
        BY_STATUS.attribute: f"{status}#{shard}",
        BY_OWNER_KEY.attribute: _digest(owner, business_key),
        BY_KEY.attribute: f"{_digest(business_key)}#{shard}",
    }


def in_statuses(statuses: Iterable[str]) -> list[str]:
    """The partitions of everybody's sagas in some statuses, by `BY_STATUS`."""
    return [f"{status}#{shard}" for status in statuses for shard in range(SHARDS)]


def with_owner_key(owner: str, business_key: str) -> list[str]:
    """The partition of one owner's sagas with a business key, by `BY_OWNER_KEY`."""
    return [_digest(owner, business_key)]


def with_key(business_key: str) -> list[str]:
    """The partitions of everybody's sagas with a business key, by `BY_KEY`."""
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
    """The entries of some partitions of an index as one list, each saga once.

    Args:
        table: The ledger's table.
        index: The index.
        partitions: Which of its partitions.
        after: Only those whose `started` comes after this.
        before: Only those whose `started` comes before this.
        newest_first: The order; else the oldest come first.
        size: How many of a partition are read at once.
    """
    if after is not None and before is not None and after >= before:
        return
    started = _started(after, before)
    each = [
        table.query(
            {index.attribute: value, **started},
            index=index.name,
            newest_first=newest_first,
            size=size,
        )
        for value in partitions
    ]
    last = after
    for entry in heapq.merge(*each, key=lambda one: one["started"], reverse=newest_first):
        # A saga whose status has just changed may stand in two partitions for a moment.
        if entry["started"] not in (last, before):
            last = entry["started"]
            yield entry


def _started(after: str | None, before: str | None) -> dict[str, Any]:
    """What must hold of `started`; of two ends, DynamoDB knows none but a range with both."""
    if after is not None and before is not None:
        return {"started": Between(after, before)}
    if before is not None:
        return {"started": LessThan(before)}
    return {} if after is None else {"started": MoreThan(after)}


def _digest(*parts: str) -> str:
    """A partition key of bounded length, of its own for whatever it is made from."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
