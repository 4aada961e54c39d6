"""Replays of a range of a feed: which events are to be delivered again, and how far that is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from recourse.webhooks.registrations import Webhook
from recourse.webhooks.rows import Rows


@dataclass(frozen=True, slots=True)
class Replays:
    """The replays of all webhooks.

    Args:
        rows: The table.
    """

    rows: Rows

    def plan(self, webhook: Webhook, *, since: str, until: str, after: int, upto: int) -> str:
        """Record a replay that is to be done, and return its id.

        Args:
            webhook: The webhook.
            since: Events from this time on.
            until: Up to this time.
            after: The position in the feed after which they come.
            upto: The position up to which they come.
        """
        replay_id = uuid.uuid4().hex
        row = {
            "pk": _pk(webhook.webhook_id, replay_id),
            "since": since,
            "until": until,
            "after": after,
            "upto": upto,
            "expires_at": self.rows.expiry(),
        }
        self.rows.table.transact([self.rows.table.put_request(row)])
        return replay_id

    def get(self, webhook_id: str, replay_id: str) -> dict[str, Any]:
        """A replay as it was planned, `after` being the position up to which it has come."""
        return self.rows.table.get(_pk(webhook_id, replay_id)) or {}

    def advance(self, webhook_id: str, replay_id: str, after: int) -> None:
        """Record the position up to which a replay has come."""
        self.rows.update(
            _pk(webhook_id, replay_id), set={"after": after, "expires_at": self.rows.expiry()}
        )


def _pk(webhook_id: str, replay_id: str) -> str:
    return f"replay#{webhook_id}#{replay_id}"
