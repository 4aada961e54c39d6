"""A thousand runs that are aborted at the same moment, and the sweeper alone to recover them.

It goes by the ground's own clock, which stands still but for the time that a call of AWS is taken
to last, the pace that the sweeper keeps, and the minute from one round to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from bench.figures import Figure, say
from bench.samples import sample, things
from recourse.ledger.history import AT_REST
from recourse.orchestration.sweeper import DESCRIBE_INTERVAL
from statemachines.travel_booking import TRAVEL_BOOKING
from tests.ground import Ground, ground

SAGAS = 1000
MINUTES = 5
LATENCY = 0.02
"""Seconds that a call of AWS is taken to last."""
_numbers = count()


@dataclass(frozen=True)
class Recovered:
    """How it went.

    Attributes:
        seconds: From the last abort until every saga was at rest, by the ground's clock.
        left: How many were not at rest when the time was up.
        asked: When each DescribeExecution was made, by the same clock.
    """

    seconds: float
    left: int
    asked: list[float]

    @property
    def most_in_a_second(self) -> int:
        """How many DescribeExecutions there were in any one second at the most."""
        # A call that comes exactly a second later is in the next one.
        return max(
            sum(
                first <= one < first + 1 - DESCRIBE_INTERVAL / 2
                for one in self.asked[at : at + 100]
            )
            for at, first in enumerate(self.asked)
        )


def measure() -> list[Figure]:
    """Abort a thousand trips at their payment, and let the sweeper run once a minute."""
    with ground() as place:
        for (kind, thing), body in things().items():
            place.put(kind, thing, body)
        found = recover(place, SAGAS)
    size = f"{SAGAS} trips aborted at their payment, {LATENCY * 1000:.0f} ms a call of AWS"
    return [
        Figure(
            what="time until every aborted saga is at rest",
            size=size,
            figure=f"{found.seconds:.0f} s; {found.left} left after {MINUTES} minutes",
            alternative=f"{MINUTES} minutes",
            ratio=found.seconds / (MINUTES * 60),
            most=1,
        ),
        Figure(
            what="DescribeExecutions in a second, at the most",
            size=size,
            figure=f"{found.most_in_a_second}, of {len(found.asked)} in all",
            alternative="10",
            ratio=found.most_in_a_second / 10,
            most=1,
        ),
    ]


def recover(place: Ground, number: int) -> Recovered:
    """Abort so many trips, and let the sweeper go round until the time is up, or all are at rest.

    Args:
        place: A ground on which nothing is under way.
        number: How many.
    """
    with place.clock.standing(), _aborted(place):
        sagas = [
            place.start(
                TRAVEL_BOOKING.name, sample(TRAVEL_BOOKING), key=f"recovery-{next(_numbers)}"
            )
            for _ in range(number)
        ]
    asked: list[float] = []
    with place.clock.standing():
        began = place.clock.seconds()
        for minute in range(1, MINUTES + 1):  # the grace of the youngest is over
            place.clock.sleep(max(0.0, began + minute * 60 - place.clock.seconds()))
            with _lasting(place, asked):
                place.sweep()
            place.settle()
            left = [one for one in sagas if place.view(one)["status"] not in AT_REST]
            took = place.clock.seconds() - began
            say(f"after {took:.0f} s: {number - len(left)} of {number} at rest")
            if not left or took >= MINUTES * 60:
                break
    return Recovered(took, len(left), asked)


@contextmanager
def _aborted(place: Ground) -> Iterator[None]:
    """Abort every run when it comes to its payment."""
    well = place.mishap

    def mishap(function: str, task: dict[str, Any], run: Any) -> Any:
        if task.get("step") == "payment":
            arn = place.execution(task["saga"]["id"])["executionArn"]
            place.sfn.stop_execution(executionArn=arn)
        return run()

    place.mishap = mishap
    yield
    place.mishap = well


@contextmanager
def _lasting(place: Ground, asked: list[float]) -> Iterator[None]:
    """Let the sweeper's calls of AWS take their time, and note when an execution is asked for.

    On the ground a run is over when it has been started; what it calls is not the sweeper's time.
    """
    started: list[str] = []

    def called(model: Any, **_: Any) -> None:
        if model.name == "DescribeExecution":
            asked.append(place.clock.seconds())
        if not started:
            place.clock.sleep(LATENCY)
        if model.name == "StartExecution":
            started.append(model.name)

    def answered(model: Any, **_: Any) -> None:
        if model.name == "StartExecution":
            started.clear()

    clients = [place.sfn.meta.events, place.dynamodb.meta.events]
    for hooks in clients:
        hooks.register("before-call", called)
        hooks.register("after-call", answered)
    yield
    for hooks in clients:
        hooks.unregister("before-call", called)
        hooks.unregister("after-call", answered)
