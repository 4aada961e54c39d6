"""The worker, demand by demand, on a queue whose time stands still unless a test moves it on."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from recourse.declare.ids import Traceparent
from recourse.errors import PoisonError
from recourse.queues.deadletters import REASON
from recourse.queues.message import Message
from recourse.queues.sources import backoff
from recourse.queues.worker.worker import QueueUnavailableError, SettingError, StuckError, Worker
from tests.events import event
from tests.patience import PATIENCE
from tests.worker.conftest import Gate, Running
from tests.worker.queue import Queue

Work = Callable[..., Running]


def throttled() -> ClientError:
    answer: Any = {"Error": {"Code": "RequestThrottled", "Message": "slow down"}}
    return ClientError(answer, "Anything")


def nothing(message: Message) -> None:
    """A handler without an effect."""


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [one for one in caplog.records if words in one.getMessage()]


# What is done.


def test_what_the_handler_has_returned_from_is_deleted_ten_at_a_time(work: Work) -> None:
    queue, seen = Queue(), Counter[str]()
    bodies = [str(number) for number in range(200)]
    queue.put(*bodies)
    running = work(queue, lambda message: seen.update([message.body]), max_in_flight=40)
    queue.until(lambda: not queue.messages)
    running.end()
    assert seen == Counter(bodies)
    assert sum(queue.deletes) == 200 and len(queue.deletes) < 100
    counts = running.worker.counts
    assert (counts.received, counts.done, counts.deleted, counts.failed) == (200, 200, 200, 0)


def test_fewer_than_ten_are_deleted_after_a_moment(work: Work) -> None:
    queue = Queue()
    work(queue, nothing)
    queue.put("one")
    queue.until(lambda: not queue.messages)


def test_the_handler_is_given_the_message(work: Work) -> None:
    queue, seen = Queue(fifo=True), list[Message]()
    queue.put("text", group="a")
    work(queue, seen.append)
    queue.until(lambda: seen)
    assert seen == [Message("id-text", "text", {"kind": "done"}, "a", 1)]


# How much at once.


def test_no_more_is_received_than_handlers_have_time_for(work: Work, gate: Gate) -> None:
    queue = Queue()
    queue.put(*"abcdefgh")
    work(queue, lambda message: gate.wait(message.body), max_in_flight=3)
    gate.until("a", "b", "c")
    assert sum(one.receives for one in queue.messages) == 3
    asked = len(queue.asked)
    gate.open("b")
    gate.until("d")
    assert queue.asked[asked:] == [1], "one has time, so one is asked for, and none before that"
    assert sum(one.receives for one in queue.messages if one.body != "b") == 3


def test_what_cannot_be_deleted_holds_up_receiving_in_the_end(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recourse.queues.worker.capacity.MAX_UNDELETED", 5)
    queue = Queue()
    broken = threading.Event()

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "delete_message_batch" and not broken.is_set():
            raise throttled()

    queue.refuse = refuse
    queue.put(*(str(number) for number in range(20)))
    work(queue, nothing, max_in_flight=2)
    queue.until(lambda: sum(one.receives for one in queue.messages) >= 7)
    tried = len(queue.deletes)
    queue.until(lambda: len(queue.deletes) > tried + 1)
    assert sum(one.receives for one in queue.messages) <= 8
    broken.set()
    queue.until(lambda: not queue.messages)


def test_an_idle_queue_is_asked_by_one_receive_at_a_time(work: Work) -> None:
    queue, at_once = Queue(), []
    under_way = threading.Semaphore(0)

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "receive_message":
            at_once.append(threading.current_thread())
            under_way.release()

    queue.refuse = refuse
    work(queue, nothing, max_in_flight=40)
    for _ in range(6):
        assert under_way.acquire(timeout=PATIENCE)
    assert len(set(at_once)) == 1


# What is not deleted at once.


def test_only_what_was_not_deleted_is_deleted_again(work: Work) -> None:
    queue, seen, tries = Queue(), Counter[str](), Counter[str]()

    def refuse(name: str, about: dict[str, Any]) -> Any:
        if name != "delete_message_batch":
            return None
        tries.update(about["bodies"].values())
        odd = [key for key, body in about["bodies"].items() if int(body) % 2 and tries[body] < 3]
        return [{"Id": key, "SenderFault": False, "Code": "InternalError"} for key in odd]

    queue.refuse = refuse
    queue.put(*(str(number) for number in range(20)))
    running = work(queue, lambda message: seen.update([message.body]))
    queue.until(lambda: not queue.messages)
    running.end()
    assert set(seen.values()) == {1}
    assert tries == Counter({str(one): 3 if one % 2 else 1 for one in range(20)})
    assert running.worker.counts.deleted == 20


def test_a_delete_without_an_answer_is_made_again(work: Work) -> None:
    queue, failures = Queue(), [throttled(), EndpointConnectionError(endpoint_url="sqs"), None]

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "delete_message_batch" and (problem := failures.pop(0)):
            raise problem

    queue.refuse = refuse
    queue.put("one")
    work(queue, nothing)
    queue.until(lambda: not queue.messages)
    assert failures == []


def test_a_receipt_that_sqs_does_not_know_any_more_is_not_tried_again(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()

    def refuse(name: str, about: dict[str, Any]) -> Any:
        if name == "delete_message_batch":
            return [{"Id": key, "SenderFault": True, "Code": "Gone"} for key in about["bodies"]]
        return None

    queue.refuse = refuse
    queue.put("one")
    running = work(queue, nothing)
    queue.until(lambda: queue.deletes)
    running.end()
    assert queue.deletes == [1] and running.worker.counts.deleted == 0
    assert said(caplog, "not deleted, will be redelivered")


# The heartbeat.


def test_what_is_being_handled_stays_hidden_until_it_is_done(work: Work, gate: Gate) -> None:
    queue = Queue()
    queue.put("long")
    sent = queue.find("long")
    begun = time.monotonic()
    running = work(queue, lambda message: gate.wait(message.body), visibility_timeout=1)
    queue.until(lambda: len(sent.changes) >= 3)
    # One that is late is a slow machine's; three that are would let another one have it.
    assert time.monotonic() - begun < 3 * 1, "each before the one before has ended"
    gate.open()
    queue.until(lambda: not queue.messages)
    running.end()
    assert set(sent.changes) == {1}


def test_a_heartbeat_that_is_late_does_not_overwrite_a_backoff(
    work: Work, gate: Gate, whole_backoff: None
) -> None:
    queue, beating, answer = Queue(), threading.Event(), threading.Event()

    def refuse(name: str, about: dict[str, Any]) -> None:
        changes = [one["VisibilityTimeout"] for one in about.get("Entries", ())]
        if name == "change_message_visibility_batch" and changes == [1]:
            beating.set()
            assert answer.wait(PATIENCE)

    def fail(message: Message) -> None:
        gate.wait(message.body)
        raise RuntimeError("not now")

    queue.refuse = refuse
    queue.put("bad")
    sent = queue.find("bad")
    running = work(queue, fail, visibility_timeout=1, retry_backoff_initial=50)
    assert beating.wait(PATIENCE)
    gate.open()
    queue.until(lambda: running.worker.counts.failed)
    answer.set()
    queue.until(lambda: 50 in sent.changes)
    running.end()
    assert sent.changes[-1] == 50 and sent.visible_at == 50


def test_what_is_put_off_has_no_heartbeat_any_more(
    work: Work, gate: Gate, whole_backoff: None
) -> None:
    queue = Queue()
    queue.put("bad", "long")
    bad, long = queue.find("bad"), queue.find("long")

    def handle(message: Message) -> None:
        if message.body == "bad":
            raise RuntimeError("not now")
        gate.wait(message.body)

    work(queue, handle, visibility_timeout=2, retry_backoff_initial=1)
    queue.until(lambda: long.changes)
    assert bad.changes == [1], "it would be renewed sooner than what is taken"


def test_a_handler_that_hangs_loses_its_message_and_nothing_is_done_to_it_again(
    work: Work, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    queue.put("hangs")
    sent = queue.find("hangs")

    def fail(message: Message) -> None:
        gate.wait(message.body)
        raise RuntimeError("too late")

    running = work(queue, fail, visibility_timeout=1, handler_timeout=0.5, max_in_flight=2)
    queue.until(lambda: running.worker.counts.expired)
    beats = list(sent.changes)
    gate.open()
    running.end()
    assert said(caplog, "took more than 0.5 s, will be redelivered")
    assert sent in queue.messages and sent.changes == beats, "somebody else may have it by now"
    assert not queue.dead_lettered


def test_what_a_handler_does_after_all_is_deleted(work: Work, gate: Gate) -> None:
    queue = Queue()
    queue.put("slow")
    running = work(
        queue,
        lambda message: gate.wait(message.body),
        visibility_timeout=1,
        handler_timeout=0.2,
        max_in_flight=2,
    )
    queue.until(lambda: running.worker.counts.expired)
    gate.open()
    queue.until(lambda: not queue.messages)


def test_a_worker_whose_handlers_all_hang_ends(work: Work, gate: Gate) -> None:
    queue = Queue()
    queue.put("a", "b")
    running = work(
        queue,
        lambda message: gate.wait(message.body),
        visibility_timeout=1,
        handler_timeout=0.2,
        max_in_flight=2,
    )
    running.join()
    assert isinstance(running.problem, StuckError)
    assert len(queue.messages) == 2


# What fails.


@pytest.mark.parametrize("problem", [RuntimeError("no"), SystemExit(3), RecursionError("deep")])
def test_what_fails_is_tried_as_often_as_its_queue_allows_and_dead_lettered_with_its_reason(
    work: Work, whole_backoff: None, problem: BaseException
) -> None:
    queue, tries = Queue(receives=3), []

    def fail(message: Message) -> None:
        if message.body == "bad":
            tries.append(message.receives)
            raise problem

    queue.attached |= {
        "reason": {"StringValue": "the sender's own", "DataType": "String"},
        "seal": {"BinaryValue": b"\x00\xff", "DataType": "Binary.seal"},
    }
    queue.put("bad", "good")
    sent = queue.find("bad")
    running = work(queue, fail, retry_backoff_initial=10)
    queue.until(lambda: queue.messages == [sent])
    for number in (1, 2):
        queue.put_off(sent, times=number)
    queue.until(lambda: not queue.messages)
    running.end()
    assert tries == [1, 2, 3] and sent.changes == [10, 20]
    (lost,) = queue.dead_lettered
    assert lost["MessageBody"] == "bad" and lost["QueueUrl"].endswith("/Lost")
    assert lost["MessageAttributes"] == {
        "kind": {"StringValue": "done", "DataType": "String"},
        "reason": {"StringValue": "the sender's own", "DataType": "String"},
        "seal": {"BinaryValue": b"\x00\xff", "DataType": "Binary.seal"},
        REASON: lost["MessageAttributes"][REASON],
    }
    reason = lost["MessageAttributes"][REASON]["StringValue"]
    assert reason == f"{type(problem).__name__}: {problem}"
    counts = running.worker.counts
    assert (counts.failed, counts.dead_lettered, counts.done) == (2, 1, 1)


def test_a_backoff_doubles_up_to_its_cap_and_is_anything_below_by_chance(
    whole_backoff: None,
) -> None:
    assert [backoff(receives, 1, 60) for receives in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]


def test_a_backoff_has_full_jitter() -> None:
    pauses = {backoff(5, 1, 300) for _ in range(500)}
    assert min(pauses) <= 1 and max(pauses) >= 15 and max(pauses) <= 16


def test_poison_is_dead_lettered_at_once_and_the_rest_is_done(work: Work) -> None:
    queue, seen = Queue(), []

    def read(message: Message) -> None:
        if message.body == "poison":
            raise PoisonError("nobody can read this")
        seen.append(message.body)

    queue.put("a", "poison", "b")
    work(queue, read)
    queue.until(lambda: not queue.messages)
    (lost,) = queue.dead_lettered
    assert lost["MessageBody"] == "poison"
    assert lost["MessageAttributes"][REASON]["StringValue"] == "PoisonError: nobody can read this"
    assert sorted(seen) == ["a", "b"]


def test_what_cannot_be_dead_lettered_now_comes_again(work: Work, whole_backoff: None) -> None:
    queue = Queue()

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "send_message":
            raise throttled()

    def read(message: Message) -> None:
        raise PoisonError("no")

    queue.refuse = refuse
    queue.put("poison")
    sent = queue.find("poison")
    running = work(queue, read, retry_backoff_initial=7)
    queue.until(lambda: sent.changes)
    running.end()
    assert sent.changes == [7] and queue.messages == [sent] and not queue.dead_lettered


def test_without_a_dead_letter_queue_poison_comes_again(work: Work, whole_backoff: None) -> None:
    queue = Queue(receives=None)

    def read(message: Message) -> None:
        raise PoisonError("no")

    queue.put("poison")
    sent = queue.find("poison")
    work(queue, read, retry_backoff_initial=7)
    queue.until(lambda: sent.changes == [7])


# Order.


def test_a_group_is_taken_in_order_and_does_not_wait_for_another(work: Work, gate: Gate) -> None:
    queue, done = Queue(fifo=True), list[str]()
    queue.put("a1", "a2", "a3", group="a")
    queue.put("b1", "b2", "b3", group="b")

    def handle(message: Message) -> None:
        if message.body in ("a1", "b2"):
            gate.wait(message.body)
        done.append(message.body)

    work(queue, handle, max_in_flight=6)
    gate.until("a1", "b2")
    assert done == ["b1"]
    gate.open("b2")
    queue.until(lambda: done == ["b1", "b2", "b3"])
    gate.open("a1")
    queue.until(lambda: not queue.messages)
    assert done[3:] == ["a1", "a2", "a3"]


def test_behind_a_failure_its_group_waits_and_is_given_back(
    work: Work, whole_backoff: None
) -> None:
    queue, seen, broken = Queue(fifo=True), list[str](), [True]
    queue.put("a1", "a2", "a3", "a4", group="a")
    queue.put("b1", group="b")
    a2, a3, a4 = (queue.find(body) for body in ("a2", "a3", "a4"))

    def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == "a2" and broken:
            broken.pop()
            raise RuntimeError("not now")

    running = work(queue, handle, retry_backoff_initial=9)
    queue.until(lambda: a2.changes and a3.changes and a4.changes)
    assert (a2.changes, a3.changes, a4.changes) == ([9], [0], [0])
    queue.until(lambda: [one.body for one in queue.messages] == ["a2", "a3", "a4"])
    assert sorted(seen) == ["a1", "a2", "b1"]
    queue.pass_time(9)
    queue.until(lambda: not queue.messages)
    running.end()
    assert [body for body in seen if body[0] == "a"] == ["a1", "a2", "a2", "a3", "a4"]
    assert running.worker.counts.given_back == 2


def test_what_fails_for_the_last_time_does_not_take_its_group_with_it(
    work: Work, whole_backoff: None
) -> None:
    """Those behind it were received as often: SQS would dead-letter them, untried."""
    queue, seen = Queue(fifo=True, receives=3), list[str]()
    queue.put("bad", "a2", "a3", group="a")
    bad = queue.find("bad")

    def handle(message: Message) -> None:
        seen.append(message.body)
        if message.body == "bad":
            raise RuntimeError("never")

    work(queue, handle, retry_backoff_initial=1)
    for number in (1, 2):
        queue.put_off(bad, times=number)
    queue.until(lambda: not queue.messages)
    assert seen == ["bad", "bad", "bad", "a2", "a3"]
    (lost,) = queue.dead_lettered
    assert (lost["MessageBody"], lost["MessageGroupId"]) == ("bad", "a")


def test_what_has_waited_beyond_its_visibility_is_not_begun(
    work: Work, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    queue, refused = Queue(fifo=True), Counter[str]()

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "change_message_visibility_batch":
            refused.update(about["bodies"].values())
            raise throttled()

    queue.refuse = refuse
    queue.put("a1", "a2", group="a")
    running = work(queue, lambda message: gate.wait(message.body), visibility_timeout=1)
    gate.until("a1")
    # The heartbeat tries every sixth of a second from the third on.
    queue.until(lambda: refused["a2"] >= 5)
    gate.open()
    queue.until(lambda: running.worker.counts.expired)
    running.end()
    assert gate.begun == ["a1"]
    assert said(caplog, "waited too long, will be redelivered")


def test_each_line_about_a_message_says_its_saga_step_attempt_and_trace(
    work: Work, whole_backoff: None, caplog: pytest.LogCaptureFixture
) -> None:
    trace = Traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    done = event("saga-1", "order", "done", step="payment", result={"secret": 1})
    body = replace(done, traceparent=trace).to_json()
    queue = Queue(fifo=True, receives=2)
    queue.put(body, "no event", group="a")

    def handle(message: Message) -> None:
        raise ValueError("oops")

    sent = queue.find(body)
    running = work(queue, handle, retry_backoff_initial=1)
    queue.put_off(sent, times=1)
    queue.until(lambda: queue.dead_lettered)
    running.end()
    lines = [vars(one) for one in (*said(caplog, "failed: "), *said(caplog, "dead-lettered: "))]
    about = [one for one in lines if one["message_id"] == f"id-{body}"]
    assert [one["attempt"] for one in about] == [1, 2]
    for line in about:
        assert (line["saga_id"], line["saga"], line["step"]) == ("saga-1", "order", "payment")
        assert (line["event"], line["group"]) == ("recourse.order.payment.done", "a")
        assert line["trace_id"] == trace.trace_id
    for line in lines:
        assert line["attempt"] >= 1 and "secret" not in str(line.get("event"))


# Ending.


def test_told_to_stop_it_ends_what_has_begun_and_gives_back_what_has_not(
    work: Work, gate: Gate
) -> None:
    queue = Queue(fifo=True)
    queue.put("a1", "a2", group="a")
    a2 = queue.find("a2")
    running = work(queue, lambda message: gate.wait(message.body))
    gate.until("a1")
    running.tell_to_stop()
    queue.until(lambda: a2.changes)
    gate.open()
    running.join()
    assert gate.begun == ["a1"]
    # The receive that was under way may have brought it again.
    assert queue.messages == [a2] and set(a2.changes) == {0}
    asked = len(queue.asked)
    queue.put("late", group="b")
    assert len(queue.asked) == asked


def test_what_a_receive_brings_after_the_stop_is_given_back(work: Work) -> None:
    queue, polling, answer = Queue(), threading.Event(), threading.Event()

    def refuse(name: str, about: dict[str, Any]) -> None:
        if name == "receive_message":
            polling.set()
            assert answer.wait(PATIENCE)

    queue.refuse = refuse
    queue.put("one")
    sent, begun = queue.find("one"), list[Message]()
    running = work(queue, begun.append)
    assert polling.wait(PATIENCE)
    running.tell_to_stop()
    assert running.worker._stopping.wait(PATIENCE)
    answer.set()
    running.join()
    assert running.problem is None and not begun
    assert sent.receives == 1 and sent.changes == [0]


def test_what_takes_longer_than_the_grace_is_left(
    work: Work, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    queue.put("long")
    running = work(queue, lambda message: gate.wait(message.body), shutdown_graceful_timeout=0.1)
    gate.until("long")
    running.end()
    assert queue.messages and running.worker.counts.expired == 1
    assert said(caplog, "takes more than 0.1 s to end, will be redelivered")


# What SQS may do.


@pytest.mark.parametrize(
    "problem", [throttled(), EndpointConnectionError(endpoint_url="sqs"), KeyError("garbage")]
)
def test_whatever_sqs_answers_the_worker_goes_on(work: Work, problem: Exception) -> None:
    queue, failures = Queue(), 3

    def refuse(name: str, about: dict[str, Any]) -> None:
        nonlocal failures
        if name == "receive_message" and failures:
            failures -= 1
            raise problem

    queue.refuse = refuse
    queue.put("one")
    running = work(queue, nothing)
    queue.until(lambda: not queue.messages)
    running.end()
    assert failures == 0 and running.problem is None


def test_a_queue_that_is_not_there_is_named() -> None:
    queue = Queue()

    def refuse(name: str, about: dict[str, Any]) -> None:
        raise throttled()

    queue.refuse = refuse
    with pytest.raises(QueueUnavailableError, match=r"sqs\.example/1/Things: .*slow down"):
        Worker(cast(Any, queue), queue.url, nothing).run(threading.Event())


@pytest.mark.parametrize(
    "setting",
    [
        {"max_in_flight": 0},
        {"visibility_timeout": 0},
        {"receive_wait_time": 21},
        {"retry_backoff_cap": 90_000},
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(setting))} must be .*, got"):
        Worker(cast(Any, Queue()), "https://sqs.example/1/Things", nothing, **setting)


@pytest.mark.parametrize("body", ["", "\x00", "\ud800", "[" * 100_000, "x" * 2**20, "${jndi:x}"])
def test_a_body_is_whatever_it_is(work: Work, body: str) -> None:
    queue, seen = Queue(), list[str]()
    queue.put(body)
    work(queue, lambda message: seen.append(message.body))
    queue.until(lambda: not queue.messages)
    assert seen == [body]


def test_it_tells_what_it_has_done(
    work: Work, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "recourse.queues.worker")
    queue = Queue()

    def handle(message: Message) -> None:
        if message.body == "b":
            raise PoisonError("no")
        gate.wait(message.body)

    queue.put("a", "b")
    running = work(queue, handle, log_interval=0.05)
    gate.until("a")
    queue.until(lambda: any(vars(one).get("set_aside") for one in said(caplog, "working")))
    gate.open()
    running.end()
    working = vars(next(one for one in said(caplog, "working") if vars(one)["set_aside"]))
    assert (working["received"], working["in_flight"], working["done"]) == (2, 1, 0)
    assert working["age"] > 10**9, "the oldest in hand was sent in 1970"
    (ended,) = (vars(one) for one in said(caplog, "ended"))
    assert (ended["done"], ended["set_aside"], ended["deleted"]) == (1, 1, 2)
    assert (ended["in_flight"], ended["failed"], ended["age"]) == (0, 0, 0.0)
