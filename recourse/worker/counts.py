"""What a worker has done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["done", "failed", "dead_lettered", "given_back", "expired"]
"""How a message may have left the hands of its handler, or never come into them."""


@dataclass
class Counts:
    """What a worker has done.

    Attributes:
        received: Messages received.
        done: Messages that the handler has returned from.
        failed: Messages that the handler has raised for, and that come again.
        dead_lettered: Messages that went to the dead-letter queue, with their reason.
        given_back: Messages that had not begun, and are there again at once.
        expired: Messages whose visibility was not extended any more: the handler took too long, or
            they waited too long.
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
        """The counts by the names that they have in the log, which those who parse it rely on."""
        return {
            "received": self.received,
            "done": self.done,
            "failed": self.failed,
            "set_aside": self.dead_lettered,
            "given_back": self.given_back,
            "left": self.expired,
            "deleted": self.deleted,
        }
