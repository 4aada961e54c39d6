"""Slots: what an owner has under way is bounded, whoever dies and however many come at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from recourse.store.slots import LimitReachedError, Slots
from recourse.store.table import Table

SECONDS = 60.0


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slots(table: Table, clock: Clock) -> Slots:
    for owner in ("asha", "ravi"):
        table.delete(f"slots#streams#{owner}")
    return Slots(table, "streams", most=3, seconds=SECONDS, clock=clock)


def refused(work: Callable[[], object]) -> LimitReachedError:
    with pytest.raises(LimitReachedError) as caught:
        work()
    return caught.value


def test_an_owner_has_so_many_and_takes_none_of_anothers(slots: Slots) -> None:
    held = [slots.acquire("asha") for _ in range(3)]
    error = refused(lambda: slots.acquire("asha"))
    assert (error.status, error.headers) == (429, {"retry-after": "60"})
    assert "at most" not in str(error) and "3 streams" in str(error)
    slots.acquire("ravi")
    slots.release("asha", held[0])
    slots.acquire("asha")
    refused(lambda: slots.acquire("asha"))


def test_a_slot_that_is_released_twice_gives_one(slots: Slots) -> None:
    first, *_ = [slots.acquire("asha") for _ in range(3)]
    slots.release("asha", first)
    slots.release("asha", first)
    slots.acquire("asha")
    refused(lambda: slots.acquire("asha"))


def test_a_slot_whose_holder_has_died_ends_by_itself(slots: Slots, clock: Clock) -> None:
    for _ in range(3):
        slots.acquire("asha")
        clock.now += 10
    assert refused(lambda: slots.acquire("asha")).headers == {"retry-after": "30"}
    clock.now += 30
    slots.acquire("asha")
    assert refused(lambda: slots.acquire("asha")).headers == {"retry-after": "10"}


def test_a_slot_is_released_however_its_block_ends(slots: Slots) -> None:
    for _ in range(4):
        with pytest.raises(ZeroDivisionError), slots.held("asha"):
            raise ZeroDivisionError
    with slots.held("asha"), slots.held("asha"), slots.held("asha"):
        refused(lambda: slots.held("asha").__enter__())


def test_many_at_once_are_as_many_as_may(slots: Slots) -> None:
    def acquired(_: int) -> bool:
        try:
            slots.acquire("asha")
        except LimitReachedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(acquired, range(40))) == 3
