"""When a delivery that failed is tried again: back-off with jitter, Retry-After, three days."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
WAITS = (
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
"""Seconds after each failed attempt; the last one is for all that follow."""
JITTER = 0.2
TRIED_FOR = 3 * DAY
"""Seconds from an event's first attempt to its last."""
LONGEST_ASKED = DAY
"""Seconds that a receiver may ask for by Retry-After."""
FAILING_FOR = 5 * DAY
"""Seconds of nothing but failures after which a webhook is disabled."""


def next_attempt(
    attempts: int,
    first: float,
    now: float,
    *,
    asked: float | None = None,
    timescale: float = 1,
    noise: random.Random | None = None,
) -> float | None:
    """When to try again, in seconds of the epoch; None where that was the last attempt.

    The last attempt is made when the three days are over, however long the wait would have been;
    only a Retry-After puts it off further.

    Args:
        attempts: How many there have been.
        first: When the first one was.
        now: When the last one was.
        asked: Seconds that the receiver asked to be left alone; never less is waited.
        timescale: What multiplies waits.
        noise: Where the jitter comes from.
    """
    last = first + TRIED_FOR * timescale
    if now >= last:
        return None
    wait = WAITS[min(attempts, len(WAITS)) - 1] * timescale
    wait *= (noise or random).uniform(1 - JITTER, 1 + JITTER)
    return max(min(now + wait, last), now + min(asked or 0, LONGEST_ASKED))


def asked_for(retry_after: str | None, now: float) -> float | None:
    """The seconds that a Retry-After asks for, in either of its forms; None where it has none."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now)
