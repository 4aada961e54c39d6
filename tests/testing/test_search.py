"""What the random search draws: few courses are played, so each has something that may go wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from recourse.testing import search
from recourse.testing.course import Course
from recourse.testing.world import World
from statemachines import SAGAS

TRANSFER = SAGAS["transfer"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Course]:
    """Sixty courses of a saga of four steps, drawn and not played."""
    found: list[Course] = []
    monkeypatch.setattr(search, "run", lambda world, course, effects: found.append(course))
    world = World(sagas={"transfer": TRANSFER}, samples={})
    search.search(world, "transfer", {}, examples=60)
    return found


def test_what_is_overtaken_is_overtaken_by_something(drawn: list[Course]) -> None:
    firsts = [(course, course.starts[0].interruption) for course in drawn]
    alone = [course for course, met in firsts if met and met.what == "is overtaken"]
    assert len(alone) >= 15
    assert all(len(course.starts) > 1 for course in alone)


def test_each_action_is_overtaken_several_times(drawn: list[Course]) -> None:
    overtaken = Counter(
        start.interruption.step
        for course in drawn
        for start in course.starts[:-1]
        if start.interruption
        and (start.interruption.what, start.interruption.phase) == ("is overtaken", "action")
    )
    assert min(overtaken[step.name] for step in TRANSFER.all) >= 3, overtaken


def test_undos_are_disturbed_too_and_some_courses_are_not(drawn: list[Course]) -> None:
    met = [start.interruption for course in drawn for start in course.starts]
    assert None in met and "undo" in {one.phase for one in met if one}
    assert {one.what for one in met if one} >= {"dies before its write", "is cancelled"}
