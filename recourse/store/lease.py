"""A lease: one at a time has it, and no longer than it lasts where its holder dies."""

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
    """A lease in a row of a table, which also keeps how far the work under it has come.

    Args:
        dynamodb: A DynamoDB client.
        table: The table.
        key: The row's key.
        seconds: How long it lasts from when it was taken or renewed.
        clock: Seconds of the epoch.

    Attributes:
        position: How far the work has come; None at its beginning.
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

    def take(self) -> bool:
        """Take it, and learn how far the last holder has come; False where another has it."""
        now = round(self._clock() * 1000)
        row = self._write([ABSENT, {"ends": AtMost(now)}], self._lasting)
        if row is None:
            return False
        self.position = row.get("position")
        return True

    def renew(self) -> bool:
        """Keep it, where half of its time is over; False where another has taken it by then."""
        if self._clock() < self._ends - self._seconds / 2:
            return True
        return self._keep(self._lasting)

    def release(self) -> None:
        """Give it back; where another has taken it by now, that one keeps it."""
        self._keep(0)

    @property
    def _lasting(self) -> float:
        return self._clock() + self._seconds

    def _keep(self, ends: float) -> bool:
        return self._write({"holder": self._holder}, ends, position=self.position) is not None

    def _write(self, when: When, ends: float, **kept: str | None) -> dict[str, Any] | None:
        changes = {"holder": self._holder, "ends": round(ends * 1000), **kept}
        try:
            written = self._table.update(self._key, set=changes, when=when)
        except ConditionFailedError:
            return None
        self._ends = ends
        return written
