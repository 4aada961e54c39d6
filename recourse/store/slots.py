"""What each owner has under way, so many at once and each for so long at most; and how often.

::

    streams = Slots(Table(dynamodb, "things"), "streams", most=10, seconds=900)
    with streams.held("asha"):
        ...  # one of Asha's ten streams

It takes one write to acquire a slot and one to release it. A slot whose process has died ends by
itself. Slots that are never released are a rate: ten of 60 seconds are ten a minute. A rate of many
is a `Rate`, whose row has a number and not a name for each.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from recourse.problems import ProblemError
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, PRESENT, FewerThan, LessThan
from recourse.store.table import Key, Table

MAX_RETRY_AFTER = 60
"""Seconds after which a caller may try again at the latest: slots are mostly released early."""


class LimitReachedError(ProblemError):
    """An owner has as much under way as one may have; `retry_after` says when to try again."""


class Slots:
    """The slots of every owner for one kind of thing.

    Args:
        table: The table that keeps them, one row an owner.
        kind: What they are for, in the plural: part of the key, and of the message.
        most: How many an owner has.
        seconds: How long one lasts that is not released.
        sort: The sort key of the row, where the table has one.
        clock: The time, in seconds since 1970.
    """

    def __init__(
        self,
        table: Table,
        kind: str,
        *,
        most: int,
        seconds: float,
        sort: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._kind = kind
        self._most = most
        self._seconds = seconds
        self._sort = sort
        self._clock = clock

    def acquire(self, owner: str) -> str:
        """Acquire a slot, to be released when what it is for has ended.

        Raises:
            LimitReachedError: The owner has none left.
        """
        while True:
            now = self._clock()
            slot = f"{now + self._seconds:.3f}#{uuid.uuid4().hex}"
            try:
                self._table.update(
                    self._key(owner),
                    add={"slots": {slot}},
                    set={"expires_at": int(now + self._seconds) + 60},
                    when=[{"slots": ABSENT}, {"slots": FewerThan(self._most)}],
                )
                return slot
            except ConditionFailedError as full:
                held: set[str] = (full.rows[0] or {}).get("slots", set())
            ended = {one for one in held if _end(one) <= now}
            if held and not ended:
                wait = math.ceil(min(map(_end, held)) - now)
                raise _reached(self._most, self._kind, self._seconds, wait)
            # A slot has a name of its own, so one that others have acquired meanwhile stays.
            self._table.update(self._key(owner), discard={"slots": ended})

    def release(self, owner: str, slot: str) -> None:
        """Release a slot; nothing where it has ended already."""
        self._table.update(self._key(owner), discard={"slots": {slot}})

    @contextmanager
    def held(self, owner: str) -> Iterator[None]:
        """Have a slot for the length of a block.

        Raises:
            LimitReachedError: The owner has none left.
        """
        slot = self.acquire(owner)
        try:
            yield
        finally:
            self.release(owner, slot)

    def _key(self, owner: str) -> Key:
        pk = f"slots#{self._kind}#{owner}"
        return pk if self._sort is None else (pk, self._sort)


class Rate:
    """How often each owner may do something within a window of time.

    ::

        starts = Rate(table, "starts", most=1200, seconds=60)
        starts.count("asha")          # one write; a LimitReachedError after 1,200 in a minute
        starts.take_back("asha")      # it was none after all

    A window begins at a multiple of its length, so that it takes one write and no read, however
    many come at once. Within any time of that length there are twice as many at the most.

    Args:
        table: The table that keeps them, one row an owner and window.
        kind: What is counted, in the plural: part of the key, and of the message.
        most: How often an owner may in a window.
        seconds: How long a window is.
        clock: The time, in seconds since 1970.
    """

    def __init__(
        self,
        table: Table,
        kind: str,
        *,
        most: int,
        seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._kind = kind
        self._most = most
        self._seconds = seconds
        self._clock = clock

    def count(self, owner: str) -> None:
        """Count one.

        Raises:
            LimitReachedError: There were as many in this window as there may be.
        """
        now = self._clock()
        window = int(now // self._seconds)
        try:
            self._table.update(
                self._key(owner, window),
                add={"count": 1},
                set={"expires_at": (window + 1) * self._seconds + 60},
                when=[{"count": ABSENT}, {"count": LessThan(self._most)}],
            )
        except ConditionFailedError:
            wait = math.ceil((window + 1) * self._seconds - now)
            raise _reached(self._most, self._kind, self._seconds, wait) from None

    def take_back(self, owner: str) -> None:
        """Take back what was counted just now: it was none."""
        window = int(self._clock() // self._seconds)
        with suppress(ConditionFailedError):  # a window has ended since, and with it the count
            key = self._key(owner, window)
            self._table.update(key, add={"count": -1}, when={"count": PRESENT})

    def _key(self, owner: str, window: int) -> Key:
        return f"slots#{self._kind}#{owner}", f"window#{window}"


def _reached(most: int, kind: str, seconds: float, wait: int) -> LimitReachedError:
    return LimitReachedError(
        "limit-reached",
        f"an owner may have {most} {kind} within {seconds:g} seconds",
        retry_after=max(1, min(wait, MAX_RETRY_AFTER)),
    )


def _end(slot: str) -> float:
    return float(slot.partition("#")[0])
