"""Delivers the events of a lane, one after the other, until one fails.

A message represents a lane that has entries. It is kept until the lane is empty: after any failure
it is redelivered, and the lane's row says what is to be done then and when. Two messages for one
lane are harmless, because one delivery at a time holds the lane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recourse.events import Event, now
from recourse.feed.feed import ExpiredCursorError, Feed
from recourse.webhooks import schedule
from recourse.webhooks.attempts import Attempt, Outcome
from recourse.webhooks.errors import LostLaneError, UnknownWebhookError
from recourse.webhooks.lanes import Lane
from recourse.webhooks.leases import Lease
from recourse.webhooks.registrations import Webhook
from recourse.webhooks.rows import moment
from recourse.webhooks.sending import Answer, Sender
from recourse.webhooks.signing import headers
from recourse.webhooks.webhooks import Webhooks

GONE = 410
BUSY = (429, 503)
"""Statuses whose Retry-After is obeyed."""
EARLY_TOLERANCE = 0.5
"""Seconds that an attempt may be early, for clocks differ and SQS waits whole seconds."""
MAX_SECONDS_AT_A_LANE = 10
"""Seconds after which a delivery that is still at its lane makes room for others."""
LONGEST_PAUSE = 300
"""Seconds for which a message waits at the most for a slot or a lane that is held."""


@dataclass(frozen=True)
class Deliverer:
    """Delivers what is in lanes.

    Usage::

        deliverer = Deliverer(webhooks, feed, Sender(), wake_owner)
        wait = deliverer.deliver(webhook_id, "saga-1")
        if wait is not None:
            ...  # have the message redelivered after so many seconds

    Args:
        webhooks: The table of webhooks.
        feed: Every owner's feed.
        sender: Calls endpoints.
        wake_owner: Has an owner's feed sorted into lanes again, once there is room.
        timescale: A factor for all back-offs.
        noise: The source of jitter.
        log: Logs an attempt at the first entry of a lane, whose event is None where it is not read.
    """

    webhooks: Webhooks
    feed: Feed
    sender: Sender
    wake_owner: Callable[[str], None]
    timescale: float = 1
    noise: random.Random = field(default_factory=random.Random)
    log: Callable[[Lane, Event | None, Attempt], None] = lambda *_: None

    def deliver(self, webhook_id: str, lane_name: str, receives: int = 1) -> float | None:
        """Deliver what is in a lane and due.

        Args:
            webhook_id: The webhook.
            lane_name: The lane.
            receives: How often its message was received.

        Returns:
            The seconds after which its message is to be redelivered; None where the lane is empty.
        """
        try:
            webhook = self.webhooks.registrations.get(webhook_id)
        except UnknownWebhookError:
            return None
        lane = self.webhooks.lanes.get(webhook_id, lane_name)
        if not lane.entries:
            return None
        now = self.webhooks.clock()
        is_sent = webhook.status == "ENABLED" or lane.is_test
        if is_sent and lane.next / 1000 - now > EARLY_TOLERANCE:
            return lane.next / 1000 - now
        lease = self.webhooks.leases.acquire(webhook, lane, with_slot=is_sent)
        if lease is None:
            return self._pause(receives)
        try:
            if is_sent:
                again = self._deliver(lease, began=now)
            else:
                # The delivery that disabled it may have died before it appended the event.
                self._announce_disabled(webhook)
                self._give_up_all(lease)
                again = None
            if again is None and self.webhooks.registrations.get(webhook_id).held:
                self.wake_owner(webhook.owner)
        except LostLaneError:
            return self._pause(receives)
        except UnknownWebhookError:
            return None
        return again

    def _deliver(self, lease: Lease, *, began: float) -> float | None:
        """Deliver until the lane is empty, an attempt fails or the time is over."""
        webhook = lease.webhook
        while lease.lane.entries:
            if self.webhooks.clock() - began > MAX_SECONDS_AT_A_LANE:
                lease.release()
                return 0
            event = self._event(webhook, lease.lane.entries[0])
            at = self.webhooks.clock()
            if event is None:
                why = "the event is not kept any more"
                lost = _attempt(lease.lane, at, "given-up", error=why)
                self.log(lease.lane, None, lost)
                lease.remove_first(lost, keep=True)
                continue
            body = event.to_json().encode()
            signed = headers(webhook.signs_with(at), event.id, int(at), body)
            if event.traceparent:
                signed["traceparent"] = event.traceparent
            answer = self.sender.post(webhook.url, signed, body)
            if not answer.delivered:
                return self._not_delivered(lease, event, at, answer)
            made = _attempt(lease.lane, at, "delivered", answer)
            self.log(lease.lane, event, made)
            lease.remove_first(made, keep=True)
        return None

    def _not_delivered(self, lease: Lease, event: Event, at: float, answer: Answer) -> float | None:
        """Schedule the next attempt, or give up."""
        webhook, lane = lease.webhook, lease.lane
        retry_after = None
        if answer.status in BUSY:
            retry_after = schedule.retry_after_seconds(answer.retry_after, self.webhooks.clock())
        first = lane.first / 1000 if lane.first else at
        again = schedule.next_attempt(
            lane.attempts + 1,
            first,
            at,
            retry_after=retry_after,
            timescale=self.timescale,
            noise=self.noise,
        )
        is_gone = answer.status == GONE
        if lane.is_test or is_gone or again is None:
            outcome: Outcome = "failed" if lane.is_test else "given-up"
            if is_gone:
                self._disable(webhook, "the endpoint answered 410 Gone")
            made = _attempt(lane, at, outcome, answer)
            self.log(lane, event, made)
            lease.remove_first(made, keep=False)
            return 0 if lease.lane.entries else None
        made = _attempt(lane, at, "failed", answer, again=again)
        self.log(lane, event, made)
        lease.retry_at(again, made, at=at)
        since = webhook.failing_since
        if since and at - since / 1000 >= schedule.DISABLED_AFTER * self.timescale:
            self._disable(webhook, "every attempt has failed for five days")
        return again - self.webhooks.clock()

    def _give_up_all(self, lease: Lease) -> None:
        """Give up what waits for a webhook that was disabled, and log it."""
        while lease.lane.entries:
            at = self.webhooks.clock()
            lost = _attempt(lease.lane, at, "given-up", error="the webhook is disabled")
            self.log(lease.lane, None, lost)
            lease.remove_first(lost, keep=True)

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
        now = self.webhooks.registrations.disable(webhook, reason)
        if now is not None:
            self._announce_disabled(now)

    def _announce_disabled(self, webhook: Webhook) -> None:
        """Append the event that a webhook was disabled to its owner's feed, once."""
        self.feed.append(webhook.owner, [disabled_event(webhook)])

    def _pause(self, receives: int) -> float:
        """How long to wait for a slot or a lane: the longer, the more often it was held."""
        return self.noise.uniform(1, min(LONGEST_PAUSE, 2 ** min(receives, 10)))


def disabled_event(webhook: Webhook) -> Event:
    """The event by which an owner learns that a webhook was disabled."""
    event_id = f"{webhook.webhook_id}.disabled.{webhook.disablings}"
    data = {"url": webhook.url, "reason": webhook.disabled_reason}
    return _about(webhook, event_id, "disabled", data, sequence=webhook.disablings)


def trial_event(webhook: Webhook, event_id: str) -> Event:
    """The test event, which a webhook's owner asks for."""
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
    """What is logged of an attempt at the first entry of a lane."""
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
