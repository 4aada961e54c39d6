"""The probe: commits one row for each event that reaches it, so that channels can be measured.

Its functions are deployed only with the CDK context `probe=on`; the consumers of `bench/push_pull`
commit in the same way, by this module. An event's `data` names the run that it belongs to, and may
contain a fault for its consumer.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from recourse.events import Event, expiry
from recourse.functions import settings
from recourse.queues.consumer import Consumer, Subscriber
from recourse.queues.sources import log_fields
from recourse.store.expressions import Append, IfAbsent
from recourse.store.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from types_boto3_dynamodb import DynamoDBClient

MAY = {"table": ["dynamodb:UpdateItem"]}
# Each receives only its own path's events, which name the path as their step.
PUSHED = Subscriber("ProbePush", hears={"saga": ["probe"], "step": ["sns-lambda"]}, may=MAY)
PULLED = Consumer("ProbePull", hears={"saga": ["probe"], "step": ["sqs-lambda"]}, may=MAY)
WORKED = Consumer("ProbeWorker", hears={"saga": ["probe"], "step": ["worker"]}, may=MAY)
MOST_DONE = 10
"""The most earlier commits that a row reports."""


class ProbeError(Exception):
    """A failure that the event asked for."""


class Effects:
    """The probe's table: one row for each event, however often it is delivered.

    A row records when its commit began. When the commit was done, its process reports with a later
    row, so that measuring needs no second write.

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        die: Ends the process at once.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    ) -> None:
        self._table = Table(dynamodb, table)
        self._die = die
        self._done: deque[tuple[str, int]] = deque()

    def commit(self, event: Event, call: str = "") -> int:
        """Commit an event's effect, or fail by its fault; returns the number of its deliveries.

        Args:
            event: The event.
            call: The id of the invocation or batch.

        Raises:
            ProbeError: The event asked for a failure.
        """
        data = event.data
        key = row_key(data["run"], data["number"])
        fault = data.get("fault")
        dies_after = fault is not None and self._suffer(key, fault)
        row = self._table.update(
            key,
            set={
                "began": IfAbsent(time.time_ns()),
                "brought_by": call,
                "peak": _peak(),
                "expires_at": expiry(),
                "done": Append([{"key": key, "at": at} for key, at in self._take_done()]),
            },
            add={"deliveries": 1},
        )
        if row["deliveries"] == 1:
            self._done.append((key, time.time_ns()))
        if dies_after:
            self._die()
        return int(row["deliveries"])

    def _take_done(self) -> Iterator[tuple[str, int]]:
        """The commits that are not reported yet, a few at a time; each thread gets others."""
        with suppress(IndexError):
            for _ in range(MOST_DONE):
                yield self._done.popleft()

    def _suffer(self, key: str, fault: Mapping[str, Any]) -> bool:
        """Fail or die as the fault says; returns whether to die after the commit."""
        if fault["kind"] == "down":
            if time.time_ns() < fault["until"]:
                raise ProbeError("down, as asked")
            return False
        tries = self._table.update(key, add={"tries": 1})["tries"]
        if fault["kind"] == "error" and tries <= fault["tries"]:
            raise ProbeError(f"failed at try {tries}, as asked")
        if fault["kind"] == "die" and tries == 1:
            if fault["when"] == "after":
                return True
            self._die()
        return False


def _peak() -> int:
    """The process's peak memory in KB; that of `getrusage` would be its parent's."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def row_key(run: str, number: int) -> str:
    """The key of an event's row."""
    return f"{run}#{number}"


@cache
def effects() -> Effects:
    """The table that this function commits to."""
    from recourse.functions import kit

    return Effects(kit.dynamodb(), settings.required("PROBE_TABLE"))


@cache
def logger() -> Logger:
    """The logger of these functions."""
    from aws_lambda_powertools import Logger

    return Logger()


def pushed(event: dict[str, Any], context: Any) -> None:
    """Commit the events that SNS pushes; an error makes Lambda retry."""
    for record in event["Records"]:
        effects().commit(Event.parse(record["Sns"]["Message"]), context.aws_request_id)


def pulled(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Commit a batch of a queue's messages, and report which must be retried."""
    again = []
    for record in event["Records"]:
        try:
            effects().commit(Event.parse(record["body"]), context.aws_request_id)
        except Exception:
            logger().exception("not committed", extra=log_fields(record))
            again.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": one} for one in again]}
