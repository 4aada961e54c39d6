"""Delivering what is in a lane, one event after the other, until one fails.

A message stands for a lane that has something in it. It is kept until the lane is empty: whatever
goes wrong, it comes again, and the lane's row says what is to be done then and when. Two messages
for one lane do no harm, for one delivery at a time has the lane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recourse.events import Event, now
from recourse.feed.feed import ExpiredCursorError, Feed
from recourse.webhooks import schedule
from recourse.webhooks.errors import LostLaneError, UnknownWebhookError
from recourse.webhooks.sending import Answer, Sender
from recourse.webhooks.signing import headers
from recourse.webhooks.webhooks import (
    Attempt,
    Lane,
    Outcome,
    Webhook,
    Webhooks,
    moment,
)

GONE = 410
BUSY = (429, 503)
"""Statuses whose Retry-After is obeyed."""
EARLY = 0.5
"""Seconds that an attempt may come too early, for clocks and whole seconds."""
ENOUGH = 10
"""Seconds after which a delivery makes room for others, if it has been at its lane for so long."""
LONGEST_PAUSE = 300
"""Seconds for which a lane waits for a slot at the most."""


@dataclass(frozen=True)
class Deliverer:
    """Delivers what is in lanes.

    Args:
        webhooks: The table of webhooks.
        feed: Every owner's feed.
        sender: Calls endpoints.
        wake_owner: Has an owner's feed sorted into lanes again, for there is room by now.
        timescale: What multiplies back-offs.
        noise: Where jitter comes from.
    """

    webhooks: Webhooks
    feed: Feed
    sender: Sender
    wake_owner: Callable[[str], None]
    timescale: float = 1
    noise: random.Random = field(default_factory=random.Random)

    def deliver(self, webhook_id: str, lane_name: str, receives: int = 1) -> float | None:
        """Deliver what is in a lane and due.

        Args:
            webhook_id: The webhook.
            lane_name: The lane.
            receives: How often its message has come.

        Returns:
            The seconds after which its message is to come again; None where the lane is empty.
        """
        try:
            webhook = self.webhooks.get(webhook_id)
        except UnknownWebhookError:
            return None
        lane = self.webhooks.lane(webhook_id, lane_name)
        if not lane.entries:
            return None
        now = self.webhooks.clock()
        alive = webhook.status == "ENABLED" or lane.is_test
        if alive and lane.next / 1000 - now > EARLY:
            return lane.next / 1000 - now
        taken = self.webhooks.take(webhook, lane, slot=alive)
        if taken is None:
            return self._pause(receives)
        lane, slot = taken
        try:
            if alive:
                again = self._deliver(webhook, lane, slot, began=now)
            else:
                self._tell(webhook)
                again = self._give_up_all(webhook, lane)
            if again is None and self.webhooks.get(webhook_id).held:
                self.wake_owner(webhook.owner)
        except LostLaneError:
            return self._pause(receives)
        except UnknownWebhookError:
            return None
        return again

    def _deliver(self, webhook: Webhook, lane: Lane, slot: str, *, began: float) -> float | None:
        while lane.entries:
            if self.webhooks.clock() - began > ENOUGH:
                self.webhooks.give_back(webhook, lane, slot)
                return 0
            event = self._event(webhook, lane.entries[0])
            at = self.webhooks.clock()
            if event is None:
                lost = _attempt(lane, at, "given-up", error="the event is not kept any more")
                lane = self.webhooks.done(webhook, lane, slot, lost, keep=True)
                continue
            body = event.to_json().encode()
            signed = headers(webhook.signs_with(at), event.id, int(at), body)
            answer = self.sender.post(webhook.url, signed, body)
            if not answer.delivered:
                return self._not_delivered(webhook, lane, slot, at, answer)
            said = _attempt(lane, at, "delivered", answer)
            lane = self.webhooks.done(webhook, lane, slot, said, keep=True)
        return None

    def _not_delivered(
        self,
        webhook: Webhook,
        lane: Lane,
        slot: str,
        at: float,
        answer: Answer,
    ) -> float | None:
        asked = None
        if answer.status in BUSY:
            asked = schedule.asked_for(answer.retry_after, self.webhooks.clock())
        first = lane.first / 1000 if lane.first else at
        attempts = lane.attempts + 1
        again = schedule.next_attempt(
            attempts, first, at, asked=asked, timescale=self.timescale, noise=self.noise
        )
        is_gone = answer.status == GONE
        if lane.is_test or is_gone or again is None:
            said = _attempt(lane, at, "failed" if lane.is_test else "given-up", answer)
            if is_gone:
                self._disable(webhook, "the endpoint answered 410 Gone")
            lane = self.webhooks.done(webhook, lane, slot, said, keep=False)
            return 0 if lane.entries else None
        said = _attempt(lane, at, "failed", answer, again=again)
        self.webhooks.failed(webhook, lane, slot, said, at, again)
        since = webhook.failing_since
        if since and at - since / 1000 >= schedule.FAILING_FOR * self.timescale:
            self._disable(webhook, "every attempt has failed for five days")
        return again - self.webhooks.clock()

    def _give_up_all(self, webhook: Webhook, lane: Lane) -> float | None:
        """Give up what waits for a webhook that was disabled, and say so in the log."""
        while lane.entries:
            at = self.webhooks.clock()
            lost = _attempt(lane, at, "given-up", error="the webhook is disabled")
            lane = self.webhooks.done(webhook, lane, "", lost, keep=True)
        return None

    def _event(self, webhook: Webhook, entry: Mapping[str, Any]) -> Event | None:
        """The event of an entry; None where the feed no longer has it."""
        if "event" in entry:
            return Event.parse(entry["event"])
        try:
            (found,) = self.feed.read(webhook.owner, entry["position"] - 1, 1)
        except ExpiredCursorError:
            return None
        return found.event

    def _disable(self, webhook: Webhook, reason: str) -> None:
        now = self.webhooks.disable(webhook, reason)
        if now is not None:
            self._tell(now)

    def _tell(self, webhook: Webhook) -> None:
        """Tell the owner of a disabled webhook, once, in the feed."""
        self.feed.append(webhook.owner, [disabled(webhook)])

    def _pause(self, receives: int) -> float:
        """How long to wait for a slot or a lane, the longer the more often it was in vain."""
        return self.noise.uniform(1, min(LONGEST_PAUSE, 2 ** min(receives, 10)))


def disabled(webhook: Webhook) -> Event:
    """The event that tells an owner that a webhook was disabled."""
    event_id = f"{webhook.webhook_id}.disabled.{webhook.disablings}"
    data = {"url": webhook.url, "reason": webhook.disabled_reason}
    return _about(webhook, event_id, "disabled", data, sequence=webhook.disablings)


def trial(webhook: Webhook, event_id: str) -> Event:
    """The event that a webhook is sent on demand."""
    data = {"message": "This is a test, asked for by the webhook's owner."}
    return _about(webhook, event_id, "test", data)


def _about(
    webhook: Webhook,
    event_id: str,
    kind: str,
    data: Mapping[str, Any],
    *,
    sequence: int | None = None,
) -> Event:
    return Event(
        id=event_id,
        saga_id=webhook.webhook_id,
        saga="webhook",
        step=None,
        kind=kind,
        time=now(),
        source=f"/webhooks/{webhook.webhook_id}",
        data=data,
        sequence=sequence,
    )


def _attempt(
    lane: Lane,
    at: float,
    outcome: Outcome,
    answer: Answer | None = None,
    *,
    error: str | None = None,
    again: float | None = None,
) -> Attempt:
    """The row of the log about the first entry of a lane."""
    made = answer or Answer(None, error)
    return Attempt(
        event_id=lane.entries[0]["id"],
        type=lane.entries[0]["type"],
        attempt=lane.attempts + (1 if answer else 0),
        outcome=outcome,
        status=made.status,
        error=made.error,
        latency_ms=made.latency,
        response=made.excerpt,
        at=moment(at),
        next_attempt_at=None if again is None else moment(again),
        replay_id=lane.replay_id,
    )
