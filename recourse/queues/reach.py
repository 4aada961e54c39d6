"""How long queues have been out of reach, so that a deploy may keep them so and nothing else may.

Which queues there are follows from the code, and a deploy changes code, queues and rights one after
the other: one that the code names may not be there yet, and the right to one that it still names
may be gone already. So whoever goes through queues passes such a one over, for an hour at the most.

Since when is in a row for each of these queues, and not in the process: of those that Lambda has,
none need be an hour old, and several may take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from recourse.declare.step import AtLeast
from recourse.store.contention import ConditionFailedError
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DEPLOY_TIME = 3600
"""Seconds for which a queue may be out of reach before that is an error."""
AT_A_STRETCH = 1800
"""Seconds between two failures that belong together: twice as many as between two looks."""
KEPT = 24 * 3600
"""Seconds after the last failure for which its row is kept."""
_CODES = frozenset(
    {
        *("AccessDenied", "AccessDeniedException"),
        *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
    }
)

Done = TypeVar("Done")


def is_out_of_reach(problem: ClientError) -> bool:
    """Whether a call of SQS failed because the queue is not there, or the right to it is not."""
    return problem.response["Error"]["Code"] in _CODES


class Reach:
    """Passes over queues that are out of reach for no longer than a deploy takes.

    ::

        reach = Reach(dynamodb, "ledger", log=lambda queue, since: print(queue, since))
        reach.within("parked", queue.waiting, time.time())  # 3, or None while it is passed over

    Args:
        dynamodb: A DynamoDB client.
        table: The table that has the rows; its TTL attribute is `expires_at`.
        log: Called with a queue's name, and since when, once for each time that it is out of reach.
    """

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, log: Callable[[str, datetime], None]
    ) -> None:
        self._table = Table(dynamodb, table)
        self._log = log

    def within(self, queue: str, work: Callable[[], Done], now: float) -> Done | None:
        """What work on a queue answers; None while a deploy may keep us from it.

        Args:
            queue: The queue's name.
            work: What to do.
            now: Seconds of the epoch.

        Raises:
            ClientError: It is out of reach for longer than `DEPLOY_TIME`, or the work failed.
        """
        try:
            return work()
        except ClientError as problem:
            if is_out_of_reach(problem) and now - self._since(queue, int(now)) <= DEPLOY_TIME:
                return None
            raise

    def _since(self, queue: str, now: int) -> int:
        """Since when it has been out of reach, which it is now."""
        key = f"unreached#{queue}"
        seen = {"last": now, "expires_at": now + KEPT}
        try:
            # What lies further back was another deploy.
            row = self._table.update(key, set=seen, when={"last": AtLeast(now - AT_A_STRETCH)})
        except ConditionFailedError:
            row = self._table.update(key, set={"since": now, **seen})
            self._log(queue, datetime.fromtimestamp(now, UTC))
        return int(row["since"])
