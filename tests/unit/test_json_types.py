"""Types that are written down are the same when they are read: the same fits, or does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import getitem
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.fits import misfit
from recourse.declare.json_types import UnwritableError, read, write
from statemachines import SAGAS


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Seats:
    id: str
    seats: int = 1


@dataclass(frozen=True, kw_only=True)
class OtherSeats:
    id: str
    seats: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tree:
    leaf: str | None
    branches: Sequence[Tree]


@dataclass(frozen=True, kw_only=True)
class Forest:
    trees: tuple[Tree, ...]
    nearest: Forest | None = None


ASKED: list[Any] = [str, int, bool, None, Any, Seats, OtherSeats, Tree, Forest]
ASKED += [Literal["red"], Literal["red", 1, None], Annotated[int, "counted"]]
GIVEN = [*ASKED, float, date, datetime, UUID, Decimal, Color]


def of(*made: Any) -> st.SearchStrategy[Any]:
    """What makes a type of another one: a list of it, say."""
    return st.sampled_from([partial(getitem, one) for one in made])


def within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types that an ask may have within others."""
    named = inner.map(lambda one: getitem(Mapping, (str, one)))  # type: ignore[call-overload]
    return named | of(Sequence, Optional).flatmap(inner.map)


def more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Those that only a request may have."""
    pairs = of(tuple).flatmap(st.tuples(inner, inner).map)
    return within(inner) | of(list, set).flatmap(inner.map) | pairs


asked_types = st.recursive(st.sampled_from(ASKED), within, max_leaves=3)
given_types = st.recursive(st.sampled_from(GIVEN), more, max_leaves=4)


@given(given_types, asked_types)
def test_what_is_read_fits_what_was_written_fits(was: Any, asked: Any) -> None:
    again = read(json.loads(json.dumps(write(was))))
    assert write(again) == write(was)
    fit = misfit(again, asked, "it") is None, misfit(was, asked, "it") is None
    assert fit[0] == fit[1], (was, again, asked)


@given(asked_types)
def test_a_type_that_was_written_fits_itself(was: Any) -> None:
    assert misfit(read(write(was)), was, "it") is None, was


def test_the_same_values_are_the_same_whatever_their_class_is_called() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Places:
        id: UUID
        seats: Annotated[int, "counted"]

    assert write(Places) == write(Seats) == {"fields": {"id": "str", "seats": "int"}}
    assert write(int | str | None) == write(None | str | int | UUID)


def test_a_misfit_says_where_it_is() -> None:
    again = read(write(Forest))
    assert misfit(again, Tree, "wood") == (
        "wood.leaf must be there, for Tree has no default for it, and object has no such field"
    )
    assert misfit(read(write(Sequence[Seats])), Sequence[str], "rows") == (
        "rows.* must be str, got object"
    )


@pytest.mark.parametrize("unknown", [object(), complex, bytes, list[bytes], Seats(id="a")])
def test_what_no_request_is_made_of_is_not_written(unknown: Any) -> None:
    with pytest.raises(UnwritableError):
        write(unknown)


@pytest.mark.parametrize(
    "unknown", ["long", {"fields": 1}, {"all of": []}, {"above": 3}, 7, None, {"each": "x"}, {}]
)
def test_what_a_later_release_writes_is_not_read(unknown: Any) -> None:
    with pytest.raises(UnwritableError):
        read(unknown)


@pytest.mark.of_all
@pytest.mark.parametrize("saga", SAGAS.values(), ids=list(SAGAS))
def test_every_field_that_a_step_takes_is_written(saga: Any) -> None:
    taken = {name for step in saga.all for name in step.takes}
    assert saga.request_types.keys() == taken
