"""The probe commits once, tells when, and suffers what its events ask for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lambdas.probe import Effects, ProbeError, row_key
from recourse.events import Event
from recourse.store.items import decode_item
from recourse.testing.handlers import Killed
from tests.events import event as happened
from tests.push.bed import Bed, bed


@pytest.fixture(scope="module")
def where() -> Iterator[Bed]:
    with bed() as made:
        made.table("effects", "pk")
        yield made


def die() -> None:
    raise Killed


def event(number: int, run: str, **fault: Any) -> Event:
    data: dict[str, Any] = {"run": run, "number": number} | ({"fault": fault} if fault else {})
    return happened(run, "probe", "done", step="null", **data)


def row(where: Bed, run: str, number: int) -> dict[str, Any]:
    key = {"pk": {"S": row_key(run, number)}}
    return decode_item(where.dynamodb.get_item(TableName="effects", Key=key).get("Item", {}))


def test_an_event_that_comes_twice_has_one_row_and_is_counted_twice(where: Bed) -> None:
    effects = Effects(where.dynamodb, "effects")
    assert [effects.commit(event(1, "twice"), "a") for _ in range(2)] == [1, 2]
    found = row(where, "twice", 1)
    assert found["deliveries"] == 2


def test_when_a_commit_was_done_is_told_by_a_later_one(where: Bed) -> None:
    effects = Effects(where.dynamodb, "effects")
    for number in (1, 2, 3):
        effects.commit(event(number, "done"))
    first, second = row(where, "done", 1), row(where, "done", 2)
    assert first["done"] == []
    (told,) = second["done"]
    assert told["key"] == row_key("done", 1)
    assert first["began"] < told["at"] < second["began"]


def test_an_event_may_ask_to_fail_so_often_or_so_long(where: Bed) -> None:
    effects = Effects(where.dynamodb, "effects")
    failing = event(1, "fails", kind="error", tries=2)
    for _ in range(2):
        with pytest.raises(ProbeError):
            effects.commit(failing)
    assert "began" not in row(where, "fails", 1)
    assert effects.commit(failing) == 1
    with pytest.raises(ProbeError):
        effects.commit(event(2, "fails", kind="down", until=time.time_ns() + 10**12))
    assert effects.commit(event(3, "fails", kind="down", until=time.time_ns())) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_event_may_ask_that_its_consumer_dies_once(where: Bed, when: str) -> None:
    effects = Effects(where.dynamodb, "effects", die)
    deadly = event(1, f"dies-{when}", kind="die", when=when)
    with pytest.raises(Killed):
        effects.commit(deadly)
    assert ("began" in row(where, f"dies-{when}", 1)) == (when == "after")
    assert effects.commit(deadly) == (2 if when == "after" else 1)
