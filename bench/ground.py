"""The test ground beside moto as it is shipped, and over thousands of sagas.

Both sides run the same declarations, compiled machines and steps on moto's own interpreter and
DynamoDB. The shipped one has only what it cannot do without: the hook that calls the handlers.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any
from unittest import mock

from moto import mock_aws

from bench import memory
from bench.apart import apart
from bench.figures import Figure, alternated, say
from bench.samples import sample, things
from recourse.store.aws import client
from recourse.testing import clock, handlers, streams
from recourse.testing.ground import ENVIRONMENT
from statemachines import SAGAS
from statemachines.travel_booking import TRAVEL_BOOKING
from tests.ground import Ground, ground

ROUNDS = 5
OURS, SHIPPED = 100, 12
"""Sagas in a round of each side; moto as shipped is slow, and slower the more rows it has."""
AT_ONCE = (1, 8)
WINDOW, WINDOWS = 1000, 5
PART = 100
"""Sagas between two looks at the clock and the memory; then what has ended is forgotten."""
WARM = 4
PATIENCE = 60
"""Seconds after which a trip is given up: one that crashed moto's interpreter runs for ever."""
_numbers = count()


@contextmanager
def shipped() -> Iterator[Ground]:
    """Moto as it is shipped, with the handlers hooked in, for the length of a block.

    It logs whatever fails with the whole program in every line; that is left out, in its favour.
    """
    logging.getLogger("moto").setLevel(logging.CRITICAL)
    config: Any = {"stepfunctions": {"execute_state_machine": True}}
    with mock.patch.dict(os.environ, ENVIRONMENT), mock_aws(config=config):
        client.cache_clear()
        place = Ground(SAGAS, streams.Stream(), [], clock.Clock())
        with handlers.registered(place.functions):
            yield place
        client.cache_clear()


def measure() -> list[Figure]:
    """Run trips on the ground and on moto as shipped, then thousands one after another."""
    return apart(_beside_shipped) + apart(_thousands)


def _beside_shipped() -> list[Figure]:
    return [_rates(at_once) for at_once in AT_ONCE]


def _rates(at_once: int) -> Figure:
    ended = {"ground": 0, "shipped": 0}

    def rate(
        name: str,
        place: Callable[[], AbstractContextManager[Ground]],
        trip: Callable[[Ground], bool],
        sagas: int,
    ) -> Callable[[], float]:
        def measured() -> float:
            with place() as made:
                _stock(made)
                for _ in range(WARM):
                    _trip(made)
                with ThreadPoolExecutor(at_once) as pool:
                    began = time.perf_counter()
                    booked = sum(pool.map(lambda _: trip(made), range(sagas)))
                    took = time.perf_counter() - began
            ended[name] += booked
            say(f"{name}, {at_once} at once: {booked} trips of {sagas} booked in {took:.1f} s")
            return booked / took

        return measured

    ours, theirs = alternated(
        [rate("ground", ground, _trip, OURS), rate("shipped", shipped, _brittle_trip, SHIPPED)],
        rounds=ROUNDS,
    )
    assert ended["ground"] == ROUNDS * OURS, "a trip on the ground was not booked"
    return Figure(
        what=f"trips a second on the ground, {at_once} at once",
        size=f"{ROUNDS * OURS} trips, {ROUNDS * SHIPPED} on moto as shipped; {ROUNDS} rounds",
        figure=f"{ours:.1f} trips/s",
        alternative=f"moto as shipped, handlers hooked in: {theirs:.2f} trips/s "
        f"(of {ROUNDS * SHIPPED} trips it booked {ended['shipped']})",
        ratio=ours / theirs,
        least=4,
    )


def _thousands() -> list[Figure]:
    rates, sizes = [], []
    with ground() as place:
        _stock(place)
        for window in range(WINDOWS):
            rate, held = _window(place, forgetting=True)
            rates.append(rate)
            sizes.append(statistics.median(held))
            say(f"to the {(window + 1) * WINDOW}th: {rate:.1f} trips a processor second")
        kept_rate, kept = _window(place, forgetting=False)
    size = f"{WINDOW * WINDOWS} trips one after another, forgotten every {PART}"
    last = f"{(WINDOWS - 1) * WINDOW:,} to {WINDOWS * WINDOW:,}"
    return [
        Figure(
            what="trips a processor second, late in a long run",
            size=size,
            figure=f"{rates[-1]:.1f} from {last}; by thousand: "
            + ", ".join(f"{rate:.1f}" for rate in rates),
            alternative=f"the second thousand: {rates[1]:.1f}",
            ratio=rates[-1] / rates[1],
            least=0.85,
        ),
        Figure(
            what="memory of the process, late in a long run",
            size=size,
            figure=f"{sizes[-1]:.0f} MB from {last}; by thousand: "
            + ", ".join(f"{held:.0f}" for held in sizes),
            alternative=f"the second thousand: {sizes[1]:.0f} MB",
            ratio=sizes[-1] / sizes[1],
            least=0.9,
            most=1.1,
        ),
        Figure(
            what="trips a processor second where nothing is forgotten",
            size=f"{WINDOW} more trips one after another",
            figure=f"{kept_rate:.1f}; each trip leaves "
            f"{(kept[-1] - kept[0]) / (WINDOW - PART) * 1024:.0f} KB of rows and history",
            alternative=f"the thousand before, forgotten every {PART}: {rates[-1]:.1f}",
            ratio=kept_rate / rates[-1],
        ),
    ]


def _window(place: Ground, *, forgetting: bool) -> tuple[float, list[float]]:
    """A thousand trips: the median rate of its parts, and MB held at the end of each."""
    rates, held = [], []
    for _ in range(WINDOW // PART):
        began = time.process_time()
        booked = sum(_trip(place) for _ in range(PART))
        rates.append(PART / (time.process_time() - began))
        assert booked == PART, "a trip on the ground was not booked"
        held.append(memory.own())
        if forgetting:
            place.forget()
    return statistics.median(rates), held


def _stock(place: Ground) -> None:
    for (kind, thing), body in things().items():
        place.put(kind, thing, body)


def _trip(place: Ground) -> bool:
    """One trip to the end of its execution; whether it was booked."""
    key = f"trip-{next(_numbers)}"
    saga_id = place.start(TRAVEL_BOOKING.name, sample(TRAVEL_BOOKING) | {"trip_id": key}, key=key)
    # On the ground it has ended by now; moto as shipped runs it in a thread.
    until = time.monotonic() + PATIENCE
    while (status := place.execution(saga_id)["status"]) == "RUNNING":
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return bool(status == "SUCCEEDED")


def _brittle_trip(place: Ground) -> bool:
    """The same, where DynamoDB's tables break under threads: such a trip counts as not booked."""
    try:
        return _trip(place)
    except RuntimeError as problem:
        say(f"moto as shipped: {problem}")
        return False
