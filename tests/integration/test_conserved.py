"""Money is conserved, to the unit, whatever sixteen clients at once ask of sagas of every kind.

`python -m bench conserve` does the same with 10,000 sagas, and prints what they were.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conserving import CLIENTS, KINDS, town
from tests.profile import TIMES


@pytest.mark.parametrize("seed", range(1001, 1001 + 2 * TIMES))
def test_money_is_conserved_over_random_sagas_of_every_kind(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    with town(seed, 10 * CLIENTS) as played:
        for what, times in played.figures.items():
            record_property(what, times)
        ended = {saga for saga in KINDS if played.figures[f"{saga} SUCCEEDED"]}
        assert ended == set(KINDS), "of every kind some succeed"
        assert sum(played.figures[f"{saga} COMPENSATED"] for saga in KINDS) > CLIENTS
        assert played.figures["asked again"] and played.figures["cancelled"]
