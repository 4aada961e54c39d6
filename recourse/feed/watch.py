"""Waiting for what comes into feeds: one look an owner, however many of its connections wait."""

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
"""Entries that are read at once, and so what a connection holds at the most."""
AT_ONCE = 16
"""Calls to DynamoDB that are under way at the same time."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Owner:
    """What is known of one owner's feed."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.changed = asyncio.Event()
        self.waiting = 0


class Watch:
    """Watches feeds for those who wait, in one event loop.

    Args:
        feed: The feed.
        quick: Seconds between two looks at an owner whose feed has just grown.
        slow: Seconds between two looks at one where nothing happens.
    """

    def __init__(self, feed: Feed, *, quick: float, slow: float) -> None:
        self._feed = feed
        self._quick = quick
        self._slow = slow
        self._owners: dict[str, _Owner] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._reads: dict[tuple[str, int], asyncio.Future[list[Entry]]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="watch")

    async def head(self, owner: str) -> int:
        """The newest position of an owner's feed."""
        return await self._call(lambda: self._feed.head(owner))

    async def read(self, owner: str, after: int) -> list[Entry]:
        """What comes after a position, up to a page; those who ask the same share one answer.

        Raises:
            ExpiredCursorError: Some of it is no longer kept.
        """
        key = (owner, after)
        if key not in self._reads:
            reading = asyncio.ensure_future(
                self._call(lambda: self._feed.read(owner, after, limit=PAGE))
            )
            reading.add_done_callback(lambda _: self._reads.pop(key))
            self._reads[key] = reading
        # Whoever leaves must not take the answer away from the others.
        return await asyncio.shield(self._reads[key])

    async def beyond(self, owner: str, position: int, seconds: float) -> bool:
        """Whether the feed grows beyond a position within some seconds; at once where it has."""
        watched = self._owners.get(owner)
        if watched is None:
            watched = self._owners[owner] = _Owner(position)
            look = asyncio.create_task(self._look(owner, watched))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
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

    async def _look(self, owner: str, watched: _Owner) -> None:
        pause = self._quick
        try:
            while watched.waiting:
                try:
                    head = await self.head(owner)
                except (BotoCoreError, ClientError):
                    logger.exception("the feed of %s was not looked at; again in a moment", owner)
                    head = watched.head
                if head > watched.head:
                    watched.head = head
                    watched.changed.set()
                    watched.changed = asyncio.Event()
                    pause = self._quick
                else:
                    pause = min(pause * 1.5, self._slow)
                await asyncio.sleep(pause)
        finally:
            del self._owners[owner]

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
