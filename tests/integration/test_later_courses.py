"""What is done later by a moment of the request; and under whatever disturbs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from recourse.declare.declaration import Coordination
from recourse.testing.course import courses, effect, run
from recourse.testing.ground import Ground, ground
from recourse.testing.search import search
from recourse.testing.world import World
from tests.integration.delaying import LATER, staying
from tests.integration.test_later import each_coordination, must_rest_at, must_succeed

ARRIVAL = staying("check_in", not_before="stay.arrives_at", takes=["stay"])


@each_coordination
@pytest.mark.parametrize(
    ("ahead", "rests"),
    [(timedelta(days=40), True), (timedelta(seconds=-1), False), (None, False)],
)
def test_a_step_waits_for_the_moment_that_the_request_has(
    coordination: Coordination, ahead: timedelta | None, rests: bool
) -> None:
    own: Ground
    with ground({ARRIVAL.name: ARRIVAL}) as own, own.clock.standing():
        now = datetime.fromtimestamp(own.clock.seconds(), UTC)
        east = timezone(timedelta(hours=5, minutes=30))
        arrives = ahead is not None and (now + ahead).astimezone(east).isoformat()
        body = {"stay_id": "s", "stay": {"arrives_at": arrives or None}}
        saga: str = own.start(ARRIVAL.name, body, key="s", coordination=coordination)
        own.settle()
        if rests:
            assert ahead is not None
            must_rest_at(own, saga, "check_in")
            own.clock.sleep(ahead.total_seconds() - 1)
            assert own.sweep() == {}
            own.clock.sleep(1.001)
            own.sweep()
        must_succeed(own, saga)


def test_sagas_that_rest_come_to_their_ends_whatever_disturbs_them() -> None:
    for step in ("check_in", "settle"):
        saga = LATER[step]
        body = {"stay_id": "s-1", "stay": {"arrives_at": None}}
        world = World(sagas={saga.name: saga}, samples={saga.name: body})
        with world.keeping():
            effects = {saga.name: effect(world, saga.name)}
            for course in courses(saga):
                if step in str(course) and ":1" not in str(course):
                    run(world, course, effects)
            search(world, saga.name, effects, examples=10)
