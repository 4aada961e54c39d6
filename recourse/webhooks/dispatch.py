"""Sorting an owner's feed into the lanes of its webhooks.

A message on the topic `feed` is a wake-up and no more: what is new is read from the feed, from
where each webhook has come to. So no order and no single message of the topic matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from recourse.feed.feed import Entry, ExpiredCursorError, Feed
from recourse.webhooks.errors import FullError, UnknownWebhookError
from recourse.webhooks.webhooks import Webhook, Webhooks

PAGE = 100
Wake = Callable[..., None]
"""Sends a message for a lane, its `webhook_id` and its `lane`."""


@dataclass(frozen=True)
class Dispatcher:
    """Sorts feeds into lanes.

    Args:
        feed: Every owner's feed.
        webhooks: The table of webhooks.
        wake: Sends a message for a lane.
    """

    feed: Feed
    webhooks: Webhooks
    wake: Wake

    def dispatch(self, owner: str, is_time: Callable[[], bool]) -> bool:
        """Bring every webhook of an owner up to the head of the feed.

        Args:
            owner: Whose.
            is_time: Whether there is time for another page.

        Returns:
            Whether all of them are there; else it is to be called again.
        """
        done = [
            self._catch_up(webhook, is_time)
            for webhook in self.webhooks.of(owner)
            if webhook.status == "ENABLED"
        ]
        return all(done)

    def replay(self, webhook_id: str, replay_id: str, is_time: Callable[[], bool]) -> bool:
        """Sort a range of the feed into lanes of its own.

        Args:
            webhook_id: The webhook.
            replay_id: The replay, as it was planned.
            is_time: Whether there is time for another page.

        Returns:
            Whether that is done; else it is to be called again, which goes on where this ended.
        """
        planned = self.webhooks.planned(webhook_id, replay_id)
        after, upto = planned["after"], planned["upto"]
        while after < upto:
            if not is_time():
                return False
            try:
                webhook = self.webhooks.get(webhook_id)
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
            full = self._sort(webhook, wanted, behind=f"#{replay_id}")
            after = page[-1].position if full is None else full - 1
            self.webhooks.come(webhook_id, replay_id, after)
            if full is not None:
                return False
        return True

    def _catch_up(self, webhook: Webhook, is_time: Callable[[], bool]) -> bool:
        try:
            while is_time():
                try:
                    page = self.feed.read(webhook.owner, webhook.dispatched, PAGE)
                except ExpiredCursorError:
                    to, full = self.feed.start(webhook.owner), None
                else:
                    if not page:
                        return True
                    full = self._sort(webhook, page)
                    to = page[-1].position if full is None else full - 1
                moved = self.webhooks.move(webhook, to, held=full is not None)
                if moved and full is not None:
                    return True  # whoever empties a lane has it go on
                if moved:
                    webhook = replace(webhook, dispatched=to)
                else:
                    webhook = self.webhooks.get(webhook.webhook_id)
                    if webhook.status != "ENABLED":
                        return True
        except UnknownWebhookError:
            return True
        return False

    def _sort(self, webhook: Webhook, page: Iterable[Entry], *, behind: str = "") -> int | None:
        """Put what a webhook wants into its lanes; the position for which there was no room."""
        for entry in page:
            event = entry.event
            if webhook.wants(event.type):
                lane = f"{event.saga_id}{behind}"
                one = {"position": entry.position, "id": event.id, "type": event.type}
                try:
                    if self.webhooks.append(webhook, lane, one):
                        self.wake(webhook_id=webhook.webhook_id, lane=lane)
                except FullError:
                    return entry.position
        return None
