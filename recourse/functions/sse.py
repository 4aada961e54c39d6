"""Server-sent events: an owner's feed as a stream that browsers read and resume by themselves.

A plain ASGI app. On AWS uvicorn serves it behind the Lambda Web Adapter, at a Function URL that
streams (`sse.sh`); the local cloud mounts it in its proxy. It verifies bearer tokens itself, for no
gateway does.

`id` is the feed's cursor and `data` the CloudEvent; there is no `event`, so that `onmessage`
receives every one. The first frame has only an `id`: a client that is cut off before the first
event resumes from where it began.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from botocore.exceptions import BotoCoreError, ClientError

from recourse.feed.feed import Entry, cursor_of, position_of
from recourse.feed.live import cursor_problem, frame, opening
from recourse.feed.watch import Watch
from recourse.functions import kit, settings
from recourse.functions.bearer import (
    Bearers,
    ForbiddenError,
    IssuerError,
    UnauthorizedError,
    in_header,
)
from recourse.functions.caller import Caller
from recourse.problems import HEADERS, MEDIA_TYPE, ProblemError
from recourse.store.cursors import CursorError
from recourse.store.slots import Slots

HEARTBEAT = 15
"""Seconds of silence after which a comment is sent, so that no proxy closes the connection."""
RETRY = 2000
"""Milliseconds after which a client reconnects."""
FLUSH_SECONDS = 5
"""Seconds that a slow client has to read the last bytes."""
UNSETTLED = 0.05
"""Seconds before a row that is only just being written is read again."""
QUICK, SLOW = 0.5, 1.0
"""Seconds between two polls of a feed on AWS."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_EVERYWHERE = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_STREAMING = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    *_EVERYWHERE,
]
logger = logging.getLogger(__name__)


class Stream:
    """The app.

    Args:
        watch: Watches the feeds.
        bearers: Verifies the tokens.
        slots: Those of each owner's open streams.
        seconds: The longest that a connection lasts; it also ends when its token expires.
        heartbeat: Seconds of silence between two comments.
        clock: The time, in epoch seconds.
    """

    def __init__(
        self,
        watch: Watch,
        bearers: Bearers,
        slots: Slots,
        *,
        seconds: float,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch = watch
        self._bearers = bearers
        self._slots = slots
        self._seconds = seconds
        self._heartbeat = heartbeat
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            who = await self._caller(scope)
            position, page = await self._beginning(scope, who.subject)
            slot = await asyncio.to_thread(self._slots.acquire, who.subject)
        except ProblemError as refusal:
            await _answer(send, refusal)
            return
        except (BotoCoreError, ClientError, IssuerError):
            logger.exception("stream not opened")
            await _answer(
                send, ProblemError("try-again", "temporarily unavailable: retry in a moment")
            )
            return
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": _STREAMING})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        writing = asyncio.create_task(self._write(send, who, position, page))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            await asyncio.to_thread(self._release, who.subject, slot)

    def _release(self, owner: str, slot: str) -> None:
        try:
            self._slots.release(owner, slot)
        except (BotoCoreError, ClientError):
            logger.exception("slot of a stream not released: it ends by itself")

    async def _caller(self, scope: Scope) -> Caller:
        if not scope["path"].endswith("/events/stream"):
            raise ProblemError("not-found", "the stream is at /events/stream")
        if scope["method"] not in ("GET", "HEAD"):
            raise ProblemError("not-allowed", "send a GET")
        token = in_header(_header(scope, b"authorization") or "")
        try:
            # In a thread: it may have to fetch the issuer's keys.
            return await asyncio.to_thread(self._bearers.verify, token, "sagas:read")
        except UnauthorizedError as error:
            raise ProblemError("unauthorized", str(error)) from None
        except ForbiddenError as error:
            raise ProblemError("forbidden", str(error)) from None

    async def _beginning(self, scope: Scope, owner: str) -> tuple[int, list[Entry]]:
        """The position that a request reads from, and the events that are there already."""
        try:
            asked = parse_qs(scope.get("query_string", b"").decode(), errors="strict")
        except ValueError:
            raise ProblemError("malformed", "the query: it is not UTF-8") from None
        # A client that reconnects sends the header, and the URL of its first request.
        cursor = _header(scope, b"last-event-id") or asked.get("after", [""])[0]
        if not cursor:
            return await self._watch.head(owner), []
        try:
            position = position_of(owner, cursor)
            return position, await self._watch.read(owner, position)
        except CursorError as error:
            raise cursor_problem(error) from None

    async def _write(self, send: Send, who: Caller, position: int, page: list[Entry]) -> None:
        lasts = min(self._seconds, max(0.0, who.until - self._clock()))
        try:
            # `send` waits for the client to read: one that is too slow is cut off here.
            async with asyncio.timeout(lasts + FLUSH_SECONDS):
                await send({"type": "http.response.start", "status": 200, "headers": _STREAMING})
                async for text in self._texts(who.subject, position, page, lasts):
                    body = text.encode()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            logger.warning("stream of %s closed: the client does not read it", who.subject)

    async def _texts(
        self, owner: str, position: int, page: list[Entry], lasts: float
    ) -> AsyncIterator[str]:
        now = asyncio.get_running_loop().time
        until = now() + lasts
        yield opening(cursor_of(owner, position), RETRY)
        while True:
            if page:
                yield "".join(frame(owner, entry) for entry in page)
                position = page[-1].position
            left = until - now()
            if left <= 0:
                return
            if await self._watch.wait_beyond(owner, position, min(self._heartbeat, left)):
                page = await self._watch.read(owner, position)
                if not page:
                    # The feed's head is visible already, its row not yet.
                    await asyncio.sleep(UNSETTLED)
            else:
                page = []
                yield ": still here\n\n"


async def _left(receive: Receive) -> None:
    """Return when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _header(scope: Scope, name: bytes) -> str | None:
    found = [value for key, value in scope["headers"] if key.lower() == name]
    return found[0].decode("latin-1") if found else None


async def _answer(send: Send, refusal: ProblemError) -> None:
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"cache-control", b"no-store"),
        *_EVERYWHERE,
        *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": json.dumps(refusal.body).encode()})


@cache
def _stream() -> Stream:
    watch = Watch(kit.feed(), min_interval=QUICK, max_interval=SLOW)
    seconds = float(settings.required("STREAM_SECONDS"))
    return Stream(watch, kit.bearers(), kit.slots("streams"), seconds=seconds)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The app that uvicorn serves, made from the environment at the first request."""
    await _stream()(scope, receive, send)
