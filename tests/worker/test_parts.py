"""What the parts of the worker rely on, one by one; their times are the test's."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.errors import PoisonError, TransientError
from recourse.queues.message import Message
from recourse.queues.worker.capacity import Capacity
from recourse.queues.worker.deleter import Deleter
from recourse.queues.worker.delivery import Delivery
from recourse.queues.worker.lanes import Lanes
from recourse.queues.worker.leases import Due, Leases
from recourse.queues.worker.runner import Runner
from recourse.queues.worker.settlement import Settlement
from tests.worker.conftest import Running
from tests.worker.queue import Queue

VISIBILITY, LIMIT = 60, 100


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("recourse.queues.worker.leases.time", made)
    return made


def delivery(name: str = "m", lane: str | None = None, receives: int = 1) -> Delivery:
    attributes: Any = {"ApproximateReceiveCount": str(receives)}
    if lane:
        attributes["MessageGroupId"] = lane
    received: Any = {"MessageId": name, "ReceiptHandle": name, "Body": "", "Attributes": attributes}
    return Delivery.of(received, fifo=lane is not None, hidden_until=VISIBILITY)


def leases(stopping: threading.Event | None = None) -> Leases:
    return Leases(VISIBILITY, LIMIT, stopping or threading.Event())


def handed_out(ours: Leases) -> Due:
    """What is due, beside a message that is given back so that nothing is waited for."""
    other = delivery("other")
    ours.release(other, 0)
    due = ours.due()
    assert due
    return Due([one for one in due.changes if one.delivery is not other], due.expired)


# Leases.


def test_a_lease_is_renewed_in_time_for_two_renewals_to_fail(clock: Clock) -> None:
    ours, one = leases(), delivery()
    ours.acquire([one])
    renewed = []
    for clock.now in range(VISIBILITY):
        renewed += [clock.now for _ in handed_out(ours).changes]
    assert len(renewed) >= 3


def test_what_another_worker_may_have_by_now_does_not_begin(clock: Clock) -> None:
    ours, one, other = leases(), delivery(), delivery()
    ours.acquire([one, other])
    clock.now = VISIBILITY * 0.8
    assert ours.begin(one) == "begun"
    clock.now = VISIBILITY * 0.9
    assert ours.begin(other) == "too_late"
    assert [change.delivery for change in handed_out(ours).changes] == [one]


@given(st.lists(st.sampled_from(["begin", "fail", "give_back", "expire", "delete", "due"])))
def test_no_renewal_is_handed_out_after_a_release_or_an_expiry(moves: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recourse.queues.worker.leases.time", clock := Clock())
        ours, ids = leases(), itertools.count()
        waiting, running, over = list[Delivery](), list[Delivery](), set[str]()
        for move in moves:
            if move == "begin":
                one = delivery(str(next(ids)))
                one.hidden_until = clock.now + VISIBILITY
                ours.acquire([one])
                waiting.append(one)
                if len(waiting) > 1:
                    running.append(waiting.pop(0))
                    assert ours.begin(running[-1]) == "begun"
            elif move == "fail" and running:
                one = running.pop()
                assert ours.end(one)
                ours.release(one, 7)
            elif move == "give_back" and waiting:
                ours.release(waiting.pop(), 0)
            elif move == "expire":
                gone = ours.expire()
                assert set(gone) == set(running)
                assert not any(ours.end(one) for one in gone)
                over |= {one.receipt for one in gone}
                running.clear()
            elif move == "delete" and running:
                one = running.pop()
                assert ours.complete(one)
                ours.drop([one])
                over.add(one.receipt)
            elif move == "due":
                clock.now += VISIBILITY / 2
                due = handed_out(ours)
                for one, seconds in due.changes:
                    assert one.receipt not in over
                    if seconds == VISIBILITY:
                        one.hidden_until = clock.now + seconds
                    else:
                        over.add(one.receipt)
                over |= {one.receipt for one in due.expired}
                running = [one for one in running if one not in due.expired]
                renewed = {one for one, seconds in due.changes if seconds == VISIBILITY}
                assert renewed == {*waiting, *running}, "all that is in hand, and nothing else"


def test_of_a_handler_and_the_expiry_the_first_decides(clock: Clock) -> None:
    ours, done, failed = leases(), delivery("done"), delivery("failed")
    ours.acquire([done, failed])
    assert (ours.begin(done), ours.begin(failed)) == ("begun", "begun")
    assert ours.complete(done)
    assert ours.expire() == [failed]
    assert not ours.end(failed) and not ours.complete(failed)
    clock.now = VISIBILITY / 2
    assert handed_out(ours).changes == [(done, VISIBILITY)], "it stays hidden until it is deleted"


def test_told_to_stop_nothing_begins_that_would_be_left_running(clock: Clock) -> None:
    stopping = threading.Event()
    ours, one = leases(stopping), delivery()
    ours.acquire([one])
    stopping.set()
    assert ours.begin(one) == "stopping"
    assert ours.expire() == [] and one.state == "waiting"


def test_closed_it_hands_out_what_is_queued_and_then_nothing(clock: Clock) -> None:
    ours, one = leases(), delivery()
    ours.acquire([one])
    ours.release(one, 3)
    ours.close()
    due = ours.due()
    assert due and due.changes == [(one, 3)]
    assert ours.due() is None


# Lanes.


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["enter", "done", "failed"]))))
def test_of_a_group_one_runs_at_a_time_in_the_order_in_which_they_entered(
    moves: list[tuple[str, str]],
) -> None:
    lanes, ids = Lanes(threading.Event()), itertools.count()
    entered, begun = defaultdict[str, list[Delivery]](list), dict[str, Delivery]()
    for lane, move in moves:
        if move == "enter":
            entered[lane].append(one := delivery(str(next(ids)), lane))
            assert lanes.enter([one]) == ()
        elif lane in begun:
            del begun[lane]
            if move == "done":
                lanes.advance(lane)
            else:
                assert list(lanes.close(lane)) == entered.pop(lane, [])
        while any(entered[lane] and lane not in begun for lane in "ab"):
            next_one = lanes.next()
            assert next_one and next_one.lane and next_one.lane not in begun
            assert next_one is entered[next_one.lane].pop(0)
            begun[next_one.lane] = next_one
    assert sorted(one.receipt for one in lanes.drain()) == sorted(
        one.receipt for waiting in entered.values() for one in waiting
    )
    lanes.end(1)
    assert lanes.next() is None, "nothing else may begin"


@pytest.mark.parametrize("lane", [None, "a"])
def test_told_to_stop_nothing_enters_a_lane(lane: str | None) -> None:
    stopping = threading.Event()
    lanes, first, late = Lanes(stopping), delivery("first", lane), delivery("late", lane)
    assert lanes.enter([first]) == ()
    stopping.set()
    assert list(lanes.enter([late])) == [late]
    assert lanes.next() is first and lanes.drain() == []


# Capacity.


def test_what_is_requested_and_what_is_in_use_are_never_more_than_there_are_handlers() -> None:
    stopping = threading.Event()
    capacity = Capacity(12, stopping)
    assert capacity.reserve(even_idle=True) == 10
    assert capacity.reserve(even_idle=True) == 2
    capacity.admit(10, 4)
    assert capacity.reserve(even_idle=True) == 6, "what was not received is free"
    capacity.admit(6, 6)
    capacity.release("done")
    assert capacity.reserve(even_idle=True) == 1
    stopping.set()
    assert capacity.reserve(even_idle=True) == 0
    assert capacity.log_fields["in_flight"] == 9


def test_a_handler_that_ends_just_as_it_is_taken_to_hang_frees_its_place_once() -> None:
    capacity = Capacity(1, threading.Event())
    capacity.admit(capacity.reserve(even_idle=True), 1)
    capacity.release_hung("done")
    assert not capacity.is_stuck
    capacity.hang()
    assert not capacity.is_stuck and capacity.reserve(even_idle=True) == 1
    assert (capacity.counts.expired, capacity.counts.done) == (1, 1)


# The runner.


@pytest.mark.parametrize(
    ("problem", "receives", "refused", "outcome"),
    [
        (RuntimeError("no"), 2, False, "retry"),
        (RuntimeError("no"), 3, False, "dead_lettered"),
        (RuntimeError("no"), 3, True, "retry"),
        (PoisonError("no"), 1, False, "dead_lettered"),
        (PoisonError("no"), 1, True, "retry"),
        (None, 3, False, "done"),
    ],
)
def test_what_a_failure_means(
    problem: Exception | None, receives: int, refused: bool, outcome: str
) -> None:
    class Noted:
        """Stands for the settlement, and for the queue."""

        def begin(self, one: Delivery) -> bool:
            return True

        def complete(self, one: Delivery, outcome: str) -> None:
            outcomes.append(outcome)

        def retry(self, one: Delivery, pause: int) -> None:
            outcomes.append("retry")

        def dead_letter(self, record: Any, reason: str) -> None:
            if refused:
                raise TransientError("not now")

    def handle(message: Message) -> None:
        if problem:
            raise problem

    lanes, outcomes, noted = Lanes(threading.Event()), list[str](), cast(Any, Noted())
    lanes.enter([delivery(receives=receives)])
    lanes.end(1)
    backoff = {"retry_backoff_initial": 1, "retry_backoff_cap": 1}
    Runner(handle, lanes, noted, noted, max_receives=3, **backoff).run()
    assert outcomes == [outcome]


# All of them.


class Parts:
    """The parts of a worker without its threads."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.capacity = Capacity(4, self.stopping)
        self.lanes = Lanes(self.stopping)
        self.leases = leases(self.stopping)
        self.deleter = Deleter(cast(Any, None), "", self.leases, self.capacity)
        self.settlement = Settlement(self.capacity, self.lanes, self.leases, self.deleter)

    def receive(self, *received: Delivery) -> None:
        self.settlement.admit(self.capacity.reserve(even_idle=True), received)


def test_what_comes_again_at_once_finds_its_lane_closed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, bad, again = Parts(), delivery("bad", "a"), delivery("again", "a")
    parts.receive(bad)
    assert parts.lanes.next() is bad and parts.settlement.begin(bad)
    release = parts.leases.release

    def released(one: Delivery, seconds: int) -> None:
        release(one, seconds)
        if one is bad:
            parts.receive(again)

    monkeypatch.setattr(parts.leases, "release", released)
    parts.settlement.retry(bad, 0)
    assert parts.capacity.counts.given_back == 0
    assert parts.lanes.next() is again and parts.settlement.begin(again)


def test_what_follows_from_an_outcome_is_queued_before_the_place_is_free(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, release, queued = Parts(), Capacity.release, dict[str, int]()
    done, failed = delivery("done"), delivery("failed")
    parts.receive(done, failed)
    assert parts.settlement.begin(done) and parts.settlement.begin(failed)

    def released(capacity: Capacity, outcome: Any, places: int = 1) -> None:
        queued[outcome] = len(parts.deleter._waiting) + len(parts.leases._changes)
        release(capacity, outcome, places)

    monkeypatch.setattr(Capacity, "release", released)
    parts.settlement.complete(done, "done")
    parts.settlement.retry(failed, 5)
    assert queued == {"done": 1, "failed": 2}


def test_no_thread_ever_holds_two_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    held, both = threading.local(), list[str]()

    class OneAtATime:
        """A lock that notes who takes it beside another."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if getattr(held, "lock", None) is not None:
                both.append(threading.current_thread().name)
            taken = self._lock.acquire(blocking, timeout)
            held.lock = self if taken else getattr(held, "lock", None)
            return taken

        def release(self) -> None:
            held.lock = None
            self._lock.release()

        def _is_owned(self) -> bool:
            return getattr(held, "lock", None) is self

        __enter__ = acquire

        def __exit__(self, *_: object) -> None:
            self.release()

    made = []

    def lock(*_: object) -> OneAtATime:
        made.append(OneAtATime())
        return made[-1]

    monkeypatch.setattr("recourse.queues.worker.lanes.Lock", lock)
    for name in ("capacity", "leases", "deleter"):
        monkeypatch.setattr(
            f"recourse.queues.worker.{name}.Condition",
            lambda: threading.Condition(cast(Any, lock())),
        )
    queue, tries = Queue(fifo=True), itertools.count()

    def handle(message: Message) -> None:
        if next(tries) % 5 == 0:
            raise RuntimeError("not now")

    for group in "abcdefgh":
        queue.put(*(f"{group}{number}" for number in range(5)), group=group)

    def refuse(name: str, about: dict[str, Any]) -> None:
        assert getattr(held, "lock", None) is None, f"{name} while a lock is held"
        queue.pass_time(1)

    queue.refuse = refuse
    running = Running(queue, handle, retry_backoff_initial=0, max_in_flight=20)
    try:
        queue.until(lambda: not queue.messages)
    finally:
        running.end()
    counts = running.worker.counts
    assert counts.failed and counts.given_back and counts.done == counts.deleted
    assert len(made) == 4 and both == []
