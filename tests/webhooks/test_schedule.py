"""When a delivery is tried again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.webhooks.schedule import (
    DAY,
    HOUR,
    JITTER,
    MAX_RETRY_AFTER,
    MINUTE,
    RETRY_PERIOD,
    next_attempt,
    retry_after_seconds,
)

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("attempts", "wait"),
    [(1, 5), (2, 5 * MINUTE), (3, 30 * MINUTE), (4, 2 * HOUR), (5, 5 * HOUR), (6, 10 * HOUR)],
)
def test_waits_grow_with_jitter(attempts: int, wait: float) -> None:
    found = [next_attempt(attempts, NOW, NOW, noise=random.Random(seed)) for seed in range(30)]
    waits = [at - NOW for at in found if at is not None]
    assert len(set(waits)) == 30
    assert min(waits) >= wait * (1 - JITTER) and max(waits) <= wait * (1 + JITTER)


@given(st.integers(), st.floats(0.01, 1))
def test_attempts_go_on_for_three_days_to_the_second(seed: int, timescale: float) -> None:
    noise, at, attempts = random.Random(seed), NOW, 1
    while (
        following := next_attempt(attempts, NOW, at, timescale=timescale, noise=noise)
    ) is not None:
        assert following > at
        at, attempts = following, attempts + 1
    assert at == pytest.approx(NOW + RETRY_PERIOD * timescale)
    assert 9 <= attempts <= 12


def test_a_retry_after_is_never_undercut_and_never_endless() -> None:
    for asked in (1.0, 600.0, 5 * HOUR, 99 * DAY):
        at = next_attempt(2, NOW, NOW, retry_after=asked)
        assert at is not None
        assert at - NOW >= min(asked, MAX_RETRY_AFTER)
        assert at - NOW <= MAX_RETRY_AFTER
    late = NOW + RETRY_PERIOD - 60
    assert next_attempt(9, NOW, late, retry_after=600) == late + 600
    assert next_attempt(9, NOW, NOW + RETRY_PERIOD, retry_after=600) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 40, 999_999_999),
        ("Fri, 15 Jan 2027 08:10:00 GMT", 600),
        ("Fri, 15 Jan 2027 08:10:00", 600),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        *((text, None) for text in (None, "", "soon", "-5", "1.5", "١٢", "Fri, 99 Jan 2027")),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, NOW) == seconds
