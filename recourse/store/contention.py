"""The errors of conflicting writes, and how long they are retried.

::

    RecourseError
        ConflictError             a concurrent write conflicted, nothing was written: read again
            ConditionFailedError  a condition on a row did not hold
        InvalidItemError          DynamoDB can never accept the row
        TransientError
            ContentionError       conflicts lasted for as long as it was retried
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from math import inf

from recourse.declare.step import Item
from recourse.errors import RecourseError

MAX_TRIES = 20
"""How often a conflicting write is tried."""
INITIAL_PAUSE = 0.02
"""Seconds, at the most, before the second try; the bound doubles with each further one."""
MAX_PAUSE = 1.0
"""Seconds to which that bound grows."""


class ConflictError(RecourseError):
    """A concurrent write conflicted, and nothing was written: read and decide again."""


class ConditionFailedError(ConflictError):
    """A condition on a row did not hold, and nothing was written.

    Attributes:
        rows: The row as it is, by the position of each request whose condition failed; None where
            the row does not exist.
    """

    def __init__(self, rows: Mapping[int, Item | None]) -> None:
        super().__init__("a row has changed since it was read")
        self.rows = rows


class InvalidItemError(RecourseError):
    """DynamoDB can never accept the row: too large, or of the wrong type for its update."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long something is retried: exponential back-off with full jitter.

    For instance::

        for number in Backoff(tries=3):
            if (answer := ask()) is not None:
                return answer
        raise ContentionError(f"no answer, {number} times in a row")

    Attributes:
        tries: How often at the most; None where only `until` ends it.
        until: When it ends, by `clock`: no pause goes beyond it.
        max_pause: Seconds that a pause takes at the most.
        sleep: Waits so many seconds.
        clock: The time, in seconds since 1970.
    """

    tries: int | None = MAX_TRIES
    until: float = inf
    max_pause: float = MAX_PAUSE
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)
    clock: Callable[[], float] = time.time

    def __iter__(self) -> Iterator[int]:
        """The number of each try, from 1; it waits before each but the first."""
        pause = INITIAL_PAUSE
        for number in count(1):
            yield number
            if number == self.tries or self.clock() + pause > self.until:
                return
            self.sleep(random.uniform(0, pause))
            pause = min(pause * 2, self.max_pause)
