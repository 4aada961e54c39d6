"""Transfers: money goes from one account to another or stays, whoever meets whom."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from recourse.declare.declaration import Coordination
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.test_api import asha, changed, fields, operator, problem, ravi, standing
from tests.integration.test_every_saga import COORDINATIONS, each_coordination, must_be_as_told

TRANSFER = SAGAS["transfer"]
PATH = "/sagas/transfer"
FUNDS = 1000
BODY = {
    "transfer_id": "tr-1",
    "from_account": "a",
    "to_account": "b",
    "amount": {"amount": 300, "currency": "INR"},
}
ACCOUNTS = {name: {"currency": "INR", "balance": FUNDS} for name in "abc"} | {
    "euro": {"currency": "EUR", "balance": FUNDS},
    "hers": {"currency": "INR", "balance": FUNDS, "owner": "asha"},
    "his": {"currency": "INR", "balance": FUNDS, "owner": "ravi"},
}
keys = itertools.count()


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    """A ground on which the API stands as well."""
    with ground() as made, standing(made):
        yield made


@pytest.fixture
def bank(made: Ground) -> Ground:
    """It, with every account as it was at first."""
    for name, body in ACCOUNTS.items():
        made.put("accounts", name, body)
    return made


def start(bank: Ground, payer: str, payee: str, amount: int, coordination: Coordination) -> str:
    """Asha starts a transfer; its id."""
    body = BODY | {"from_account": payer, "to_account": payee}
    return bank.start(
        TRANSFER.name,
        changed(body, "amount.amount", amount),
        key=f"transfer-{next(keys)}",
        owner="asha",
        coordination=coordination,
    )


def balances(bank: Ground) -> dict[str, int]:
    return {name: bank.held("accounts", name)["balance"] for name in ACCOUNTS}


def held(bank: Ground) -> int:
    return sum(int(bank.held("accounts", name)["held"]) for name in ACCOUNTS)


# What is shown.


@each_coordination
def test_a_debit_is_held_and_a_credit_shows_once_it_is_settled(
    bank: Ground, coordination: Coordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, str], list[int]] = {}

    def look(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        for name in ("a", "b"):
            shown = bank.held("accounts", name)
            seen[task["step"], name] = [shown[one] for one in ("balance", "available", "held")]
        return run()

    monkeypatch.setattr(bank, "mishap", look)
    saga = start(bank, "a", "b", 300, coordination)
    bank.settle()
    assert must_be_as_told(bank, TRANSFER, saga) == "SUCCEEDED"
    assert (seen["credit", "a"], seen["credit", "b"]) == ([1000, 700, 300], [1000, 1000, 0])
    assert (seen["settle", "a"], seen["settle", "b"]) == ([1000, 700, 300], [1000, 1000, 0])
    assert (seen["notify", "a"], seen["notify", "b"]) == ([700, 700, 0], [1300, 1300, 0])
    notices = bank.rows("notices", f"notice#{saga}")
    assert {(one["account_id"], one["kind"], one["amount"]["amount"]) for one in notices} == {
        ("a", "DEBITED", 300),
        ("b", "CREDITED", 300),
    }


# Many at once.


def spread(bank: Ground, sagas: list[str], draw: random.Random) -> Counter[str]:
    """Deliver all that waits, in any order and twice; how many sagas have which status."""
    bank.settle(shuffle=draw, twice=True)
    return Counter(must_be_as_told(bank, TRANSFER, saga) for saga in sagas)


def begin(bank: Ground, transfers: list[tuple[str, str, int]]) -> list[str]:
    """Sixteen clients start transfers, in either coordination."""
    with ThreadPoolExecutor(16) as pool:
        each = zip(transfers, itertools.cycle(COORDINATIONS), strict=False)
        started = [pool.submit(start, bank, *one, coordination) for one, coordination in each]
        return [one.result() for one in started]


def test_transfers_in_circles_and_both_ways_all_succeed_and_leave_as_much_as_there_was(
    bank: Ground,
) -> None:
    before = balances(bank)
    round_and_back = [("a", "b", 100), ("b", "c", 101), ("c", "a", 102), ("b", "a", 103)]
    sagas = begin(bank, [*round_and_back, ("a", "c", 104)] * 3)
    assert spread(bank, sagas, random.Random(1)) == {"SUCCEEDED": len(sagas)}
    moved = {
        "a": 3 * (102 + 103 - 100 - 104),
        "b": 3 * (100 - 101 - 103),
        "c": 3 * (101 + 104 - 102),
    }
    assert balances(bank) == {name: had + moved.get(name, 0) for name, had in before.items()}
    assert held(bank) == 0


def test_transfers_that_would_overdraw_together_succeed_as_far_as_there_is_money(
    bank: Ground,
) -> None:
    sagas = begin(bank, [("a", "b", 300), ("a", "c", 300)] * 5)
    assert spread(bank, sagas, random.Random(2)) == {"SUCCEEDED": 3, "COMPENSATED": 7}
    after = balances(bank)
    assert after["a"] == FUNDS - 3 * 300 and after["b"] + after["c"] == 2 * FUNDS + 3 * 300
    assert held(bank) == 0
    declined = [view for view in map(bank.view, sagas) if view["reason"]]
    assert {view["reason"]["error"] for view in declined} == {"PaymentDeclinedError"}


def test_what_a_circle_has_too_little_money_for_is_undone_and_none_is_made_or_lost(
    bank: Ground,
) -> None:
    before = sum(balances(bank).values())
    sagas = begin(bank, [("a", "b", 700), ("b", "c", 900), ("c", "a", 800)] * 3)
    ended = spread(bank, sagas, random.Random(3))
    assert ended["SUCCEEDED"] >= 3 and set(ended) == {"SUCCEEDED", "COMPENSATED"}
    assert sum(balances(bank).values()) == before
    assert held(bank) == 0


# What is refused.


@each_coordination
@pytest.mark.parametrize(
    ("payer", "payee", "amount", "step", "error"),
    [
        ("nobody", "b", 1, "debit", "UnknownAccountError"),
        ("his", "b", 1, "debit", "UnknownAccountError"),
        ("euro", "b", 1, "debit", "CurrencyMismatchError"),
        ("a", "b", FUNDS + 1, "debit", "PaymentDeclinedError"),
        ("a", "b", 10**15, "debit", "PaymentDeclinedError"),
        ("a", "a", 1, "debit", "SameAccountError"),
        ("a", "nobody", 1, "credit", "UnknownAccountError"),
        ("a", "euro", 1, "credit", "CurrencyMismatchError"),
    ],
)
def test_what_cannot_be_is_refused_and_undone(
    bank: Ground, payer: str, payee: str, amount: int, step: str, error: str, coordination: Any
) -> None:
    before = balances(bank)
    saga = start(bank, payer, payee, amount, coordination)
    bank.settle()
    assert must_be_as_told(bank, TRANSFER, saga) == "COMPENSATED"
    reason = bank.view(saga)["reason"]
    assert (reason["step"], reason["error"]) == (step, error)
    assert (balances(bank), held(bank)) == (before, 0)


def test_all_there_is_can_be_transferred(bank: Ground) -> None:
    saga = start(bank, "a", "b", FUNDS, "orchestration")
    bank.settle()
    assert must_be_as_told(bank, TRANSFER, saga) == "SUCCEEDED"
    assert (balances(bank)["a"], balances(bank)["b"]) == (0, 2 * FUNDS)


def test_an_account_pays_for_its_owner_alone_and_is_paid_by_everybody(bank: Ground) -> None:
    def transfer(caller: Any, payer: str, payee: str) -> dict[str, Any]:
        body = BODY | {"from_account": payer, "to_account": payee}
        answer = caller("POST", PATH, body, Idempotency_Key=f"own-{next(keys)}")
        assert answer.status == 202, answer
        bank.settle()
        must_be_as_told(bank, TRANSFER, answer.json["saga_id"])
        seen: dict[str, Any] = caller.get(answer.json["saga_id"]).json
        return seen

    refused, unknown = transfer(ravi, "hers", "his"), transfer(ravi, "none", "his")
    assert (refused["status"], refused["reason"]["error"]) == ("COMPENSATED", "UnknownAccountError")
    messages = [ended["reason"]["message"] for ended in (refused, unknown)]
    assert messages[0].replace("hers", "") == messages[1].replace("none", ""), "it is told of"
    paid = transfer(asha, "hers", "his")
    assert paid["status"] == "SUCCEEDED"
    assert (balances(bank)["hers"], balances(bank)["his"]) == (FUNDS - 300, FUNDS + 300)
    assert ravi("GET", "/accounts/his").json["balance"] == FUNDS + 300
    problem(asha("GET", "/accounts/his"), 404, "not-found")
    assert "ravi" not in str(paid), "who is paid is not told"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("amount.amount", 0, "amount.amount"),
        ("amount.amount", -1, "amount.amount"),
        ("amount.amount", 0.5, "amount.amount"),
        ("amount.amount", 3.0, "amount.amount"),
        ("amount.amount", "300", "amount.amount"),
        ("amount.amount", True, "amount.amount"),
        ("amount.amount", None, "amount.amount"),
        ("amount.amount", 10**15 + 1, "amount.amount"),
        ("amount.amount", 10**37, "amount.amount"),
        ("amount.currency", "inr", "amount.currency"),
        ("amount.currency", "XYZ", "amount.currency"),
        ("amount.currency", "", "amount.currency"),
        ("amount.note", "x", "amount.note"),
        ("amount", 300, "amount"),
        ("to_account", "a", "to_account"),
        ("to_account", None, "to_account"),
        ("from_account", "", "from_account"),
        ("from_account", "x" * 129, "from_account"),
        ("transfer_id", "", "transfer_id"),
        ("memo", "x", "memo"),
    ],
)
def test_a_transfer_that_cannot_be_is_a_422_that_names_the_field(
    bank: Ground, field: str, value: Any, named: str
) -> None:
    answer = asha("POST", PATH, changed(BODY, field, value), Idempotency_Key=f"bad-{next(keys)}")
    assert fields(answer) == {named}


def test_an_account_that_is_given_away_keeps_what_was_transferred_to_it(
    bank: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"currency": "INR", "balance": 500, "owner": "ravi"}
    bank.put("accounts", "given", {"currency": "INR", "balance": 0})

    def give(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task["step"] == "settle":
            assert operator("PUT", "/accounts/given", given).status == 200
        return run()

    monkeypatch.setattr(bank, "mishap", give)
    saga = start(bank, "a", "given", 300, "orchestration")
    bank.settle()
    assert must_be_as_told(bank, TRANSFER, saga) == "SUCCEEDED"
    assert ravi("GET", "/accounts/given").json["balance"] == 500 + 300
