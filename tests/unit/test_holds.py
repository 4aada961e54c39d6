"""A thing's row knows since when it is held, and by how many, whatever happens in which order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse import Item
from recourse.declare.step import Update
from services import holds
from services.holds import EXACT, MOST, PREFIX

BEGIN = 1_764_468_000_000


class Thing:
    """A thing whose row is changed as DynamoDB changes it, and what is true of it."""

    def __init__(self) -> None:
        self.row: Item = {"held": 0}
        self.open: list[tuple[int, int | None]] = []
        """When each hold began, and the moment by which it is counted."""

    def apply(self, change: holds.Change, held: int) -> bool:
        """Carry out a change, if its condition holds."""
        if any(self.row.get(name) != count for name, count in change.when.items()):
            return False
        assert not set(change.add) & set(change.remove), "DynamoDB refuses two of one attribute"
        for name, more in {**change.add, "held": held}.items():
            self.row[name] = self.row.get(name, 0) + more
        for name in change.remove:
            self.row.pop(name, None)
        return True

    def begin(self, now: int) -> None:
        since, change = holds.begin(self.row, 1)
        assert self.apply(change, 1)
        self.open.append((now, since))

    def end(self, which: int) -> None:
        _, since = self.open.pop(which)
        assert self.apply(holds.end(since), -1)

    @property
    def marks(self) -> list[str]:
        return [name for name in self.row if name.startswith(PREFIX)]

    def must_be_right(self) -> None:
        shown = holds.show(self.row)
        assert shown["held_by"] == len(self.open)
        if not self.open:
            assert shown["held_since"] is None
            return
        since = datetime.fromisoformat(shown["held_since"])
        counted = min(moment for _, moment in self.open if moment is not None)
        assert since == datetime.fromtimestamp(counted / 1000, UTC)
        assert counted <= min(began for began, _ in self.open)


class Clock:
    now = BEGIN


@pytest.fixture(scope="module", autouse=True)
def clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holds, "_now", lambda: Clock.now)
        yield


MOVE = st.tuples(st.sampled_from(["begin", "begin", "end"]), st.integers(0, 3), st.integers(0, 99))


@given(st.lists(MOVE, max_size=200))
def test_the_oldest_hold_and_their_number_are_those_of_the_holds(moves: list[Any]) -> None:
    thing = Thing()
    for what, passed, which in moves:
        Clock.now += passed
        if what == "begin":
            few = len({moment for _, moment in thing.open}) < EXACT
            thing.begin(Clock.now)
            assert not few or thing.open[-1][1] == Clock.now, "few holds have each its own moment"
        elif thing.open:
            thing.end(which % len(thing.open))
        thing.must_be_right()
        assert len(thing.marks) <= MOST + 1


@pytest.mark.parametrize("apart", [0, 1, 50, 60_000, 86_400_000])
def test_however_many_hold_it_its_row_stays_small(apart: int) -> None:
    thing = Thing()
    for _ in range(400):
        Clock.now += apart
        thing.begin(Clock.now)
    thing.must_be_right()
    assert len(thing.marks) <= MOST + 8
    assert sum(len(name) + 4 for name in thing.marks) < 1000, "it is still one unit to write"
    while thing.open:
        thing.end(0)
        thing.must_be_right()
    for _ in range(MOST):
        thing.begin(Clock.now)
        thing.end(0)
    assert len(thing.marks) <= MOST + 1, "what counts nothing does not stay for ever"


def test_holds_that_are_decided_at_once_are_all_counted() -> None:
    thing = Thing()
    for number in range(3 * MOST):
        Clock.now += 10**6
        seen = dict(thing.row)
        both = [holds.begin(seen, 1) for _ in range(2)]
        for since, change in both:
            if not thing.apply(change, 1):
                since, change = holds.begin(thing.row, 1)  # as the step does: it decides again
                assert thing.apply(change, 1)
            thing.open.append((Clock.now, since))
        thing.must_be_right()
        while len(thing.open) > number % 3:
            thing.end(0)
        thing.must_be_right()


def test_an_attribute_that_counts_again_is_not_removed() -> None:
    thing = Thing()
    thing.begin(Clock.now)
    for _ in range(MOST - 1):
        Clock.now += 1
        thing.begin(Clock.now)
        thing.end(1)
    Clock.now += 1
    _, change = holds.begin(thing.row, 1)
    assert change.remove
    thing.row[change.remove[0]] += 1  # meanwhile a hold that was decided before is committed
    assert not thing.apply(change, 1)


def test_what_releases_before_have_held_is_not_counted_and_harms_nothing() -> None:
    thing = Thing()
    thing.row["held"] = 1
    assert holds.show(thing.row) == {"held_since": None, "held_by": 0}
    thing.begin(Clock.now)
    assert thing.apply(holds.end(None), -1)
    thing.must_be_right()


def test_what_a_release_before_has_left_counts_no_more_once_nothing_is_held() -> None:
    thing = Thing()
    thing.begin(Clock.now)
    thing.open.clear()
    thing.row["held"] = 0  # it was released by code that does not count
    thing.must_be_right()
    Clock.now += 5000
    thing.begin(Clock.now)
    thing.must_be_right()
    assert thing.open[0][1] == Clock.now and len(thing.marks) == 1


def test_a_hold_of_nothing_is_none() -> None:
    assert holds.begin({"held": 0}, 0) == (None, holds.Change())


def test_what_it_changes_fits_an_update() -> None:
    _, change = holds.begin({"held": 1, f"{PREFIX}1": 1}, 1)
    update = Update("flight#x", add=change.add, when=change.when, remove=change.remove)
    assert update.add == {f"{PREFIX}{Clock.now}": 1}
