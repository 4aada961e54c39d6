"""Waiting for new events in feeds: one poll an owner, however many of its connections wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from recourse.feed.feed import Entry, Feed

PAGE = 100
"""Entries that are read at once, and so the most that a connection holds in memory."""
AT_ONCE = 16
"""Calls to DynamoDB at the same time."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Owner:
    """The head of one owner's feed, and how many wait for another."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.changed = asyncio.Event()
        self.waiting = 0


class Watch:
    """Watches feeds for connections that wait, in one event loop.

    Usage::

        watch = Watch(feed, min_interval=0.5, max_interval=1.0)
        position = await watch.head("asha")
        if await watch.wait_beyond("asha", position, seconds=15):
            entries = await watch.read("asha", position)

    Args:
        feed: The feed.
        min_interval: Seconds between two polls of a feed that has just grown.
        max_interval: Seconds between two polls of a feed where nothing happens.
    """

    def __init__(self, feed: Feed, *, min_interval: float, max_interval: float) -> None:
        self._feed = feed
        self._min_interval = min_interval
        self._max_interval = max_interval
        self._owners: dict[str, _Owner] = {}
        self._polls: set[asyncio.Task[None]] = set()
        self._reads: dict[tuple[str, int], asyncio.Future[list[Entry]]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="watch")

    async def head(self, owner: str) -> int:
        """The newest position of an owner's feed."""
        return await self._call(lambda: self._feed.head(owner))

    async def read(self, owner: str, after: int) -> list[Entry]:
        """The events after a position, up to a page; callers that ask the same share one read.

        Raises:
            ExpiredCursorError: Some of them are no longer kept.
        """
        key = (owner, after)
        if key not in self._reads:
            reading = asyncio.ensure_future(
                self._call(lambda: self._feed.read(owner, after, limit=PAGE))
            )
            reading.add_done_callback(lambda _: self._reads.pop(key))
            self._reads[key] = reading
        # A caller that is cancelled must not cancel the read that others share.
        return await asyncio.shield(self._reads[key])

    async def wait_beyond(self, owner: str, position: int, seconds: float) -> bool:
        """Wait until a feed has grown beyond a position; False if not within so many seconds."""
        watched = self._owners.get(owner)
        if watched is None:
            watched = self._owners[owner] = _Owner(position)
            poll = asyncio.create_task(self._poll(owner, watched))
            self._polls.add(poll)  # the loop itself holds a task but weakly
            poll.add_done_callback(self._polls.discard)
        watched.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while watched.head <= position:
                    await watched.changed.wait()
        except TimeoutError:
            return False
        finally:
            watched.waiting -= 1
        return True

    async def _poll(self, owner: str, watched: _Owner) -> None:
        pause = self._min_interval
        try:
            while watched.waiting:
                try:
                    head = await self.head(owner)
                except (BotoCoreError, ClientError):
                    logger.exception("polling the feed of %s failed, and is retried", owner)
                    head = watched.head
                if head > watched.head:
                    watched.head = head
                    watched.changed.set()
                    watched.changed = asyncio.Event()
                    pause = self._min_interval
                else:
                    pause = min(pause * 1.5, self._max_interval)
                await asyncio.sleep(pause)
        finally:
            del self._owners[owner]

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
