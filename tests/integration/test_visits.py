"""Visits: a place is held, a policy pays its part and the patient the rest, or nothing happens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from recourse.declare.declaration import Coordination
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.calling import Answer, Caller
from tests.integration.test_api import asha, changed, fields, operator, problem, ravi, standing
from tests.integration.test_every_saga import each_coordination, must_be_as_told
from tests.prices import money

VISIT = SAGAS["visit"]
PATH = "/sagas/visit"
PRICE, FUNDS = 1001, 1000
BODY = {
    "visit_id": "v-1",
    "patient": {"name": "Asha Rao", "email": "asha@example.com"},
    "slot_id": "mon-0900",
    "policy_id": "most",
    "payment": {"account_id": "hers"},
}
POLICIES: dict[str, dict[str, Any]] = {
    "usual": {},
    "most": {"covers": {"percent": 75}},
    "all": {"covers": {"percent": 100}},
    "none": {"covers": {"percent": 0}},
    "asked": {"covers": {"percent": 75}, "decision": "manual"},
    "acme's": {"covers": {"percent": 75}, "decision": "manual", "insurer": "acme"},
}
ACCOUNTS = {
    "hers": {"currency": "INR", "balance": FUNDS, "owner": "asha"},
    "his": {"currency": "INR", "balance": FUNDS, "owner": "ravi"},
    "empty": {"currency": "INR", "balance": 0},
    "euro": {"currency": "EUR", "balance": FUNDS},
}
acme, other = Caller("acme", "insurer"), Caller("other", "insurer")
keys = itertools.count()


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    """A ground on which the API stands as well."""
    with ground() as made, standing(made):
        yield made


@pytest.fixture
def practice(made: Ground) -> Ground:
    """It, with slots, policies and accounts as they were at first."""
    for name, body in POLICIES.items():
        assert operator("PUT", f"/policies/{name}", body).status in (200, 201)
    for name, body in ACCOUNTS.items():
        made.put("accounts", name, body)
    made.put("slots", "mon-0900", {"total": 1000, "price": money(PRICE, "INR")})
    made.put("slots", "full", {"total": 0, "price": money(PRICE, "INR")})
    return made


def visit(practice: Ground, coordination: Coordination = "orchestration", **said: str) -> str:
    """Asha's visit, with other ids; its id, once it is at rest."""
    account = {"payment": {"account_id": said.pop("account_id", "hers")}}
    saga = practice.start(
        VISIT.name,
        BODY | account | said,
        key=f"visit-{next(keys)}",
        owner="asha",
        coordination=coordination,
    )
    practice.settle()
    return saga


def results(practice: Ground, saga: str) -> dict[str, Any]:
    return {step["name"]: step["result"] for step in practice.view(saga)["steps"]}


@each_coordination
@pytest.mark.parametrize(
    ("policy", "covered", "paid"),
    [("usual", 800, 201), ("most", 750, 251), ("none", 0, PRICE), ("all", PRICE, 0)],
)
def test_the_policy_pays_its_part_and_the_account_the_rest(
    practice: Ground, policy: str, covered: int, paid: int, coordination: Coordination
) -> None:
    practice.put("accounts", "hers", ACCOUNTS["hers"] | {"balance": PRICE})
    saga = visit(practice, coordination, policy_id=policy)
    assert must_be_as_told(practice, VISIT, saga) == "SUCCEEDED"
    said = results(practice, saga)
    assert said["claim"]["covered"] == money(covered, "INR")
    assert said["confirm"]["amount"] == said["invoice"]["amount"] == money(paid, "INR")
    assert said["confirm"]["status"] == "CAPTURED"
    account = practice.held("accounts", "hers")
    assert (account["balance"], account["held"]) == (PRICE - paid, 0)
    (claim,) = practice.rows("claims", f"claim#{saga}")
    assert (claim["status"], claim["price"]) == ("APPROVED", money(PRICE, "INR"))
    (booking,) = practice.rows("appointments", f"booking#{saga}")
    assert booking["status"] == "CONFIRMED"


def test_nothing_is_left_to_pay_from_an_account_that_has_nothing(practice: Ground) -> None:
    saga = visit(practice, policy_id="all", account_id="empty")
    assert must_be_as_told(practice, VISIT, saga) == "SUCCEEDED"
    assert practice.held("accounts", "empty")["balance"] == 0


@each_coordination
@pytest.mark.parametrize(
    ("said", "step", "error"),
    [
        ({"slot_id": "nowhere"}, "appointment", "UnknownSlotError"),
        ({"slot_id": "full"}, "appointment", "SlotUnavailableError"),
        ({"policy_id": "nobody's"}, "claim", "UnknownPolicyError"),
        ({"policy_id": "none"}, "copayment", "PaymentDeclinedError"),
        ({"account_id": "empty"}, "copayment", "PaymentDeclinedError"),
        ({"account_id": "nowhere"}, "copayment", "UnknownAccountError"),
        ({"account_id": "nowhere", "policy_id": "all"}, "copayment", "UnknownAccountError"),
        ({"account_id": "his", "policy_id": "all"}, "copayment", "UnknownAccountError"),
        ({"account_id": "euro", "policy_id": "all"}, "copayment", "CurrencyMismatchError"),
    ],
)
def test_what_cannot_be_is_refused_and_undone(
    practice: Ground, said: dict[str, str], step: str, error: str, coordination: Coordination
) -> None:
    before = practice.held("slots", "mon-0900")
    saga = visit(practice, coordination, **said)
    assert must_be_as_told(practice, VISIT, saga) == "COMPENSATED"
    reason = practice.view(saga)["reason"]
    assert (reason["step"], reason["error"]) == (step, error)
    assert practice.held("slots", "mon-0900") == before
    assert practice.held("accounts", "hers")["balance"] == FUNDS
    claims = practice.rows("claims", f"claim#{saga}")
    assert {one["status"] for one in claims} == ({"WITHDRAWN"} if step == "copayment" else set())


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("slot_id", "", "slot_id"),
        ("slot_id", None, "slot_id"),
        ("policy_id", 7, "policy_id"),
        ("policy_id", "x" * 129, "policy_id"),
        ("patient.email", "asha", "patient.email"),
        ("patient.age", 40, "patient.age"),
        ("payment", "hers", "payment"),
        ("visit_id", "", "visit_id"),
        ("doctor", "x", "doctor"),
    ],
)
def test_a_visit_that_cannot_be_is_a_422_that_names_the_field(
    practice: Ground, field: str, value: Any, named: str
) -> None:
    answer = asha("POST", PATH, changed(BODY, field, value), Idempotency_Key=f"bad-{next(keys)}")
    assert fields(answer) == {named}


# A claim that somebody decides.


def decide(who: Caller, saga: str, decision: str, reason: str = "because") -> Answer:
    return who("POST", f"/claims/{saga}/decision", {"decision": decision, "reason": reason})


def open_to(who: Caller) -> set[str]:
    return {one["id"] for one in who("GET", "/claims?status=open&limit=100").json["items"]}


def claim_of(practice: Ground, saga: str) -> str:
    (claim,) = practice.rows("claims", f"claim#{saga}")
    return str(claim["status"])


@each_coordination
@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_claim_waits_for_its_insurer_and_is_decided_once(
    practice: Ground, decision: str, coordination: Coordination
) -> None:
    saga = visit(practice, coordination, policy_id="asked")
    assert practice.view(saga)["status"] == "RUNNING"
    assert claim_of(practice, saga) == "OPEN"
    assert saga in open_to(acme)
    shown = acme("GET", f"/claims/{saga}").json["about"]
    assert shown == {
        "visit_id": BODY["visit_id"],
        "patient": "Asha Rao",
        "policy_id": "asked",
        "price": money(PRICE, "INR"),
        "covered": money(750, "INR"),
    }
    # What the policy says by now changes nothing of what was asked.
    assert operator("PUT", "/policies/asked", {"covers": {"percent": 0}}).status == 200
    assert decide(acme, saga, decision).status == 200
    for again in ("approve", "reject"):
        problem(decide(other, saga, again), 409, "not-open")
    practice.settle()
    status = must_be_as_told(practice, VISIT, saga)
    if decision == "approve":
        assert (status, claim_of(practice, saga)) == ("SUCCEEDED", "APPROVED")
        assert results(practice, saga)["claim"]["covered"] == money(750, "INR")
        assert practice.held("accounts", "hers")["balance"] == FUNDS - (PRICE - 750)
    else:
        assert (status, claim_of(practice, saga)) == ("COMPENSATED", "REFUSED")
        reason = {"step": "claim", "error": "ClaimRefusedError", "message": "because"}
        assert practice.view(saga)["reason"] == reason
        assert practice.held("accounts", "hers")["balance"] == FUNDS
    assert saga not in open_to(acme)


def test_a_claim_on_an_insurers_policy_is_seen_and_decided_by_that_insurer_alone(
    practice: Ground,
) -> None:
    saga = visit(practice, policy_id="acme's")
    assert saga in open_to(acme) and saga not in open_to(other)
    problem(decide(other, saga, "approve"), 404, "not-found")
    problem(decide(operator, saga, "approve"), 403, "forbidden")
    problem(decide(asha, saga, "approve"), 403, "forbidden")
    assert decide(acme, saga, "approve").status == 200
    practice.settle()
    assert must_be_as_told(practice, VISIT, saga) == "SUCCEEDED"


@each_coordination
def test_a_visit_that_is_cancelled_withdraws_its_claim(
    practice: Ground, coordination: Coordination
) -> None:
    before = practice.held("slots", "mon-0900")
    saga = visit(practice, coordination, policy_id="asked")
    assert asha("POST", f"/sagas/{saga}/cancel").status == 202
    problem(decide(acme, saga, "approve"), 409, "not-open")
    practice.settle()
    assert must_be_as_told(practice, VISIT, saga) == "COMPENSATED"
    assert claim_of(practice, saga) == "WITHDRAWN"
    assert practice.held("slots", "mon-0900") == before


@each_coordination
def test_a_copayment_that_is_declined_withdraws_what_the_insurer_has_approved(
    practice: Ground, coordination: Coordination
) -> None:
    saga = visit(practice, coordination, policy_id="asked", account_id="empty")
    assert decide(acme, saga, "approve").status == 200
    practice.settle()
    assert must_be_as_told(practice, VISIT, saga) == "COMPENSATED"
    assert claim_of(practice, saga) == "WITHDRAWN"


# Policies.


@pytest.mark.parametrize(
    "body",
    [{}, {"decision": "auto"}, {"decision": "manual"}, {"insurer": "acme"}, {"covers": None}],
)
def test_a_policy_says_the_usual_where_its_body_is_silent(
    practice: Ground, body: dict[str, Any]
) -> None:
    policy = f"p-{next(keys)}"
    put = operator("PUT", f"/policies/{policy}", body)
    assert put.status == 201
    said = {name: value for name, value in body.items() if value is not None}
    usual = {"id": policy, "covers": {"percent": 80}, "decision": "auto"}
    assert put.json == asha("GET", f"/policies/{policy}").json == usual | said


def test_a_policy_is_said_anew_and_keeps_its_insurer(practice: Ground) -> None:
    policy = f"/policies/p-{next(keys)}"
    said = {"covers": {"percent": 5}, "decision": "manual", "insurer": "acme"}
    assert operator("PUT", policy, said).json.items() >= said.items()
    again = operator("PUT", policy, {})
    assert again.status == 200
    usual = {"covers": {"percent": 80}, "decision": "auto"}
    assert again.json.items() >= {**usual, "insurer": "acme"}.items()
    assert operator("PUT", policy, {"insurer": "other"}).json["insurer"] == "other"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"covers": {"percent": 101}}, "covers.percent"),
        ({"covers": {"percent": -1}}, "covers.percent"),
        ({"covers": {"percent": 12.5}}, "covers.percent"),
        ({"covers": {"percent": True}}, "covers.percent"),
        ({"covers": {}}, "covers.percent"),
        ({"covers": 80}, "covers"),
        ({"covers": {"amount": 1, "percent": 1}}, "covers.amount"),
        ({"decision": "maybe"}, "decision"),
        ({"decision": None}, "decision"),
        ({"insurer": ""}, "insurer"),
        ({"note": "x"}, "note"),
    ],
)
def test_a_policy_that_cannot_be_is_a_422_that_names_the_field(
    practice: Ground, body: dict[str, Any], named: str
) -> None:
    assert fields(operator("PUT", "/policies/bad", body)) == {named}
    problem(asha("GET", "/policies/bad"), 404, "not-found")


def test_a_policy_is_written_by_operators_and_seen_by_all(practice: Ground) -> None:
    problem(ravi("PUT", "/policies/most", {}), 403, "forbidden")
    assert ravi("GET", "/policies/most").json["covers"] == {"percent": 75}
