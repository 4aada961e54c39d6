"""What the rows of the table of webhooks have in common: their table, their time, their keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recourse import events
from recourse.store import retention
from recourse.store.table import Table

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Rows:
    """The table, and the clock by which its rows are written.

    Attributes:
        table: The table.
        clock: The time, in seconds of the epoch.
    """

    table: Table
    clock: Clock

    def update(self, pk: str, **change: Any) -> None:
        """Change one row in a transaction: it is retried while another transaction holds the row.

        Args:
            pk: The row's key.
            change: What `Table.update_request` accepts.
        """
        self.table.transact([self.table.update_request(pk, **change)])

    def now(self) -> str:
        """The current time, as every surface shows it."""
        return moment(self.clock())

    def expiry(self) -> int:
        """When the log, an idle lane or a deleted webhook expires, in seconds of the epoch."""
        return int(self.clock()) + retention.for_a_time("webhooks")


def moment(seconds: float) -> str:
    """A time in seconds of the epoch, as every surface shows it."""
    return events.moment(datetime.fromtimestamp(seconds, UTC))


def webhook_pk(webhook_id: str) -> str:
    """The key of a webhook's row."""
    return f"webhook#{webhook_id}"
