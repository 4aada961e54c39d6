"""Guarantee 15: what a step returns or says is bounded, and what is too large stops nobody."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError

from recourse.declare import limits
from recourse.declare.declaration import Coordination
from recourse.errors import ContentionError, TransientError
from recourse.events import Event
from recourse.events.relay import PublishError, relay
from recourse.feed.feed import InvalidEventError
from recourse.functions import feed as feed_function
from recourse.queues.deadletters import REASON
from recourse.store.items import encode_item
from recourse.testing.ground import LEDGER
from tests.events import event
from tests.ground import Ground, ground
from tests.integration.large import BEFORE, LARGE, STEPS, asked
from tests.integration.test_every_saga import from_outside

SHARE = min(LARGE.shares.values())
QUOTES = 2
"""A text has quotation marks round it."""
keys = itertools.count()
each_coordination = pytest.mark.parametrize("coordination", get_args(Coordination))


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground({"large": LARGE}) as made:
        yield made


def run(place: Ground, coordination: Coordination, **steps: dict[str, Any]) -> str:
    saga_id = place.start("large", asked(**steps), key=f"{next(keys)}", coordination=coordination)
    place.settle()
    return saga_id


def effects(place: Ground, saga_id: str) -> set[str]:
    """The steps that have acted and were not undone."""
    acted = {row["pk"].split("#")[2] for row in place.rows("large", f"effect#{saga_id}")}
    return acted - {row["pk"].split("#")[2] for row in place.rows("large", f"undone#{saga_id}")}


@each_coordination
@pytest.mark.parametrize("step", [*BEFORE, "decide"])
def test_a_result_that_is_too_large_is_refused_before_it_is_committed(
    place: Ground, step: str, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, **{step: {"result": 100_000}})
    view = place.view(saga_id)
    assert view["status"] == "COMPENSATED"
    assert view["reason"] == {
        "step": step,
        "error": "ResultTooLargeError",
        "message": f"step {step!r}: its result must be at most {SHARE} bytes, got 100002",
    }
    assert place.row("large", f"effect#{saga_id}#{step}") is None
    assert effects(place, saga_id) == set()


@each_coordination
def test_a_result_that_is_too_large_after_the_pivot_is_parked(
    place: Ground, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, after={"result": 100_000})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("RUNNING", "ResultTooLargeError")
    assert place.statuses(saga_id)["after"] == "FAILED"
    assert effects(place, saga_id) == set(STEPS) - {"after"}


@each_coordination
def test_a_row_that_dynamodb_would_not_take_is_refused_with_the_steps_name(
    place: Ground, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, middle={"row": limits.ITEM})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("COMPENSATED", "ResultTooLargeError")
    assert "step 'middle': a row must be at most" in view["reason"]["message"]


@each_coordination
def test_what_an_undo_returns_is_measured_too(place: Ground, coordination: Coordination) -> None:
    saga_id = run(
        place, coordination, middle={"undone": 100_000}, decide={"refusal": 1}, left={"undone": 9}
    )
    assert place.view(saga_id)["status"] == "COMPENSATION_FAILED"
    (stuck,) = (s for s in place.view(saga_id)["steps"] if s["status"] == "UNDO_FAILED")
    assert (stuck["name"], stuck["error"]) == ("middle", "ResultTooLargeError")
    assert effects(place, saga_id) == {"middle"}


@each_coordination
def test_every_share_used_to_the_full_fits_wherever_it_is_carried(
    place: Ground, coordination: Coordination
) -> None:
    full: dict[str, Any] = {name: {"result": SHARE - QUOTES} for name in STEPS}
    full["left"]["more"] = "x" * (limits.REQUEST - limits.size(asked(**full)) - 100)
    assert limits.REQUEST - 200 < limits.size(asked(**full)) <= limits.REQUEST
    saga_id = run(place, coordination, **full)
    assert place.view(saga_id)["status"] == "SUCCEEDED"
    assert effects(place, saga_id) == set(STEPS)
    if coordination == "orchestration":
        history = place.sfn.get_execution_history(
            executionArn=place.execution(saga_id)["executionArn"], maxResults=1000
        )["events"]
        for event in history:
            for details in (event[name] for name in event if name.endswith("EventDetails")):
                for carried in (details.get("input", ""), details.get("output", "")):
                    assert len(carried.encode()) <= limits.CARRIED, event
    for row in (*place.rows("large", "outbox#"), *place.rows(LEDGER, "outbox#")):
        assert len(row["event"].encode()) <= limits.EVENT
    for table in ("large", LEDGER):
        for row in place.rows(table, ""):
            limits.check_row("any", row["pk"], row)


@each_coordination
@pytest.mark.parametrize("step", [*BEFORE, "decide"])
def test_a_refusal_of_any_length_is_cut_and_holds_up_nobody(
    place: Ground, step: str, coordination: Coordination
) -> None:
    saga_id = run(place, coordination, **{step: {"refusal": 300_000}})
    view = place.view(saga_id)
    assert (view["status"], view["reason"]["error"]) == ("COMPENSATED", "WordyError")
    assert view["reason"]["message"].endswith(f"xxx{limits.MARK}")
    assert len(json.dumps(view["reason"]["message"], ensure_ascii=False).encode()) <= limits.TEXT


@each_coordination
@pytest.mark.parametrize("kind", [ValueError, LookupError])
def test_the_text_of_any_error_is_cut(
    place: Ground, kind: type[Exception], coordination: Coordination
) -> None:
    def fails(function: str, task: dict[str, Any], run_it: Any) -> Any:
        if task["step"] == "middle" and task["phase"] == "action":
            raise kind('"' * 300_000)
        return run_it()

    place.mishap, before = fails, place.mishap
    try:
        saga_id = run(place, coordination)
    finally:
        place.mishap = before
    reason = place.view(saga_id)["reason"]
    assert (reason["step"], reason["error"]) == ("middle", kind.__name__)
    assert reason["message"].endswith(limits.MARK)
    assert len(json.dumps(reason["message"], ensure_ascii=False).encode()) <= limits.TEXT


# What can never be told stops nobody.


def outbox(occasion: str, text: str) -> dict[str, Any]:
    """The record of an outbox row that an earlier release may have committed."""
    told = event("s", "large", "done", step="left", occasion=occasion, result=text)
    return record(told.id, told.to_json())


def record(name: str, text: str) -> dict[str, Any]:
    row = encode_item({"pk": f"outbox#{name}", "event": text})
    keys = {"pk": row["pk"]}
    return {"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": row}}


class Topic:
    """A topic that answers for each event as the test says."""

    def __init__(self, answer: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._answer = answer
        self.taken: list[str] = []

    def publish_batch(self, **asked: Any) -> Any:
        entries = asked["PublishBatchRequestEntries"]
        answer = self._answer(entries)
        failed = {failure["Id"] for failure in answer.get("Failed", ())}
        self.taken += [
            json.loads(one["Message"])["id"] for one in entries if one["Id"] not in failed
        ]
        return answer


def refuse(kind: str) -> ClientError:
    return ClientError({"Error": {"Code": kind, "Message": kind}}, "PublishBatch")


def refuse_one(code: str) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    return lambda entries: {
        "Failed": [{"Id": one["Id"], "Code": code} for one in entries if ".b" in one["Message"]]
    }


def refuse_all(entries: list[dict[str, Any]]) -> dict[str, Any]:
    if any(".b" in one["Message"] for one in entries):
        raise refuse("InvalidParameter")
    return {}


@pytest.mark.parametrize("answer", [refuse_one("InvalidParameter"), refuse_all])
def test_an_event_that_sns_will_never_take_is_dead_lettered_and_the_others_go_on(
    answer: Any,
) -> None:
    topic, lost = Topic(answer), []
    records = [outbox(name, "x") for name in ("a", "b", "c")]
    assert relay(topic, "topic", records, lambda *one: lost.append(one), patience=0) == 3  # type: ignore[arg-type]
    assert topic.taken == ["s.left.done.a", "s.left.done.c"]
    ((of, reason),) = lost
    assert of is records[1] and "InvalidParameter" in reason


def test_an_event_that_is_too_large_or_none_is_dead_lettered_before_sns_is_asked() -> None:
    topic, lost = Topic(lambda entries: {}), []
    records = [record("z", "no JSON"), outbox("a", "x"), outbox("b", "x" * 300_000)]
    relay(topic, "topic", records, lambda *one: lost.append(one), patience=0)  # type: ignore[arg-type]
    assert topic.taken == ["s.left.done.a"]
    assert [of for of, _ in lost] == [records[0], records[2]]
    assert "not an event" in lost[0][1] and "must be at most 262144 bytes" in lost[1][1]


def test_what_sns_does_not_take_now_is_tried_again_after_all_others() -> None:
    answers = iter([refuse_one("InternalError"), refuse_one("ThrottledException")])
    topic = Topic(lambda entries: next(answers, lambda _: {})(entries))
    naps: list[float] = []
    records = [outbox(name, "x") for name in ("a", "b", "c")]
    relay(topic, "topic", records, never_lost, sleep=naps.append)  # type: ignore[arg-type]
    assert topic.taken == ["s.left.done.a", "s.left.done.c", "s.left.done.b"]
    assert len(naps) == 2
    topic = Topic(refuse_one("InternalError"))
    with pytest.raises(PublishError, match="1 of 3 events, the first: InternalError"):
        relay(topic, "topic", records, never_lost, patience=0)  # type: ignore[arg-type]


def never_lost(_: Any, reason: str) -> None:
    raise AssertionError(reason)


def test_an_event_that_could_not_even_be_dead_lettered_comes_again() -> None:
    def down(_: Any, reason: str) -> None:
        raise TransientError("no queue")

    with pytest.raises(PublishError, match="no queue"):
        relay(Topic(lambda _: {}), "t", [record("z", "?")], down, patience=0)  # type: ignore[arg-type]


def test_a_large_event_of_an_earlier_release_holds_up_nobody(place: Ground) -> None:
    place.stream.add(outbox("b", "x" * 300_000))
    saga_id = run(place, "orchestration")
    assert place.view(saga_id)["status"] == "SUCCEEDED"
    (lost,) = place.sqs.receive_message(
        QueueUrl=place.lost, MessageAttributeNames=["All"], MaxNumberOfMessages=10
    )["Messages"]
    body = json.loads(lost["Body"])
    assert (body["subject"], body["keys"]) == ("s", {"pk": "outbox#s.left.done.b"})
    assert "bytes" in lost["MessageAttributes"][REASON]["StringValue"]


class Feeds:
    """Feeds of which one takes nothing of one saga."""

    def __init__(self, problem: Exception, times: int = 1000) -> None:
        self._problem = problem
        self._times = times
        self.fed: set[str] = set()

    def append(self, owner: str, told: list[Event], *, guest: bool) -> int:
        if any(one.saga_id == "bad" for one in told) and self._times:
            self._times -= 1
            raise self._problem
        self.fed |= {one.saga_id for one in told}
        return len(told)


def entered(saga_id: str, owner: str) -> dict[str, Any]:
    told = event(saga_id, "large", "started", sequence=1)
    row = encode_item({"pk": saga_id, "owner": owner, "entered": [told.to_dict()]})
    return {"eventName": "MODIFY", "dynamodb": {"Keys": {"pk": row["pk"]}, "NewImage": row}}


ROWS = [entered("good", "asha"), entered("bad", "asha"), entered("other", "ravi")]


def test_a_saga_that_can_never_be_fed_is_dead_lettered_and_the_others_are_fed() -> None:
    feeds, lost = Feeds(InvalidEventError("too large")), []
    handle_batch = feed_function.handle_batch
    handle_batch(feeds, ROWS, lambda *one: lost.append(one), patience=0)  # type: ignore[arg-type]
    assert feeds.fed == {"good", "other"}
    assert lost == [(ROWS[1], "InvalidEventError: too large")]


def test_a_saga_that_cannot_be_fed_now_is_tried_again_after_the_others() -> None:
    naps: list[float] = []
    feeds = Feeds(ContentionError("others"), times=3)
    feed_function.handle_batch(feeds, ROWS, never_lost, sleep=naps.append)  # type: ignore[arg-type]
    assert feeds.fed == {"good", "other", "bad"} and len(naps) == 1
    feeds = Feeds(ContentionError("others"))
    with pytest.raises(ExceptionGroup):
        feed_function.handle_batch(feeds, ROWS, never_lost, patience=0)  # type: ignore[arg-type]
    assert feeds.fed == {"good", "other"}


@pytest.mark.parametrize("acted", [False, True], ids=["back", "forward"])
def test_a_recovery_carries_results_only_where_it_goes_forward(place: Ground, acted: bool) -> None:
    before = place.mishap
    place.mishap = from_outside(
        place, "abort", "decide" if acted else "middle", "action", after=True
    )
    try:
        saga_id = run(place, "orchestration", left={"result": 5000}, middle={"result": 5000})
    finally:
        place.mishap = before
    assert place.view(saga_id)["status"] == "RUNNING"
    place.hear_of_end(saga_id)
    place.settle()
    assert place.view(saga_id)["status"] == ("SUCCEEDED" if acted else "COMPENSATED")
    assert effects(place, saga_id) == (set(STEPS) if acted else set())
    carried = json.dumps(
        place.sfn.get_execution_history(
            executionArn=place.execution(saga_id, run=1)["executionArn"], maxResults=1000
        )["events"],
        default=str,
    )
    assert ("x" * 5000 in carried) is acted
