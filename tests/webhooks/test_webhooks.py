"""What an endpoint gets: every event that it wants, in order, again until it takes it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from standardwebhooks import Webhook as Verifier

from recourse.declare.ids import Traceparent
from recourse.events import message_group
from recourse.functions import kit
from recourse.functions.webhook_deliver import MOST_RECEIVES
from recourse.functions.webhook_dispatch import handle_batch
from recourse.testing.handlers import Killed
from recourse.webhooks import lanes, leases
from recourse.webhooks.registrations import SLOTS, Webhook
from recourse.webhooks.sending import Answer
from tests.events import event
from tests.webhooks.conftest import DOWN, LANES, OK, OWNERS, URL, Ground, Post

HOUR, DAY = 3600.0, 86400.0
OTHER = "https://other.example/in"


def in_order(got: list[str], saga: str) -> list[str]:
    return [one for one in got if one.startswith(saga)]


def test_every_event_of_the_owner_arrives_in_the_order_of_its_saga(hooks: Ground) -> None:
    hooks.register()
    hooks.tell("a", 1, 2)
    hooks.tell("b", 1)
    hooks.tell("r", 1, owner="ravi")
    hooks.run()
    hooks.tell("a", 3)
    hooks.run()
    got = hooks.endpoints.got()
    assert sorted(got) == ["a1", "a2", "a3", "b1"]
    assert in_order(got, "a") == ["a1", "a2", "a3"]
    assert hooks.waiting() == 0


def test_what_waits_for_a_webhook_is_in_its_owner_s_message_group(hooks: Ground) -> None:
    """A wake-up of a lane, one that is sent anew, and those that go on with an owner's feed."""
    hooks.register()
    hooks.register(OTHER, subject="ravi")
    hooks.tell("a", 1)
    hooks.tell("r", 1, owner="ravi")
    hooks.take(OWNERS, hooks.records(OWNERS))
    assert groups(hooks) == {message_group("asha"), message_group("ravi")}
    hooks.endpoints.say(DOWN)
    for record in hooks.records(LANES):
        record["attributes"]["ApproximateReceiveCount"] = str(MOST_RECEIVES)
        hooks.take(LANES, [record])
    assert hooks.waiting() == 1 and groups(hooks) == {message_group("asha")}, "ravi's is up"
    handle_batch(
        mock.Mock(dispatch=mock.Mock(return_value=False)),
        [record | {"messageAttributes": {"owner": {"stringValue": "ravi"}}}],
        kit.wake(hooks.urls[OWNERS]),
        mock.Mock(),
    )
    assert groups(hooks, OWNERS) == {record["attributes"]["MessageGroupId"]}


def groups(hooks: Ground, queue: str = LANES) -> set[str | None]:
    return {message.group_id for message in hooks._queue(queue)._messages}


def test_an_event_is_delivered_with_its_span_the_same_in_each_attempt(hooks: Ground) -> None:
    hooks.register()
    traced = Traceparent.sent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    hooks.feed.append(
        "asha", [replace(event("a", "order", "started", sequence=1), traceparent=traced)]
    )
    hooks.tell("b", 1)
    hooks.endpoints.say(DOWN)
    hooks.run()
    hooks.endpoints.say(OK)
    hooks.wait(HOUR)
    hooks.run()
    posts = [post for post in hooks.endpoints.posts if post.event["subject"] == "a"]
    assert len(posts) == 2
    assert {post.headers["traceparent"] for post in posts} == {traced}
    assert {post.event["traceparent"] for post in posts} == {traced}
    untraced = [post for post in hooks.endpoints.posts if post.event["subject"] == "b"]
    assert untraced and not any("traceparent" in post.headers for post in untraced)


def test_what_came_before_a_webhook_was_registered_is_not_told(hooks: Ground) -> None:
    hooks.tell("a", 1)
    hooks.register()
    hooks.tell("a", 2)
    hooks.run()
    assert hooks.endpoints.got() == ["a2"]


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (("*",), True),
        (("recourse.order.*",), True),
        (("recourse.*.started",), True),
        (("recourse.transfer.*", "recourse.order.started"), True),
        (("recourse.order",), False),
        (("recourse.transfer.*",), False),
        (("*.done",), False),
    ],
)
def test_an_asterisk_stands_for_anything(kinds: tuple[str, ...], told: bool) -> None:
    webhook = Webhook(
        webhook_id="w",
        owner="asha",
        url=URL,
        events=list(kinds),
        status="ENABLED",
        created_at="",
        secret="",
        dispatched=0,
    )
    assert webhook.wants("recourse.order.started") == told


def test_a_webhook_is_told_the_types_that_it_named(hooks: Ground) -> None:
    hooks.register(URL, "recourse.*.succeeded")
    hooks.tell("a", 1)
    hooks.tell("a", 2, what="succeeded")
    hooks.run()
    assert hooks.endpoints.got() == ["a2"]


def test_wakeups_that_come_twice_or_not_at_all_change_nothing(hooks: Ground) -> None:
    hooks.register()
    hooks.tell("a", 1)
    hooks.tell("a", 2)
    records = hooks.records(OWNERS)
    assert len(records) == 2
    hooks.take(OWNERS, records[1:])
    hooks.take(OWNERS, records[1:], lost=True)
    hooks.run()
    assert hooks.endpoints.got() == ["a1", "a2"]


def test_the_signature_is_that_of_standard_webhooks(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hooks.register()
    hooks.tell("a", 1)
    hooks.run()
    (post,) = hooks.endpoints.posts
    assert post.headers["webhook-id"] == post.event["id"] == "a.1"
    assert post.headers["webhook-timestamp"] == str(int(hooks.now))
    assert verified(made["secret"], post, monkeypatch) == post.event


def verified(secret: str, post: Post, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the library that everybody uses makes of a call, at the time of the call."""
    monkeypatch.setattr(Verifier, "_Webhook__verify_timestamp", _at)
    return Verifier(secret).verify(post.body, dict(post.headers))


def _at(_: Verifier, text: str) -> Any:
    return datetime.fromtimestamp(float(text), UTC)


def test_a_rotated_secret_signs_beside_the_new_one_for_a_day(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hooks.register()
    new = hooks.do(old, "rotate").json
    assert new["secret"] != old["secret"]
    hooks.tell("a", 1)
    hooks.run()
    post = hooks.endpoints.posts[-1]
    assert len(post.headers["webhook-signature"].split(" ")) == 2
    for secret in (old["secret"], new["secret"]):
        assert verified(secret, post, monkeypatch)["id"] == "a.1"
    hooks.wait(DAY + 1)
    hooks.tell("a", 2)
    hooks.run()
    post = hooks.endpoints.posts[-1]
    assert verified(new["secret"], post, monkeypatch)["id"] == "a.2"
    with pytest.raises(Exception, match="No matching signature"):
        verified(old["secret"], post, monkeypatch)


# What fails.


def test_a_failure_holds_up_its_own_saga_alone(hooks: Ground) -> None:
    hooks.register()
    hooks.endpoints.answers[URL] = lambda post: DOWN if post.name == "a1" else OK
    hooks.tell("a", 1, 2, 3)
    hooks.tell("b", 1, 2)
    hooks.run()
    assert in_order(hooks.endpoints.got(), "a") == ["a1"]
    assert in_order(hooks.endpoints.got(), "b") == ["b1", "b2"]
    hooks.endpoints.say(OK)
    hooks.wait(HOUR)
    assert in_order(hooks.endpoints.got(), "a") == ["a1", "a1", "a2", "a3"]
    assert hooks.waiting() == 0


def test_the_id_stays_the_same_over_retries_and_the_timestamp_does_not(hooks: Ground) -> None:
    hooks.register()
    hooks.endpoints.say(DOWN)
    hooks.tell("a", 1)
    hooks.wait(HOUR)
    posts = hooks.endpoints.posts
    assert len(posts) >= 3
    assert {post.headers["webhook-id"] for post in posts} == {"a.1"}
    assert {post.body for post in posts} == {posts[0].body}
    stamps = [int(post.headers["webhook-timestamp"]) for post in posts]
    assert stamps == sorted(set(stamps))


def test_an_endpoint_that_is_down_for_two_days_misses_nothing(hooks: Ground) -> None:
    made = hooks.register()
    hooks.endpoints.say(DOWN)
    hooks.tell("a", 1, 2)
    hooks.wait(DAY)
    hooks.tell("a", 3)
    hooks.tell("b", 1)
    hooks.wait(DAY)
    assert hooks.show(made)["failing_since"] is not None
    before = len(hooks.endpoints.posts)
    hooks.endpoints.say(OK)
    hooks.wait(DAY)
    got = hooks.endpoints.got()[before:]
    assert in_order(got, "a") == ["a1", "a2", "a3"]
    assert in_order(got, "b") == ["b1"]
    shown = hooks.show(made)
    assert (shown["status"], shown["failing_since"]) == ("ENABLED", None)
    assert hooks.waiting() == 0


def test_an_event_is_tried_for_three_days_and_then_given_up_and_the_next_one_tried(
    hooks: Ground,
) -> None:
    made = hooks.register()
    hooks.endpoints.answers[URL] = lambda post: DOWN if post.name == "a1" else OK
    hooks.tell("a", 1, 2)
    for number in range(1, 5):
        hooks.tell("b", number)
        hooks.wait(DAY)
    log = [one for one in hooks.log(made) if one["event_id"] == "a.1"]
    assert [one["attempt"] for one in log] == list(range(1, len(log) + 1))
    assert [one["outcome"] for one in log] == ["failed"] * (len(log) - 1) + ["given-up"]
    assert 9 <= len(log) <= 11
    for one, following in pairwise(log):
        assert one["next_attempt_at"] <= following["at"]
    assert log[-1]["next_attempt_at"] is None
    assert in_order(hooks.endpoints.got(), "a")[-1] == "a2"
    assert hooks.waiting() == 0


def test_five_days_of_nothing_but_failures_disable_a_webhook_and_its_owner_is_told(
    hooks: Ground,
) -> None:
    made = hooks.register()
    hooks.register(OTHER, "recourse.webhook.*")
    hooks.endpoints.say(DOWN)
    for number in range(1, 8):
        hooks.tell("a", number)
        hooks.wait(DAY)
    shown = hooks.show(made)
    assert shown["status"] == "DISABLED"
    assert "five days" in shown["disabled_reason"]
    (told,) = [
        entry.event
        for entry in hooks.feed.read("asha", 0)
        if entry.event.type == "recourse.webhook.disabled"
    ]
    assert told.saga_id == made["webhook_id"]
    assert [post.event for post in hooks.endpoints.posts if post.url == OTHER] == [told.to_dict()]
    hooks.wait(2 * DAY)
    assert hooks.waiting() == 0, "what waited was given up"
    lost = [one for one in hooks.log(made) if one["outcome"] == "given-up"]
    assert {one["error"] for one in lost} >= {"the webhook is disabled"}
    calls = len(hooks.endpoints.got())
    hooks.tell("c", 1)
    hooks.wait(DAY)
    assert len(hooks.endpoints.got()) == calls


def test_410_disables_at_once_and_enabling_goes_on_from_then(hooks: Ground) -> None:
    made = hooks.register()
    hooks.endpoints.say(Answer(410))
    hooks.tell("a", 1, 2)
    hooks.wait(1)
    assert hooks.endpoints.got() == ["a1"]
    assert hooks.show(made)["status"] == "DISABLED"
    assert [one["outcome"] for one in hooks.log(made)] == ["given-up", "given-up"]
    hooks.endpoints.say(OK)
    hooks.tell("a", 3)
    hooks.run()
    enabled = hooks.do(made, "enable").json
    assert (enabled["status"], enabled["disabled_reason"]) == ("ENABLED", None)
    hooks.tell("a", 4)
    hooks.run()
    assert hooks.endpoints.got() == ["a1", "a4"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_obeyed(hooks: Ground, status: int) -> None:
    hooks.register()
    hooks.endpoints.say(Answer(status, retry_after="7200"))
    hooks.tell("a", 1)
    hooks.wait(7199)
    assert len(hooks.endpoints.posts) == 1
    hooks.wait(2)
    assert len(hooks.endpoints.posts) == 2


def test_a_function_that_dies_in_the_middle_loses_nothing(hooks: Ground) -> None:
    hooks.register()
    hooks.tell("a", 1, 2)
    hooks.take(OWNERS, hooks.records(OWNERS), lost=True)
    die = iter([True])

    def killed(post: Post) -> Answer:
        if next(die, False):
            raise Killed
        return OK

    hooks.endpoints.answers[URL] = killed
    with pytest.raises(Killed):
        hooks.take(LANES, hooks.records(LANES, 1))
    hooks.take(OWNERS, hooks.records(OWNERS))
    hooks.wait(HOUR)
    assert hooks.endpoints.got() == ["a1", "a1", "a2"], "again, with the same id"
    assert hooks.waiting() == hooks.waiting(OWNERS) == 0


def test_a_failure_of_our_own_keeps_the_message(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hooks.register()
    hooks.tell("a", 1)

    def fail(*_: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(type(hooks.webhooks.registrations), "get", fail)
        hooks.wait(HOUR)
    assert hooks.endpoints.posts == []
    hooks.wait(HOUR)
    assert hooks.endpoints.got() == ["a1"]
    assert [one["attempt"] for one in hooks.log(made)] == [1]


def test_a_message_is_sent_anew_before_sqs_would_dead_letter_it(hooks: Ground) -> None:
    hooks.register()
    hooks.endpoints.say(DOWN)
    hooks.tell("a", 1)
    hooks.run()
    (record,) = _worn(hooks)
    assert record["attributes"]["ApproximateReceiveCount"] == str(MOST_RECEIVES)
    hooks.take(LANES, [record])
    assert hooks.waiting() == 1
    hooks.endpoints.say(OK)
    hooks.wait(HOUR)
    assert hooks.endpoints.got()[-1] == "a1"
    assert hooks.waiting() == 0


def _worn(hooks: Ground) -> list[dict[str, Any]]:
    (message,) = hooks._queue(LANES)._messages
    message.approximate_receive_count = MOST_RECEIVES - 1
    hooks.now = message.visible_at / 1000 + 0.001
    return hooks.records(LANES)


# Endpoints apart.


def test_a_slow_endpoint_takes_only_its_slots(hooks: Ground) -> None:
    """Deliveries that are under way all at once: more of its own are put off, others are not."""
    hooks.register(URL)
    hooks.register(OTHER)
    hooks.tell("x", 1)
    hooks.run()
    inside: list[str] = []
    most: list[int] = []
    hooks.endpoints.posts.clear()

    def slow(post: Post) -> Answer:
        # While this one waits, everything else that there is comes up.
        inside.append(post.name)
        most.append(len(inside))
        while records := hooks.records(LANES, 1):
            hooks.take(LANES, records)
        inside.pop()
        return OK

    hooks.endpoints.answers[URL] = slow
    for number in range(12):
        hooks.tell(f"s{number}", 1)
    while records := hooks.records(OWNERS):
        hooks.take(OWNERS, records)
    while records := hooks.records(LANES, 1):
        hooks.take(LANES, records)
    assert max(most) == len(SLOTS)
    assert len(hooks.endpoints.got(URL)) == len(SLOTS)
    assert len(hooks.endpoints.got(OTHER)) == 12, "the other one has all of its own already"
    hooks.wait(HOUR)
    assert len(hooks.endpoints.got(URL)) == 12


def test_one_that_fails_gets_one_slot(hooks: Ground) -> None:
    made = hooks.register()
    hooks.endpoints.say(DOWN)
    hooks.tell("a", 1)
    hooks.run()
    webhook = hooks.webhooks.registrations.get(made["webhook_id"])
    hooks.tell("b", 1)
    hooks.tell("c", 1)
    hooks.take(OWNERS, hooks.records(OWNERS))
    first, second = (hooks.webhooks.lanes.get(webhook.webhook_id, name) for name in ("b", "c"))
    assert hooks.webhooks.leases.acquire(webhook, first) is not None
    webhook = hooks.webhooks.registrations.get(made["webhook_id"])
    assert hooks.webhooks.leases.acquire(webhook, second) is None


def test_a_slot_whose_holder_never_comes_back_is_free_again(hooks: Ground) -> None:
    made = hooks.register()
    hooks.tell("a", 1)
    hooks.take(OWNERS, hooks.records(OWNERS))
    webhook = hooks.webhooks.registrations.get(made["webhook_id"])
    lane = hooks.webhooks.lanes.get(webhook.webhook_id, "a")
    assert hooks.webhooks.leases.acquire(webhook, lane) is not None
    hooks.run()
    assert hooks.endpoints.posts == [], "somebody else has the lane"
    hooks.wait(leases.LEASE + 300)
    assert hooks.endpoints.got() == ["a1"]


def test_a_backlog_stays_in_the_feed_and_is_told_when_there_is_room(
    hooks: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_BUSY_LANES", 3)
    made = hooks.register()
    hooks.endpoints.say(DOWN)
    for number in range(8):
        hooks.tell(f"s{number}", 1, 2)
    hooks.wait(60)
    assert hooks.waiting() == 3
    assert hooks.waiting(OWNERS) == 0
    hooks.endpoints.say(OK)
    hooks.wait(DAY)
    got = hooks.endpoints.got()
    for number in range(8):
        assert in_order(got, f"s{number}")[-2:] == [f"s{number}1", f"s{number}2"]
    row = hooks.webhooks.registrations.get(made["webhook_id"])
    assert (row.busy, row.held) == (0, False)


def test_whatever_the_order_the_crashes_and_the_answers_nothing_is_lost_or_out_of_order(
    hooks: Ground,
) -> None:
    noise = random.Random(11)
    hooks.register()
    answers = [OK, OK, OK, DOWN, Answer(None, "no answer"), Answer(302)]
    hooks.endpoints.answers[URL] = lambda _: noise.choice(answers)
    for number in range(1, 5):
        for saga in "abc":
            hooks.tell(saga, number)
            for queue in noise.sample([OWNERS, LANES], 2):
                for record in hooks.records(queue, noise.randint(1, 3)):
                    hooks.take(queue, [record], lost=noise.random() < 0.3)
    hooks.wait(2 * DAY)
    hooks.endpoints.say(OK)
    hooks.wait(DAY)
    for saga in "abc":
        first = list(dict.fromkeys(in_order(hooks.endpoints.got(), saga)))
        assert first == [f"{saga}{number}" for number in range(1, 5)]
    assert hooks.waiting() == hooks.waiting(OWNERS) == 0
