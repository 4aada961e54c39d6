"""The pusher: sends an owner's events to open WebSocket connections, each in order, each once.

A message about a new event is only a wake-up: what is sent is read from the feed, after the
connection's own position. That one pusher at a time sends to a connection is in `connections`.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from botocore.exceptions import ClientError

from recourse.errors import TransientError
from recourse.feed.connections import Connection, Connections, GoneError, LostLeaseError
from recourse.feed.feed import Entry, Feed
from recourse.feed.live import cursor_problem, message
from recourse.problems import problem
from recourse.store.cursors import CursorError

OPENING_SECONDS = 30
"""Seconds for which a connection that answers 410 may still be opening: it is not open before
`$connect` has been answered."""
PAGE = 25
"""Events that are sent between two notes of how far a connection has come."""
MAX_EVENTS_PER_PUSH = 1000
"""Events after which a pusher leaves a connection to the next, and makes room for others."""
MAX_MESSAGE_BYTES = 128 * 1024
"""Bytes of a message that API Gateway accepts."""
logger = logging.getLogger(__name__)


class SharedPages:
    """A feed as one batch of wake-ups reads it: connections at the same position share one read.

    Only for one batch. A page that has grown since loses nothing: the event that has come since
    wakes a pusher of its own, which acquires the connection's lease, or leaves the position with
    the holder.

    Args:
        feed: The feed.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._locks: dict[tuple[str, int], threading.Lock] = {}
        self._pages: dict[tuple[str, int], list[Entry]] = {}

    def read(self, owner: str, after: int, limit: int) -> list[Entry]:
        """The events after a position, as `Feed.read` returns them."""
        key = owner, after
        with self._locks.setdefault(key, threading.Lock()):
            page = self._pages.get(key) or self._feed.read(owner, after, limit)
            if page:
                self._pages[key] = page
            return page


class Pusher:
    """Sends to connections what their owners' feeds have.

    Usage::

        pusher = Pusher(connections, feed, gateway)
        is_done = pusher.push(owner, name, wanted=7, until=connections.clock() + 5)

    Args:
        connections: The table of connections.
        feed: The feed.
        gateway: A client of the API that posts to connections.
    """

    def __init__(self, connections: Connections, feed: Feed | SharedPages, gateway: Any) -> None:
        self.connections = connections
        self._feed = feed
        self._gateway = gateway

    def for_a_batch(self) -> Pusher:
        """The same pusher, whose connections share what they read."""
        assert isinstance(self._feed, Feed)
        return Pusher(self.connections, SharedPages(self._feed), self._gateway)

    def push(self, owner: str, name: str, wanted: int, *, until: float) -> bool:
        """Send a connection all events that have come for it.

        Args:
            owner: The owner.
            name: The connection.
            wanted: A position that the feed is known to have.
            until: When there is no more time, by the connections' clock.

        Returns:
            Whether that is done; if not, the connection has to be pushed again.

        Raises:
            TransientError: It has to be retried.
            ClientError: API Gateway or DynamoDB refused.
        """
        held = self.connections.acquire_lease(owner, name, wanted, uuid.uuid4().hex)
        if held is None:
            return True
        try:
            return self._push_held(held, wanted, until)
        except GoneError:
            if self.connections.clock() - held.made < OPENING_SECONDS:
                raise TransientError(f"connection {name} is not open yet") from None
            self.connections.close(owner, name)
        except LostLeaseError:
            logger.warning("connection %s was closed, or its lease ended, meanwhile", name)
        return True

    def send(self, name: str, body: Mapping[str, Any]) -> None:
        """Send a client a message.

        Raises:
            GoneError: The connection does not exist any more.
            ClientError: API Gateway refused.
        """
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        with _raising_gone(name):
            self._gateway.post_to_connection(ConnectionId=name, Data=data)

    def refuse(self, connection: Connection, refusal: Mapping[str, Any]) -> None:
        """Send a client a problem, and close its connection.

        Raises:
            GoneError: The connection does not exist any more.
            ClientError: API Gateway refused.
        """
        self.send(connection.name, {"type": "error", "problem": refusal})
        with suppress(GoneError), _raising_gone(connection.name):
            self._gateway.delete_connection(ConnectionId=connection.name)
        self.connections.close(connection.owner, connection.name)

    def _push_held(self, held: Connection, wanted: int, until: float) -> bool:
        """Send to a connection whose lease this pusher holds, and release the lease."""
        position = held.position
        try:
            if held.until <= self.connections.clock():
                self.refuse(held, problem("unauthorized", "the token has ended"))
                return True
            if held.refusal:
                self.refuse(held, held.refusal)
                return True
            sent = 0
            while True:
                entries = self._feed.read(held.owner, position, limit=PAGE)
                for entry in entries:
                    if held.saga_id in (None, entry.event.saga_id):
                        self._send_event(held, entry)
                    position, sent = entry.position, sent + 1
                if sent >= MAX_EVENTS_PER_PUSH or self.connections.clock() > until:
                    self.connections.abandon_lease(held, position)
                    return False
                is_behind = position < max(wanted, held.wanted)
                if is_behind and not entries:
                    # The head of the feed is there already, and the row of the event not yet.
                    raise TransientError("the event of this wake-up cannot be read yet")
                if is_behind or len(entries) == PAGE:
                    held = self.connections.advance(held, position)
                elif now := self.connections.release_lease(held, position):
                    # More was wanted, or the client has subscribed anew, since the page was read.
                    held = now
                else:
                    return True
                position = held.position
        except CursorError as error:
            self.refuse(held, cursor_problem(error).body)
            return True
        except Exception:
            self.connections.abandon_lease(held, position)
            raise

    def _send_event(self, held: Connection, entry: Entry) -> None:
        body = message(held.owner, entry)
        try:
            self.send(held.name, body)
        except ClientError as error:
            if error.response["Error"]["Code"] != "PayloadTooLargeException":
                raise
            detail = f"an event of more than {MAX_MESSAGE_BYTES} bytes: GET /events has it"
            cursor = body["cursor"]
            refusal = problem("too-large", detail)
            self.send(held.name, {"type": "error", "problem": refusal, "cursor": cursor})


@contextmanager
def _raising_gone(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] == "GoneException":
            raise GoneError(name) from error
        raise
