"""The feed through the API: the caller's own events, at once or when they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NotRequired

from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from recourse.feed.feed import ExpiredCursorError, ForeignCursorError, cursor_of, position_of
from recourse.feed.live import frame, opening
from recourse.functions import kit
from recourse.functions.api import http
from recourse.functions.api.parameters import IF_NONE_MATCH, Number
from recourse.functions.api.routes import Answer, Operation, Parameter, Routes
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.text import LONGEST_ID, flaw_of_id

FULL_FOR = 3600
"""Seconds that a full page may be cached: nothing is ever added to it."""
MOST_EXAMINED = 1000
"""Events after which a request that looks for one saga's ends, with an empty page if need be."""
RECONNECT_AFTER = 100
"""Milliseconds after which a client of a stream that has ended reconnects."""
REFUSED = ("bad-cursor", "foreign-cursor", "cursor-expired")
"""The problems of a cursor."""
routes = Routes("Events", "Your own events, in order, as pages or as a stream")


class EventView(TypedDict):
    """An event in the form of CloudEvents 1.0; `sequence` grows within its saga.

    `traceparent` is the span in which it happened, by W3C Trace Context.
    """

    specversion: Literal["1.0"]
    id: str
    type: str
    source: str
    subject: str
    time: str
    datacontenttype: str
    sequence: int
    traceparent: NotRequired[str]
    data: dict[str, Any]


class _Page(TypedDict):
    items: list[EventView]
    cursor: str


LIMIT = Number("limit", "how many at most", default=100, most=500)
WAIT = Number(
    "wait",
    "seconds to wait for an event",
    default=0,
    most=http.LONGEST_WAIT,
    least=0,
)
SAGA_ID = Parameter(
    "saga_id",
    "only events of this saga",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_ID},
    problem="invalid",
)


@routes.get(
    "/events",
    Operation(
        "read-events",
        "Read your own events, in order",
        scope="sagas:read",
        parameters=[
            Parameter("after", "the cursor of the previous page"),
            LIMIT,
            WAIT,
            SAGA_ID,
            IF_NONE_MATCH,
            Parameter("Prefer", "wait=N, as `wait`", where="header"),
        ],
        answers=[
            Answer(
                200,
                "a page, and the cursor of the next",
                _Page,
                headers={"ETag": "where the page ends"},
            ),
            Answer(304, "there is nothing new"),
        ],
        problems=[*REFUSED, "limit-reached"],
    ),
)
def page() -> Response[str]:
    """Answer the events after a cursor; wait for one, where the caller asks for it."""
    event = routes.current_event
    who = http.caller(event, "sagas:read")
    query = event.query_string_parameters
    limit, seconds = LIMIT.of(event), WAIT.of(event)
    preferred = http.preferred_wait(event.headers)
    headers = {"preference-applied": f"wait={preferred}"} if preferred else {}
    known = http.known_tags(event.headers)
    owner, saga = who.subject, query.get("saga_id")
    if saga is not None and (flaw := flaw_of_id(saga)):
        raise invalid("saga_id", flaw)
    until = time.monotonic() + max(seconds, preferred)
    examined = 0
    with _cursors():
        after = _after(owner, query.get("after"))
        while True:
            entries = kit.feed().read(owner, after, limit)
            items = [e.event.to_dict() for e in entries if saga in (None, e.event.saga_id)]
            last = entries[-1].position if entries else after
            tag = f'"{cursor_of(owner, last)}"'
            examined += len(entries)
            if (items and tag not in known) or examined >= MOST_EXAMINED:
                break
            if not _more(owner, last, until):
                break
            if not items:
                after = last
    is_final = bool(query.get("after")) and len(entries) == limit
    headers["cache-control"] = f"private, max-age={FULL_FOR}" if is_final else "private, no-cache"
    headers["vary"] = "authorization"
    headers["etag"] = tag
    if tag in known:
        return http.answer(304, headers=headers)
    return http.answer(200, {"items": items, "cursor": cursor_of(owner, last)}, headers=headers)


@routes.get(
    "/events/stream",
    Operation(
        "stream-events",
        "Stream your own events as server-sent events",
        scope="sagas:read",
        parameters=[
            Parameter("Last-Event-ID", "the last `id` received", where="header"),
            Parameter("after", "the same, for clients that cannot send the header"),
        ],
        answers=[
            Answer(
                200,
                "what comes after the cursor; `id` is the cursor, `data` the event. `GET /health` "
                "says where the stream is that does not end.",
                str,
                content_type="text/event-stream",
            )
        ],
        problems=[*REFUSED, "limit-reached"],
    ),
)
def stream() -> Response[str]:
    """Show what comes after a cursor as server-sent events, or wait for it; then end.

    A gateway that buffers passes nothing on before the end. `EventSource` comes back by itself, and
    `GET /health` says where the stream is that does not end.
    """
    event = routes.current_event
    owner = http.caller(event, "sagas:read").subject
    cursor = event.headers.get("last-event-id") or event.query_string_parameters.get("after")
    with _cursors():
        began = position_of(owner, cursor) if cursor else kit.feed().head(owner)
        entries = kit.feed().read(owner, began)
        # A HEAD asks for the headers, which are there already.
        waits = event.http_method != "HEAD"
        if not entries and waits and _more(owner, began, time.monotonic() + http.LONGEST_WAIT):
            entries = kit.feed().read(owner, began)
    frames = [frame(owner, entry) for entry in entries]
    body = opening(cursor_of(owner, began), RECONNECT_AFTER) + "".join(frames)
    return http.answer(200, body, content_type="text/event-stream; charset=utf-8")


@contextmanager
def _cursors() -> Iterator[None]:
    try:
        yield
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    except ForeignCursorError:
        raise ProblemError("foreign-cursor", "use the cursors of your own pages") from None
    except ExpiredCursorError:
        detail = "events are kept for 14 days: leave `after` out to begin with the oldest there is"
        raise ProblemError("cursor-expired", detail) from None


def _after(owner: str, cursor: str | None) -> int:
    return position_of(owner, cursor) if cursor else kit.feed().start(owner)


def _more(owner: str, last: int, until: float) -> bool:
    """Wait for an event after a position; whether there is one before the time is up.

    Raises:
        LimitReachedError: As many of the owner's requests wait as may.
    """
    pause = 0.1
    if kit.feed().head(owner) <= last and time.monotonic() < until:
        with kit.slots("waits").held(owner):
            while kit.feed().head(owner) <= last and (left := until - time.monotonic()) > 0:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.5)
    return time.monotonic() < until
