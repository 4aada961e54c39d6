"""How Hypothesis searches in all the tests.

A run of the tests takes the same examples each time, so that a red run is about what was changed,
and no machine is too slow. `HYPOTHESIS_TIMES=20 pytest …` searches: twenty times as many, at
random; what it finds it prints as a blob for `@reproduce_failure`.

A hundred examples is what a rule of values gets. `@examples` is for those of which one is dear (a
run on moto, a call of the API) or the space is large; the number is argued where it is given.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("HYPOTHESIS_TIMES", "1"))


def examples(number: int, *, steps: int = 50) -> settings:
    """So many examples, times what is searched; of a state machine so many steps each."""
    return settings(max_examples=number * TIMES, stateful_step_count=steps)


settings.register_profile(
    "tests",
    max_examples=100 * TIMES,
    deadline=None,
    derandomize=TIMES == 1,
    print_blob=True,
    # They judge speed, and fixtures that are shared here on purpose.
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("tests")
