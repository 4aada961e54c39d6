"""Sorting an owner's feed into the lanes of its webhooks.

A message on the topic `feed` is a wake-up and no more: what is new is read from the feed, from each
webhook's own position. So no order and no single message of the topic matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from recourse.events import message_group
from recourse.feed.feed import Entry, ExpiredCursorError, Feed
from recourse.webhooks.errors import BacklogFullError, UnknownWebhookError
from recourse.webhooks.registrations import Webhook
from recourse.webhooks.webhooks import Webhooks

PAGE = 100
"""Events of a feed that are read at once."""
WakeLane = Callable[..., None]
"""Sends a message for a lane, given its owner's message group, its `webhook_id` and its `lane`."""


@dataclass(frozen=True)
class Dispatcher:
    """Sorts feeds into lanes.

    Usage::

        dispatcher = Dispatcher(feed, webhooks, send)
        while not dispatcher.dispatch("asha", has_time):
            ...

    Args:
        feed: Every owner's feed.
        webhooks: The table of webhooks.
        wake_lane: Sends a message for a lane.
    """

    feed: Feed
    webhooks: Webhooks
    wake_lane: WakeLane

    def dispatch(self, owner: str, has_time: Callable[[], bool]) -> bool:
        """Bring every webhook of an owner up to the head of the feed.

        Args:
            owner: The owner.
            has_time: Whether there is time for another page.

        Returns:
            Whether all of them have arrived there; if not, call it again.
        """
        done = [
            self._catch_up(webhook, has_time)
            for webhook in self.webhooks.registrations.of(owner)
            if webhook.status == "ENABLED"
        ]
        return all(done)

    def replay(self, webhook_id: str, replay_id: str, has_time: Callable[[], bool]) -> bool:
        """Sort a range of the feed into lanes of its own.

        Args:
            webhook_id: The webhook.
            replay_id: The replay, as it was planned.
            has_time: Whether there is time for another page.

        Returns:
            Whether that is done; if not, call it again: it continues where it ended.
        """
        replays = self.webhooks.replays
        planned = replays.get(webhook_id, replay_id)
        after, upto = planned["after"], planned["upto"]
        while after < upto:
            if not has_time():
                return False
            try:
                webhook = self.webhooks.registrations.get(webhook_id)
                page = self.feed.read(webhook.owner, after, min(PAGE, upto - after))
            except UnknownWebhookError:
                return True
            except ExpiredCursorError:
                after = self.feed.start(webhook.owner)
                continue
            if not page:
                return False
            wanted = [
                entry for entry in page if planned["since"] <= entry.event.time <= planned["until"]
            ]
            full_at = self._sort(webhook, wanted, suffix=f"#{replay_id}")
            after = page[-1].position if full_at is None else full_at - 1
            replays.advance(webhook_id, replay_id, after)
            if full_at is not None:
                return False
        return True

    def _catch_up(self, webhook: Webhook, has_time: Callable[[], bool]) -> bool:
        try:
            while has_time():
                try:
                    page = self.feed.read(webhook.owner, webhook.dispatched, PAGE)
                except ExpiredCursorError:
                    to, full_at = self.feed.start(webhook.owner), None
                else:
                    if not page:
                        return True
                    full_at = self._sort(webhook, page)
                    to = page[-1].position if full_at is None else full_at - 1
                is_held = full_at is not None
                advanced = self.webhooks.lanes.advance(webhook, to, held=is_held)
                if advanced and is_held:
                    return True  # the delivery that empties a lane has the feed sorted again
                if advanced:
                    webhook = replace(webhook, dispatched=to)
                else:
                    webhook = self.webhooks.registrations.get(webhook.webhook_id)
                    if webhook.status != "ENABLED":
                        return True
        except UnknownWebhookError:
            return True
        return False

    def _sort(self, webhook: Webhook, page: Iterable[Entry], *, suffix: str = "") -> int | None:
        """Append what a webhook wants to its lanes.

        Returns:
            The position of the first event for which there was no room; None if there was for all.
        """
        group = message_group(webhook.owner)
        for entry in page:
            event = entry.event
            if webhook.wants(event.type):
                lane = f"{event.saga_id}{suffix}"
                one = {"position": entry.position, "id": event.id, "type": event.type}
                try:
                    if self.webhooks.lanes.append(webhook, lane, one):
                        self.wake_lane(group, webhook_id=webhook.webhook_id, lane=lane)
                except BacklogFullError:
                    return entry.position
        return None
