"""No text of a person's is left in what stays, but what is declared; and all else is as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recourse.erasure.scrub import Scrub, texts
from recourse.ledger.record import ERASED

SUBJECT, PSEUDONYM = "the-subject", "erased-1234"
SAID = ("Asha Rao", "asha@example.com", "a", "status", "amount", SUBJECT)
KEEPS = {"flights": {"flight_id", "things"}}
SERVICES = {("trip", "flight"): "flights"}
scrub = Scrub(SUBJECT, PSEUDONYM, KEEPS, SERVICES, SAID)

said = st.sampled_from(SAID)
names = st.one_of(said, st.text(max_size=5), st.just("things"), st.just("flight_id"))
values = st.recursive(
    st.one_of(said, st.text(), st.integers(), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
)
fields = st.sampled_from(["holder", "note", "flight_id", "things", "owner", "price", "status"])
rows = st.fixed_dictionaries({"pk": st.just("booking#1")}, optional={}).flatmap(
    lambda key: st.dictionaries(fields, values, max_size=5).map(lambda row: key | row)
)


def numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif not isinstance(value, str):
        yield value


def left(value: Any) -> Iterator[str]:
    """Text outside of what is declared to stay."""
    if isinstance(value, Mapping):
        if value.keys() == {"amount", "currency"} and isinstance(value["amount"], int):
            return
        for name, one in value.items():
            if name not in ("pk", "status", "saga_id", "step", *KEEPS["flights"]):
                yield from left(one)
    elif isinstance(value, list):
        for one in value:
            yield from left(one)
    elif isinstance(value, str):
        yield value


@given(rows)
def test_no_text_is_left_but_what_is_declared(row: dict[str, Any]) -> None:
    after = scrub.row("flights", row)
    assert set(left(after)) <= {"", ERASED, PSEUDONYM}
    assert after.keys() == row.keys()
    assert list(numbers(after)) == list(numbers(row)), "what is counted stays"
    assert {n: after[n] for n in after if n in KEEPS["flights"]} == {
        n: row[n] for n in row if n in KEEPS["flights"]
    }
    assert scrub.row("flights", after) == after, "once more changes nothing"


@given(st.dictionaries(st.text(max_size=9), values, max_size=4))
def test_a_name_within_a_row_that_came_from_the_request_goes_too(found: dict[str, Any]) -> None:
    row = {"pk": "x", "seats": {"Asha Rao": 2, "for Asha Rao": 3, "others": found}}
    seats = scrub.row("flights", row)["seats"]
    assert {2, 3} <= {one for one in seats.values() if isinstance(one, int)}
    assert not any("Asha" in name for name in seats)


def test_an_owner_is_the_pseudonym_and_money_stays_whatever_is_said() -> None:
    price = {"amount": 12, "currency": "INR"}
    row = {"pk": "p", "owner": SUBJECT, "price": price, "status": "HELD", "nested": [price]}
    after = scrub.row("flights", row)
    assert after == row | {"owner": PSEUDONYM}


def test_texts_are_every_text_within_a_request() -> None:
    assert sorted(texts({"a": ["x", {"b": "y", "n": 1}], "c": None})) == ["x", "y"]
