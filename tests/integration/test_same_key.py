"""The same Idempotency-Key with the same bytes is the same saga, whichever release gets it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Le
from hypothesis import given
from hypothesis import strategies as st

from recourse import Saga, request_model
from recourse.functions import kit
from recourse.ledger.record import Record, digest
from recourse.store.items import decode_item, encode_item
from recourse.testing.ground import LEDGER
from statemachines import SAGAS
from statemachines.fields import Id
from statemachines.travel_booking import TripRequest
from tests.ground import Ground, ground
from tests.integration.calling import PATH, Answer
from tests.integration.test_api import asha, problem, standing
from tests.integration.trips import TRIP, stock
from tests.recorded import load

SAGA = SAGAS["travel-booking"]
WITHOUT_CAR = {name: value for name, value in TRIP.items() if name != "car"}


@request_model
class WiderHotel:
    """A hotel's rooms, with one field more, which has a default."""

    id: Id
    rooms: Annotated[int, Ge(1), Le(9)]
    nights: Annotated[int, Ge(1), Le(90)]
    board: str = "none"


@request_model
class WiderTrip(TripRequest):
    """A trip, with one optional field more here and one in what it has."""

    hotel: WiderHotel  # type: ignore[assignment]
    note: str | None = None


@request_model
class StricterTrip(TripRequest):
    """A trip that must say who pays the tax."""

    tax: str


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


@pytest.fixture
def deploy(shared: Ground, monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Deploy a release with another class of requests."""

    def other(request: type) -> None:
        released: Saga = replace(SAGA, request=request)
        monkeypatch.setattr(kit, "sagas", lambda: {**SAGAS, SAGA.name: released})

    return other


def start(body: Any, key: str, query: str = "") -> Answer:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asha("POST", PATH + query, sent, Idempotency_Key=key)


def same(first: Answer, again: Answer) -> None:
    assert (first.status, again.status) == (202, 202), again
    assert again.json["saga_id"] == first.json["saga_id"]


@pytest.mark.parametrize("body", [TRIP, WITHOUT_CAR, WITHOUT_CAR | {"car": None}])
def test_a_release_with_optional_fields_more_knows_what_was_started_before(
    shared: Ground, deploy: Callable[[type], None], body: dict[str, Any]
) -> None:
    key = f"grown {len(json.dumps(body))}"
    first = start(body, key)
    deploy(WiderTrip)
    same(first, start(body, key))
    for more in ({"note": "late"}, {"hotel": body["hotel"] | {"board": "half"}}):
        problem(start(body | more, key), 409, "idempotency-key-reused")
    same(first, start(body | {"note": None}, key))
    deploy(TripRequest)
    same(first, start(body, key))


def test_a_release_that_is_rolled_back_knows_what_was_started_by_the_later_one(
    shared: Ground, deploy: Callable[[type], None]
) -> None:
    """Also where it would refuse the field that was sent: the trip was booked already."""
    deploy(WiderTrip)
    noted = TRIP | {"note": "late", "hotel": TRIP["hotel"] | {"board": "half"}}
    plain, with_note = start(TRIP, "back"), start(noted, "back with a note")
    deploy(TripRequest)
    same(plain, start(TRIP, "back"))
    same(with_note, start(noted, "back with a note"))
    problem(start(TRIP, "back with a note"), 409, "idempotency-key-reused")
    problem(start(noted | {"note": "later"}, "back with a note"), 422, "invalid")
    problem(start(noted, "back"), 422, "invalid")
    problem(start(noted, "never sent"), 422, "invalid")


def test_a_release_that_asks_for_more_knows_what_was_started_before(
    shared: Ground, deploy: Callable[[type], None]
) -> None:
    first = start(TRIP, "stricter")
    deploy(StricterTrip)
    same(first, start(TRIP, "stricter"))
    same(first, start(TRIP, "stricter", "?coordination=orchestration"))
    problem(start(TRIP, "stricter", "?coordination=choreography"), 422, "invalid")
    problem(start(TRIP, "a new one"), 422, "invalid")


def as_before(saga_id: str, ground: Ground) -> None:
    """Let a saga's row be as the release before digests were of what was sent wrote it."""
    row = ground.row(LEDGER, saga_id)
    assert row is not None
    filled = json.dumps(row["request"], sort_keys=True)
    row["body"] = hashlib.sha256(filled.encode()).hexdigest()
    ground.dynamodb.put_item(TableName=LEDGER, Item=encode_item(row))


@pytest.mark.parametrize("body", [TRIP, WITHOUT_CAR], ids=["all", "no car"])
def test_a_digest_of_an_earlier_release_is_compared_as_that_did(
    shared: Ground, deploy: Callable[[type], None], body: dict[str, Any]
) -> None:
    key = f"old {len(body)}"
    first = start(body, key)
    as_before(first.json["saga_id"], shared)
    same(first, start(dict(reversed(body.items())), key))
    same(first, start(body | {"documents": None}, key))
    problem(start(body | {"trip_id": "t-2"}, key), 409, "idempotency-key-reused")
    deploy(WiderTrip)
    problem(start(body | {"note": "late"}, key), 409, "idempotency-key-reused")
    deploy(StricterTrip)
    same(first, start(body, key))


def test_rows_of_an_earlier_release_know_the_request_that_they_have() -> None:
    """Those that were recorded, each with its own digest."""
    for one in load():
        record = Record.from_row(decode_item(encode_item(one.rows[0])))
        assert not record.body.startswith("sent:")
        sent = {name: value for name, value in record.request.items() if value is not None}
        for body in (sent, {**record.request}):
            assert record.was_sent(digest(body), record.request)
            assert record.was_sent(digest(body))
            wider = {**record.request, "note": None}
            assert record.was_sent(digest(body), wider)
        other = sent | {"note": "late"}
        assert not record.was_sent(digest(other), other)
        assert not record.was_sent(digest(other))


def test_what_is_told_of_a_key_that_was_used_leads_to_the_saga_and_not_to_a_second_one(
    shared: Ground,
) -> None:
    first = start(TRIP, "told of")
    detail = problem(start(TRIP | {"trip_id": "t-2"}, "told of"), 409, "idempotency-key-reused")
    assert detail["detail"] == (
        f"it was used for another request, which /sagas/{first.json['saga_id']} shows: a retry "
        "sends the same body and headers, and a new Idempotency-Key starts one more saga beside "
        "that one"
    )


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
json_values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), json_values), st.text(max_size=3), st.data())
def test_a_digest_is_of_what_is_sent_and_of_nothing_else(
    body: dict[str, Any], name: str, data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(body.items()))))
    assert digest(shuffled) == digest(body)
    assert digest(body | {name: None}) == digest({k: v for k, v in body.items() if k != name})
    other = data.draw(json_values.filter(lambda value: value is not None))
    assert digest(body | {name: [other]}) != digest(body | {name: [other, None]})
