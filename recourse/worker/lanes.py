"""Which message may begin: every one at once, or where the queue is FIFO, one of each group."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event, Lock

from recourse.worker.delivery import Delivery


class Lanes:
    """What may begin now, and for each group of a FIFO queue what waits behind the first of it.

    A lane is there from when the first of its group enters until the last one is done, or one comes
    again: then those behind it come again too, or they would overtake it. Whoever has taken a
    message from here by `next`, or its lease by expiry, calls `advance` or `close` for it, once.

    Args:
        stopping: Set when nothing is to begin any more.
    """

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping
        self._lock = Lock()
        self._ready: SimpleQueue[Delivery | None] = SimpleQueue()
        self._behind: dict[str, deque[Delivery]] = {}

    def enter(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Put each message at the end of its lane; those for which it is too late."""
        with self._lock:
            # Set before `drain` takes the lock: what has entered before is drained, and after that
            # nothing enters. So nothing is left waiting behind a handler that takes its time.
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
        """Wait for a message that may begin; None where there will be no more."""
        return self._ready.get()

    def advance(self, lane: str | None) -> None:
        """Let the next of a lane begin: the one before is done."""
        if lane is None:
            return
        with self._lock:
            if behind := self._behind.get(lane):
                self._ready.put(behind.popleft())
            else:
                self._behind.pop(lane, None)

    def close(self, lane: str | None) -> Sequence[Delivery]:
        """End a lane of which a message comes again; what waited in it, to be given back."""
        if lane is None:
            return ()
        with self._lock:
            return self._behind.pop(lane, ())

    def drain(self) -> Sequence[Delivery]:
        """End every lane; what waited in them, to be given back."""
        with self._lock:
            waiting = [one for behind in self._behind.values() for one in behind]
            self._behind.clear()
        return waiting

    def end(self, handlers: int) -> None:
        """Let so many handlers see that there will be no more."""
        for _ in range(handlers):
            self._ready.put(None)
