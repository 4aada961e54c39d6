"""Server-sent events: from now or from a cursor, without gap or duplicate, for a while."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from recourse.feed.feed import Feed, cursor_of
from recourse.feed.watch import PAGE, Watch
from recourse.functions.bearer import Bearers
from recourse.functions.sse import Stream
from recourse.local.issuer import AUDIENCE, Issuer
from recourse.local.ports import free_port
from recourse.store.slots import Slots
from recourse.store.table import Table
from tests import ROOT
from tests.live.conftest import append
from tests.live.test_push import expire
from tests.patience import PATIENCE, until

URL = "https://issuer.example"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(URL, tmp_path_factory.mktemp("issuer") / "key.pem")


class Counted(Feed):
    """A feed that counts how often it is looked at and read."""

    looks = reads = 0

    def head(self, owner: str) -> int:
        self.looks += 1
        return super().head(owner)

    def read(self, owner: str, after: int | None, limit: int = 100) -> Any:
        self.reads += 1
        return super().read(owner, after, limit)


@pytest.fixture
def feed(dynamodb: Any) -> Counted:
    return Counted(dynamodb, "feed")


class App:
    """The app, as a server runs it for one request at a time."""

    def __init__(
        self,
        feed: Feed,
        issuer: Issuer,
        *,
        seconds: float = 60,
        heartbeat: float = 15,
        most: int = 1000,
    ) -> None:
        self.watch = Watch(feed, min_interval=0.005, max_interval=0.02)
        bearers = Bearers(URL, [AUDIENCE], keys=lambda: issuer.jwks)
        table = Table(feed._table.dynamodb, "connections", ("pk", "connection"))
        self.slots = Slots(table, "streams", most=most, seconds=seconds, sort="slots")
        self.app = Stream(self.watch, bearers, self.slots, seconds=seconds, heartbeat=heartbeat)

    @asynccontextmanager
    async def get(
        self,
        token: str | None,
        query: str = "",
        *,
        method: str = "GET",
        path: str = "/events/stream",
        window: int = 0,
        **headers: str,
    ) -> AsyncIterator[Answer]:
        """An answer that is under way; the client leaves at the end of the block."""
        sent = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
        if token:
            sent.append((b"authorization", f"Bearer {token}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": sent,
        }
        answer, left = Answer(window), asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        serving = asyncio.create_task(self.app(scope, receive, answer.send))  # type: ignore[arg-type]
        answer.serving = serving
        try:
            yield answer
        finally:
            left.set()
            await asyncio.wait_for(serving, PATIENCE)


class Answer:
    """What is answered, as the client takes it; `window` pieces may wait to be taken, 0 for any."""

    def __init__(self, window: int) -> None:
        self._came: asyncio.Queue[dict[str, Any]] = asyncio.Queue(window)
        self.serving: asyncio.Task[None]
        self._rest = ""

    async def send(self, message: dict[str, Any]) -> None:
        await self._came.put(message)

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self._came.get(), PATIENCE)

    async def opened(self) -> dict[str, str]:
        """The headers of a stream; the frame that opens it is left to be read."""
        start = await self.next()
        assert start["status"] == 200, start
        return {name.decode(): value.decode() for name, value in start["headers"]}

    async def refused(self) -> tuple[int, str]:
        """The status and the kind of problem of a request that is refused."""
        start, body = await self.next(), await self.next()
        told = json.loads(body["body"])
        assert told["status"] == start["status"]
        return start["status"], told["type"].rpartition(":")[2]

    async def frame(self) -> dict[str, str] | None:
        """The next frame, by field; a comment's field has no name; None at the end."""
        while "\n\n" not in self._rest:
            piece = await self.next()
            self._rest += piece["body"].decode()
            if not piece["more_body"]:
                return None
        text, _, self._rest = self._rest.partition("\n\n")
        return dict(line.split(": ", 1) for line in text.split("\n"))

    async def events(self, how_many: int) -> list[int]:
        """The numbers of the next events; comments are passed over."""
        found: list[int] = []
        while len(found) < how_many:
            frame = await self.frame()
            assert frame is not None
            if "data" in frame:
                found.append(json.loads(frame["data"])["data"]["n"])
        return found


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


@pytest.fixture
def token(issuer: Issuer, owner: str) -> str:
    return issuer.token(owner, "sagas:read")


def test_it_begins_now_and_says_where_that_is(
    feed: Feed, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        append(feed, owner, 2)
        async with App(feed, issuer).get(token) as answer:
            headers = await answer.opened()
            assert headers["content-type"] == "text/event-stream; charset=utf-8"
            assert headers["cache-control"] == "no-store"
            assert await answer.frame() == {"retry": "2000", "id": cursor_of(owner, 2)}
            append(feed, owner, 2)
            frame = await answer.frame()
            assert frame and set(frame) == {"id", "data"}
            assert frame["id"] == cursor_of(owner, 3)
            (entry, _) = feed.read(owner, 2)
            assert json.loads(frame["data"]) == entry.event.to_dict()
            assert await answer.events(1) == [4]

    run(work())


def test_it_goes_on_from_the_header_or_else_from_the_address(
    feed: Feed, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        append(feed, owner, PAGE + 5)
        app = App(feed, issuer)
        everything = list(range(1, PAGE + 6))
        async with app.get(token, f"after={cursor_of(owner, 0)}") as answer:
            await answer.opened()
            assert await answer.events(PAGE + 5) == everything
        came_back = cursor_of(owner, PAGE)
        async with app.get(token, f"after={cursor_of(owner, 0)}", last_event_id=came_back) as again:
            await again.opened()
            assert (await again.frame() or {})["id"] == came_back
            assert await again.events(5) == everything[PAGE:]

    run(work())


def test_whoever_is_cut_off_anywhere_misses_nothing(
    feed: Feed, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        app, last, found = App(feed, issuer), "", []
        for take in (0, 1, 3, 0, 2):
            async with app.get(token, last_event_id=last) as answer:
                await answer.opened()
                frame = await answer.frame()
                last = (frame or {})["id"]
                append(feed, owner, 2)
                for _ in range(take):
                    frame = await answer.frame()
                    assert frame
                    last = frame["id"]
                    found.append(json.loads(frame["data"])["data"]["n"])
        async with app.get(token, last_event_id=last) as answer:
            await answer.opened()
            found += await answer.events(10 - len(found))
        assert found == list(range(1, 11))

    run(work())


def test_what_is_wrong_is_said_before_anything_is_streamed(
    feed: Feed, issuer: Issuer, owner: str, token: str, dynamodb: Any
) -> None:
    async def work() -> None:
        app = App(feed, issuer)
        append(feed, owner, 2)
        expire(dynamodb, owner, 1)
        foreign, late = cursor_of("somebody", 1), cursor_of(owner, 99)
        other = issuer.token(owner, "sagas:write")
        for asked, refusal in (
            (app.get(None), (401, "unauthorized")),
            (app.get("garbage"), (401, "unauthorized")),
            (app.get(other), (403, "forbidden")),
            (app.get(token, path="/"), (404, "not-found")),
            (app.get(token, method="POST"), (405, "not-allowed")),
            (app.get(token, "after=x"), (400, "bad-cursor")),
            (app.get(token, last_event_id="%%%"), (400, "bad-cursor")),
            (app.get(token, f"after={late}"), (400, "bad-cursor")),
            (app.get(token, f"after={foreign}"), (400, "foreign-cursor")),
            (app.get(token, f"after={cursor_of(owner, 0)}"), (410, "cursor-expired")),
        ):
            async with asked as answer:
                assert await answer.refused() == refusal

    run(work())


def test_a_head_has_the_headers_of_the_stream_and_ends(
    feed: Feed, issuer: Issuer, token: str
) -> None:
    async def work() -> None:
        async with App(feed, issuer).get(token, method="HEAD") as answer:
            await answer.opened()
            assert await answer.frame() is None
            await asyncio.wait_for(answer.serving, PATIENCE)

    run(work())


def test_silence_is_filled_with_comments_and_it_ends_when_its_time_is_up(
    feed: Feed, issuer: Issuer, token: str
) -> None:
    async def work() -> None:
        async with App(feed, issuer, seconds=1, heartbeat=0.05).get(token) as answer:
            await answer.opened()
            frames = []
            while (frame := await answer.frame()) is not None:
                frames.append(frame)
            assert frames[1:].count({"": "still here"}) == len(frames) - 1 >= 2
            await asyncio.wait_for(answer.serving, PATIENCE)

    run(work())


def test_it_ends_with_its_token(feed: Feed, issuer: Issuer, owner: str) -> None:
    async def work() -> None:
        short = issuer.token(owner, "sagas:read", lifetime=0)  # it counts for the leeway yet
        async with App(feed, issuer).get(short) as answer:
            await answer.opened()
            assert await answer.frame() is not None
            assert await answer.frame() is None

    run(work())


def test_many_connections_of_one_owner_cost_one_look_and_one_read(
    feed: Counted, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        app = App(feed, issuer)
        async with app.get(token) as first:
            await first.opened()
            await first.frame()
            others = [app.get(token) for _ in range(19)]
            answers = [await other.__aenter__() for other in others]
            for answer in answers:
                await answer.opened()
                await answer.frame()
            feed.looks = feed.reads = 0
            began = time.monotonic()
            append(feed, owner, 1)
            for answer in (first, *answers):
                assert await answer.events(1) == [1]
            # What appends looks too; a look every 5 ms at the most, not twenty.
            assert feed.reads <= 3
            assert feed.looks <= 10 + (time.monotonic() - began) / 0.005
            for other in others:
                await other.__aexit__(None, None, None)

    run(work())


def test_a_reader_that_is_slow_holds_up_its_own_stream_and_nothing_else(
    feed: Counted, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        append(feed, owner, 3 * PAGE)
        app = App(feed, issuer)
        from_the_start = f"after={cursor_of(owner, 0)}"
        async with app.get(token, from_the_start, window=1) as slow:
            async with app.get(token, from_the_start) as quick:
                await quick.opened()
                await quick.events(3 * PAGE)
            assert slow._came.qsize() == 1
            feed.reads = 0
            await asyncio.sleep(0.05)
            assert feed.reads == 0, "it reads on though nothing is taken"
            await slow.opened()
            assert await slow.events(3 * PAGE) == list(range(1, 3 * PAGE + 1))

    run(work())


def test_a_reader_that_takes_nothing_is_cut_off(
    feed: Feed, issuer: Issuer, owner: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recourse.functions.sse.FLUSH_SECONDS", 0.05)

    async def work() -> None:
        async with App(feed, issuer, seconds=0.05).get(token, window=1) as answer:
            await asyncio.wait_for(asyncio.shield(answer.serving), PATIENCE)

    run(work())


def test_nobody_hears_of_anothers(feed: Feed, issuer: Issuer, owner: str, token: str) -> None:
    async def work() -> None:
        app = App(feed, issuer)
        other = issuer.token(f"{owner}-other", "sagas:read operator")
        async with app.get(token) as own, app.get(other) as theirs:
            for answer in (own, theirs):
                await answer.opened()
                await answer.frame()
            append(feed, owner, 1)
            append(feed, f"{owner}-other", 2)
            assert await own.events(1) == [1]
            assert await theirs.events(2) == [1, 2]

    run(work())


def test_a_feed_that_cannot_be_looked_at_is_looked_at_again(
    feed: Counted, issuer: Issuer, owner: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.live.conftest import failure

    async def work() -> None:
        async with App(feed, issuer).get(token) as answer:
            await answer.opened()
            await answer.frame()
            head, failed = feed.head, asyncio.Event()
            loop = asyncio.get_running_loop()

            def fail(owner: str) -> int:
                monkeypatch.setattr(feed, "head", head)
                loop.call_soon_threadsafe(failed.set)
                raise failure("InternalServerError")

            monkeypatch.setattr(feed, "head", fail)
            await asyncio.wait_for(failed.wait(), PATIENCE)
            append(feed, owner, 1)
            assert await answer.events(1) == [1]

    run(work())


def test_the_start_script_serves_the_app_as_the_web_adapter_asks_for_it(issuer: Issuer) -> None:
    port = free_port(0)
    told = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LAMBDA_TASK_ROOT": str(ROOT),
        "LAMBDA_RUNTIME_DIR": "/nowhere",
        "AWS_LWA_PORT": str(port),
        "AWS_DEFAULT_REGION": "us-east-1",
        "FEED_TABLE": "feed",
        "CONNECTIONS_TABLE": "connections",
        "ISSUER": URL,
        "AUDIENCES": AUDIENCE,
        "STREAM_SECONDS": "870",
    }

    def ask() -> httpx.Response | None:
        assert server.poll() is None
        try:
            return httpx.get(
                f"http://127.0.0.1:{port}/events/stream", trust_env=False, timeout=PATIENCE
            )
        except httpx.ConnectError:
            return None

    with subprocess.Popen(
        [ROOT / "recourse" / "functions" / "sse.sh"], env=told, cwd="/"
    ) as server:
        try:
            answer = until(ask, "an answer of the start script's server")
        finally:
            server.terminate()
    assert answer and answer.status_code == 401
    assert answer.json()["type"] == "urn:recourse:problem:unauthorized"


def test_an_owner_has_so_many_streams_and_another_is_not_kept_out(
    feed: Feed, issuer: Issuer, owner: str, token: str
) -> None:
    async def work() -> None:
        app = App(feed, issuer, most=2)
        async with app.get(token) as first, app.get(token) as second:
            await first.opened()
            await second.opened()
            async with app.get(token) as third:
                refusal = await third.next()
                assert refusal["status"] == 429
                assert int(dict(refusal["headers"])[b"retry-after"]) >= 1
            async with app.get(issuer.token(f"{owner}-other", "sagas:read")) as other:
                await other.opened()
        async with app.get(token) as after:
            await after.opened()

    run(work())
