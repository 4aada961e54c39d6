"""What a webhook can be refused for: one class for each branch that somebody takes."""

from __future__ import annotations

from recourse.errors import RecourseError


class UnknownWebhookError(RecourseError):
    """There is no such webhook, or it is somebody else's."""


class TooManyWebhooksError(RecourseError):
    """Its owner has as many webhooks as one may have."""


class FullError(RecourseError):
    """As much waits for a webhook as may; the feed keeps the rest."""


class LostLaneError(RecourseError):
    """Somebody else has the lane by now, for this delivery took longer than its lease."""
