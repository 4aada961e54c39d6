"""Lanes: what is still to be delivered to a webhook, saga by saga, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recourse.declare.step import AtLeast
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, LessThan, Not
from recourse.webhooks.errors import BacklogFullError
from recourse.webhooks.registrations import Registrations, Webhook
from recourse.webhooks.rows import Rows, webhook_pk

MAX_BUSY_LANES = 1000
"""Lanes of a webhook that have something in them at the same time; the rest stays in the feed."""
TEST = "test#"
"""What the name of a lane of a test event begins with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """What is still to be delivered to a webhook, of one saga, in order.

    Its fields are the attributes of its row.

    Attributes:
        webhook_id: The webhook.
        lane: The lane's name.
        entries: What waits: each with the `id` and the `type` of its event and its `position` in
            the feed, which is the lane's order; `event` is the event as JSON where the feed does
            not have it.
        last: The greatest position that was ever appended.
        attempts: How often delivery of the first entry was attempted.
        first: When that was attempted first, in milliseconds.
        next: When it is to be attempted next, in milliseconds.
        version: The number of changes of its entries.
        taken_until: When the lease of the delivery that holds it ends, in milliseconds.
        taken_by: The id of that lease.
    """

    webhook_id: str
    lane: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    last: int = 0
    attempts: int = 0
    first: int = 0
    next: int = 0
    version: int = 0
    taken_until: int = 0
    taken_by: str = ""

    @property
    def pk(self) -> str:
        """Its row's key."""
        return _pk(self.webhook_id, self.lane)

    @property
    def is_test(self) -> bool:
        """Whether it is of a test event, which is sent once, and also to a disabled webhook."""
        return self.lane.startswith(TEST)

    @property
    def subject(self) -> str | None:
        """The saga whose events it has, or the webhook itself; None for a test event."""
        return None if self.is_test else self.lane.partition("#")[0]

    @property
    def replay_id(self) -> str | None:
        """The replay that it belongs to, if any."""
        return None if self.is_test else self.lane.partition("#")[2] or None


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of all webhooks; what is delivered from one is under a lease (`leases`).

    Args:
        rows: The table.
        registrations: The registered webhooks.
    """

    rows: Rows
    registrations: Registrations

    def get(self, webhook_id: str, lane: str) -> Lane:
        """A lane; an empty one where it does not exist."""
        known = self.rows.table.get(_pk(webhook_id, lane)) or {}
        fields = {name: known[name] for name in Lane.__slots__ if name in known}
        return Lane(webhook_id=webhook_id, lane=lane, **fields)

    def append(self, webhook: Webhook, lane: str, entry: Mapping[str, Any]) -> bool:
        """Append an entry to a lane, once.

        Args:
            webhook: The webhook.
            lane: The lane's name.
            entry: Its position is greater than those of all entries that were appended before.

        Returns:
            Whether a message has to be sent for the lane. A lane that had entries has one already.

        Raises:
            BacklogFullError: The lane was empty, and `MAX_BUSY_LANES` others were not.
            UnknownWebhookError: The webhook was deleted meanwhile.
        """

        def attempt() -> bool:
            now = self.get(webhook.webhook_id, lane)
            if entry["position"] <= now.last:
                # A caller that appended it may have died before it sent the message.
                return bool(now.entries)
            table = self.rows.table
            writes = [
                table.update_request(
                    now.pk,
                    set={
                        "entries": [*now.entries, dict(entry)],
                        "last": entry["position"],
                        "version": now.version + 1,
                        "expires_at": self.rows.expiry(),
                    },
                    when=[{"version": ABSENT}, {"version": now.version}],
                )
            ]
            if not now.entries:
                writes.append(
                    table.update_request(
                        webhook_pk(webhook.webhook_id),
                        add={"busy": 1},
                        when={"status": Not("DELETED"), "busy": LessThan(MAX_BUSY_LANES)},
                    )
                )
            try:
                table.transact(writes)
            except ConditionFailedError as failed:
                # 1 is the webhook's row: full, deleted, or changed since. The last is retried.
                is_full = 1 in failed.rows and (
                    self.registrations.get(webhook.webhook_id).busy >= MAX_BUSY_LANES
                )
                if is_full:
                    raise BacklogFullError(webhook.webhook_id) from None
                raise
            return not now.entries

        return self.rows.table.retry(attempt, what=f"lane {lane}")

    def advance(self, webhook: Webhook, to: int, *, held: bool = False) -> bool:
        """Record up to where a webhook's feed was sorted into lanes.

        Args:
            webhook: As it was read.
            to: The position in the feed.
            held: Whether there was no room for the next event. If there is room meanwhile, nothing
                is recorded and the caller has to continue, because there may be no lane left that
                becomes empty and sends a wake-up.

        Returns:
            Whether it was recorded; not where another caller has moved the position.
        """
        room_is_lacking = {"busy": AtLeast(MAX_BUSY_LANES)} if held else {}
        try:
            self.rows.update(
                webhook_pk(webhook.webhook_id),
                set={"dispatched": to, "held": held},
                when={"dispatched": webhook.dispatched} | room_is_lacking,
            )
        except ConditionFailedError:
            return False
        return True


def _pk(webhook_id: str, lane: str) -> str:
    return f"lane#{webhook_id}#{lane}"
