"""Leases of lanes: one delivery at a time delivers from a lane, and few to one endpoint.

A lane's lease is `taken_until` and `taken_by` in its row. `taken_by` is another with every lease,
so a delivery whose lease has ended and whose lane was acquired by another can no longer write. A
slot has only an end: it limits how many deliveries call an endpoint, and decides nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, IfAbsent, LessThan
from recourse.webhooks.attempts import Attempt, AttemptLog
from recourse.webhooks.errors import LostLaneError
from recourse.webhooks.lanes import Lane, Lanes
from recourse.webhooks.registrations import SLOTS, Webhook
from recourse.webhooks.rows import webhook_pk

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

LEASE = 60
"""Seconds after which the lane and the slot of a delivery that has died are free again."""


@dataclass(slots=True)
class Lease:
    """A lane that one delivery holds, with one of its webhook's slots; `Leases.acquire` makes it.

    Usage::

        lease = webhooks.leases.acquire(webhook, lane)
        if lease is not None:
            lease.remove_first(attempt, keep=True)  # delivered: on to lease.lane.entries[0]
            lease.retry_at(then, attempt, at=now)   # failed: releases the lane

    Attributes:
        webhook: The webhook, as it was read.
        lane: The lane, as it is after the last change by this lease.
        slot: The slot; empty where nothing is sent, since the webhook is disabled.
    """

    webhook: Webhook
    lane: Lane
    slot: str
    _lanes: Lanes
    _log: AttemptLog

    def remove_first(self, attempt: Attempt, *, keep: bool) -> None:
        """Remove the first entry of the lane, which is delivered or given up.

        Args:
            attempt: What is logged.
            keep: Whether to keep the lane and the slot for the next entry, if there is one.

        Raises:
            LostLaneError: Another delivery holds the lane by now.
        """
        read: Lane | None = self.lane

        def remove() -> Lane:
            nonlocal read
            now, read = read or self._current(), None
            rest = now.entries[1:]
            is_kept = keep and bool(rest)
            changes: dict[str, Any] = {
                "entries": rest,
                "version": now.version + 1,
                "attempts": 0,
                "first": 0,
                "next": 0,
                "taken_until": now.taken_until if is_kept else 0,
            }
            # The version is there for entries that were appended during the attempt.
            self._write(
                changes, {"version": now.version}, attempt, keep_slot=is_kept, emptied=not rest
            )
            return replace(now, **changes)

        table = self._lanes.rows.table
        self.lane = table.retry(remove, what=f"lane {self.lane.lane}")

    def retry_at(self, again: float, attempt: Attempt, *, at: float) -> None:
        """Schedule the next attempt at the first entry, and release the lane and the slot.

        Args:
            again: When the next attempt is to be made, in seconds of the epoch.
            attempt: What is logged.
            at: When the failed attempt was made, in seconds of the epoch.

        Raises:
            LostLaneError: Another delivery holds the lane by now.
        """
        changes = {
            "attempts": attempt.attempt,
            "first": self.lane.first or int(at * 1000),
            "next": int(again * 1000),
            "taken_until": 0,
        }
        try:
            self._write(changes, {}, attempt, keep_slot=False, emptied=False)
        except ConditionFailedError:
            raise LostLaneError(self.lane.pk) from None

    def release(self) -> None:
        """Release the lane and the slot, with the lane as it is.

        Raises:
            LostLaneError: Another delivery holds the lane by now.
        """
        table = self._lanes.rows.table
        try:
            table.transact(
                [
                    table.update_request(
                        self.lane.pk, set={"taken_until": 0}, when={"taken_by": self.lane.taken_by}
                    ),
                    table.update_request(
                        webhook_pk(self.webhook.webhook_id), set={("slots", self.slot): 0}
                    ),
                ]
            )
        except ConditionFailedError:
            raise LostLaneError(self.lane.pk) from None

    def _write(
        self,
        changes: dict[str, Any],
        when: dict[str, Any],
        attempt: Attempt,
        *,
        keep_slot: bool,
        emptied: bool,
    ) -> None:
        """Change the lane while it is held, log the attempt, and note both in the webhook's row."""
        rows = self._lanes.rows
        rows.table.transact(
            [
                rows.table.update_request(
                    self.lane.pk,
                    set=changes | {"expires_at": rows.expiry()},
                    when=when | {"taken_by": self.lane.taken_by},
                ),
                self._log.put_request(self.webhook.webhook_id, attempt),
                *self._webhook_changes(attempt, "" if keep_slot else self.slot, emptied=emptied),
            ]
        )

    def _webhook_changes(
        self, attempt: Attempt, freed_slot: str, *, emptied: bool
    ) -> list[TransactWriteItemTypeDef]:
        """The request to change the webhook's row; none where nothing changes.

        All lanes share that row: a write that changes nothing would only be in their way.
        """
        changes: dict[str, dict[Any, Any]] = {"set": {}, "add": {"busy": -1} if emptied else {}}
        if freed_slot:
            changes["set"]["slots", freed_slot] = 0
        rows, since = self._lanes.rows, self.webhook.failing_since
        if attempt.outcome == "failed" and since is None:
            changes["set"]["failing_since"] = IfAbsent(int(rows.clock() * 1000))
        works_again = attempt.outcome == "delivered" and since is not None
        remove = ["failing_since"] if works_again else []
        if not any((remove, *changes.values())):
            return []
        key = webhook_pk(self.webhook.webhook_id)
        return [rows.table.update_request(key, **changes, remove=remove)]

    def _current(self) -> Lane:
        """The lane with what was appended to it since.

        Raises:
            LostLaneError: Another delivery holds the lane by now.
        """
        now = self._lanes.get(self.lane.webhook_id, self.lane.lane)
        if now.taken_by != self.lane.taken_by:
            raise LostLaneError(self.lane.pk)
        return now


@dataclass(frozen=True, slots=True)
class Leases:
    """Acquires the lanes of all webhooks.

    Args:
        lanes: The lanes.
        log: The log of attempts.
    """

    lanes: Lanes
    log: AttemptLog

    def acquire(self, webhook: Webhook, lane: Lane, *, with_slot: bool = True) -> Lease | None:
        """Acquire a lane, and a slot of its webhook; None where either is held by another.

        Args:
            webhook: The webhook, as it was read.
            lane: The lane, as it was read.
            with_slot: Whether a slot is needed: not where nothing is sent.
        """
        now = int(self.lanes.rows.clock() * 1000)
        until = now + LEASE * 1000
        holder = secrets.token_hex(8)
        # An endpoint that fails is probed through one slot, so that time-outs do not fill all four.
        usable = SLOTS[:1] if webhook.failing_since else SLOTS
        free = [name for name in usable if webhook.slots[name] < now]
        if with_slot and not free:
            return None
        # At random: deliveries that have read the same row seldom want the same slot.
        slot = secrets.choice(free) if with_slot else ""
        as_read: dict[str, Any] = {"version": lane.version}
        table = self.lanes.rows.table
        writes = [
            table.update_request(
                lane.pk,
                set={"taken_until": until, "taken_by": holder},
                when=[as_read | {"taken_until": ABSENT}, as_read | {"taken_until": LessThan(now)}],
            )
        ]
        if slot:
            writes.append(
                table.update_request(
                    webhook_pk(webhook.webhook_id),
                    set={("slots", slot): until},
                    when={("slots", slot): LessThan(now)},
                )
            )
        try:
            table.transact(writes)
        except ConditionFailedError:
            return None
        held = replace(lane, taken_until=until, taken_by=holder)
        return Lease(webhook, held, slot, self.lanes, self.log)
