"""Open-loop load: every event has a moment at which it is meant to be sent, whatever comes of it.

What is late is sent as soon as it can be, and its latency still counts from the moment that was
meant. So a path that stops for a second shows a second of latency for all that was due meanwhile,
and not one slow event.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

MOST_AT_ONCE = 10
"""So many events that are due are appended together at the most."""


@dataclass(frozen=True)
class Due:
    """One event that is to be sent.

    Attributes:
        number: Tells it from the others of its run.
        lane: To whom it is sent: lanes are sent independently of each other.
        at: When it is meant to be sent: nanoseconds of the epoch.
    """

    number: int
    lane: int
    at: int


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of independent arrivals: how many seconds after the start each one is.

    There are exactly `rate * seconds` of them, so that runs can be compared: that many moments
    which know nothing of each other are what a Poisson process is, given their number.
    """
    chance = random.Random(seed)
    return sorted(chance.uniform(0, seconds) for _ in range(max(1, round(rate * seconds))))


def send(
    moments: Sequence[float],
    lanes: int,
    append: Callable[[int, list[Due]], None],
    *,
    begin: int | None = None,
) -> list[Due]:
    """Send events at their moments, each lane in its own thread, in order.

    Args:
        moments: Seconds after the start.
        lanes: How many lanes there are; events take them in turn.
        append: Sends what is due in a lane; is given no more than `MOST_AT_ONCE`.
        begin: The start, in nanoseconds of the epoch; in a moment where it is None.

    Returns:
        Every event, with the moment at which it was meant to be sent.

    Raises:
        Exception: What `append` raises; the lane stops there.
    """
    start = begin or time.time_ns() + 20_000_000
    due = [
        Due(number, number % lanes, start + int(after * 1e9))
        for number, after in enumerate(moments)
    ]
    stop = threading.Event()

    def work(lane: int) -> None:
        waiting = [one for one in due if one.lane == lane]
        while waiting and not stop.is_set():
            stop.wait(max(0.0, (waiting[0].at - time.time_ns()) / 1e9))
            now = time.time_ns()
            ready = [one for one in waiting[:MOST_AT_ONCE] if one.at <= now]
            if ready:
                append(lane, ready)
                del waiting[: len(ready)]

    with ThreadPoolExecutor(lanes) as pool:
        running = [pool.submit(work, lane) for lane in range(lanes)]
        try:
            for one in running:
                one.result()
        finally:
            stop.set()
    return due
