"""The services' rules: decisions as plain values, no table needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.ids import SagaId
from recourse.declare.money import CurrencyMismatchError, Money
from recourse.declare.step import AtLeast, Call, Decision, Item, Put, Update
from recourse.store.items import decode_item, encode, encode_item
from services import accounts, cars, counted, flights, hotels, invoices, payments, policies
from tests.prices import money

SAGA = SagaId("5a9a1d" + "0" * 26)
CALL = Call(
    saga_id=SAGA,
    saga="travel-booking",
    step="hotel",
    owner="asha",
    business_key="t-1",
    started_at="2026-11-24T10:00:00.000Z",
    ask=hotels.HoldAsk(hotel=hotels.Rooms(id="taj-delhi", rooms=2, nights=3)),
    results={},
)
TAJ: Item = {"pk": "hotel#taj-delhi", "id": "taj-delhi", "total": 5, "available": 5} | {
    "held": 0,
    "confirmed": 0,
    "price": money(1000, "INR"),
}
ACCOUNT: Item = {"pk": "account#acct-asha", "id": "acct-asha", "currency": "INR"} | {
    "balance": 9000,
    "available": 9000,
    "held": 0,
    "changes": 0,
}
PAYMENT: Item = {"pk": f"payment#{SAGA}", "account_id": "acct-asha", "status": "AUTHORISED"} | {
    "amount": money(6000, "INR")
}
PAY = Call(
    saga_id=SAGA,
    saga="travel-booking",
    step="payment",
    owner="asha",
    business_key="t-1",
    started_at="2026-11-24T10:00:00.000Z",
    ask=payments.AuthoriseAsk(payment=payments.Payer(account_id="acct-asha")),
    results={"hotel": {"price": money(6000, "INR")}, "car": None},
    items=[ACCOUNT],
)


def apply(rows: dict[str, Item], decision: Decision) -> None:
    """Carry out a decision on rows in memory, with its conditions."""
    for write in decision.writes:
        if isinstance(write, Put):
            assert write.item["pk"] not in rows
            rows[write.item["pk"]] = dict(write.item)
            continue
        assert isinstance(write.key, str)
        row = rows[write.key]
        for name, wanted in write.when.items():
            found = row[name]
            assert found >= wanted.value if isinstance(wanted, AtLeast) else found == wanted
        row |= write.put
        for name in write.remove:
            row.pop(name, None)
        for name, delta in write.add.items():
            row[name] = row.get(name, 0) + delta


def test_a_hold_is_priced_by_room_and_night() -> None:
    decision = hotels.hold(replace(CALL, items=[TAJ]))
    assert decision.result["price"] == money(6000, "INR")
    rows = {TAJ["pk"]: dict(TAJ)}
    apply(rows, decision)
    assert (rows[TAJ["pk"]]["available"], rows[TAJ["pk"]]["held"]) == (3, 2)
    assert rows[f"booking#{SAGA}#hotel"]["status"] == "HELD"


@pytest.mark.parametrize(
    ("service", "ask", "price"),
    [
        (flights, flights.HoldAsk(flight=flights.Seats(id="x", seats=2)), 200),
        (cars, cars.HoldAsk(car=cars.Car(id="x", days=4)), 400),
        (hotels, hotels.HoldAsk(hotel=hotels.Rooms(id="x", rooms=2, nights=4)), 800),
    ],
)
def test_prices_are_per_seat_day_and_room_night(service: Any, ask: Any, price: int) -> None:
    thing = TAJ | {"price": money(100, "INR")}
    decision = service.hold(replace(CALL, ask=ask, items=[thing]))
    assert decision.result["price"]["amount"] == price


def test_too_few_and_unknown_are_refused() -> None:
    with pytest.raises(hotels.RoomUnavailableError):
        hotels.hold(replace(CALL, items=[TAJ | {"available": 1}]))
    with pytest.raises(hotels.UnknownHotelError):
        hotels.hold(replace(CALL, items=[None]))


@given(st.lists(st.sampled_from(["hold", "release", "book"]), max_size=12), st.data())
def test_a_counted_thing_always_adds_up(moves: list[str], data: Any) -> None:
    rows = {TAJ["pk"]: dict(TAJ)}
    held: list[SagaId] = []
    for number, move in enumerate(moves):
        if move == "hold" and rows[TAJ["pk"]]["available"] >= 2:
            call = replace(CALL, saga_id=SagaId(f"{number:032x}"), items=[rows[TAJ["pk"]]])
            apply(rows, hotels.hold(call))
            held.append(call.saga_id)
        elif move != "hold" and held:
            saga_id = held.pop(data.draw(st.integers(0, len(held) - 1)))
            call = replace(CALL, saga_id=saga_id)
            turn = hotels.release if move == "release" else hotels.book
            apply(rows, turn(replace(call, items=[rows[counted.booking_key(call)]])))
        row = rows[TAJ["pk"]]
        assert row["total"] == row["available"] + row["held"] + row["confirmed"]
        assert min(row["available"], row["held"], row["confirmed"]) >= 0


def test_a_total_cannot_fall_below_what_is_held_and_confirmed() -> None:
    held = TAJ | {"available": 2, "held": 2, "confirmed": 1}
    body = {"total": 3, "price": money(1, "INR")}
    (change,) = counted.change("hotel", "taj-delhi", held, body) or []
    assert isinstance(change, Update) and change.put["available"] == 0
    assert counted.change("hotel", "taj-delhi", held, body | {"total": 2}) is None


def test_a_payment_is_the_sum_of_the_earlier_prices() -> None:
    assert payments.authorise(PAY).result["amount"] == money(6000, "INR")


def test_a_payment_is_less_by_what_is_covered() -> None:
    results = {**PAY.results, "claim": {"covered": money(5999, "INR")}}
    assert payments.authorise(replace(PAY, results=results)).result["amount"] == money(1, "INR")


def test_nothing_is_paid_of_what_is_covered_whole() -> None:
    rows = {ACCOUNT["pk"]: dict(ACCOUNT)}
    results = {**PAY.results, "claim": {"covered": money(6000, "INR")}}
    apply(rows, payments.authorise(replace(PAY, results=results)))
    apply(rows, payments.capture(replace(PAY, items=[rows[f"payment#{SAGA}"]])))
    assert rows[ACCOUNT["pk"]] == ACCOUNT
    assert rows[f"payment#{SAGA}"]["status"] == "CAPTURED"


def test_no_more_is_covered_than_there_is_to_pay() -> None:
    results = {**PAY.results, "claim": {"covered": money(6001, "INR")}}
    with pytest.raises(ValueError, match="0 or more"):
        payments.authorise(replace(PAY, results=results))


@given(st.integers(0, 10**15), st.integers(0, 100))
def test_a_policy_covers_its_part_to_the_minor_unit_below(amount: int, percent: int) -> None:
    part = policies.share({"covers": {"percent": percent}}, Money(amount, "INR"))
    assert 0 <= amount * percent - part.amount * 100 < 100
    assert part.currency == "INR"


def test_a_payment_of_all_that_there_is_is_taken() -> None:
    rows = {ACCOUNT["pk"]: ACCOUNT | {"available": 6000, "balance": 6000}}
    apply(rows, payments.authorise(replace(PAY, items=[rows[ACCOUNT["pk"]]])))
    assert (rows[ACCOUNT["pk"]]["available"], rows[ACCOUNT["pk"]]["held"]) == (0, 6000)


def test_a_payment_is_declined_for_the_business_s_reasons() -> None:
    with pytest.raises(accounts.PaymentDeclinedError):
        payments.authorise(replace(PAY, items=[ACCOUNT | {"available": 5999}]))
    with pytest.raises(accounts.UnknownAccountError):
        payments.authorise(replace(PAY, items=[None]))
    with pytest.raises(CurrencyMismatchError):
        payments.authorise(replace(PAY, items=[ACCOUNT | {"currency": "EUR"}]))
    with pytest.raises(CurrencyMismatchError):
        Money.total([Money(1, "INR"), Money(1, "EUR")])


@pytest.mark.parametrize(
    ("move", "status", "after"),
    [
        (payments.void, "AUTHORISED", {"balance": 9000, "available": 9000, "held": 0}),
        (payments.capture, "AUTHORISED", {"balance": 3000, "available": 3000, "held": 0}),
    ],
)
def test_what_was_set_aside_is_given_back_or_taken(
    move: Any, status: str, after: dict[str, int]
) -> None:
    rows = {ACCOUNT["pk"]: dict(ACCOUNT)}
    apply(rows, payments.authorise(PAY))
    apply(rows, move(replace(PAY, items=[rows[f"payment#{SAGA}"]])))
    assert {name: rows[ACCOUNT["pk"]][name] for name in after} == after


def test_of_a_refunded_payment_nothing_is_left_to_void() -> None:
    rows = {ACCOUNT["pk"]: dict(ACCOUNT)}
    apply(rows, payments.authorise(PAY))
    for move in (payments.capture, payments.refund):
        apply(rows, move(replace(PAY, items=[rows[f"payment#{SAGA}"]])))
    assert payments.void(replace(PAY, items=[rows[f"payment#{SAGA}"]])).writes == ()
    for lost in (None, rows[f"payment#{SAGA}"] | {"status": "CAPTURED"}):
        with pytest.raises(payments.PaymentNotAuthorisedError):
            payments.void(replace(PAY, items=[lost]))


def test_every_movement_sums_to_zero_and_the_account_is_the_sum_of_its_postings() -> None:
    rows: dict[str, Item] = {}
    for write in accounts.change("acct-asha", None, {"currency": "INR", "balance": 9000}) or []:
        assert isinstance(write, Put)
        rows[write.item["pk"]] = dict(write.item)
    apply(rows, payments.authorise(replace(PAY, items=[rows[ACCOUNT["pk"]]])))
    for move in (payments.capture, payments.refund):
        apply(rows, move(replace(PAY, items=[rows[f"payment#{SAGA}"]])))
    posted: Counter[str] = Counter()
    for key, row in rows.items():
        if key.startswith("movement#"):
            assert sum(row["postings"].values()) == 0
            posted.update(row["postings"])
    account = rows[ACCOUNT["pk"]]
    assert posted["acct-asha:available"] == account["available"] == 9000
    assert posted["acct-asha:held"] == account["held"] == 0
    assert posted[payments.INCOME] == 0


def test_a_movement_that_does_not_sum_to_zero_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="does not sum to zero"):
        accounts.movement("m", "INR", {"a": 1, "b": -2})


def test_nothing_is_captured_that_was_not_authorised() -> None:
    for payment in (None, PAYMENT | {"status": "VOIDED"}, PAYMENT | {"status": "CAPTURED"}):
        with pytest.raises(payments.PaymentNotAuthorisedError):
            payments.capture(replace(PAY, items=[payment]))


def test_a_transfer_is_settled_or_released_while_both_its_sides_are_held() -> None:
    held: Item = {"pk": "x", "account_id": "a", "amount": money(5, "INR"), "status": "HELD"}
    assert payments.settle(replace(PAY, items=[held, held | {"account_id": "b"}])).writes
    for other in (None, held | {"status": "SETTLED"}, held | {"status": "RELEASED"}):
        for sides in ([held, other], [other, held]):
            with pytest.raises(payments.TransferNotHeldError):
                payments.settle(replace(PAY, items=sides))
        for undo in (payments.release_debit, payments.release_credit):
            with pytest.raises(payments.TransferNotHeldError):
                undo(replace(PAY, items=[other]))


def test_a_balance_cannot_fall_below_what_is_held() -> None:
    row = ACCOUNT | {"available": 3000, "held": 6000}
    assert accounts.change("acct-asha", row, {"currency": "INR", "balance": 5999}) is None
    assert accounts.change("acct-asha", row, {"currency": "EUR", "balance": 9000}) is None
    assert accounts.change("acct-asha", row, {"currency": "INR", "balance": 6000}) is not None


def test_an_invoice_is_the_same_pdf_for_the_same_saga() -> None:
    price = {"price": money(123456, "INR"), "quantity": 2}
    call = replace(CALL, results={"flight": price, "car": None}, business_key="नमस्ते 旅")
    first, again = invoices.issue(call), invoices.issue(call)
    assert first.documents[0].body == again.documents[0].body
    assert first.documents[0].body.startswith(b"%PDF-")
    assert first.documents[0].key == f"invoices/{SAGA}.pdf"
    assert first.result["amount"] == money(123456, "INR")


def test_an_invoice_is_voided_and_never_deleted() -> None:
    rows: dict[str, Item] = {}
    results = {"flight": {"price": money(1, "INR"), "quantity": 1}}
    apply(rows, invoices.issue(replace(CALL, results=results)))
    apply(rows, invoices.void(replace(CALL, items=[rows[f"invoice#{SAGA}"]])))
    assert rows[f"invoice#{SAGA}"]["status"] == "VOIDED"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(min_size=1), JSON))
def test_a_row_comes_back_as_it_went(row: dict[str, Any]) -> None:
    assert decode_item(encode_item(row)) == row


@pytest.mark.parametrize("value", [1.5, float("nan"), {1, 2}, b"x", object()])
def test_a_float_is_refused_rather_than_rounded(value: Any) -> None:
    with pytest.raises(TypeError, match="must be a str, bool, int, None, mapping or list, got"):
        encode(value)


# Going back: a booking is locked, then cancelled or booked as before.

BOOKING: Item = {"pk": "booking#b#flight", "things": {"flight#ai-202": 2}, "status": "CONFIRMED"}
CANCEL = Call(
    saga_id=SAGA,
    saga="trip-refund",
    step="flight",
    owner="asha",
    business_key="t-1",
    started_at="2026-11-24T10:00:00.000Z",
    ask=flights.CancelAsk(flight=flights.Booking(booking_id=BOOKING["pk"], flight_id="ai-202")),
    results={},
)
FLIGHT: Item = {"pk": "flight#ai-202", "total": 5, "available": 1, "held": 2, "confirmed": 2}


def cancelling(status: str, **flight: Any) -> tuple[dict[str, Item], Call]:
    """The rows of a booking of that status whose cancellation has begun, and its call."""
    rows = {row["pk"]: dict(row) for row in (BOOKING | {"status": status}, FLIGHT | flight)}
    call = replace(CANCEL, items=[dict(row) for row in rows.values()])
    decision = flights.cancel(call)
    assert decision.result == {"booking_id": BOOKING["pk"], "quantity": 2}
    apply(rows, decision)
    assert rows[BOOKING["pk"]]["reversed_by"] == SAGA
    key = counted.cancellation_key(call)
    return rows, replace(call, items=[dict(rows[key])])


@pytest.mark.parametrize(
    ("status", "counts"), [("CONFIRMED", (1, 2, 2)), ("HELD", (1, 0, 4))], ids=["booked", "held"]
)
def test_a_booking_keeps_its_seats_until_it_is_cancelled(
    status: str, counts: tuple[int, int, int]
) -> None:
    rows, call = cancelling(status)
    flight = rows[FLIGHT["pk"]]
    assert (flight["available"], flight["held"], flight["confirmed"]) == counts
    assert rows[BOOKING["pk"]]["status"] == "CANCELLING"
    apply(rows, flights.complete(call))
    assert rows[BOOKING["pk"]]["status"] == "CANCELLED"
    assert (flight["available"], flight["confirmed"]) == (counts[0] + 2, counts[2] - 2)


@pytest.mark.parametrize("status", ["CONFIRMED", "HELD"])
def test_a_booking_whose_cancellation_is_undone_is_confirmed(status: str) -> None:
    rows, call = cancelling(status)
    confirmed = rows[FLIGHT["pk"]]["confirmed"]
    apply(rows, flights.reinstate(call))
    assert rows[BOOKING["pk"]] == BOOKING | {"reversed_by": None}
    assert rows[FLIGHT["pk"]]["confirmed"] == confirmed
    assert rows[counted.cancellation_key(call)]["status"] == "RELEASED"


@pytest.mark.parametrize("status", ["CANCELLING", "CANCELLED", "RELEASED", None])
def test_only_a_booking_is_cancelled_and_once(status: str | None) -> None:
    booking = BOOKING | {"status": status} if status else None
    with pytest.raises(counted.NotBookedError, match=status or "no booking"):
        flights.cancel(replace(CANCEL, items=[booking, FLIGHT]))


@pytest.mark.parametrize("status", ["CONFIRMED", "CANCELLING", "CANCELLED"])
def test_a_confirmation_that_comes_after_a_cancellation_changes_nothing(status: str) -> None:
    decision = flights.book(replace(CALL, items=[BOOKING | {"status": status}]))
    assert (decision.writes, decision.result["status"]) == ((), status)


@pytest.mark.parametrize(
    ("departs_at", "is_refused"),
    [
        ("2026-11-24T09:59:59+00:00", True),
        ("2026-11-24T15:30:00+05:30", True),  # the very moment
        ("2026-11-24T15:30:01+05:30", False),
        ("2026-11-24T10:00:00Z", True),
    ],
)
def test_a_flight_that_had_departed_when_that_was_asked_for_is_not_cancelled(
    departs_at: str, is_refused: bool
) -> None:
    if not is_refused:
        cancelling("CONFIRMED", departs_at=departs_at)
        return
    with pytest.raises(flights.FlightDepartedError, match="departed at"):
        cancelling("CONFIRMED", departs_at=departs_at)


def test_only_what_was_captured_is_paid_back() -> None:
    ask = payments.PayBackAsk(payment=payments.Payment(payment_id=PAYMENT["pk"]))
    rows = {row["pk"]: dict(row) for row in (PAYMENT | {"status": "CAPTURED"}, ACCOUNT)}
    call = Call(
        saga_id=SAGA,
        saga="trip-refund",
        step="refund",
        owner="asha",
        business_key="t-1",
        started_at="2026-11-24T10:00:00.000Z",
        ask=ask,
        results={},
        items=[dict(rows[PAYMENT["pk"]])],
    )
    apply(rows, payments.pay_back(call))
    assert (rows[PAYMENT["pk"]]["status"], rows[PAYMENT["pk"]]["reversed_by"]) == ("REFUNDED", SAGA)
    assert rows[ACCOUNT["pk"]]["available"] == 9000 + 6000
    for status in ("AUTHORISED", "VOIDED", "REFUNDED"):
        with pytest.raises(payments.PaymentNotAuthorisedError, match=status):
            payments.pay_back(replace(call, items=[PAYMENT | {"status": status}]))
