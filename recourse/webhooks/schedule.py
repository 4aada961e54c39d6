"""When a failed delivery is retried: a back-off with jitter, or Retry-After, for three days."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
BACKOFF = (
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""Seconds to wait after each failed attempt; the last one also after all that follow."""
JITTER = 0.2
RETRY_PERIOD = 3 * DAY
"""Seconds from the first attempt of an event to the last."""
MAX_RETRY_AFTER = DAY
"""Seconds of a Retry-After that are obeyed at the most."""
DISABLED_AFTER = 5 * DAY
"""Seconds without a success after which a webhook is disabled."""


def next_attempt(
    attempts: int,
    first: float,
    now: float,
    *,
    retry_after: float | None = None,
    timescale: float = 1,
    noise: random.Random | None = None,
) -> float | None:
    """When to retry, in seconds of the epoch; None where the attempt was the last one.

    The last attempt is made when the three days are over, however long the wait would have been;
    only a Retry-After delays it further.

    Args:
        attempts: How many attempts have been made.
        first: When the first one was made.
        now: When the last one was made.
        retry_after: Seconds for which the receiver asked not to be called.
        timescale: A factor for all waits.
        noise: The source of jitter.
    """
    last = first + RETRY_PERIOD * timescale
    if now >= last:
        return None
    wait = BACKOFF[min(attempts, len(BACKOFF)) - 1] * timescale
    wait *= (noise or random).uniform(1 - JITTER, 1 + JITTER)
    return max(min(now + wait, last), now + min(retry_after or 0, MAX_RETRY_AFTER))


def retry_after_seconds(retry_after: str | None, now: float) -> float | None:
    """The seconds of a Retry-After, a number or a date; None where it is neither."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 999_999_999.0)  # decades: a text of any length is a number then
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now)
