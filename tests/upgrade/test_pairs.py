"""What the explorer calls safe is safe: random pairs of declarations, walked through in memory.

`HYPOTHESIS_TIMES=50 pytest tests/upgrade/test_pairs.py --junitxml FILE` takes 10,000 pairs and
leaves the figures in the file.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from recourse.declare import asks, hints
from recourse.upgrade.takeover import answer
from tests.profile import TIMES
from tests.upgrade.pairs import Pair, draw, retyped
from tests.upgrade.walks import Releases, StrandedError, Walk, scenes

BATCH = 50
BATCHES = 4 * TIMES
WALKS = 20


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_pair_that_is_called_safe_strands(
    batch: int, record_property: Callable[[str, object], None]
) -> None:
    take(draw, batch, record_property)


@pytest.mark.parametrize("batch", range(TIMES))
def test_no_pair_whose_types_differ_and_that_is_called_safe_strands(
    batch: int, record_property: Callable[[str, object], None]
) -> None:
    take(lambda seed: retyped(draw(seed), seed), batch, record_property)


def take(
    drawn: Callable[[int], Pair], batch: int, record_property: Callable[[str, object], None]
) -> None:
    """Walk through a batch of pairs, and record what came of it."""
    figures: Counter[str] = Counter()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        pair = drawn(seed)
        findings = pair.findings()
        releases = Releases.of(pair)
        dice = random.Random(seed)
        all_scenes = list(scenes(releases, pair.old))
        wrong = []
        for _ in range(WALKS):
            scene = dice.choice(all_scenes)
            walk = Walk(releases, scene, dice.randint(0, 2 * len(releases.recorded.all) + 1))
            try:
                walk.run()
            except StrandedError as problem:
                wrong.append((scene, walk.cut, str(problem)))
        assert not wrong or findings, (seed, wrong[:3])
        figures[f"{answer(findings)}, {'stranded' if wrong else 'ended'}"] += 1
        figures["walks"] += WALKS
        asks.fields_made.cache_clear()
        hints.types_of.cache_clear()
    for name, number in figures.items():
        record_property(name, number)
