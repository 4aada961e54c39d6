"""Going back after the end: what has succeeded is taken back once, or stays as it is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from recourse.declare.declaration import Coordination
from recourse.functions import kit
from recourse.ledger.record import ERASED
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.calling import Answer
from tests.integration.test_api import asha, nobody, operator, problem, ravi, standing
from tests.integration.test_every_saga import (
    COORDINATIONS,
    bring_to_rest,
    each_coordination,
    must_add_up,
    must_be_as_told,
    no_grace,
    sample,
    supply,
)

TRIP, REFUND = SAGAS["travel-booking"], SAGAS["trip-refund"]
BODY = sample(TRIP)
FLIGHT, ACCOUNT = BODY["flight"]["id"], BODY["payment"]["account_id"]
__all__ = ["no_grace"]
keys = itertools.count()


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    """A ground on which the API stands as well, with plenty of all."""
    with ground() as made, standing(made):
        supply(made)
        yield made


def book(made: Ground, body: Any = BODY, **headers: str) -> str:
    """Asha books a trip; its id, when all is told."""
    key = f"reverse-{next(keys)}"
    answer = asha("POST", "/sagas/travel-booking", body, Idempotency_Key=key, **headers)
    assert answer.status == 202, answer
    made.settle()
    found: str = answer.json["saga_id"]
    return found


def reverse(saga: str, reason: str | None = None, who: Any = asha, query: str = "") -> Answer:
    body = None if reason is None else {"reason": reason}
    found: Answer = who("POST", f"/sagas/{saga}/reverse{query}", body)
    return found


def begun(answer: Answer) -> str:
    assert answer.status == 202, answer
    found: str = answer.json["saga_id"]
    assert answer.headers["location"] == f"/sagas/{found}"
    return found


def statuses(made: Ground, saga: str) -> dict[str, tuple[str, Any]]:
    """The status of each row of a trip, and by what it was reversed."""
    keys = {"flights": "booking", "hotels": "booking", "cars": "booking", "payments": "payment"}
    rows = [row for name, kind in keys.items() for row in made.rows(name, f"{kind}#{saga}")]
    return {row["pk"]: (row["status"], row.get("reversed_by")) for row in rows}


def holdings(made: Ground) -> dict[tuple[str, str], Any]:
    return {one: made.held(*one) for one in made.stock}


@each_coordination
def test_a_trip_is_taken_back_whole_and_each_shows_the_other(
    made: Ground, coordination: Coordination
) -> None:
    before = holdings(made)
    saga = book(made)
    assert asha.get(saga).json["links"]["reverse"] == f"/sagas/{saga}/reverse"
    back = begun(reverse(saga, "the traveller is ill", query=f"?coordination={coordination}"))
    made.settle()
    assert must_be_as_told(made, REFUND, back) == "SUCCEEDED"
    assert holdings(made) == before
    assert statuses(made, saga) == {
        f"booking#{saga}#flight": ("CANCELLED", back),
        f"booking#{saga}#hotel": ("CANCELLED", back),
        f"booking#{saga}#car": ("CANCELLED", back),
        f"payment#{saga}": ("REFUNDED", back),
    }
    (movement,) = made.rows("payments", f"movement#{back}#")
    paid = made.row("payments", f"payment#{saga}")
    assert paid is not None
    assert movement["postings"][f"{ACCOUNT}:available"] == paid["amount"]["amount"]
    (note,) = made.rows("invoices", f"credit-note#{back}")
    invoice = made.row("invoices", f"invoice#{saga}")
    assert invoice is not None and invoice["status"] == "ISSUED"
    assert (note["invoice_id"], note["amount"]) == (invoice["invoice_id"], invoice["amount"])
    assert made.documents[note["object"]].body.startswith(b"%PDF")
    first, second = asha.get(saga).json, asha.get(back).json
    assert first["status"] == "SUCCEEDED", "what is over stays as it ended"
    assert (first["reversed_by"], first["links"]["reversed_by"]) == (back, f"/sagas/{back}")
    assert second["reverses"] == {"saga_id": saga, "reason": "the traveller is ill", "by": "asha"}
    assert second["links"]["reverses"] == f"/sagas/{saga}"
    assert second["coordination"] == coordination
    assert second["business_key"] == first["business_key"]


@each_coordination
def test_again_is_the_same_saga_whatever_it_says(made: Ground, coordination: str) -> None:
    saga = book(made)
    query = f"?coordination={coordination}"
    first = begun(reverse(saga, query=query))
    assert begun(reverse(saga, "another reason")) == first, "while it is under way"
    made.settle()
    later = reverse(saga, query=query)
    assert (begun(later), later.json["status"]) == (first, "SUCCEEDED")
    assert begun(reverse(saga, who=operator)) == first
    assert len(made.rows("payments", f"movement#{first}#")) == 1


def test_two_callers_at_once_begin_one(made: Ground) -> None:
    sagas = [book(made) for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        asked = [
            pool.submit(reverse, saga, None, who, f"?coordination={coordination}")
            for saga in sagas
            for who, coordination in zip((asha, operator), COORDINATIONS, strict=True)
        ]
        answers = [begun(one.result()) for one in asked]
    assert answers[::2] == answers[1::2] and len(set(answers)) == len(sagas)
    made.settle(shuffle=random.Random(3), twice=True)
    for saga, back in zip(sagas, answers[::2], strict=True):
        assert must_be_as_told(made, REFUND, back) == "SUCCEEDED"
        assert asha.get(saga).json["reversed_by"] == back
        assert len(made.rows("payments", f"movement#{back}#")) == 1


def test_one_that_was_recorded_and_never_ran_is_run_by_the_sweeper(made: Ground) -> None:
    saga = book(made)
    back = made.reverse(saga, run=False)
    made.settle()
    made.sweep()
    made.settle()
    assert must_be_as_told(made, REFUND, back) == "SUCCEEDED"
    assert begun(reverse(saga)) == back


# What is not reversed.


def test_what_has_not_succeeded_is_not_reversed(made: Ground) -> None:
    undone = book(made, Recourse_Chaos="payment=reject")
    assert "COMPENSATED" in problem(reverse(undone), 409, "not-succeeded")["detail"]
    parked = book(made, Recourse_Chaos="invoice=error")
    assert made.view(parked)["status"] == "RUNNING"
    assert "RUNNING" in problem(reverse(parked), 409, "not-succeeded")["detail"]
    stuck = book(made, Recourse_Chaos="payment=reject, hotel.undo=error")
    assert made.view(stuck)["status"] == "COMPENSATION_FAILED"
    problem(reverse(stuck), 409, "not-succeeded")
    for saga in (undone, parked, stuck):
        seen = asha.get(saga).json
        assert not {"reversed_by"} & seen.keys() and "reverse" not in seen["links"]
    for saga in (parked, stuck):  # others of this module see a quiet ground
        bring_to_rest(made, TRIP, saga)


def test_what_is_not_the_callers_or_not_there_is_a_404(made: Ground) -> None:
    saga = book(made)
    problem(reverse(saga, who=ravi), 404, "not-found")
    problem(reverse("0" * 32), 404, "not-found")
    problem(reverse("nonsense"), 404, "not-found")
    problem(reverse(saga, who=replace(asha, scope="sagas:read")), 403, "forbidden")
    problem(reverse(saga, who=nobody), 401, "unauthorized")
    assert "reversed_by" not in asha.get(saga).json


def test_a_saga_without_a_reverse_and_a_reverse_are_a_409(made: Ground) -> None:
    body = sample(SAGAS["transfer"])
    moved = asha("POST", "/sagas/transfer", body, Idempotency_Key=f"reverse-{next(keys)}")
    made.settle()
    problem(reverse(moved.json["saga_id"]), 409, "no-reverse")
    assert "reverse" not in asha.get(moved.json["saga_id"]).json["links"]
    back = begun(reverse(book(made)))
    made.settle()
    problem(reverse(back), 409, "no-reverse")


def test_nobody_starts_a_reverse_by_its_name(made: Ground) -> None:
    answer = asha("POST", "/sagas/trip-refund", {}, Idempotency_Key="by name")
    assert "travel-booking" in problem(answer, 404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'{"reason": 7}', 422, "invalid"),
        (b'{"why": "x"}', 422, "invalid"),
        (b'{"reason": "' + b"x" * 1001 + b'"}', 422, "invalid"),
    ],
)
def test_a_body_that_is_wrong_reverses_nothing(
    made: Ground, body: bytes, status: int, kind: str
) -> None:
    saga = book(made)
    problem(asha("POST", f"/sagas/{saga}/reverse", body), status, kind)
    for query, header in (("?coordination=none", {}), ("", {"Recourse_Chaos": "capture=reject"})):
        answer = asha("POST", f"/sagas/{saga}/reverse{query}", None, **header)
        assert answer.status in (400, 422), answer
    assert "reversed_by" not in asha.get(saga).json


def test_no_body_an_empty_one_and_no_reason_are_the_same(made: Ground) -> None:
    for body in (None, b"", b"{}", b'{"reason": null}'):
        saga = book(made)
        back = begun(asha("POST", f"/sagas/{saga}/reverse", body))
        assert asha.get(back).json["reverses"]["reason"] is None
    made.settle()


# The rules of the services.


@each_coordination
def test_a_flight_that_has_departed_is_not_refunded_and_all_stays_booked(
    made: Ground, coordination: str
) -> None:
    saga = book(made)
    before, rows = holdings(made), statuses(made, saga)
    flight = made.stock["flights", FLIGHT]
    made.put("flights", FLIGHT, {**flight, "departs_at": "2026-11-01T10:00:00+05:30"})
    back = begun(reverse(saga, query=f"?coordination={coordination}"))
    made.settle()
    assert must_be_as_told(made, REFUND, back) == "COMPENSATED"
    reason = asha.get(back).json["reason"]
    assert (reason["step"], reason["error"]) == ("flight", "FlightDepartedError")
    assert "departed at 2026-11-01" in reason["message"]
    assert {one: status for one, (status, _) in statuses(made, saga).items()} == {
        one: status for one, (status, _) in rows.items()
    }
    assert {one: by for one, (_, by) in statuses(made, saga).items() if by} == {}
    again = begun(reverse(saga))
    assert again != back, "what has reversed nothing may be tried again"
    assert asha.get(saga).json["reversed_by"] == again
    made.settle()
    made.put("flights", FLIGHT, {**flight, "departs_at": "2126-11-01T10:00:00+05:30"})
    last = begun(reverse(saga))
    made.settle()
    assert must_be_as_told(made, REFUND, last) == "SUCCEEDED"
    assert begun(reverse(saga)) == last
    must_add_up(made)
    made.put("flights", FLIGHT, flight)
    assert {one: shown.get("held") for one, shown in holdings(made).items()} == {
        one: shown.get("held") for one, shown in before.items()
    }


@each_coordination
def test_a_hold_whose_confirmation_is_on_its_way_is_cancelled_all_the_same(
    made: Ground, coordination: str
) -> None:
    before = holdings(made)
    confirms = {"flights-confirm", "hotels-confirm", "cars-confirm"}
    answer = asha("POST", "/sagas/travel-booking", BODY, Idempotency_Key=f"reverse-{next(keys)}")
    saga = answer.json["saga_id"]
    while made.view(saga)["status"] != "SUCCEEDED":
        made.relay()
        for name in set(made.queues) - confirms:
            made.deliver(name)
    assert {status for status, _ in statuses(made, saga).values()} == {"HELD", "CAPTURED"}
    back = begun(reverse(saga, query=f"?coordination={coordination}"))
    made.settle(shuffle=random.Random(5), twice=True)
    assert must_be_as_told(made, REFUND, back) == "SUCCEEDED"
    assert {status for status, _ in statuses(made, saga).values()} == {"CANCELLED", "REFUNDED"}
    assert holdings(made) == before


@each_coordination
def test_what_is_undone_is_confirmed_though_its_confirmation_comes_later(
    made: Ground, coordination: Coordination
) -> None:
    confirms = {"flights-confirm", "hotels-confirm", "cars-confirm"}
    saga = made.start("travel-booking", BODY, key=f"reverse-{next(keys)}")
    while made.view(saga)["status"] != "SUCCEEDED":
        made.relay()
        for name in set(made.queues) - confirms:
            made.deliver(name)
    back = made.reverse(saga, faults={"refund": "reject"}, coordination=coordination)
    made.settle()
    assert must_be_as_told(made, REFUND, back) == "COMPENSATED"
    assert {status for status, _ in statuses(made, saga).values()} == {"CONFIRMED", "CAPTURED"}


def test_a_trip_without_a_car_and_one_whose_invoice_was_skipped_are_taken_back(
    made: Ground,
) -> None:
    before = holdings(made)
    walking = book(made, {name: one for name, one in BODY.items() if name != "car"})
    back = begun(reverse(walking))
    skipped = book(made, Recourse_Chaos="invoice=error")
    made.resolve(skipped, "invoice", skip=True)
    made.settle()
    assert made.view(skipped)["status"] == "SUCCEEDED"
    other = begun(reverse(skipped))
    made.settle()
    for one, left_out in ((back, "car"), (other, "credit_note")):
        assert must_be_as_told(made, REFUND, one) == "SUCCEEDED"
        assert made.statuses(one)[left_out] == "SKIPPED"
    assert holdings(made) == before


def test_an_operator_reverses_for_the_owner(made: Ground) -> None:
    back = begun(reverse(book(made), "fraud", who=operator))
    made.settle()
    seen = asha.get(back).json
    assert (seen["owner"], seen["status"]) == ("asha", "SUCCEEDED")
    assert seen["reverses"]["by"] == "olga"


# Releases, and erasure.


def released(monkeypatch: pytest.MonkeyPatch, made: Ground, **sagas: Any) -> None:
    """The code that is newest by now."""
    now = {**SAGAS, **{name.replace("_", "-"): one for name, one in sagas.items()}}
    monkeypatch.setattr(kit, "sagas", lambda: now)
    monkeypatch.setattr(made.ledger, "sagas", now)


def test_a_release_that_takes_the_reverse_away_answers_what_was_reversed_before(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga, other = book(made), book(made)
    back = begun(reverse(saga))
    made.settle()
    released(monkeypatch, made, travel_booking=replace(TRIP, reverse=None))
    assert begun(reverse(saga)) == back
    problem(reverse(other), 409, "no-reverse")


def test_a_saga_that_has_not_what_its_reverse_takes_by_now_is_a_409_that_names_it(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = book(made)
    released(monkeypatch, made, trip_refund=replace(SAGAS["order-refund"], name=REFUND.name))
    detail = problem(reverse(saga), 409, "not-reversible")["detail"]
    assert "order_id" in detail
    assert "reversed_by" not in asha.get(saga).json


def test_what_was_erased_is_not_reversed(made: Ground) -> None:
    saga = book(made)

    def erase(record: Any) -> dict[str, Any]:
        return {"body": f"{ERASED}:2026-11-30", "request": {"trip_id": ERASED}}

    made.ledger._change(saga, erase)
    problem(reverse(saga), 410, "saga-erased")
