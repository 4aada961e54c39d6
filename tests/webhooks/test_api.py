"""Webhooks through the API."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from recourse.functions.limits import LIMITS
from recourse.webhooks import addresses, lanes, registrations
from recourse.webhooks.addresses import ForbiddenAddressError
from recourse.webhooks.rows import moment
from recourse.webhooks.sending import Answer
from tests.events import event
from tests.webhooks.conftest import DOWN, NOW, OK, OWNERS, URL, Ground, problem

VIEW = {
    *("webhook_id", "url", "events", "status", "created_at", "failing_since"),
    *("disabled_at", "disabled_reason", "links"),
}


def test_a_webhook_is_registered_and_its_secret_shown_once(hooks: Ground) -> None:
    answer = hooks.call("POST", "/webhooks", {"url": URL, "events": ["recourse.order.*"]})
    assert answer.status == 201
    made = answer.json
    assert answer.headers["location"] == f"/webhooks/{made['webhook_id']}"
    assert set(made) == VIEW | {"secret"}
    assert (made["url"], made["status"]) == (URL, "ENABLED")
    assert made["events"] == ["recourse.order.*"]
    assert len(base64.b64decode(made["secret"].removeprefix("whsec_"), validate=True)) == 32
    del made["secret"]
    assert hooks.show(made) == made
    assert hooks.call("GET", "/webhooks").json == {"items": [made], "cursor": None}


def test_without_events_it_is_told_everything(hooks: Ground) -> None:
    assert hooks.register()["events"] == ["*"]


def test_one_sees_and_touches_ones_own_webhooks_only(hooks: Ground) -> None:
    made = hooks.register()
    path = f"/webhooks/{made['webhook_id']}"
    for who in (
        {"subject": "ravi"},
        {"subject": "olga", "scope": "operator sagas:read webhooks:write"},
    ):
        assert hooks.call("GET", "/webhooks", **who).json["items"] == []
        calls = [("GET", ""), ("DELETE", ""), ("GET", "/deliveries")]
        calls += [("POST", f"/{what}") for what in ("test", "rotate", "enable", "replay")]
        for method, below in calls:
            body = {"event_id": "a.1"} if below == "/replay" else None
            problem(hooks.call(method, path + below, body, **who), 404, "not-found")
    problem(hooks.call("GET", f"/webhooks/{'x' * 500}"), 404, "not-found")
    problem(hooks.call("GET", path, scope="sagas:write"), 403, "forbidden")
    problem(hooks.call("GET", path, subject=None), 401, "unauthorized")
    assert hooks.show(made)["status"] == "ENABLED"


def test_who_only_reads_looks_at_webhooks_and_changes_none(hooks: Ground) -> None:
    """A token that leaked would otherwise leave behind a copy of every event to come."""
    made = hooks.register()
    path = f"/webhooks/{made['webhook_id']}"
    for scope in ("sagas:read", "sagas:read sagas:write valet:issue", "operator"):
        problem(hooks.call("POST", "/webhooks", {"url": URL}, scope=scope), 403, "forbidden")
        problem(hooks.call("DELETE", path, scope=scope), 403, "forbidden")
        for what, body in (
            ("rotate", None),
            ("enable", None),
            ("test", None),
            ("replay", {"event_id": "a.1"}),
        ):
            problem(hooks.call("POST", f"{path}/{what}", body, scope=scope), 403, "forbidden")
    for below in ("", "/deliveries"):
        assert hooks.call("GET", path + below, scope="sagas:read").status == 200
        problem(hooks.call("GET", path + below, scope="webhooks:write"), 403, "forbidden")
    assert len(hooks.call("GET", "/webhooks", scope="sagas:read").json["items"]) == 1
    assert not hooks.endpoints.posts


def test_a_forbidden_address_is_named_as_such(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ForbiddenAddressError("leads to an address that is not public")

    monkeypatch.setattr(addresses, "checked", refuse)
    found = problem(hooks.call("POST", "/webhooks", {"url": URL}), 422, "invalid")
    message = "leads to an address that is not public"
    assert found["errors"] == [{"field": "url", "message": message}]


def test_one_may_have_so_many_webhooks(hooks: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "MAX_WEBHOOKS", 2)
    first, second = hooks.register(), hooks.register()
    problem(hooks.call("POST", "/webhooks", {"url": URL}), 409, "too-many-webhooks")
    hooks.register(subject="ravi")
    hooks.call("DELETE", f"/webhooks/{first['webhook_id']}")
    hooks.now += 1
    third = hooks.register()
    listed = [one["webhook_id"] for one in hooks.call("GET", "/webhooks").json["items"]]
    assert listed == [third["webhook_id"], second["webhook_id"]], "the newest first"


def test_a_deleted_webhook_is_told_nothing_more(hooks: Ground) -> None:
    made = hooks.register()
    hooks.endpoints.say(DOWN)
    hooks.tell("a", 1)
    hooks.run()
    path = f"/webhooks/{made['webhook_id']}"
    assert hooks.call("DELETE", path).status == 204
    problem(hooks.call("DELETE", path), 404, "not-found")
    problem(hooks.call("GET", path), 404, "not-found")
    hooks.tell("a", 2)
    hooks.wait(86400)
    assert hooks.endpoints.got() == ["a1"]
    assert hooks.waiting() == 0
    row = hooks.dynamodb.get_item(
        TableName="webhooks", Key={"pk": {"S": f"webhook#{made['webhook_id']}"}}
    )["Item"]
    assert "secret" not in row and "expires_at" in row


def test_a_test_event_goes_out_once_also_to_one_that_is_disabled(hooks: Ground) -> None:
    made = hooks.register(URL, "recourse.transfer.*")
    hooks.endpoints.say(Answer(410))
    for outcome in ("failed", "delivered"):
        answer = hooks.do(made, "test")
        assert answer.status == 202
        hooks.wait(3600)
        post = hooks.endpoints.posts[-1]
        assert post.event["type"] == "recourse.webhook.test"
        assert post.event["id"] == post.headers["webhook-id"] == answer.json["event_id"]
        last = hooks.log(made)[-1]
        assert (last["event_id"], last["outcome"]) == (answer.json["event_id"], outcome)
        assert last["next_attempt_at"] is None
        assert hooks.show(made)["status"] == "DISABLED"
        hooks.endpoints.say(OK)
    assert len(hooks.endpoints.posts) == 2


@pytest.mark.parametrize(
    ("what", "limit", "body"), [("test", "tests", None), ("replay", "replays", {"event_id": "a.1"})]
)
def test_one_owner_sets_off_so_many_a_minute_over_all_webhooks(
    hooks: Ground, what: str, limit: str, body: Any
) -> None:
    both = [hooks.register(), hooks.register()]
    hooks.tell("a", 1)
    hooks.run()
    for number in range(LIMITS[limit].most):
        assert hooks.do(both[number % 2], what, body).status == 202
    before = hooks.waiting()
    refused = hooks.do(both[0], what, body)
    problem(refused, 429, "limit-reached")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert hooks.waiting() == before, "nothing goes out"
    hers = hooks.register(subject="ravi")
    path = f"/webhooks/{hers['webhook_id']}/test"
    assert hooks.call("POST", path, subject="ravi").status == 202


def test_enabling_one_that_is_enabled_changes_nothing(hooks: Ground) -> None:
    made = hooks.register()
    hooks.tell("a", 1)
    assert hooks.do(made, "enable").json["status"] == "ENABLED"
    hooks.run()
    assert hooks.endpoints.got() == ["a1"]


# The log.


def test_the_log_has_every_attempt_with_what_came_of_it(hooks: Ground) -> None:
    made = hooks.register()
    answers = iter([Answer(None, "no answer within 10 s", latency=10_000), DOWN, OK])
    hooks.endpoints.answers[URL] = lambda _: next(answers)
    hooks.tell("a", 1)
    hooks.wait(3600)
    lost, down, taken = hooks.log(made)
    assert (lost["status"], lost["error"], lost["latency_ms"]) == (
        None,
        "no answer within 10 s",
        10_000,
    )
    assert lost["outcome"] == "failed"
    assert (lost["event_id"], lost["type"]) == ("a.1", "recourse.order.started")
    assert lost["at"] == moment(NOW) < lost["next_attempt_at"] <= down["at"]
    assert (down["status"], down["response"], down["attempt"]) == (500, "down", 2)
    assert (taken["outcome"], taken["attempt"], taken["status"]) == ("delivered", 3, 200)
    assert taken["next_attempt_at"] is None


def test_the_log_comes_in_pages_the_newest_first(hooks: Ground) -> None:
    made = hooks.register()
    hooks.tell("a", *range(1, 6))
    hooks.run()
    path = f"/webhooks/{made['webhook_id']}/deliveries"
    seen: list[str] = []
    cursor, pages = "", 0
    while True:
        page = hooks.call("GET", f"{path}?limit=2{cursor}").json
        seen += [one["event_id"] for one in page["items"]]
        pages += 1
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert (seen, pages) == (["a.5", "a.4", "a.3", "a.2", "a.1"], 3)
    problem(hooks.call("GET", f"{path}?cursor=x"), 400, "bad-cursor")
    problem(hooks.call("GET", f"{path}?cursor="), 400, "bad-cursor")
    problem(hooks.call("GET", f"{path}?limit="), 422, "invalid")
    problem(hooks.call("GET", f"{path}?limit=0"), 422, "invalid")


# Replay.


def test_one_event_is_replayed_with_the_same_id(hooks: Ground) -> None:
    made = hooks.register()
    hooks.tell("a", 1, 2)
    hooks.run()
    answer = hooks.do(made, "replay", {"event_id": "a.1"})
    assert answer.status == 202
    hooks.run()
    assert hooks.endpoints.got() == ["a1", "a2", "a1"]
    first, _, again = hooks.endpoints.posts
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.body == again.body
    last = hooks.log(made)[-1]
    assert (last["replay_id"], last["attempt"]) == (answer.json["replay_id"], 1)


def test_a_range_of_time_is_replayed_in_order_and_no_more(hooks: Ground) -> None:
    made = hooks.register(URL, "recourse.order.started")
    for number in range(1, 6):
        hooks.tell("a", number)
        hooks.tell("b", number, what="succeeded")
        hooks.run()
        hooks.now += 60
    assert len(hooks.endpoints.posts) == 5
    times = [told.time for told in hooks.ledger["a"].entered]
    answer = hooks.do(made, "replay", {"from": times[1], "to": times[3]})
    assert answer.status == 202
    hooks.run()
    assert hooks.endpoints.got()[5:] == ["a2", "a3", "a4"]
    assert {one["replay_id"] for one in hooks.log(made)[5:]} == {answer.json["replay_id"]}


def test_a_replay_that_is_interrupted_goes_on_and_repeats_nothing(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recourse.webhooks.dispatch.PAGE", 2)
    made = hooks.register()
    hooks.tell("a", *range(1, 8))
    hooks.run()
    hooks.endpoints.posts.clear()
    answer = hooks.do(made, "replay", {"from": "2020-01-01", "to": "2100-01-01T00:00:00+02:00"})
    replay = (made["webhook_id"], answer.json["replay_id"])
    replays = hooks.dispatcher.webhooks.replays
    until = replays.get(*replay)["expires_at"]
    hooks.now += 3600
    turns = iter([True, True, False])
    assert not hooks.dispatcher.replay(*replay, lambda: next(turns))
    assert replays.get(*replay)["expires_at"] == until + 3600, "it does not expire on the way"
    hooks.take(OWNERS, hooks.records(OWNERS), lost=True)
    hooks.wait(600)
    assert hooks.endpoints.got() == [f"a{number}" for number in range(1, 8)]


def test_a_replay_that_there_is_no_room_for_waits_for_it(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hooks.register()
    for saga in "abc":
        hooks.tell(saga, 1)
    hooks.run()
    monkeypatch.setattr(lanes, "MAX_BUSY_LANES", 1)
    hooks.do(made, "replay", {"from": "2020-01-01", "to": "2100-01-01"})
    for _ in range(3):
        hooks.take(OWNERS, hooks.records(OWNERS))
        assert hooks.waiting(OWNERS) == hooks.waiting() == 1
    hooks.run()
    assert hooks.endpoints.got() == ["a1", "b1", "c1", "a1", "b1", "c1"]
    assert hooks.waiting(OWNERS) == 0


def test_an_event_that_is_not_ones_own_cannot_be_replayed(hooks: Ground) -> None:
    made = hooks.register()
    hooks.tell("r", 1, owner="ravi")
    hidden = event("a", "order", "undone", step="payment", outcome="empty", id="a.1")
    hooks.ledger["a"] = SimpleNamespace(owner="asha", entered=[hidden])
    for event_id in ("r.1", "a.1", "b.1", ".", "x" * 900):
        problem(hooks.do(made, "replay", {"event_id": event_id}), 404, "not-found")


def test_nothing_is_replayed_to_a_webhook_that_is_disabled(hooks: Ground) -> None:
    made = hooks.register()
    hooks.endpoints.say(Answer(410))
    hooks.tell("a", 1)
    hooks.run()
    problem(hooks.do(made, "replay", {"event_id": "a.1"}), 409, "webhook-disabled")


def test_too_much_that_waits_is_said_to_be(hooks: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MAX_BUSY_LANES", 1)
    made = hooks.register()
    assert hooks.do(made, "test").status == 202
    problem(hooks.do(made, "test"), 503, "try-again")
