"""One deploy meets many sagas, each at another point of its way: all of them end.

`HYPOTHESIS_TIMES=34 pytest tests/integration/test_many_in_flight.py` has a thousand of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from threading import Event, Semaphore, Thread
from typing import Any, get_args

from recourse.declare.declaration import Coordination, Together
from recourse.ledger.history import AT_REST
from recourse.testing.handlers import Killed
from tests.ground import Ground, ground
from tests.integration.test_change import (
    BEFORE,
    BOTH,
    CAPTURE,
    CAR,
    FLIGHT,
    HOTEL,
    begin,
    must_show,
    payment,
    release,
    stay,
)
from tests.integration.test_every_saga import dead_lettered, outcome, stuck
from tests.integration.trips import must_be_gone, must_be_whole, must_hold, stock
from tests.profile import TIMES

AFTER = stay(Together(HOTEL, FLIGHT), CAR, payment(BOTH), CAPTURE)
"""A step is added, two change their order and run together, the last one goes."""
REFUSED = {"payment": "reject"}
EACH = TIMES


@dataclass(frozen=True)
class Point:
    """Where on its way the deploy meets a saga.

    Attributes:
        faults: What happens to it.
        at: The step, the phase and the number of the try that has just begun; without it, wherever
            the saga comes to by itself.
        status: How it ends.
    """

    faults: dict[str, str] = field(default_factory=dict)
    at: tuple[str, str, int] | None = None
    status: str = "SUCCEEDED"


def undone(at: tuple[str, str, int] | None = None, **faults: str) -> Point:
    said = {name.replace("__", "."): fault for name, fault in faults.items()}
    return Point(REFUSED | said, at, "COMPENSATED")


POINTS = [
    *(Point(at=(step.name, "action", 0)) for step in BEFORE.all),
    undone(("payment", "action", 0)),
    undone(("hotel", "undo", 0)),
    undone(("flight", "undo", 0)),
    Point({"hotel": "error:1"}, ("hotel", "action", 1)),
    Point({"invoice": "error:1"}, ("invoice", "action", 1)),
    undone(("flight", "undo", 1), flight__undo="error:1"),
    Point({"invoice": "error:16"}),
    undone(hotel__undo="error:16"),
    Point(),
    undone(),
]


@dataclass
class Halts:
    """Stops each saga where the deploy is to meet it.

    A state machine's task is held until the deploy has been. The process of a queue's function dies
    as it begins: its message comes again.
    """

    points: dict[str, Point] = field(default_factory=dict)
    held: list[tuple[Thread, Event]] = field(default_factory=list)
    is_deployed: bool = False

    def __post_init__(self) -> None:
        self.arrivals = Semaphore(0)
        self.goes_on = Event()

    def __call__(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        point = self.points.get(task["saga"]["id"])
        here = task["step"], task["phase"], task.get("attempt", 0)
        if not self.is_deployed and point and here == point.at:
            if "carried" in task:
                raise Killed
            goes_on = self.goes_on
            self.arrivals.release()
            goes_on.wait()
        return run()

    def run(self, ground: Ground, saga_id: str) -> None:
        """Run a state machine until it is held, or as far as it comes."""
        record = ground.ledger.get(saga_id)
        assert record is not None
        self.goes_on = Event()

        def begin() -> None:
            ground.runs.start(record)
            self.arrivals.release()

        thread = Thread(target=begin)
        thread.start()
        self.held.append((thread, self.goes_on))
        self.arrivals.acquire()

    def let_go(self) -> None:
        """Go on, one after the other."""
        self.is_deployed = True
        for thread, goes_on in self.held:
            goes_on.set()
            thread.join()


@contextmanager
def in_flight() -> Iterator[tuple[Ground, Halts]]:
    with ground({"stay": AFTER}) as made:
        stock(made)
        made.deploy({"stay": BEFORE})
        made.mishap = halts = Halts()
        try:
            yield made, halts
        finally:
            halts.let_go()


def go_on(ground: Ground) -> None:
    """Deliver all that can be; no time passes, so what is put off or was being taken waits.

    One message at a time: a process that dies takes no other saga's message along.
    """
    moved = True
    while moved:
        moved = bool(ground.relay())
        for name in list(ground.queues):
            while ground.deliver(name, 1):
                moved = True


def bring_to_rest(ground: Ground, sagas: list[str]) -> None:
    """Let the sweeper go round, and operators retry what is parked."""
    waiting = sagas
    for _ in range(4):
        ground.settle()
        records = [record for one in waiting if (record := ground.ledger.get(one))]
        unended = [record for record in records if record.status not in AT_REST]
        waiting = [record.saga_id for record in unended]
        for record in unended:
            parked = stuck(ground, ground.ledger.shape(record), record.saga_id)
            if parked:
                ground.resolve(record.saga_id, parked[0], skip=False)
        if waiting:
            ground.clock.sleep(BEFORE.deadline + 3600)
            ground.sweep()
    assert not waiting, {one: ground.statuses(one) for one in waiting}


def test_all_sagas_end_that_a_deploy_meets_wherever_they_are() -> None:
    with in_flight() as (ground, halts):
        with ground.clock.standing():  # else what is held comes again, on a slow machine
            for point, how in product(POINTS * EACH, get_args(Coordination)):
                saga_id = begin(ground, how, point.faults, run=False)
                halts.points[saga_id] = point
                if how == "orchestration":
                    halts.run(ground, saga_id)
            go_on(ground)
            for how in list(get_args(Coordination)) * EACH:
                halts.points[begin(ground, how, {}, run=False)] = Point()
        # Of the last ones the start is recorded, and nothing more.
        met = Counter(ground.view(one)["status"] for one in halts.points)
        ends = 2 * EACH
        assert (met["SUCCEEDED"], met["COMPENSATED"]) == (ends, ends), "the others are on their way"
        release(ground, AFTER)
        halts.let_go()
        new = [begin(ground, how, {}) for how in get_args(Coordination)]
        bring_to_rest(ground, [*halts.points, *new])
        for saga_id, point in halts.points.items():
            assert ground.view(saga_id)["status"] == point.status, ground.view(saga_id)
            must_show(ground, saga_id)
            (must_be_whole if point.status == "SUCCEEDED" else must_be_gone)(ground, saga_id)
            for step in (one for one in BEFORE.all if one.confirm and point.status == "SUCCEEDED"):
                assert outcome(ground, saga_id, step.name, step.service, "confirm") == "done"
        for saga_id in new:
            assert [one["name"] for one in ground.view(saga_id)["steps"]] == [
                one.name for one in AFTER.all
            ]
            assert ground.view(saga_id)["status"] == "SUCCEEDED"
        must_hold(ground)
        assert dead_lettered(ground) == {}
