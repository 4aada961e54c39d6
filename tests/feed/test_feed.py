"""The feed: each event once, in order, without a gap, at a cost that history does not change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.declaration import Coordination
from recourse.errors import ContentionError
from recourse.events import Event, message_group
from recourse.feed.feed import (
    FORMER_RETENTION,
    UNSETTLED,
    ExpiredCursorError,
    Feed,
    ForeignCursorError,
    cursor_of,
    position_of,
)
from recourse.functions.feed import handle_batch
from recourse.ledger.history import AT_REST
from recourse.store.contention import MAX_TRIES
from recourse.store.cursors import BadCursorError
from recourse.store.items import encode_item
from recourse.testing import calls
from tests.events import event
from tests.feeding import Feeding
from tests.ground import ground
from tests.integration.trips import TRIP, stock
from tests.profile import examples

owners = (f"owner-{number}" for number in count())


@pytest.fixture(scope="module")
def feeding() -> Iterator[Feeding]:
    with ground() as made:
        stock(made)
        yield Feeding(made)


@pytest.fixture
def dynamodb(feeding: Feeding) -> Any:
    return feeding.ground.dynamodb


@pytest.fixture
def feed(feeding: Feeding) -> Feed:
    return feeding.feed


@pytest.fixture
def owner() -> str:
    return next(owners)


def told(saga: str, *sequences: int) -> list[Event]:
    """Events of a saga."""
    return [event(saga, "order", "started", n=n, sequence=n) for n in sequences]


WAYS = [
    (operation, name)
    for operation in ("GetItem", "BatchGetItem", "TransactWriteItems")
    for name in calls.passing(operation)
]


@pytest.mark.parametrize(("operation", "name"), WAYS)
@pytest.mark.parametrize("after", [False, True], ids=["not made", "not heard"])
def test_what_is_in_the_way_of_an_append_leaves_each_event_there_once(
    feed: Feed, owner: str, operation: str, name: str, after: bool
) -> None:
    """Where it fails the stream brings the same events again."""
    feed.append(owner, told(owner, 1))
    refused = calls.passing(operation)[name]
    with (
        calls.answered(refused, operation, after=after) as hit,
        suppress(ClientError, BotoCoreError),
    ):
        feed.append(owner, told(owner, 1, 2, 3))
    assert len(hit) == 1
    feed.append(owner, told(owner, 2, 3))
    assert numbers(feed, owner) == [(owner, 1), (owner, 2), (owner, 3)]


def test_a_saga_whose_place_was_not_read_is_asked_for_again(feed: Feed, owner: str) -> None:
    feed.append(owner, told(owner, 1, 2))
    with calls.recorded() as made, calls.unread() as hit:
        assert feed.append(owner, told(owner, 1, 2, 3)) == 1
    assert len(hit) == 1
    writes = [call for call in made if call.operation == "TransactWriteItems"]
    assert len(writes) == 1, "nothing is tried in vain"
    assert numbers(feed, owner) == [(owner, 1), (owner, 2), (owner, 3)]


def test_a_table_that_stays_throttled_is_not_asked_for_ever(
    feed: Feed, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("recourse.store.contention.time.sleep", naps.append)
    with (
        calls.unread(MAX_TRIES + 1) as hit,
        pytest.raises(ContentionError, match="could not be read"),
    ):
        feed.append(owner, told(owner, 1))
    assert (len(hit), len(naps)) == (MAX_TRIES, MAX_TRIES - 1)


def test_events_that_others_are_always_ahead_of_are_not_said_to_be_appended(
    feed: Feed, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("recourse.store.contention.time.sleep", naps.append)
    overtaken = calls.cancelled("TransactionConflict")
    with (
        calls.answered(overtaken, "TransactWriteItems", times=MAX_TRIES) as hit,
        pytest.raises(ContentionError, match=f"{MAX_TRIES} times in a row"),
    ):
        feed.append(owner, told(owner, 1))
    assert (len(hit), len(naps)) == (MAX_TRIES, MAX_TRIES - 1)
    assert numbers(feed, owner) == []


def numbers(feed: Feed, owner: str, after: int | None = None, limit: int = 100) -> list[Any]:
    """What a page shows: each event's saga and sequence."""
    return [(entry.event.saga_id, entry.event.sequence) for entry in feed.read(owner, after, limit)]


def expire(dynamodb: Any, owner: str, *positions: int) -> None:
    """Let rows go, as time does."""
    for position in positions:
        key = {"pk": {"S": f"feed#{owner}"}, "position": {"N": str(position)}}
        dynamodb.delete_item(TableName="feed", Key=key)


def test_what_is_appended_is_read_in_order_from_any_position(feed: Feed, owner: str) -> None:
    assert (feed.head(owner), feed.read(owner, None), feed.read(owner, 0)) == (0, [], [])
    assert feed.append(owner, told("a", 1, 2) + told("b", 1)) == 3
    assert feed.append(owner, told("a", 1, 2, 3)) == 1
    assert numbers(feed, owner) == [("a", 1), ("a", 2), ("b", 1), ("a", 3)]
    assert [entry.position for entry in feed.read(owner, None)] == [1, 2, 3, 4]
    assert numbers(feed, owner, after=2) == [("b", 1), ("a", 3)]
    assert numbers(feed, owner, after=1, limit=2) == [("a", 2), ("b", 1)]
    assert feed.head(owner) == 4


def test_what_comes_again_is_not_there_twice(feed: Feed, owner: str) -> None:
    for _ in range(2):
        feed.append(owner, told("twice", 1, 2))
    assert numbers(feed, owner) == [("twice", 1), ("twice", 2)]
    assert feed.append(owner, told("twice", 1, 2)) == 0


def test_more_than_a_transaction_takes_is_appended_in_parts(feed: Feed, owner: str) -> None:
    many = [one for saga in range(110) for one in told(f"{owner}-{saga}", 1)]
    assert feed.append(owner, many) == 110
    assert [entry.position for entry in feed.read(owner, None, 500)] == list(range(1, 111))


def test_appending_at_the_same_moment_leaves_no_gap_and_no_double(feed: Feed, owner: str) -> None:
    start = threading.Barrier(6)

    def append(saga: str) -> None:
        start.wait()
        for last in (1, 2, 3):
            feed.append(owner, told(saga, *range(1, last + 1)))

    # Every saga is brought by two at once, as when a batch is delivered again.
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(append, f"{owner}-{n % 3}") for n in range(6)]:
            done.result()
    entries = feed.read(owner, None)
    assert [entry.position for entry in entries] == list(range(1, 10))
    for saga in range(3):
        mine = [e.event.sequence for e in entries if e.event.saga_id == f"{owner}-{saga}"]
        assert mine == [1, 2, 3]


@examples(25)  # each is up to twelve appends on moto
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=12))
def test_whatever_is_delivered_again_each_is_once_and_in_order(
    feed: Feed, batches: list[tuple[str, int]]
) -> None:
    owner = next(owners)
    for saga, last in batches:
        feed.append(owner, told(f"{owner}-{saga}", *range(1, last + 1)))
    entries = feed.read(owner, None)
    assert [entry.position for entry in entries] == list(range(1, feed.head(owner) + 1))
    for saga in "abc":
        most = max((last for name, last in batches if name == saga), default=0)
        mine = [e.event.sequence for e in entries if e.event.saga_id == f"{owner}-{saga}"]
        assert mine == list(range(1, most + 1))


def test_a_page_costs_one_query_whatever_the_history(feed: Feed, owner: str, dynamodb: Any) -> None:
    asked: list[Any] = []
    hook = "provide-client-params.dynamodb.*"
    dynamodb.meta.events.register(hook, lambda params, **_: asked.append(params))
    for history in (5, 100):
        feed.append(owner, told(f"{owner}-x", *range(1, history + 1)))
        asked.clear()
        assert len(feed.read(owner, feed.head(owner) - 3, 3)) == 3
        (query,) = asked[1:]
        assert (query["Limit"], query["ConsistentRead"]) == (3, True)


def test_a_page_ends_before_a_position_that_is_only_being_written(
    feed: Feed, owner: str, dynamodb: Any
) -> None:
    feed.append(owner, told(owner, 1, 2, 3))
    expire(dynamodb, owner, 2)
    assert numbers(feed, owner, after=0) == [(owner, 1)]
    assert feed.read(owner, 1) == []


def test_a_cursor_before_what_is_kept_has_expired(
    feed: Feed, owner: str, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed.append(owner, told(owner, 1, 2, 3))
    expire(dynamodb, owner, 1, 2)
    later = time.time() + UNSETTLED.total_seconds() + 2
    monkeypatch.setattr("recourse.feed.feed.time.time", lambda: later)
    with pytest.raises(ExpiredCursorError):
        feed.read(owner, 1)
    assert numbers(feed, owner) == [(owner, 3)], "to begin anew is always possible"
    assert numbers(feed, owner, after=2) == [(owner, 3)]
    expire(dynamodb, owner, 3)
    with pytest.raises(ExpiredCursorError):
        feed.read(owner, 0)
    assert (feed.read(owner, 3), feed.read(owner, None), feed.start(owner)) == ([], [], 3)
    feed.append(owner, told(owner, 1, 2, 3, 4))
    assert numbers(feed, owner, after=3) == [(owner, 4)], "positions go on for ever"


def test_a_cursor_is_its_owners_and_no_other_text_is_one(feed: Feed, owner: str) -> None:
    assert position_of(owner, cursor_of(owner, 12)) == 12
    with pytest.raises(ForeignCursorError):
        position_of("another", cursor_of(owner, 12))
    for text in ("", "12", "é", "====", cursor_of(owner, 12)[:-3], "MTox"):
        with pytest.raises(BadCursorError):
            position_of(owner, text)
    feed.append(owner, told(owner, 1))
    with pytest.raises(BadCursorError):
        feed.read(owner, 2)


@pytest.mark.parametrize("former", [False, True])
def test_a_moment_has_its_position(
    feed: Feed, owner: str, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, former: bool
) -> None:
    """Rows say when they were written since how long they are kept is a setting."""
    for number in range(1, 9):
        with monkeypatch.context() as patch:
            patch.setattr(
                "recourse.feed.feed.time", SimpleNamespace(time=lambda n=number: 1000 * n)
            )
            feed.append(owner, told(owner, *range(1, number + 1)))
        if former:
            dynamodb.update_item(
                TableName="feed",
                Key={"pk": {"S": f"feed#{owner}"}, "position": {"N": str(number)}},
                UpdateExpression="REMOVE #at SET expires_at = :then",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":then": {"N": str(FORMER_RETENTION + 1000 * number)}},
            )
    assert [feed.since(owner, at) for at in (0, 1000, 1001, 5000, 8000, 8001)] == [0, 0, 1, 4, 7, 8]
    expire(dynamodb, owner, 1, 2)
    assert [feed.since(owner, at) for at in (0, 3000, 3001)] == [2, 2, 3]


def test_all_that_enters_the_ledger_is_fed_and_told_of_with_its_place(feeding: Feeding) -> None:
    made = feeding.ground
    url = feeding.subscribe("people", {"kind": ["started", "succeeded"]})
    feeding.settle()
    made.sqs.purge_queue(QueueUrl=url)
    saga = made.start("travel-booking", TRIP, key="fed")
    made.settle()
    fed = feeding.settle()
    assert feeding.settle() == 0
    record = made.ledger.get(saga)
    assert record
    entries = feeding.feed.read("asha", None)
    assert [entry.event for entry in entries] == list(record.entered)
    assert fed == len(entries) == record.entered[-1].sequence
    got = made.sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["MessageGroupId"],
    )["Messages"]
    assert {m["Attributes"]["MessageGroupId"] for m in got} == {message_group("asha")}
    places = {m["MessageAttributes"]["position"]["StringValue"] for m in got}
    assert places == {"1", str(len(entries))}
    assert {m["MessageAttributes"]["owner"]["StringValue"] for m in got} == {"asha"}
    assert {json.loads(m["Body"])["sequence"] for m in got} == {1, len(entries)}


@pytest.mark.parametrize("fault", ["car=reject", "payment=reject", "payment=crash", "hotel=late"])
@pytest.mark.parametrize("coordination", get_args(Coordination))
def test_what_only_moves_the_ledger_is_nobodys_to_see(
    feeding: Feeding, fault: str, coordination: Coordination
) -> None:
    made = feeding.ground
    before = feeding.feed.head("asha")
    step, kind = fault.split("=")
    saga = made.start(
        "travel-booking",
        TRIP,
        key=f"{fault}-{coordination}",
        faults={step: kind},
        coordination=coordination,
        run=coordination == "orchestration",
    )
    made.settle()
    feeding.settle()
    record = made.ledger.get(saga)
    assert record and record.status in AT_REST
    told = [entry.event for entry in feeding.feed.read("asha", before)]
    assert told == [one for one in record.entered if one.sequence]
    assert [one.sequence for one in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("stranger", ["x" * 2046, "é" * 1024])
def test_an_owner_who_fits_no_key_is_dead_lettered_and_stops_nobody_elses_feed(
    feed: Feed, owner: str, stranger: str
) -> None:
    lost: list[str] = []
    rows = [
        {
            "dynamodb": {
                "NewImage": encode_item(
                    {
                        "pk": whose[:40],
                        "owner": whose,
                        "entered": [one.to_dict() for one in told(whose[:40], 1)],
                    }
                )
            }
        }
        for whose in (stranger, owner)
    ]
    assert handle_batch(feed, rows, lambda _, why: lost.append(why), patience=0) == 1
    assert numbers(feed, owner) == [(owner, 1)]
    (why,) = lost
    assert why.startswith("InvalidEventError: a key must have 1 to 2048 bytes, got 20")
