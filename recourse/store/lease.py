"""A lease: held by one process at a time, and free again some seconds after its holder dies."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, AtMost, When
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class Lease:
    """A lease in a row of a table, which also keeps the position of the work done under it.

    For instance::

        lease = Lease(dynamodb, "ledger", "lease#sweeper", seconds=60, clock=time.time)
        if lease.acquire():
            for page in pages(after=lease.position):
                if not lease.renew():
                    return  # this process was too slow, and another has it
                lease.position = work(page)
            lease.position = None
            lease.release()

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        key: The row's key.
        seconds: How long it lasts from when it was acquired or renewed.
        clock: The time, in seconds since 1970. Clocks of holders may differ by much less than
            `seconds`: it is compared with the end that another holder wrote.

    Attributes:
        position: How far the work has come; None at its beginning. `renew` and `release` write it.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        key: str,
        *,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._table = Table(dynamodb, table)
        self._key = key
        self._seconds = seconds
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._ends = 0.0
        self.position: str | None = None

    def acquire(self) -> bool:
        """Acquire it, and read the last holder's position; False where another process holds it."""
        # An end of 0, as `release` writes it, is in the past; the row stays for its position.
        now = round(self._clock() * 1000)
        row = self._write([ABSENT, {"ends": AtMost(now)}], self._lasting)
        if row is None:
            return False
        self.position = row.get("position")
        return True

    def renew(self) -> bool:
        """Renew it, once half of its time is over; False where another process has acquired it."""
        if self._clock() < self._ends - self._seconds / 2:
            return True
        return self._keep(self._lasting)

    def release(self) -> None:
        """Release it; where another process has acquired it meanwhile, that one keeps it."""
        self._keep(0)

    @property
    def _lasting(self) -> float:
        return self._clock() + self._seconds

    def _keep(self, ends: float) -> bool:
        # On the condition that this process is the holder still: after its end another may be.
        return self._write({"holder": self._holder}, ends, position=self.position) is not None

    def _write(self, when: When, ends: float, **kept: str | None) -> dict[str, Any] | None:
        changes = {"holder": self._holder, "ends": round(ends * 1000), **kept}
        try:
            written = self._table.update(self._key, set=changes, when=when)
        except ConditionFailedError:
            return None
        self._ends = ends
        return written
