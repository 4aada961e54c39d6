"""A random search for a course of events that goes wrong; what it finds is made short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from recourse.declare.saga import Saga
from recourse.testing import checks
from recourse.testing.course import (
    COORDINATIONS,
    Course,
    Interruption,
    Move,
    Says,
    Start,
    run,
    targets,
)
from recourse.testing.story import WrongWorldError
from recourse.testing.world import World

SHRINKING = 200
"""How many courses may be played to make a counter-example shorter: the same on every machine."""
MOST_SAGAS = 3


def search(
    world: World, saga: str, effects: Mapping[str, checks.Figures], *, examples: int
) -> None:
    """Play random courses that begin with a saga, among others of its world.

    Args:
        world: What they are played with.
        saga: The name of the first saga of each.
        effects: What an undisturbed run of each saga does to the numbers of the stock.
        examples: How many courses.

    Raises:
        WrongWorldError: One of them goes wrong: the shortest that was found.
    """
    found: dict[Course, WrongWorldError] = {}
    left = SHRINKING

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(_courses(world, saga))
    def play(course: Course) -> None:
        nonlocal left
        if course in found:
            raise found[course]
        if found and left == 0:
            return
        left -= bool(found)
        try:
            run(world, course, effects)
        except WrongWorldError as problem:
            found[course] = problem
            raise problem from None

    play()


def _courses(world: World, first: str) -> SearchStrategy[Course]:
    def with_rivals(start: Start) -> SearchStrategy[tuple[Start, ...]]:
        # Nothing overtakes where nothing else begins: such a course would be one undisturbed.
        met = start.interruption
        least = 1 if met is not None and met.what == "is overtaken" else 0
        rivals = st.lists(any_start, min_size=least, max_size=MOST_SAGAS - 1)
        return rivals.map(lambda others: (start, *others))

    any_start = st.sampled_from(sorted(world.sagas)).flatmap(lambda name: _start(world.sagas[name]))
    both = _start(world.sagas[first]).flatmap(with_rivals)
    moves = st.lists(st.lists(_MOVE, max_size=4).map(tuple), max_size=MOST_SAGAS).map(tuple)
    return st.builds(Course, both, moves)


_MOVE = st.builds(
    Move,
    st.sampled_from(["deliver", "relay", "wait"]),
    st.integers(0, 5),
    st.integers(1, 10),
    st.booleans(),
    st.booleans(),
)


def _start(saga: Saga) -> SearchStrategy[Start]:
    # Two calls at once differ from run to run, so they cannot be made short.
    can = [one for one in targets(saga) if one[1] != "duplicate"]
    fault = st.tuples(st.sampled_from(can), st.sampled_from(["", ":1", ":2"])).map(
        lambda two: (two[0][0], two[0][1] + two[1])
    )
    actions = [(step.name, "action") for step in saga.all]
    undos = [(step.name, "undo") for step in saga.all if step.undo]
    # Most courses undo nothing, so an action is drawn more often.
    where = st.sampled_from([*actions * 3, *undos])
    # What only another saga's step brings to light is rare, so it is drawn more often.
    whats = [*["is overtaken"] * 4, "dies before its write", "dies after its write", "is cancelled"]
    interruption = st.builds(
        lambda what, where: Interruption(what, *where),
        st.sampled_from(whats),
        where,
    )
    return st.builds(
        Start,
        st.just(saga.name),
        st.sampled_from(COORDINATIONS),
        st.just(()) | st.lists(fault, max_size=2, unique_by=lambda one: one[0]).map(tuple),
        # A course with none comes by itself, so most have one; the simplest is the first.
        st.sampled_from([False, True, True, True]).flatmap(
            lambda is_met: interruption if is_met else st.none()
        ),
        # Where nothing is asked, nothing is drawn: each draw more changes what all others find.
        *([st.sampled_from(get_args(Says))] if saga.waiting else []),
    )
