"""What waits for somebody's decision, through the API: listed, shown, and decided once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from botocore.exceptions import EndpointConnectionError

from recourse.declare.declaration import Coordination
from recourse.functions import kit
from recourse.testing.ground import Ground, ground
from tests.feeding import Feeding
from tests.integration.asking import APPROVER, DAY, SPENDING
from tests.integration.calling import PREFIX, Answer, Caller, keys
from tests.slots import count_slots

each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))
SAGAS = {"spending": SPENDING}
approver = Caller(APPROVER, "insurer")
another = Caller("approver-2", "insurer")
operator = Caller("olga", "operator")
both = Caller("olga", "operator insurer")
asha = Caller()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """The API on a ground whose saga asks somebody."""
    made: Ground
    with ground(SAGAS) as made:
        monkeypatch.setattr(kit, "ledger", lambda: made.ledger)
        monkeypatch.setattr(kit, "runs", lambda: made.runs)
        monkeypatch.setattr(kit, "decisions", lambda _: made.decisions)
        count_slots(monkeypatch, made.dynamodb)
        monkeypatch.setattr(kit, "sagas", lambda: SAGAS)
        monkeypatch.setattr(kit, "deployed", lambda: [SPENDING])
        monkeypatch.setattr(kit, "known", lambda: ("spending",))
        monkeypatch.setattr(kit, "questions", lambda: {"approvals": SPENDING.all[1].waits})
        monkeypatch.setenv("CHOREOGRAPHY", "on")
        monkeypatch.setenv("SCOPE_PREFIX", PREFIX)
        yield made


def ask(
    made: Ground, amount: int = 500, coordination: str = "orchestration", who: Caller = asha
) -> str:
    number = next(keys)
    answer = who(
        "POST",
        f"/sagas/spending?coordination={coordination}",
        {"spending_id": f"s-{number}", "amount": amount},
        Idempotency_Key=f"asked-{number}",
    )
    assert answer.status == 202, answer
    made.settle()
    return str(answer.json["saga_id"])


def decide(who: Caller, saga: str, decision: str = "approve", **more: Any) -> Answer:
    return who("POST", f"/approvals/{saga}/decision", {"decision": decision, **more})


def problem(answer: Answer, status: int, kind: str) -> str:
    assert (answer.status, answer.json["type"]) == (status, f"urn:recourse:problem:{kind}"), answer
    return str(answer.json["detail"])


@each_coordination
def test_a_question_is_listed_shown_and_decided_once(
    own: Ground, coordination: Coordination
) -> None:
    saga = ask(own, coordination=coordination)
    (step,) = [s for s in asha.get(saga).json["steps"] if "question" in s]
    assert (step["name"], step["status"]) == ("approval", "RUNNING")
    assert step["question"]["about"] == {"amount": 500}
    (listed,) = approver("GET", "/approvals?status=open").json["items"]
    assert listed["id"] == saga and listed["status"] == "open" and listed["decided"] is None
    assert listed["about"] == {"amount": 500} and listed["to"] is None
    assert approver("GET", f"/approvals/{saga}").json == listed
    answer = decide(approver, saga, reason="fine")
    assert answer.status == 200
    decided = answer.json["decided"]
    assert answer.json["status"] == "approved"
    assert (decided["decision"], decided["reason"], decided["by"]) == ("approve", "fine", APPROVER)
    first = decided["at"]
    for again in ("approve", "reject"):
        said = problem(decide(another, saga, again, reason="no"), 409, "not-open")
        assert said == f"{APPROVER} has approved it at {first}: fine"
    own.settle()
    assert asha.get(saga).json["status"] == "SUCCEEDED"
    assert approver("GET", "/approvals").json == {"items": [], "cursor": None}
    shown = approver("GET", f"/approvals/{saga}").json
    assert shown == answer.json
    assert "question" not in asha.get(saga).json["steps"][1]


@each_coordination
def test_a_rejection_needs_a_reason_and_compensates(own: Ground, coordination: str) -> None:
    saga = ask(own, coordination=coordination)
    for blank in ({}, {"reason": " "}, {"reason": None}):
        assert "reason" in problem(decide(approver, saga, "reject", **blank), 422, "invalid")
    answer = decide(approver, saga, "reject", reason="too dear")
    assert (answer.status, answer.json["status"]) == (200, "rejected")
    own.settle()
    seen = asha.get(saga).json
    assert seen["status"] == "COMPENSATED"
    assert seen["reason"] == {"step": "approval", "error": "DeniedError", "message": "too dear"}
    assert approver("GET", f"/approvals/{saga}").json["status"] == "rejected"


@pytest.mark.parametrize(
    "body", [{}, {"decision": "maybe"}, {"decision": "approve", "by": "me"}, [], {"decision": True}]
)
def test_a_wrong_decision_decides_nothing(own: Ground, body: Any) -> None:
    saga = ask(own)
    answer = approver("POST", f"/approvals/{saga}/decision", body)
    problem(answer, 422, "invalid")
    assert approver("GET", f"/approvals/{saga}").json["status"] == "open"


def test_only_whom_a_question_is_put_to_sees_and_decides_it(own: Ground) -> None:
    theirs, anybodys = ask(own, amount=20_000), ask(own)
    listed = {
        who.subject: {one["id"] for one in who("GET", "/approvals").json["items"]}
        for who in (approver, another, operator)
    }
    assert listed == {
        APPROVER: {theirs, anybodys},
        "approver-2": {anybodys},
        "olga": {anybodys},
    }
    problem(another("GET", f"/approvals/{theirs}"), 404, "not-found")
    problem(decide(another, theirs), 404, "not-found")
    assert operator("GET", f"/approvals/{theirs}").status == 200
    for one in (theirs, anybodys):
        assert "scope" in problem(decide(operator, one), 403, "forbidden")
    problem(decide(asha, theirs), 403, "forbidden")
    assert both("GET", f"/approvals/{theirs}").status == 200
    assert "somebody else" in problem(decide(both, theirs), 403, "forbidden")
    assert decide(both, anybodys).status == 200
    problem(asha("GET", "/approvals"), 403, "forbidden")
    problem(Caller(None)("GET", "/approvals"), 401, "unauthorized")
    assert decide(approver, theirs).status == 200


def test_what_nobody_was_asked_is_not_found(own: Ground) -> None:
    small = ask(own, amount=50)
    for saga in (small, "0" * 32, "nothing", "é"):
        problem(approver("GET", f"/approvals/{saga}"), 404, "not-found")
        problem(decide(approver, saga), 404, "not-found")
    problem(approver("GET", "/denials"), 404, "not-found")
    problem(
        approver("POST", f"/denials/{small}/decision", {"decision": "approve"}), 404, "not-found"
    )
    assert approver("DELETE", "/approvals").headers["allow"] == "GET, HEAD"
    assert approver("GET", f"/approvals/{small}/decision").headers["allow"] == "POST"
    assert approver("HEAD", "/approvals").status == 200
    problem(approver("GET", "/approvals?status=closed"), 422, "invalid")
    problem(approver("GET", "/approvals?cursor=x"), 400, "bad-cursor")


def test_a_list_is_paged_the_most_urgent_first(own: Ground) -> None:
    sagas = [ask(own, amount=20_000 if number % 2 else 500) for number in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = another("GET", f"/approvals?limit=2{cursor}").json
        assert len(page["items"]) <= 2
        seen += [one["id"] for one in page["items"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == sagas[::2]


@each_coordination
def test_a_cancelled_or_expired_question_is_not_open(own: Ground, coordination: str) -> None:
    cancelled, late = (ask(own, coordination=coordination) for _ in range(2))
    assert asha("POST", f"/sagas/{cancelled}/cancel").status == 202
    assert "withdrawn" in problem(decide(approver, cancelled), 409, "not-open")
    own.settle()
    assert asha.get(cancelled).json["status"] == "COMPENSATED"
    assert approver("GET", f"/approvals/{cancelled}").json["status"] == "withdrawn"
    own.clock.sleep(8 * DAY)
    assert "was up at" in problem(decide(approver, late), 409, "not-open")
    own.sweep()
    own.settle()
    assert approver("GET", f"/approvals/{late}").json["status"] == "expired"
    assert asha.get(late).json["reason"]["error"] == "NoAnswerError"


def test_a_decision_whose_run_cannot_be_started_is_taken_and_left_to_the_sweeper(
    own: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="states")

    for approved in ("approve", "reject"):
        saga = ask(own)
        with monkeypatch.context() as patch:
            patch.setattr(own.sfn, "start_execution", refuse)
            assert decide(approver, saga, approved, reason="so").status == 200
        own.clock.sleep(121)
        own.sweep()
        own.settle()
        ended = {"approve": "SUCCEEDED", "reject": "COMPENSATED"}[approved]
        assert asha.get(saga).json["status"] == ended


def test_who_is_asked_by_name_hears_of_it_and_of_its_end(own: Ground) -> None:
    feeding = Feeding(own)
    theirs, anybodys = ask(own, amount=20_000), ask(own)
    assert asha("POST", f"/sagas/{theirs}/cancel").status == 202
    own.settle()
    feeding.settle()
    heard = [one.event for one in feeding.feed.read(APPROVER, None)]
    assert {event.saga_id for event in heard} == {theirs} and anybodys != theirs
    assert [event.path for event in heard] == ["approval.asked", "approval.undone"]
    owners = [e.event.path for e in feeding.feed.read("asha", None) if e.event.saga_id == theirs]
    assert owners[0] == "started" and owners[-1] == "compensated" and "approval.asked" in owners
