"""What is raised where others are in the way, and how long one tries again.

Exception
├── ConflictError             nothing of it has happened: read and decide again
│   └── ConditionFailedError  what had to hold of a row does not
├── InvalidItemError          DynamoDB will take it at no time
└── TransientError
└── ContentionError       others have been in the way for as long as it was tried
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

TRIES = 20
"""How often something is tried that others are in the way of."""
FIRST_PAUSE = 0.02
"""Seconds that the first pause between two tries takes at the most; each may be twice as long."""
LONGEST_PAUSE = 1.0


class ConflictError(RecourseError):
    """Others were in the way, and nothing of it has happened: read and decide again."""


class ConditionFailedError(ConflictError):
    """What had to hold of a row does not.

    Attributes:
        rows: By the position of each request whose condition failed, the row as it is; None where
            there is none.
    """

    def __init__(self, rows: Mapping[int, Item | None]) -> None:
        super().__init__("a row has changed since it was read")
        self.rows = rows


class InvalidItemError(RecourseError):
    """DynamoDB will take a row at no time: it is too large, or not what the change is made for."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long one tries again, exponentially and with full jitter.

        for number in Backoff(tries=3):
            if (answer := ask()) is not None:
                return answer
        raise ContentionError(f"no answer, {number} times in a row")

    Attributes:
        tries: How often at the most; None where only time ends it.
        until: When it ends, by the clock: no pause goes beyond it.
        longest: Seconds that a pause takes at the most.
        sleep: Waits so many seconds.
        clock: Seconds of the epoch.
    """

    tries: int | None = TRIES
    until: float = inf
    longest: float = LONGEST_PAUSE
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)
    clock: Callable[[], float] = time.time

    def __iter__(self) -> Iterator[int]:
        """The number of each try, from 1; it waits before each but the first."""
        pause = FIRST_PAUSE
        for number in count(1):
            yield number
            if number == self.tries or self.clock() + pause > self.until:
                return
            self.sleep(random.uniform(0, pause))
            pause = min(pause * 2, self.longest)
