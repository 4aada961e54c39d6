"""What the services hold adds up, whatever comes between the read and the write of any of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from recourse.functions import kit
from recourse.testing.calls import WRITES, answered, before, disordered, passing, recorded, stale
from samples.provider import Books
from services.holdings import HOLDINGS
from tests import elsewhere
from tests.integration.bench import TABLE, Bench
from tests.integration.bench import bench as made_bench
from tests.integration.calling import PREFIX
from tests.integration.shop import KINDS, PRICE, THINGS, Outcome, Shop
from tests.integration.test_api import operator
from tests.prices import money

Deed = Callable[[Shop], Any]
CANCELLED = ("TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded")
"""What stands in the way of a transaction and is gone the next time."""


@pytest.fixture(scope="module")
def table() -> Iterator[Bench]:
    """One table for all shops, on which the API stands as well."""
    with made_bench() as made, pytest.MonkeyPatch.context() as patch:
        services = {holding.service for holding in HOLDINGS.values()}
        patch.setattr(kit, "dynamodb", lambda: made.dynamodb)
        patch.setattr(kit, "parameters", lambda kind: dict.fromkeys(services, TABLE))
        patch.setenv("SCOPE_PREFIX", PREFIX)
        yield made


def put(kind: str, body: dict[str, Any], shop: Shop) -> Outcome:
    """An operator's PUT of a shop's thing, or of its account."""
    answer = operator("PUT", f"/{kind}/{shop.thing}", body)
    assert answer.status in (200, 409), answer
    return "answered", answer.status


def ask(step: str, phase: str, shop: Shop, **options: Any) -> Outcome:
    return shop.ask(step, phase, **options)


def counted(kind: str) -> dict[str, Deed]:
    """All that may be done with a counted thing."""

    def take_all(shop: Shop) -> None:
        while shop.ask(kind, "action", f"rival {len(shop.rows('booking#'))}")[0] == "answered":
            pass

    return {
        "hold": partial(ask, kind, "action"),
        "a rival's hold of another": partial(ask, kind, "action", saga="two"),
        "a rival's holds of all": take_all,
        "release": partial(ask, kind, "undo"),
        "confirm": partial(ask, kind, "confirm"),
        "another price": partial(put, KINDS[kind], thing(THINGS, 2 * PRICE)),
        "fewer": partial(put, KINDS[kind], thing(1)),
        "more": partial(put, KINDS[kind], thing(9)),
    }


def thing(total: int, price: int = PRICE) -> dict[str, Any]:
    return {"total": total, "price": money(price, "INR")}


def account(balance: int) -> dict[str, Any]:
    return {"currency": "INR", "balance": balance}


def must_meet(shop: Shop, first: Deed, other: Deed) -> tuple[Outcome, list[Any]]:
    """Do one thing with another before its write; how the first came out, and the other's."""
    came: list[Any] = []
    with before(lambda: came.append(other(shop)), *WRITES):
        outcome = first(shop)
    shop.must_add_up()
    return outcome, came


@pytest.mark.parametrize("kind", ["flight", "item"])
@pytest.mark.parametrize("first", ["hold", "release", "confirm", "another price", "fewer"])
def test_what_is_counted_adds_up_whatever_meets(table: Bench, first: str, kind: str) -> None:
    deeds = counted(kind)
    for other in deeds.values():
        shop = Shop(table)
        shop.ask(kind, "action", "somebody")
        if first in ("release", "confirm"):
            assert shop.ask(kind, "action")[0] == "answered"
        must_meet(shop, deeds[first], other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_has_the_price_of_the_moment_it_is_held(table: Bench, kind: str) -> None:
    deeds, shop = counted(kind), Shop(table)
    (answered, result), _ = must_meet(shop, deeds["hold"], deeds["another price"])
    assert (answered, result["price"]) == ("answered", money(2 * PRICE, "INR"))
    assert [one["price"] for one in shop.rows("booking#").values()] == [result["price"]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_one_is_held_once(table: Bench, kind: str) -> None:
    deeds, shop = counted(kind), Shop(table)
    (answered, refusal), _ = must_meet(shop, deeds["hold"], deeds["a rival's holds of all"])
    assert answered == "raised" and refusal.endswith("UnavailableError")
    shop = Shop(table)
    for number in range(THINGS - 1):
        assert shop.ask(kind, "action", f"before {number}")[0] == "answered"
    assert deeds["hold"](shop)[0] == "answered", "the last of all"


# Money.

MONEY: dict[str, Deed] = {
    "authorise": partial(ask, "payment", "action"),
    "a rival's payment": partial(ask, "payment", "action", saga="two"),
    "a rival's payment of all": partial(ask, "payment", "action", saga="two", price=3 * PRICE),
    "void": partial(ask, "payment", "undo"),
    "capture": partial(ask, "capture", "action"),
    "refund": partial(ask, "capture", "undo"),
    "a rival's capture": partial(ask, "capture", "action", saga="somebody"),
    "a rival's void": partial(ask, "payment", "undo", saga="somebody"),
    "debit": partial(ask, "debit", "action"),
    "release": partial(ask, "debit", "undo"),
    "credit": partial(ask, "credit", "action"),
    "settle": partial(ask, "settle", "action"),
    "a rival's debit of all": partial(ask, "debit", "action", saga="three", price=3 * PRICE),
    "a transfer back": lambda shop: [
        ask(step, "action", shop, saga="back") for step in ("debit", "credit", "settle")
    ],
    "a lower balance": partial(put, "accounts", account(2 * PRICE)),
    "a higher balance": partial(put, "accounts", account(9 * PRICE)),
}
PASTS: dict[str, list[tuple[str, ...]]] = {
    "authorise": [()],
    "void": [("authorise",)],
    "capture": [("authorise",)],
    "refund": [("authorise", "capture")],
    "debit": [()],
    "release": [("debit",)],
    "credit": [("debit",)],
    "settle": [("debit", "credit")],
    "a lower balance": [("authorise",), ("authorise", "capture")],
    "a higher balance": [()],
}


@pytest.mark.parametrize("first", PASTS)
def test_money_adds_up_whatever_meets(table: Bench, first: str) -> None:
    for past in PASTS[first]:
        for other in MONEY.values():
            shop = Shop(table)
            assert shop.ask("payment", "action", "somebody")[0] == "answered"
            for name in past:
                assert MONEY[name](shop)[0] == "answered"
            must_meet(shop, MONEY[first], other)


def test_an_account_is_not_overdrawn_by_two_who_come_at_once(table: Bench) -> None:
    shop = Shop(table)
    all_of_it = MONEY["a rival's payment of all"]
    outcome, others = must_meet(shop, MONEY["authorise"], all_of_it)
    assert others[0][0] == "answered", "what is all there is may be paid"
    assert outcome == ("raised", "PaymentDeclinedError")


@pytest.mark.parametrize(("first", "other"), [("capture", "void"), ("void", "capture")])
def test_a_payment_is_captured_or_voided_and_never_both(
    table: Bench, first: str, other: str
) -> None:
    shop = Shop(table)
    MONEY["authorise"](shop)
    outcome, others = must_meet(shop, MONEY[first], MONEY[other])
    assert (outcome, others[0][0]) == (("raised", "PaymentNotAuthorisedError"), "answered")


@pytest.mark.parametrize("after", [False, True], ids=["without effect", "with its effect"])
def test_a_put_is_done_or_asked_for_again_whatever_dynamodb_says(table: Bench, after: bool) -> None:
    for kind, body in (("flights", thing(9)), ("accounts", account(9 * PRICE))):
        for operation in ("GetItem", "TransactWriteItems"):
            for name, answer in passing(operation).items():
                shop = Shop(table)
                with answered(answer, operation, after=after) as hit:
                    found = operator("PUT", f"/{kind}/{shop.thing}", body)
                assert hit and found.status in ((200,) if name in CANCELLED else (200, 503)), name
                shop.must_add_up()
                assert operator("PUT", f"/{kind}/{shop.thing}", body).status == 200
                shop.must_add_up()


# Cards: the provider's books agree with our rows.

OURS = {"AUTHORISED": "AUTHORISED", "CANCELLED": "VOIDED", "CAPTURED": "CAPTURED"}
OURS |= {"REFUNDED": "REFUNDED"}
CARDS: dict[str, Deed] = {
    "authorise": partial(ask, "card", "action"),
    "void": partial(ask, "card", "undo"),
    "capture": partial(ask, "card capture", "action"),
    "settle": partial(ask, "card capture", "settle"),
    "cancel": partial(ask, "card capture", "cancel"),
}


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    """Those of a provider that is there."""
    made = Books()
    with elsewhere.provider(made):
        yield made


@pytest.mark.parametrize("first", CARDS)
def test_the_books_agree_whatever_meets(table: Bench, books: Books, first: str) -> None:
    met = 0
    for other in CARDS.values():
        for number in (0, 1):
            shop = Shop(table)
            came: list[Any] = []
            if first != "authorise":
                CARDS["authorise"](shop)

            def happen(shop: Shop = shop, other: Deed = other, came: list[Any] = came) -> None:
                came.append(other(shop))

            with before(happen, number=number, sure=False):
                CARDS[first](shop)
            met += len(came)
            _must_be_in_the_books(shop, books)
    assert met


def _must_be_in_the_books(shop: Shop, books: Books) -> None:
    """Bring to rest what is open; then provider and we say the same."""
    shop.pass_time()
    settled = shop.ask("card capture", "settle")
    shop.pass_time()
    if settled[0] == "raised":
        assert shop.ask("card", "undo")[0] == "answered"
    payment = books.payments.get(shop.saga("one"))
    ours = [row["status"] for row in shop.rows("payment#").values()]
    if payment is None or not ours:
        assert not ours and (payment is None or payment["status"] == "CANCELLED")
    else:
        assert ours == [OURS[payment["status"]]]
        assert (payment["status"] == "CAPTURED") == (settled[0] == "answered")


def test_the_services_decide_on_what_is_read_consistently_and_in_any_order(table: Bench) -> None:
    shop = Shop(table)
    deeds: list[Deed] = []
    holding = ("hold", "confirm", "another price")
    paying = ("authorise", "capture", "refund", "void", "a lower balance")
    deeds += [counted(kind)[name] for kind in KINDS for name in holding]
    deeds += [MONEY[name] for name in (*paying, "debit", "credit", "settle")]
    with recorded() as calls, disordered():
        for deed in deeds:
            assert deed(shop)[0] == "answered"
            shop.must_add_up()
    assert calls and not stale(calls)
