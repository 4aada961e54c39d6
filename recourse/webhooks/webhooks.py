"""The table of webhooks, as one object.

One key, `pk`, as in every table:

| row | key |
|---|---|
| webhook (`registrations`): its secrets, its position in the feed, its slots | `webhook#<id>` |
| which webhooks an owner has (`registrations`) | `owner#<owner>` |
| lane (`lanes`): what is still to be delivered, in order | `lane#<webhook id>#<lane>`; expires |
| log (`attempts`): one row an attempt | `log#<webhook id>#<time>#<suffix>`; expires |
| replay of a range (`replays`): how far it is | `replay#<webhook id>#<replay id>`; expires |

A lane is named for its saga's id; of a replay, with `#<replay id>` after it; of a test event,
`test#<id>`. Every decision is a condition on these rows. Only the log is in the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from recourse.store.contention import Backoff
from recourse.store.table import Table
from recourse.webhooks.attempts import AttemptLog
from recourse.webhooks.lanes import Lanes
from recourse.webhooks.leases import Leases
from recourse.webhooks.registrations import Registrations
from recourse.webhooks.replays import Replays
from recourse.webhooks.rows import Clock, Rows

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class Webhooks:
    """Everything that is kept of webhooks.

    Usage::

        webhooks = Webhooks(dynamodb, "webhooks")
        made = webhooks.registrations.register("asha", "https://…", ["recourse.*"], feed_head)
        webhooks.lanes.append(made, "saga-1", {"position": 1, "id": "e1", "type": "recourse.…"})

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        clock: The time, in seconds of the epoch.
        sleep: Waits so many seconds.

    Attributes:
        clock: The same.
        registrations: Which webhooks there are.
        lanes: What is still to be delivered.
        leases: Which delivery holds which lane.
        log: What was attempted.
        replays: Which ranges are to be delivered again.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        clock: Clock = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        rows = Rows(Table(dynamodb, table, backoff=Backoff(sleep=sleep)), clock)
        self.clock = clock
        self.registrations = Registrations(rows)
        self.lanes = Lanes(rows, self.registrations)
        self.log = AttemptLog(rows)
        self.leases = Leases(self.lanes, self.log)
        self.replays = Replays(rows)
