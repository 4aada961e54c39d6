"""What is asked of Stripe, what its answers and its errors mean, and what its money is."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.gateways as gateways
from recourse import Call, Money, Refusal, TransientError
from recourse.declare.ids import SagaId
from recourse.declare.money import MINOR_DIGITS
from recourse.store.secrets import Secret
from services import cards
from services.gateways import stripe_errors
from services.gateways.exchange import LONGEST
from services.gateways.stripe import MOST_PAGES, PAGE, Stripe
from services.gateways.stripe_errors import Verdict, meaning
from services.gateways.stripe_money import from_stripe, to_stripe
from tests.stripe import provider, shapes

PRICE = Money(329500, "INR")
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:stripe-AbCdEf"
numbers = itertools.count(1)


class Manager:
    """Secrets Manager with Stripe's key."""

    def __init__(self) -> None:
        self.key = provider.KEY
        self.reads = 0

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        self.reads += 1
        return {"SecretString": json.dumps({"api_key": self.key})}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[provider.Books, str]]:
    books = provider.Books()
    with provider.served(books) as url:
        yield books, url


@pytest.fixture
def books(address: tuple[provider.Books, str]) -> Iterator[provider.Books]:
    """Stripe's books; all that is asked and answered has its shape."""
    found, _ = address
    found.clear()
    yield found
    while found.busy:
        time.sleep(0.01)
    assert found.wrong == []


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def stripe(address: tuple[provider.Books, str], books: provider.Books, manager: Manager) -> Stripe:
    return Stripe(urlsplit(address[1]), Secret(lambda: manager, ARN), "test")


@pytest.fixture
def call() -> Call:
    return Call(
        saga_id=SagaId(f"{next(numbers):032x}"),
        saga="card-order",
        step="card",
        owner="asha",
        business_key="c-1",
        started_at=datetime.now(UTC).isoformat(),
        ask=cards.AuthoriseAsk(card=cards.Card(token="tok_visa")),
        results={},
        deadline=datetime.now(UTC) + timedelta(seconds=30),
    )


def trying(act: Callable[[], Any], times: int = 40) -> Any:
    """Try as a step is tried: again where it may pass, which on a slow machine is often."""
    for _ in range(times - 1):
        try:
            return act()
        except TransientError:
            continue
    return act()


def moved(books: provider.Books) -> list[tuple[str, int]]:
    return [(one["what"], one["amount"]) for one in books.journal]


# One payment.


@pytest.mark.parametrize("token", ["tok_visa", "pm_card_visa"])
def test_a_payment_is_authorised_and_captured(
    stripe: Stripe, books: provider.Books, call: Call, token: str
) -> None:
    charge = stripe.authorise(call, PRICE, token)
    assert (charge.amount, charge.status) == (PRICE, "AUTHORISED")
    assert stripe.find(call, charge.payment) is None
    taken = stripe.capture(call, charge.payment)
    assert (taken.amount, taken.status) == (PRICE, "CAPTURED")
    assert stripe.find(call, charge.payment) == taken
    assert moved(books) == [("authorise", 329500), ("capture", 329500)]
    (intent,) = books.of_saga(call.saga_id)
    assert intent["metadata"]["recourse_key"] == "c-1"


def test_everything_again_is_answered_as_before(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    first, again = (stripe.authorise(call, PRICE, "tok_visa") for _ in range(2))
    assert first == again
    assert stripe.capture(call, first.payment) == stripe.capture(call, first.payment)
    assert stripe.cancel(call, first.payment) == stripe.cancel(call, first.payment) == "REFUNDED"
    assert [what for what, _ in moved(books)] == ["authorise", "capture", "refund"]


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("tok_declined", gateways.CardDeclinedError),
        ("tok_chargeDeclinedInsufficientFunds", gateways.InsufficientFundsError),
        ("tok_chargeDeclinedExpiredCard", gateways.CardExpiredError),
        ("pm_card_authenticationRequired", gateways.CardAuthenticationRequiredError),
        ("pm_none", gateways.CardInvalidError),
    ],
)
def test_a_refusal_says_which(
    stripe: Stripe, books: provider.Books, call: Call, token: str, error: type[Refusal]
) -> None:
    with pytest.raises(error) as no:
        stripe.authorise(call, PRICE, token)
    assert "stolen" not in str(no.value) and token not in str(no.value)
    assert error in cards.authorise.refuses
    assert not books.journal


def test_a_card_that_could_not_be_processed_is_tried_again(stripe: Stripe, call: Call) -> None:
    with pytest.raises(TransientError, match="processing_error"):
        stripe.authorise(call, PRICE, "tok_chargeDeclinedProcessingError")


@pytest.mark.parametrize(
    ("money", "reason"),
    [
        (Money(0, "INR"), "nothing to pay"),
        (Money(49, "INR"), "amount_too_small"),
        (Money(500, "KPW"), "invalid_request_error"),
        (Money(5, "IQD"), "takes no"),
        (Money(5001, "KWD"), "two digits"),
        (Money(5050, "MGA"), "whole"),
    ],
)
def test_an_amount_that_does_not_fit_is_refused(
    stripe: Stripe, books: provider.Books, call: Call, money: Money, reason: str
) -> None:
    with pytest.raises(gateways.AmountUnsupportedError, match=reason):
        stripe.authorise(call, money, "tok_visa")
    assert not books.journal


# What goes wrong on the way.


@pytest.mark.parametrize(
    ("operation", "fault"),
    # What is not there yet cannot expire.
    sorted({*itertools.product(["create", "confirm"], provider.FAULTS)} - {("create", "expired")}),
)
def test_an_authorisation_that_went_wrong_once_is_one_or_none(
    stripe: Stripe,
    books: provider.Books,
    call: Call,
    operation: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateways.exchange.LONGEST", 0.15)
    books.ask_for(operation, fault)
    try:
        trying(lambda: stripe.authorise(call, PRICE, "tok_visa"))
        assert moved(books) == [("authorise", 329500)]
    except TransientError:
        assert fault in ("after", "expired"), "an answer that its key repeats, or a final state"
    while books.busy:
        time.sleep(0.01)
    assert trying(lambda: stripe.cancel(call, None)) == "VOIDED"
    assert sum(amount for what, amount in moved(books) if what == "authorise") == sum(
        amount for what, amount in moved(books) if what == "cancel"
    )
    assert all(one["status"] == "canceled" for one in books.of_saga(call.saga_id))


@pytest.mark.parametrize("fault", [one for one in provider.FAULTS if one != "expired"])
@pytest.mark.parametrize("operation", ["capture", "retrieve"])
def test_a_capture_that_went_wrong_once_is_one(
    stripe: Stripe,
    books: provider.Books,
    call: Call,
    operation: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    monkeypatch.setattr("services.gateways.exchange.LONGEST", 0.15)
    books.ask_for("capture", "lost")
    books.ask_for(operation, fault)
    assert trying(lambda: stripe.capture(call, payment)).amount == PRICE
    assert trying(lambda: stripe.find(call, payment)).amount == PRICE
    assert [what for what, _ in moved(books)] == ["authorise", "capture"]


@pytest.mark.parametrize("fault", [one for one in provider.FAULTS if one != "expired"])
@pytest.mark.parametrize("operation", ["cancel", "refund", "refunds", "retrieve"])
@pytest.mark.parametrize("captured", [False, True])
def test_what_is_given_back_with_an_error_on_the_way_is_given_back_once(
    stripe: Stripe,
    books: provider.Books,
    call: Call,
    captured: bool,
    operation: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    if captured:
        stripe.capture(call, payment)
    monkeypatch.setattr("services.gateways.exchange.LONGEST", 0.15)
    books.ask_for(operation, fault)
    ended = trying(lambda: stripe.cancel(call, payment))
    while books.busy:
        time.sleep(0.01)
    assert ended == ("REFUNDED" if captured else "VOIDED")
    assert moved(books)[-1] == ("refund" if captured else "cancel", 329500)
    assert len(books.journal) == 2 + captured


def test_stripe_changes_its_mind_before_the_capture(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    books.ask_for("capture", "expired")
    with pytest.raises(gateways.CardPaymentGoneError, match="canceled"):
        stripe.capture(call, payment)
    assert stripe.find(call, payment) is None
    assert stripe.cancel(call, payment) == "VOIDED"
    assert [what for what, _ in moved(books)] == ["authorise", "cancel"]


@pytest.mark.parametrize("status", ["processing", "requires_action", "unheard_of"])
def test_a_state_that_nobody_knows_is_neither_success_nor_refusal(
    stripe: Stripe, books: provider.Books, call: Call, status: str
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    books.intents[payment]["status"] = status
    for act in (stripe.capture, stripe.find, stripe.cancel):
        with pytest.raises(TransientError, match=status):
            act(call, payment)
    with pytest.raises(TransientError, match=status):
        stripe.authorise(call, PRICE, "tok_visa")
    books.wrong.clear()  # one of them has no such shape, which is the point


def test_a_part_that_somebody_captured_by_hand_is_not_taken_for_all(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    books.intents[payment] |= {"status": "succeeded", "amount_received": 1}
    for act in (stripe.capture, stripe.find):
        with pytest.raises(TransientError, match="of 1 and not of 329500"):
            act(call, payment)


def test_a_refund_that_is_pending_is_waited_for_and_one_that_failed_is_made_again(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    payment = stripe.authorise(call, PRICE, "tok_visa").payment
    stripe.capture(call, payment)
    books.pending = True
    for _ in range(2):
        with pytest.raises(TransientError, match="not refunded yet"):
            stripe.cancel(call, payment)
    assert len(books.refunds) == 1
    books.settle_refunds("failed")
    books.pending = False
    assert stripe.cancel(call, payment) == "REFUNDED"
    assert [one["status"] for one in books.refunds.values()] == ["failed", "succeeded"]


# An undo that does not know whether there is a payment.


def test_an_undo_of_what_never_was_prevents_that_it_ever_is(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    for _ in range(2):
        assert stripe.cancel(call, None) == "VOIDED"
    with pytest.raises(TransientError, match="idempotency_error"):
        stripe.authorise(call, PRICE, "tok_visa")
    assert not books.journal
    assert [one["status"] for one in books.intents.values()] == ["canceled"]


def test_a_creation_that_arrives_after_the_undo_makes_nothing(
    stripe: Stripe, books: provider.Books, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateways.exchange.LONGEST", 0.15)
    books.ask_for("create", "late", seconds=0.6)
    with pytest.raises(TransientError):
        stripe.authorise(call, PRICE, "tok_visa")
    assert trying(lambda: stripe.cancel(call, None)) == "VOIDED"
    while books.busy:
        time.sleep(0.01)
    assert books.of_saga(call.saga_id) == [] and not books.journal


def test_a_confirmation_that_arrives_after_the_undo_reserves_nothing(
    stripe: Stripe, books: provider.Books, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateways.exchange.LONGEST", 0.15)
    books.ask_for("confirm", "late", seconds=0.6)
    with pytest.raises(TransientError):
        stripe.authorise(call, PRICE, "tok_visa")
    assert trying(lambda: stripe.cancel(call, None)) == "VOIDED"
    while books.busy:
        time.sleep(0.01)
    assert not books.journal
    assert [one["status"] for one in books.of_saga(call.saga_id)] == ["canceled"]


def test_an_undo_finds_what_the_search_does_not_show_yet(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    books.ask_for("confirm", "lost")
    with pytest.raises(TransientError):
        stripe.authorise(call, PRICE, "tok_visa")
    for _ in range(PAGE + 1):
        answer = books.answer(
            "create", "/v1/payment_intents", {"amount": "100", "currency": "inr"}, ""
        )
        assert answer[0] == 200
    assert stripe.cancel(call, None) == "VOIDED"
    assert moved(books) == [("authorise", 329500), ("cancel", 329500)]
    assert "search" not in books.asked
    assert books.asked.count("list") == 2


def test_where_there_are_too_many_to_list_the_search_may_find_it_and_proves_nothing(
    stripe: Stripe, books: provider.Books, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateways.stripe.MOST_PAGES", 1)
    monkeypatch.setattr("services.gateways.stripe.PAGE", 1)
    books.ask_for("confirm", "lost")
    with pytest.raises(TransientError):
        stripe.authorise(call, PRICE, "tok_visa")
    books.answer("create", "/v1/payment_intents", {"amount": "100", "currency": "inr"}, "")
    with pytest.raises(TransientError, match="none is known"):
        stripe.cancel(call, None)
    books._indexed = set(books.intents)
    assert stripe.cancel(call, None) == "VOIDED"
    assert moved(books) == [("authorise", 329500), ("cancel", 329500)]


def test_an_undo_days_later_finds_what_its_key_does_not_lead_to_any_more(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    books.ask_for("confirm", "lost")
    with pytest.raises(TransientError):
        stripe.authorise(call, PRICE, "tok_visa")
    books.forget_keys()
    began = datetime.now(UTC) - timedelta(days=2)
    assert stripe.cancel(replace(call, started_at=began.isoformat()), None) == "VOIDED"
    assert moved(books) == [("authorise", 329500), ("cancel", 329500)]


def test_an_undo_whose_search_fails_days_later_does_not_say_that_there_is_nothing(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    began = datetime.now(UTC) - timedelta(days=2)
    books.ask_for("search", "before")
    with pytest.raises(TransientError):
        stripe.cancel(replace(call, started_at=began.isoformat()), None)


def test_a_payment_of_another_provider_is_not_cancelled_here(stripe: Stripe, call: Call) -> None:
    with pytest.raises(TransientError, match="another provider"):
        stripe.cancel(call, call.saga_id)


# The deadline, the key, the address.


def test_nothing_is_asked_after_the_deadline(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    over = replace(call, deadline=datetime.now(UTC))
    with pytest.raises(TransientError, match="no time left"):
        stripe.authorise(over, PRICE, "tok_visa")
    assert not books.asked


def test_a_call_lasts_no_longer_than_its_deadline(
    stripe: Stripe, books: provider.Books, call: Call
) -> None:
    books.ask_for("create", "slow", seconds=1.5)
    soon = replace(call, deadline=datetime.now(UTC) + timedelta(seconds=0.2))
    began = time.monotonic()
    with pytest.raises(TransientError, match="did not answer"):
        stripe.authorise(soon, PRICE, "tok_visa")
    assert time.monotonic() - began < 1.4 < LONGEST


def test_a_rotated_key_is_taken_up_as_soon_as_the_old_one_is_refused(
    stripe: Stripe, books: provider.Books, call: Call, manager: Manager
) -> None:
    stripe.authorise(call, PRICE, "tok_visa")
    assert manager.reads == 1
    manager.key = "rk_test_rotated"
    books.keys = {manager.key}
    with pytest.raises(TransientError, match="401") as refused:
        stripe.authorise(call, PRICE, "tok_visa")
    assert provider.KEY not in str(refused.value)
    assert stripe.authorise(call, PRICE, "tok_visa").status == "AUTHORISED"
    assert manager.reads == 2


@pytest.mark.parametrize("key", ["sk_live_x", "pk_test_x", "", "sk_test_x\r\nX: y"])
def test_a_key_of_another_mode_is_sent_nowhere(
    stripe: Stripe, books: provider.Books, call: Call, manager: Manager, key: str
) -> None:
    manager.key = key
    with pytest.raises(TransientError, match="mode 'test'") as wrong:
        stripe.authorise(call, PRICE, "tok_visa")
    assert not books.asked
    assert key == "" or key not in str(wrong.value)


@pytest.mark.parametrize(
    ("where", "host", "mode"),
    [
        ("test", "api.stripe.com", "test"),
        ("live", "api.stripe.com", "live"),
        ("http://127.0.0.1:9", "127.0.0.1:9", "test"),
    ],
)
def test_stripe_is_at_its_own_host_or_at_a_stand_in_on_loopback(
    where: str, host: str, mode: str
) -> None:
    made = Stripe.of(where, ARN)
    assert (made._provider.netloc, made._mode) == (host, mode)
    assert made._provider.scheme == "https" or host.startswith("127.")


@pytest.mark.parametrize(
    "where",
    ["", "Live", "http://example.com", "https://api.stripe.com.example.com", "http://127.0.0.1.x"],
)
def test_no_other_address_is_given_the_key(where: str) -> None:
    with pytest.raises(gateways.CardsUnavailableError):
        Stripe.of(where, ARN)
    with pytest.raises(gateways.CardsUnavailableError):
        Stripe.of("test", "")


# What errors mean.

LOOKED_AT = {"authorise": cards.authorise.refuses, "capture": cards.capture.refuses}
STATUSES = [*range(300, 309), *range(400, 432), 451, *range(500, 512)]
CODES = [*stripe_errors.CARD, *stripe_errors.REQUEST, "idempotency_key_in_use", "unheard_of", None]


def test_the_types_of_errors_are_all_that_stripe_has() -> None:
    error: Any = shapes.ERROR["properties"]
    assert list(stripe_errors.TYPES) == error["error"]["properties"]["type"]["enum"]


@pytest.mark.parametrize("kind", [*stripe_errors.TYPES, "unheard_of", None])
def test_each_error_is_a_declared_refusal_a_state_or_passing(kind: str | None) -> None:
    for status, code in itertools.product(STATUSES, CODES):
        for decline in (*stripe_errors.DECLINES, "unheard_of", None):
            found = meaning(status, {"type": kind, "code": code, "decline_code": decline})
            if isinstance(found, type):
                assert found in cards.authorise.refuses
                assert kind in ("card_error", "invalid_request_error") and code != "unheard_of"
                assert 400 <= status < 500 and status not in stripe_errors.PASSING_STATUS
            elif found is Verdict.KEY_TAKEN:
                assert kind == "idempotency_error" and code != "idempotency_key_in_use"
            elif found is Verdict.LOOK:
                assert kind == "invalid_request_error"
            else:
                assert found is Verdict.PASSING


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (409, {"type": "idempotency_error", "code": "idempotency_key_in_use"}),
        (429, {"type": "invalid_request_error", "code": "lock_timeout"}),
        (400, {"type": "invalid_request_error", "code": "lock_timeout"}),
        (400, {"type": "invalid_request_error", "code": "rate_limit"}),
        (429, {"type": "card_error", "code": "card_declined"}),
        (401, {"type": "invalid_request_error"}),
        (403, {"type": "invalid_request_error", "param": "payment_method"}),
        (424, {"type": "api_error"}),
        (500, {"type": "card_error", "code": "card_declined"}),
        (400, {"type": "card_error", "code": "card_declined", "decline_code": "try_again_later"}),
        (400, {}),
        (402, {"type": "card_error"}),
        (301, {"type": "card_error", "code": "card_declined"}),
    ],
)
def test_what_says_nothing_of_the_payment_is_passing(status: int, error: dict[str, str]) -> None:
    assert meaning(status, error) is Verdict.PASSING


# Money.


@pytest.mark.parametrize(
    ("money", "amount"),
    [
        (Money(1099, "USD"), 1099),
        (Money(500, "JPY"), 500),
        (Money(5, "ISK"), 500),
        (Money(5, "UGX"), 500),
        (Money(500, "MGA"), 5),
        (Money(5120, "KWD"), 5120),
        (Money(1000, "HUF"), 1000),
        (Money(800, "TWD"), 800),
    ],
)
def test_money_is_what_stripe_writes_of_its_currencies(money: Money, amount: int) -> None:
    assert to_stripe(money) == amount
    assert from_stripe(amount, money.currency.lower()) == money


@given(st.integers(0, 10**12), st.sampled_from(sorted(MINOR_DIGITS)))
def test_money_comes_back_as_it_went_or_is_refused(amount: int, currency: str) -> None:
    money = Money(amount, currency)
    try:
        there = to_stripe(money)
    except gateways.AmountUnsupportedError:
        return
    assert from_stripe(there, currency.lower()) == money and there > 0


def test_the_bound_of_a_list_is_some_thousand_payments() -> None:
    assert PAGE * MOST_PAGES == 5000
