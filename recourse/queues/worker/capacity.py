"""How many more messages may be received: as many as handlers are free; and the counts."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition, Event
from typing import Literal

from recourse.queues.worker.delivery import BATCH

LINGER = 0.01
"""Seconds for which a receive waits for more handlers to be free."""
MAX_UNDELETED = 100
"""How many messages may wait to be deleted before no more are received."""
Outcome = Literal["done", "failed", "dead_lettered", "given_back", "expired"]
"""How a message may have ended here."""


@dataclass
class Counts:
    """What a worker has done.

    Attributes:
        received: Messages received.
        done: Messages for which the handler returned.
        failed: Messages for which the handler raised, to be redelivered.
        dead_lettered: Messages sent to the dead-letter queue, with the reason.
        given_back: Messages that no handler had begun, made visible again at once.
        expired: Messages whose visibility timeout was no longer extended: the handler took too
            long, or they waited too long.
        deleted: Messages deleted.
    """

    received: int = 0
    done: int = 0
    failed: int = 0
    dead_lettered: int = 0
    given_back: int = 0
    expired: int = 0
    deleted: int = 0

    def add(self, outcome: Outcome, messages: int = 1) -> None:
        """Count what became of messages."""
        setattr(self, outcome, getattr(self, outcome) + messages)

    @property
    def log_fields(self) -> dict[str, int]:
        """The counts by the names that they have in the log: parsers of it rely on them."""
        return {
            "received": self.received,
            "done": self.done,
            "failed": self.failed,
            "set_aside": self.dead_lettered,
            "given_back": self.given_back,
            "left": self.expired,
            "deleted": self.deleted,
        }


class Capacity:
    """The places of messages in flight, and the outcomes of those that had one.

    Places in use and places requested are together never more than there are handlers: whatever a
    receive may return has its place before SQS is called. A message keeps its place until its
    outcome is counted; one whose handler hangs keeps it until that returns, if ever, since Python
    cannot end a thread.

    Args:
        max_in_flight: How many places there are.
        stopping: Set when no more messages are to be received.

    Attributes:
        counts: The outcomes so far.
    """

    def __init__(self, max_in_flight: int, stopping: Event) -> None:
        self.counts = Counts()
        self._max = max_in_flight
        self._stopping = stopping
        self._changed = Condition()
        self._in_use = 0
        self._requested = 0
        self._hung = 0
        self._undeleted = 0
        self._is_flowing = False

    def reserve(self, *, even_idle: bool) -> int:
        """Wait until handlers are free, and reserve their places: how many; 0 when stopping.

        Args:
            even_idle: Whether to poll although the last receive was empty. One receiver does: more
                of them would receive a new message no sooner.
        """

        def may() -> bool:
            return self._stopping.is_set() or (self._free() > 0 and (even_idle or self._is_flowing))

        def is_full_batch() -> bool:
            return self._stopping.is_set() or self._free() >= min(BATCH, self._max)

        with self._changed:
            room = 0
            # While this receiver lingers, another may reserve what was free.
            while not room:
                self._changed.wait_for(may)
                # Where handlers are busy, more will be free in a moment: one receive for them all.
                if self._in_use:
                    self._changed.wait_for(is_full_batch, timeout=LINGER)
                if self._stopping.is_set():
                    return 0
                room = min(BATCH, self._free())
            self._requested += room
        return room

    def admit(self, reserved: int, received: int) -> None:
        """Give places to what was received, and free what was reserved beyond it."""
        with self._changed:
            self._requested -= reserved
            self._in_use += received
            self._is_flowing = received > 0
            self.counts.received += received
            self._changed.notify_all()

    def release(self, outcome: Outcome, places: int = 1) -> None:
        """Free the places of messages, and count their outcome."""
        with self._changed:
            self._in_use -= places
            self.counts.add(outcome, places)
            self._changed.notify_all()

    def hang(self) -> None:
        """Count a message as expired whose handler still runs, and keeps its place."""
        with self._changed:
            self._hung += 1
            self.counts.expired += 1
            self._changed.notify_all()

    def release_hung(self, outcome: Outcome | None) -> None:
        """Free the place of a handler that counted as hanging, and has ended after all.

        Where it ends at the very moment of its expiry, this may be called before `hang`. In between
        the count of hanging handlers is one too low, so the worker never seems idle or stuck before
        it is.
        """
        with self._changed:
            self._in_use -= 1
            self._hung -= 1
            if outcome:
                self.counts.add(outcome)
            self._changed.notify_all()

    def await_delete(self) -> None:
        """Count a message that waits to be deleted."""
        with self._changed:
            self._undeleted += 1

    def settle_deletes(self, messages: int, *, deleted: int) -> None:
        """Count messages that no longer wait to be deleted, and how many of them were."""
        with self._changed:
            self._undeleted -= messages
            self.counts.deleted += deleted
            self._changed.notify_all()

    def close(self) -> None:
        """Wake receivers that wait for a place, for the worker stops."""
        with self._changed:
            self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> None:
        """Wait until no receive is under way and no handler runs, except those that hang."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._requested and self._in_use == self._hung, timeout=timeout
            )

    @property
    def in_use(self) -> int:
        """How many messages wait for their turn or are being handled, hanging handlers included."""
        with self._changed:
            return self._in_use

    @property
    def is_stuck(self) -> bool:
        """Whether every handler hangs."""
        with self._changed:
            return self._hung >= self._max

    @property
    def log_fields(self) -> dict[str, int]:
        """The counts, and how many places are in use now, for the log."""
        with self._changed:
            return self.counts.log_fields | {"in_flight": self._in_use}

    def _free(self) -> int:
        if self._in_use + self._undeleted >= self._max + MAX_UNDELETED:
            return 0
        return max(0, self._max - self._in_use - self._requested)
