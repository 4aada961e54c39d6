"""Pushing to WebSockets: every event, in order, once, whoever pushes and whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from recourse.errors import TransientError
from recourse.feed import pusher as module
from recourse.feed.connections import LEASE, Connections
from recourse.feed.feed import Entry, Feed, cursor_of
from recourse.feed.pusher import OPENING_SECONDS, PAGE, Pusher
from recourse.functions import push as push_function
from recourse.testing import calls
from tests.events import event
from tests.live.conftest import Clock, Gateway, Killed, append, failure, owners
from tests.profile import examples

Open = Callable[..., str]
names = (f"connection-{number}" for number in count())
LONG = 10**9


@pytest.fixture
def opened(connections: Connections, gateway: Gateway, clock: Clock, owner: str) -> Open:
    """Opens a connection, some time ago; its name."""

    def make(position: int = 0, **more: Any) -> str:
        name = next(names)
        gateway.open.add(name)
        clock.now -= OPENING_SECONDS
        connections.open(owner, name, position, **{"until": int(clock.now) + 3600} | more)
        clock.now += OPENING_SECONDS
        return name

    return make


def test_what_has_come_is_sent_in_order_with_its_cursor_and_once(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    append(feed, owner, 3)
    for _ in range(2):
        assert pusher.push(owner, name, 3, until=LONG * 2)
    assert gateway.positions(name) == [1, 2, 3]
    (first, *_) = feed.read(owner, 0)
    assert gateway.sent[name][0] == {**first.event.to_dict(), "cursor": cursor_of(owner, 1)}


def test_a_replay_longer_than_a_page_comes_whole(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    append(feed, owner, 2 * PAGE + 1)
    name = opened(position=3)
    pusher.push(owner, name, 0, until=LONG * 2)
    assert gateway.positions(name) == list(range(4, 2 * PAGE + 2))


def test_a_replay_is_cut_into_pieces_and_goes_on_where_it_was_cut(
    pusher: Pusher,
    feed: Feed,
    gateway: Gateway,
    owner: str,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS_PER_PUSH", PAGE)
    append(feed, owner, PAGE + 5)
    name = opened()
    assert not pusher.push(owner, name, 0, until=LONG * 2)
    assert gateway.positions(name) == list(range(1, PAGE + 1))
    assert pusher.push(owner, name, 0, until=LONG * 2)
    assert gateway.positions(name) == list(range(1, PAGE + 6))


def test_a_second_pusher_leaves_the_rest_to_the_first(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    append(feed, owner, 2)

    def another(name: str, message: Any) -> None:
        if message["data"]["n"] == 2:
            append(feed, owner, 2)
            assert pusher.push(owner, name, 4, until=LONG * 2)

    gateway.before = another
    pusher.push(owner, name, 2, until=LONG * 2)
    assert gateway.positions(name) == [1, 2, 3, 4]


def test_two_pushers_in_two_threads_send_everything_once(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    together = threading.Barrier(2)

    def work(numbers: range) -> None:
        together.wait()
        for _ in numbers:
            append_lock.acquire()
            append(feed, owner, 1)
            head = feed.head(owner)
            append_lock.release()
            pusher.push(owner, name, head, until=LONG * 2)

    append_lock = threading.Lock()
    threads = [threading.Thread(target=work, args=[range(8)]) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert gateway.positions(name) == list(range(1, 17))


def test_a_pusher_that_dies_leaves_what_it_has_not_noted_to_its_message(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open, clock: Clock
) -> None:
    name = opened()
    append(feed, owner, 3)

    def die(name: str, message: Any) -> None:
        if message["data"]["n"] == 3:
            gateway.before = lambda name, message: None
            raise Killed

    gateway.before = die
    with pytest.raises(Killed):
        pusher.push(owner, name, 3, until=LONG * 2)
    append(feed, owner, 1)
    assert pusher.push(owner, name, 4, until=LONG * 2), "the lease is still held"
    assert gateway.positions(name) == [1, 2]
    clock.now += LEASE
    pusher.push(owner, name, 3, until=LONG * 2)
    assert gateway.positions(name) == [1, 2, 1, 2, 3, 4]


def test_what_cannot_be_sent_now_is_sent_from_there_on_later(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    append(feed, owner, 3)

    def throttle(name: str, message: Any) -> None:
        if message["data"]["n"] == 2:
            gateway.before = lambda name, message: None
            raise failure("LimitExceededException", 429)

    gateway.before = throttle
    with pytest.raises(ClientError):
        pusher.push(owner, name, 3, until=LONG * 2)
    pusher.push(owner, name, 3, until=LONG * 2)
    assert gateway.positions(name) == [1, 2, 3]


def test_a_connection_that_is_gone_is_forgotten_and_one_that_opens_is_not(
    pusher: Pusher,
    connections: Connections,
    feed: Feed,
    gateway: Gateway,
    owner: str,
    opened: Open,
    clock: Clock,
) -> None:
    name = opened()
    gateway.open.clear()
    append(feed, owner, 1)
    assert pusher.push(owner, name, 1, until=LONG * 2)
    assert connections.get(owner, name) is None

    connections.open(owner, "opening", 0, until=int(clock.now) + 60)
    with pytest.raises(TransientError, match="not open yet"):
        pusher.push(owner, "opening", 1, until=LONG * 2)
    gateway.open.add("opening")
    pusher.push(owner, "opening", 1, until=LONG * 2)
    assert gateway.positions("opening") == [1]


def test_only_the_events_of_the_saga_that_it_asked_for(
    pusher: Pusher, connections: Connections, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    for saga in ("a", "b", "a"):
        append(feed, owner, 1, saga)
    connections.subscribe(owner, name, 0, f"{owner}-a")
    pusher.push(owner, name, 3, until=LONG * 2)
    assert gateway.positions(name) == [1, 3]
    found = connections.get(owner, name)
    assert found and found.position == 3


def test_a_subscription_in_the_middle_of_a_push_counts_from_then_on(
    pusher: Pusher, connections: Connections, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened(position=0)
    append(feed, owner, 4)

    def begin_again(name: str, message: Any) -> None:
        gateway.before = lambda name, message: None
        connections.subscribe(owner, name, 2, None)
        assert pusher.push(owner, name, 0, until=LONG * 2)

    gateway.before = begin_again
    pusher.push(owner, name, 4, until=LONG * 2)
    # What it was at is finished; then it goes on from where the client asked.
    assert gateway.positions(name) == [1, 2, 3, 4, 3, 4]


def test_an_expired_cursor_is_told_and_ends_the_connection(
    pusher: Pusher,
    connections: Connections,
    feed: Feed,
    gateway: Gateway,
    owner: str,
    opened: Open,
    dynamodb: Any,
) -> None:
    append(feed, owner, 2)
    expire(dynamodb, owner, 1)
    name = opened(position=0)
    assert pusher.push(owner, name, 2, until=LONG * 2)
    assert gateway.problems(name) == ["cursor-expired"]
    assert name not in gateway.open
    assert connections.get(owner, name) is None


def expire(dynamodb: Any, owner: str, position: int) -> None:
    """Take an event away that is as old as those after it are by then."""
    key = {"pk": {"S": f"feed#{owner}"}}
    dynamodb.delete_item(TableName="feed", Key=key | {"position": {"N": str(position)}})
    dynamodb.update_item(
        TableName="feed",
        Key=key | {"position": {"N": str(position + 1)}},
        UpdateExpression="SET #at = :then",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":then": {"N": "0"}},
    )


def test_a_connection_ends_with_its_token(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open, clock: Clock
) -> None:
    name = opened(until=int(clock.now))
    append(feed, owner, 1)
    pusher.push(owner, name, 1, until=LONG * 2)
    assert gateway.problems(name) == ["unauthorized"]
    assert gateway.positions(name) == []
    assert name not in gateway.open


def test_an_event_that_no_message_can_hold_is_told_of_and_passed(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    name = opened()
    append(feed, owner, 2)

    def limit(name: str, message: Any) -> None:
        if message.get("data", {}).get("n") == 1:
            raise failure("PayloadTooLargeException", 413)

    gateway.before = limit
    pusher.push(owner, name, 2, until=LONG * 2)
    assert gateway.problems(name) == ["too-large"]
    assert gateway.positions(name) == [2]


class Told:
    """A feed in memory, for runs of hundreds of pushes; the others here read the real one."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, how_many: int) -> int:
        for position in range(len(self.entries) + 1, len(self.entries) + how_many + 1):
            told = event("saga", "order", "started", n=position)
            self.entries.append(Entry(position, told))
        return len(self.entries)

    def read(self, owner: str, after: int, limit: int) -> list[Entry]:
        return self.entries[after : after + limit]


@examples(20)  # each is dozens of calls of moto
@given(data=st.data())
def test_nothing_is_lost_doubled_or_overtaken_however_pushers_meet(
    data: st.DataObject, dynamodb: Any
) -> None:
    """Whatever happens while an event is sent: more come, others push, the pusher fails or dies."""
    with mock.patch.object(module, "PAGE", 3):
        _meet(data, dynamodb)


def _meet(data: st.DataObject, dynamodb: Any) -> None:
    owner, name = next(owners), next(names)
    clock, gateway = Clock(), Gateway()
    feed, connections = Told(), Connections(dynamodb, "connections", clock, most=50)
    pusher = Pusher(connections, feed, gateway)  # type: ignore[arg-type]
    gateway.open.add(name)
    connections.open(owner, name, 0, until=LONG * 2)
    clock.now += OPENING_SECONDS
    pending: list[int] = []
    deaths = 0

    def come() -> None:
        if len(feed.entries) < 12:
            head = feed.add(data.draw(st.integers(1, 4)))
            # SNS delivers some twice.
            pending.extend([head] * data.draw(st.integers(1, 2)))

    def deliver() -> None:
        nonlocal deaths
        if not pending:
            return
        message = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
        try:
            if not pusher.push(owner, name, message, until=LONG * 2):
                pending.append(0)
        except ClientError:
            pending.append(message)
        except Killed:
            deaths += 1
            pending.append(message)

    def happen(_name: str, _message: Any) -> None:
        match data.draw(st.sampled_from(["nothing"] * 4 + ["come", "push", "fail", "die"])):
            case "come":
                come()
            case "push":
                deliver()
            case "fail":
                raise failure("InternalServerError")
            case "die":
                raise Killed

    gateway.before = happen
    for _ in range(data.draw(st.integers(1, 3))):
        come()
        deliver()
    gateway.before = lambda name, message: None
    while pending:
        clock.now += LEASE
        deliver()
    sent = gateway.positions(name)
    assert list(dict.fromkeys(sent)) == list(range(1, len(feed.entries) + 1))
    if not deaths:
        assert len(sent) == len(set(sent))


# The function around it.


class Queue:
    """Notes what is put off and dead-lettered."""

    def __init__(self) -> None:
        self.later_by: dict[str, int] = {}
        self.dead_lettered: list[str] = []

    def delay(self, record: Any, seconds: int) -> None:
        self.later_by[record["messageId"]] = seconds

    def dead_letter(self, record: Any, reason: str) -> None:
        self.dead_lettered.append(record["messageId"])


class WakeUps:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, owner: str, name: str, *, delay: int = 0) -> None:
        self.sent.append((owner, name))


def record(number: int, *, receives: int = 1, **told: str) -> dict[str, Any]:
    return {
        "messageId": f"m-{number}",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:push",
        "body": "{}",
        "attributes": {"ApproximateReceiveCount": str(receives)},
        "messageAttributes": {name: {"stringValue": value} for name, value in told.items()},
    }


def take(pusher: Pusher, *records: dict[str, Any], seconds: float = 1e9) -> Any:
    queue, wakes = Queue(), WakeUps()
    answer = push_function.handle_batch(
        pusher,
        wakes,  # type: ignore[arg-type]
        list(records),
        lambda arn: queue,  # type: ignore[arg-type,return-value]
        seconds,
    )
    failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
    return failed, queue, wakes


def test_every_connection_of_the_owner_is_woken_and_nobody_elses(
    pusher: Pusher, connections: Connections, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    mine = [opened(), opened(), opened(position=2)]
    connections.open(f"{owner}-other", "theirs", 0, until=LONG * 2)
    gateway.open.add("theirs")
    append(feed, owner, 2)
    failed, _, wakes = take(pusher, *(record(n, owner=owner, position=str(n)) for n in (2, 1)))
    assert (failed, wakes.sent) == ([], [])
    assert [gateway.positions(name) for name in mine] == [[1, 2], [1, 2], []]
    assert gateway.sent["theirs"] == []


def test_every_connection_is_woken_where_they_are_more_than_a_page(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    mine = [opened() for _ in range(3)]
    append(feed, owner, 1)
    with calls.paged():
        take(pusher, record(1, owner=owner, position="1"))
    assert [gateway.positions(name) for name in mine] == [[1]] * 3


def test_connections_at_the_same_place_share_one_read(
    connections: Connections, dynamodb: Any, gateway: Gateway, owner: str, opened: Open
) -> None:
    reads = []

    class Counted(Feed):
        def read(self, owner: str, after: int | None, limit: int = 100) -> list[Entry]:
            reads.append(after)
            return super().read(owner, after, limit)

    feed = Counted(dynamodb, "feed")
    append(feed, owner, 1)
    mine = [opened() for _ in range(5)]
    take(Pusher(connections, feed, gateway), record(1, owner=owner, position="1"))
    assert [gateway.positions(name) for name in mine] == [[1]] * 5
    assert reads == [0]


def test_one_connection_that_fails_keeps_its_message_and_not_the_others(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open
) -> None:
    broken, fine = opened(), opened()
    append(feed, owner, 1)

    def fail(name: str, message: Any) -> None:
        if name == broken:
            raise failure("InternalServerError")

    gateway.before = fail
    failed, queue, _ = take(pusher, record(1, receives=3, owner=owner, position="1"))
    assert failed == ["m-1"]
    assert queue.later_by == {"m-1": 4}
    assert gateway.positions(fine) == [1]


def test_what_the_time_does_not_allow_is_left_to_a_further_wake_up(
    pusher: Pusher, feed: Feed, gateway: Gateway, owner: str, opened: Open, clock: Clock
) -> None:
    first, second = sorted((opened(), opened()))
    append(feed, owner, 2 * PAGE)

    def take_long(name: str, message: Any) -> None:
        clock.now += 1

    gateway.before = take_long
    with mock.patch.object(push_function, "AT_ONCE", 1):
        failed, _, wakes = take(pusher, record(1, owner=owner, position="1"), seconds=5)
    assert (failed, wakes.sent) == ([], [(owner, first), (owner, second)])
    assert gateway.positions(first) == list(range(1, PAGE + 1))
    assert gateway.positions(second) == []
    again = [
        record(n, owner=owner, connection=name, position="0")
        for n, (_, name) in enumerate(wakes.sent)
    ]
    take(pusher, *again)
    assert [gateway.positions(name) for name in (first, second)] == [
        list(range(1, 2 * PAGE + 1))
    ] * 2


def test_a_message_that_names_no_owner_is_dead_lettered(pusher: Pusher) -> None:
    failed, queue, _ = take(pusher, record(1))
    assert (failed, queue.dead_lettered) == ([], ["m-1"])
