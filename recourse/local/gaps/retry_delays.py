"""ministack waits IntervalSeconds x BackoffRate^n before a retry, without cap or jitter.

AWS honours MaxDelaySeconds, and with full jitter draws the wait between zero and that delay:
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html#error-handling-retrying-after-an-error
"""

import random
from typing import Any

from ministack.services import stepfunctions

Retrier = dict[str, Any]


def delay_seconds(retrier: Retrier, retries_so_far: int) -> float:
    """The wait that AWS would choose before the next retry."""
    delay: float = retrier.get("IntervalSeconds", 1) * (
        retrier.get("BackoffRate", 2.0) ** retries_so_far
    )
    delay = min(delay, retrier.get("MaxDelaySeconds", delay))
    return random.uniform(0, delay) if retrier.get("JitterStrategy") == "FULL" else delay


def close() -> None:
    """Give ministack's interpreter a retrier whose next wait is already computed."""
    find = stepfunctions._find_matching_retrier

    def find_with_delay(
        retriers: list[Retrier], error: str, counts: dict[int, int]
    ) -> tuple[Retrier | None, int]:
        retrier, index = find(retriers, error, counts)
        if retrier is None:
            return None, index
        delay = delay_seconds(retrier, counts.get(index, 0))
        return {**retrier, "IntervalSeconds": delay, "BackoffRate": 1}, index

    stepfunctions._find_matching_retrier = find_with_delay
