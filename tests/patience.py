"""Waiting for what has to happen: as long as a slow machine needs, and no longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 300
"""Seconds after which what has not happened never will, on any machine."""


def until(
    look: Callable[[], T],
    what: str,
    holds: Callable[[T], object] = bool,
    *,
    pause: float = 0.05,
    patience: float = PATIENCE,
) -> T:
    """Look again and again until something holds; what is then seen.

    Args:
        look: What there is to see now.
        what: What is waited for, for people to read.
        holds: Whether what is seen is it.
        pause: Seconds between two looks.
        patience: Seconds after which it never will, where something else has to pass first.

    Raises:
        AssertionError: It does not happen.
    """
    last = time.monotonic() + patience
    while not holds(seen := look()):
        assert time.monotonic() < last, f"{what}: not within {patience:.0f} s; last seen: {seen!r}"
        time.sleep(pause)
    return seen
