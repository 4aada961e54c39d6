"""`GET /events`: the caller's own, by cursor, at once or when they come; what caches may keep."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from recourse.feed.feed import UNSETTLED, Feed, cursor_of
from recourse.functions import kit
from recourse.functions.limits import LIMITS
from tests.events import event
from tests.feeding import Feeding
from tests.ground import ground
from tests.integration.calling import PREFIX, Caller
from tests.integration.test_api import problem
from tests.slots import count_slots

subjects = (f"caller-{number}" for number in count())


@pytest.fixture(scope="module")
def feed() -> Iterator[Feed]:
    with ground() as made, pytest.MonkeyPatch.context() as patch:
        found = Feeding(made).feed
        patch.setattr(kit, "feed", lambda: found)
        count_slots(patch, made.dynamodb)
        patch.setenv("SCOPE_PREFIX", PREFIX)
        yield found


@pytest.fixture
def who() -> Caller:
    return Caller(next(subjects), "sagas:read")


def tell(feed: Feed, who: Caller, number: int, saga: str = "s") -> None:
    """Let a saga of the caller's have so many events."""
    assert who.subject
    saga = f"{who.subject}-{saga}"
    told = [event(saga, "order", "started", sequence=n) for n in range(1, number + 1)]
    feed.append(who.subject, told)


def sequences(page: Any) -> list[int]:
    return [one["sequence"] for one in page["items"]]


def test_a_page_has_the_events_and_a_cursor_to_go_on_from(feed: Feed, who: Caller) -> None:
    empty = who("GET", "/events").json
    assert empty["items"] == []
    tell(feed, who, 3)
    page = who("GET", f"/events?after={empty['cursor']}&limit=2").json
    assert sequences(page) == [1, 2]
    assert page["items"][0].keys() >= {"specversion", "id", "type", "source", "subject", "time"}
    rest = who("GET", f"/events?after={page['cursor']}").json
    assert sequences(rest) == [3]
    last = who("GET", f"/events?after={rest['cursor']}").json
    assert last == {"items": [], "cursor": rest["cursor"]}, "the cursor goes on from later"
    assert sequences(who("GET", "/events").json) == [1, 2, 3]


def test_a_caller_sees_its_own_events_only(feed: Feed, who: Caller) -> None:
    tell(feed, who, 2)
    for other in (Caller("ravi", "sagas:read"), Caller("olga", "operator sagas:read")):
        assert other("GET", "/events").json["items"] == []
    problem(Caller(who.subject, "sagas:write")("GET", "/events"), 403, "forbidden")
    problem(Caller(None)("GET", "/events"), 401, "unauthorized")


def test_one_saga_alone_is_found_among_many(feed: Feed, who: Caller) -> None:
    for saga in ("a", "b", "c"):
        tell(feed, who, 3, saga)
    wanted = f"{who.subject}-c"
    page = who("GET", f"/events?saga_id={wanted}&limit=4").json
    assert page["items"] == [], "a page looks at so many events, and its cursor goes on"
    found: list[Any] = []
    while page["items"] or not found:
        page = who("GET", f"/events?saga_id={wanted}&limit=4&after={page['cursor']}").json
        found += page["items"]
    assert [one["subject"] for one in found] == [wanted] * 3
    waited = who("GET", f"/events?saga_id={wanted}&limit=4&wait=5").json
    assert sequences(waited) == [1, 2], "a caller that waits is answered with what there is"


@pytest.mark.parametrize("asked", ["query", "header"])
def test_a_caller_that_waits_hears_when_it_comes(feed: Feed, who: Caller, asked: str) -> None:
    tell(feed, who, 1)
    cursor = who("GET", "/events").json["cursor"]
    later = threading.Timer(0.3, tell, (feed, who, 2))
    later.start()
    if asked == "query":
        answer = who("GET", f"/events?after={cursor}&wait=20")
    else:
        answer = who("GET", f"/events?after={cursor}", Prefer="wait=20")
        assert answer.headers["preference-applied"] == "wait=20"
    later.join()
    assert sequences(answer.json) == [2]


def test_one_owners_waits_are_bounded(feed: Feed, who: Caller) -> None:
    assert who.subject
    cursor = who("GET", "/events").json["cursor"]
    held = [kit.slots("waits").acquire(who.subject) for _ in range(LIMITS["waits"].most)]
    refused = who("GET", f"/events?after={cursor}&wait=5")
    problem(refused, 429, "limit-reached")
    assert int(refused.headers["retry-after"]) >= 1
    tell(feed, who, 1)
    answer = who("GET", f"/events?after={cursor}&wait=5")
    assert answer.status == 200, "there is something, so it need not wait"
    kit.slots("waits").release(who.subject, held[0])
    assert who("GET", f"/events?after={answer.json['cursor']}&wait=1").status == 200


def test_what_is_known_is_a_304_until_something_comes(feed: Feed, who: Caller) -> None:
    tell(feed, who, 2)
    first = who("GET", "/events?limit=3")
    tag = first.headers["etag"]
    again = who("GET", "/events?limit=3", If_None_Match=tag)
    assert (again.status, again.text, again.headers["etag"]) == (304, "", tag)
    waited = who("GET", "/events?limit=3&wait=1", If_None_Match=tag)
    assert waited.status == 304
    tell(feed, who, 3)
    grown = who("GET", "/events?limit=3&wait=20", If_None_Match=tag)
    assert (grown.status, sequences(grown.json)) == (200, [1, 2, 3])


def test_a_full_page_may_be_kept_by_its_reader_alone(feed: Feed, who: Caller) -> None:
    tell(feed, who, 3)
    assert who.subject
    start = cursor_of(who.subject, 0)
    full = who("GET", f"/events?after={start}&limit=2").headers
    assert full["cache-control"] == "private, max-age=3600"
    assert full["vary"] == "authorization"
    for path in ("/events?limit=2", f"/events?after={start}&limit=4"):
        assert who("GET", path).headers["cache-control"] == "private, no-cache"


def test_a_cursor_that_cannot_be_is_a_clear_problem(
    feed: Feed, who: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(feed, who, 2)
    assert who.subject
    # An empty one is none at all, here as in the stream.
    every = who("GET", "/events").json
    assert len(every["items"]) == 2
    assert who("GET", "/events?after=").json == every
    for text in ("garbage", "%00", cursor_of(who.subject, 3)):
        problem(who("GET", f"/events?after={text}"), 400, "bad-cursor")
    problem(who("GET", f"/events?after={cursor_of('ravi', 1)}"), 400, "foreign-cursor")
    feed._table.delete((f"feed#{who.subject}", 1))
    later = time.time() + UNSETTLED.total_seconds() + 2
    monkeypatch.setattr("recourse.feed.feed.time.time", lambda: later)
    expired = who("GET", f"/events?after={cursor_of(who.subject, 0)}")
    assert "leave `after` out" in problem(expired, 410, "cursor-expired")["detail"]
    assert sequences(who("GET", "/events").json) == [2]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "wait=21", "wait=-1", "wait=x"])
def test_a_number_that_cannot_be_is_a_422(feed: Feed, who: Caller, query: str) -> None:
    problem(who("GET", f"/events?{query}"), 422, "invalid")


# The stream behind a gateway that buffers: the same events, and an end.


def frames(text: str) -> list[dict[str, str]]:
    return [
        dict(line.split(": ", 1) for line in frame.split("\n"))
        for frame in text.removesuffix("\n\n").split("\n\n")
    ]


def test_a_buffered_stream_has_what_comes_after_the_last_id(feed: Feed, who: Caller) -> None:
    tell(feed, who, 3)
    assert who.subject
    began = cursor_of(who.subject, 1)
    answer = who("GET", "/events/stream", Last_Event_ID=began)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    first, *rest = frames(answer.text)
    assert first["id"] == began and "data" not in first
    assert [frame["id"] for frame in rest] == [cursor_of(who.subject, n) for n in (2, 3)]
    told = feed.read(who.subject, 1)
    assert [json.loads(frame["data"]) for frame in rest] == [
        entry.event.to_dict() for entry in told
    ]
    assert frames(who("GET", f"/events/stream?after={began}").text)[1:] == rest


def test_a_buffered_stream_waits_for_the_first_event_and_ends(feed: Feed, who: Caller) -> None:
    def tell_soon(owner: str) -> int:
        tell(feed, who, 1)
        patch.undo()
        return feed.head(owner)

    assert who.subject
    began = cursor_of(who.subject, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "head", tell_soon)
        answer = who("GET", f"/events/stream?after={began}")
    assert [frame["id"] for frame in frames(answer.text)] == [began, cursor_of(who.subject, 1)]


def test_a_buffered_stream_refuses_what_a_page_refuses(feed: Feed, who: Caller) -> None:
    problem(who("GET", "/events/stream?after=x"), 400, "bad-cursor")
    foreign = cursor_of("somebody", 1)
    problem(who("GET", "/events/stream", Last_Event_ID=foreign), 400, "foreign-cursor")
    problem(Caller(None)("GET", "/events/stream"), 401, "unauthorized")
