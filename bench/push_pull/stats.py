"""Percentiles, and when a sample is too small to have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = {50.0: 10, 99.0: 100, 99.9: 1000}
"""How many samples a percentile needs: at least one of them has to lie beyond it."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample that so many per cent are not above (nearest rank).

    Args:
        samples: At least one, in any order; what never came is `math.inf`.
        percent: Above 0, at most 100.
    """
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Latencies:
    """The latencies of one path under one load, over all repeats.

    Attributes:
        samples: Seconds from the intended send to the committed effect; `math.inf` for each event
            that had no effect at all.
    """

    samples: tuple[float, ...]

    @property
    def lost(self) -> int:
        """How many events had no effect."""
        return sum(math.isinf(one) for one in self.samples)

    def said(self, percent: float) -> str:
        """A percentile in milliseconds; where the sample is too small for it, that."""
        if len(self.samples) < LEAST[percent]:
            return f"n < {LEAST[percent]}"
        return milliseconds(percentile(self.samples, percent))

    @property
    def worst(self) -> str:
        """The largest one."""
        return milliseconds(max(self.samples)) if self.samples else "none"


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, as exact as a busy machine allows."""
    if math.isinf(seconds):
        return "lost"
    return f"{seconds * 1000:,.1f}" if seconds < 0.0095 else f"{seconds * 1000:,.0f}"
