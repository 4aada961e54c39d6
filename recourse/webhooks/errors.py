"""What a webhook can be refused for: one class for each branch that somebody takes."""

from __future__ import annotations


class UnknownWebhookError(Exception):
    """There is no such webhook, or it is somebody else's."""


class TooManyWebhooksError(Exception):
    """Its owner has as many webhooks as one may have."""


class FullError(Exception):
    """As much waits for a webhook as may; the feed keeps the rest."""


class LostLaneError(Exception):
    """Somebody else has the lane by now, for this delivery took longer than its lease."""
