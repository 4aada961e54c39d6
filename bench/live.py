"""Live channels: an event that reaches hundreds of open WebSockets and streams of one owner."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import httpx
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from bench import LOCAL
from bench.figures import Figure, say
from recourse.events import Event
from recourse.feed.feed import Feed
from recourse.local.cloud import LocalCloud

CONNECTIONS = 200
ROUNDS = 10
OPENED_AT_ONCE = 8
PATIENCE = 60
"""Seconds in which an event has to reach everybody."""
OWNERS = {"alone": 1, "many": CONNECTIONS}
"""How many connections of each kind each owner has."""


@dataclass
class Channel:
    """The connections of one kind that one owner has.

    Attributes:
        owner: The owner.
        came: When each event reached each connection.
    """

    owner: str
    came: dict[str, list[float]] = field(default_factory=dict)
    whole: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, text: str | bytes) -> None:
        """Note an event that has reached a connection."""
        now = time.perf_counter()
        async with self.whole:
            self.came.setdefault(json.loads(text)["id"], []).append(now)
            self.whole.notify_all()


def measure() -> list[Figure]:
    """Append events to the feeds of two owners, one with one connection, one with 200."""
    folder = LOCAL / "bench" / "live"
    with LocalCloud(
        port=0, aws_port=0, state_dir=folder, fresh=True, seed_file=None, say=say
    ) as cloud:
        feed = Feed(cloud.client("dynamodb"), cloud.outputs["FeedTableName"])
        return asyncio.run(_measure(cloud, feed))


async def _measure(cloud: LocalCloud, feed: Feed) -> list[Figure]:
    found: dict[tuple[str, str], tuple[list[float], int]] = {}
    async with AsyncExitStack() as stack:
        kinds: dict[str, Callable[[LocalCloud, Channel, AsyncExitStack], Awaitable[None]]] = {
            "WebSockets": _socket,
            "streams": _stream,
        }
        channels = {}
        for kind, opened in kinds.items():
            for owner, count in OWNERS.items():
                channels[kind, owner] = channel = Channel(f"{owner}-{kind}")
                began = time.perf_counter()
                gate = asyncio.Semaphore(OPENED_AT_ONCE)

                async def one(
                    opened: Callable[..., Awaitable[None]] = opened,
                    channel: Channel = channel,
                    gate: asyncio.Semaphore = gate,
                ) -> None:
                    async with gate:
                        await opened(cloud, channel, stack)

                await asyncio.gather(*(one() for _ in range(count)))
                took = time.perf_counter() - began
                say(f"{count} {kind} of one owner opened in {took:.1f} s")
        for (kind, owner), channel in channels.items():
            times: list[float] = []
            for number in range(1, ROUNDS + 1):
                times += await _tell(feed, channel, OWNERS[owner], number)
            found[kind, owner] = times, sum(len(one) for one in channel.came.values())
    return [figure for kind in kinds for figure in _figures(kind, found)]


async def _tell(feed: Feed, channel: Channel, expected: int, number: int) -> list[float]:
    """Append one event; the seconds after which it was with each connection."""
    started = Event.started(
        f"{channel.owner}-saga", "order", business_key=str(number), coordination="orchestration"
    )
    event = replace(started, id=f"{started.id}.{number}", sequence=number)
    began = time.perf_counter()
    await asyncio.to_thread(feed.append, channel.owner, [event])

    def reached() -> list[float]:
        return channel.came.get(event.id, [])

    try:
        async with asyncio.timeout(PATIENCE), channel.whole:
            await channel.whole.wait_for(lambda: len(reached()) >= expected)
    except TimeoutError:
        say(f"{channel.owner}: event {number} reached {len(reached())} of {expected}")
    return [came - began for came in reached()]


async def _socket(cloud: LocalCloud, channel: Channel, stack: AsyncExitStack) -> None:
    token = cloud.token(channel.owner, "sagas:read")
    url = cloud.api_url.replace("http", "ws", 1) + "/events/ws"
    offered = [Subprotocol("recourse.v1"), Subprotocol(f"bearer.{token}")]
    opened = await stack.enter_async_context(
        connect(url, subprotocols=offered, proxy=None, open_timeout=PATIENCE)
    )

    async def listen() -> None:
        async for message in opened:
            await channel.hear(message)

    _until_the_end(listen(), stack)


async def _stream(cloud: LocalCloud, channel: Channel, stack: AsyncExitStack) -> None:
    headers = {"authorization": f"Bearer {cloud.token(channel.owner, 'sagas:read')}"}
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=None, trust_env=False))
    answer = await stack.enter_async_context(
        client.stream("GET", f"{cloud.api_url}/events/stream", headers=headers)
    )
    answer.raise_for_status()

    async def listen() -> None:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                await channel.hear(line.removeprefix("data: "))

    _until_the_end(listen(), stack)


def _until_the_end(listening: Awaitable[None], stack: AsyncExitStack) -> None:
    task = asyncio.ensure_future(listening)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)


def _figures(kind: str, found: dict[tuple[str, str], tuple[list[float], int]]) -> list[Figure]:
    (alone, _), (many, reached) = found[kind, "alone"], found[kind, "many"]
    size = f"{CONNECTIONS} {kind} of one owner, {ROUNDS} events one after another"
    wanted = CONNECTIONS * ROUNDS
    figures = [
        Figure(
            what=f"{kind} that every event reached, once",
            size=size,
            figure=f"{reached} arrivals",
            alternative=f"what there should be: {wanted}",
            ratio=reached / wanted,
            least=1,
            most=1,
        )
    ]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        ours, one = _quantile(many, part), _quantile(alone, part)
        figures.append(
            Figure(
                what=f"from an event in the feed to {kind}, {name}",
                size=size,
                figure=f"{1000 * ours:.0f} ms",
                alternative=f"one connection alone, {ROUNDS} events: {1000 * one:.0f} ms",
                ratio=ours / one,
            )
        )
    return figures


def _quantile(times: list[float], part: float) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[round(part * 100) - 1]
