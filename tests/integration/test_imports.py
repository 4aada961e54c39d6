"""Imports: a saga for each row of a file, each once, and the bad rows by line and field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ground import Ground, ground
from tests.integration.importing import begin, imported, result
from tests.integration.test_api import standing
from tests.integration.trips import stock

HEADER = (
    "trip_id,traveller.name,traveller.email,flight.id,flight.seats,"
    "hotel.id,hotel.rooms,hotel.nights,payment.account_id"
)


def trip(number: int | str, seats: int | str = 1) -> str:
    return f"i-{number},Asha Rao,asha@example.com,AI-202,{seats},taj-delhi,1,3,acct-asha"


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows, ""])


@pytest.fixture
def place() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


def test_each_row_is_a_saga(place: Ground) -> None:
    found = imported("trips.csv", csv(*(trip(number) for number in range(1, 4))))
    assert found["status"] == "COMPLETED", found
    assert (found["rows"], found["bad"], found["started"]) == (3, 0, 3)
    lines = result(found)
    assert [(one["line"], one["outcome"]) for one in lines] == [
        (2, "started"),
        (3, "started"),
        (4, "started"),
    ]
    place.settle()
    views = [place.view(one["saga_id"]) for one in lines]
    assert [one["business_key"] for one in views] == ["i-1", "i-2", "i-3"]
    assert {one["status"] for one in views} == {"SUCCEEDED"}


def test_bad_rows_are_named_and_the_good_ones_run(place: Ground) -> None:
    found = imported("trips.csv", csv(trip(1), trip(2, "two"), trip(3), trip(1)))
    assert (found["started"], found["bad"]) == (2, 2), found
    assert found["problems"] == [
        {"line": 3, "field": "flight.seats", "why": "Input should be a valid integer"},
        {"line": 5, "field": "trip_id", "why": "is that of line 2 already"},
    ]


def test_the_same_file_twice_starts_nothing_twice(place: Ground) -> None:
    text = csv(trip(1), trip(2))
    first = imported("trips.csv", text)
    again = begin("trips.csv").json
    assert again["import_id"] == first["import_id"]
    other = imported("copy.csv", text, key="i-2")
    assert (other["started"], other["already_there"]) == (0, 2), other
    assert {one["outcome"] for one in result(other)} == {"already_there"}
    assert len(place.rows("ledger", "")) > 0
