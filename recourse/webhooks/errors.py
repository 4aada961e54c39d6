"""What a webhook can be refused for: one class for each branch that a caller takes."""

from __future__ import annotations

from recourse.errors import RecourseError


class UnknownWebhookError(RecourseError):
    """The webhook does not exist, or belongs to another owner."""


class TooManyWebhooksError(RecourseError):
    """Its owner has as many webhooks as one may have."""


class BacklogFullError(RecourseError):
    """As many lanes of the webhook as may have entries have some; the feed keeps the rest."""


class LostLaneError(RecourseError):
    """Another delivery holds the lane by now: this one has taken longer than its lease."""
