"""Which message may begin: every one at once, or where the queue is FIFO, one of each group."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event, Lock

from recourse.queues.worker.delivery import Delivery


class Lanes:
    """The messages that may begin now, and for each group of a FIFO queue those that wait.

    A lane exists from when the first message of a group enters until the last one is done, or until
    one is to be redelivered: then those behind it are given back too, or they would overtake it.
    The thread that got a message from `next`, or ended its lease by expiry, calls `advance` or
    `close` for it, exactly once.

    Args:
        stopping: Set when no message may begin any more.
    """

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping
        self._lock = Lock()
        self._ready: SimpleQueue[Delivery | None] = SimpleQueue()
        self._behind: dict[str, deque[Delivery]] = {}

    def enter(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Put each message at the end of its lane; returns all of them if the worker stops."""
        with self._lock:
            # The worker sets it before it calls `drain`, which takes this lock too. So whatever
            # entered before is drained, and afterwards nothing enters: no message is left waiting
            # behind a slow handler while the worker ends.
            if self._stopping.is_set():
                return deliveries
            for one in deliveries:
                if one.lane is None:
                    self._ready.put(one)
                elif one.lane in self._behind:
                    self._behind[one.lane].append(one)
                else:
                    self._behind[one.lane] = deque()
                    self._ready.put(one)
        return ()

    def next(self) -> Delivery | None:
        """Wait for a message that may begin; None when there will be no more."""
        return self._ready.get()

    def advance(self, lane: str | None) -> None:
        """Let the next message of a lane begin: the one before is done."""
        if lane is None:
            return
        with self._lock:
            if behind := self._behind.get(lane):
                # The lane stays open: what enters meanwhile waits for this one.
                self._ready.put(behind.popleft())
            else:
                self._behind.pop(lane, None)

    def close(self, lane: str | None) -> Sequence[Delivery]:
        """End a lane of which a message is to be redelivered; returns what waited in it."""
        if lane is None:
            return ()
        with self._lock:
            return self._behind.pop(lane, ())

    def drain(self) -> Sequence[Delivery]:
        """End every lane; returns what waited in them."""
        with self._lock:
            waiting = [one for behind in self._behind.values() for one in behind]
            self._behind.clear()
        return waiting

    def end(self, handlers: int) -> None:
        """Tell so many handlers that there will be no more messages."""
        for _ in range(handlers):
            self._ready.put(None)
