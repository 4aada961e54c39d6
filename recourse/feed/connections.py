"""Open WebSocket connections, and pushing an owner's events to them: each in order, each once.

What tells that something has come is a wake-up: what is sent is read from the feed, from the
connection's own position. To one connection one pusher sends at a time, who holds its lease.
Another that finds the lease taken leaves the position that it was woken for, and the holder lets
the lease go only when it has reached it. So nothing is forgotten, nothing overtakes, and nothing
comes twice unless a holder dies between sending and noting it: then its lease ends, its own message
comes again, and what it had not noted is sent again, with the same `id` and `cursor`.

A row is found by its owner and read consistently: an index would show a new connection late.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from recourse.declare.step import Item
from recourse.errors import RecourseError, TransientError
from recourse.feed.feed import Entry, Feed
from recourse.feed.live import cursor_problem, message
from recourse.problems import problem
from recourse.store.contention import ConditionFailedError
from recourse.store.cursors import CursorError
from recourse.store.expressions import ABSENT, PRESENT, AtMost, LessThan, When
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_sqs import SQSClient

LONGEST = 2 * 3600
"""Seconds after which API Gateway ends every connection."""
OPENING = 30
"""Seconds for which a connection that answers 410 may still be opening: it does so until `$connect`
has been answered."""
LEASE = 20
"""Seconds that a lease lasts: more than a pusher lives, so that it ends with a dead one only."""
PAGE = 25
"""Events that are sent between two notes of how far a connection has come."""
AT_MOST = 1000
"""Events that one pusher sends to one connection before it makes room for others."""
LARGEST = 128 * 1024
"""Bytes that API Gateway takes to a connection at once."""
TOLD_A_MINUTE = 60
"""Messages that a client may send in a minute."""
logger = logging.getLogger(__name__)


class GoneError(RecourseError):
    """There is no such connection any more."""


class LostLeaseError(RecourseError):
    """Another holds the lease."""


@dataclass(frozen=True)
class Connection:
    """An open connection.

    Attributes:
        owner: Whose it is.
        name: Its id in API Gateway.
        position: How far in the owner's feed it has come.
        made: When it was opened, in seconds of the epoch.
        until: When its token ends.
        turn: How often it has changed what it hears; a position counts within its turn.
        saga_id: The saga whose events it hears; None for all of the owner's.
        wanted: The position that others were woken for while the lease was held.
        refusal: The problem with which it is to be closed.
        lease: Who holds its lease.
        told: How many messages it has sent in this minute.
    """

    owner: str
    name: str
    position: int
    made: int
    until: int
    turn: int = 0
    saga_id: str | None = None
    wanted: int = 0
    refusal: Mapping[str, Any] | None = None
    lease: str | None = None
    told: int = 0


class Connections:
    """The table of open connections.

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        clock: The time of day, in seconds of the epoch.
    """

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = Table(dynamodb, table, ("pk", "connection"))
        self.clock = clock

    def open(
        self,
        owner: str,
        name: str,
        position: int,
        *,
        until: int,
        refusal: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a new connection, which hears what comes after a position."""
        now = int(self.clock())
        row = {
            "pk": _pk(owner),
            "connection": name,
            "position": position,
            "made": now,
            "until": until,
            "turn": 0,
            "refusal": json.dumps(refusal) if refusal else None,
            "expires_at": now + LONGEST + 60,
        }
        self._table.put(row)

    def close(self, owner: str, name: str) -> None:
        """Forget a connection."""
        self._table.delete((_pk(owner), name))

    def get(self, owner: str, name: str) -> Connection | None:
        """A connection, if it is open."""
        row = self._table.get((_pk(owner), name))
        return _connection(row) if row else None

    def of(self, owner: str) -> list[Connection]:
        """Every open connection of an owner."""
        return list(map(_connection, self._table.query({"pk": _pk(owner)}, consistent=True)))

    def heard(self, owner: str, name: str) -> Connection:
        """Count a message that a client has sent, in this minute.

        Raises:
            GoneError: The connection is not open.
        """
        minute = int(self.clock() // 60)
        again = self._update(owner, name, when={"minute": minute}, add={"told": 1})
        row = again or self._update(owner, name, when=PRESENT, set={"minute": minute, "told": 1})
        if row is None:
            raise GoneError(name)
        return row

    def subscribe(self, owner: str, name: str, position: int, saga_id: str | None) -> None:
        """Let a connection hear what comes after a position from now on.

        Raises:
            GoneError: The connection is not open.
        """
        hears = {"position": position, "saga_id": saga_id}
        if not self._update(owner, name, when=PRESENT, set=hears, add={"turn": 1}):
            raise GoneError(name)

    def take(self, owner: str, name: str, wanted: int, holder: str) -> Connection | None:
        """Take a connection's lease; None where it is gone, or its holder will do the rest."""
        while True:
            now = int(self.clock())
            taken = self._update(
                owner,
                name,
                when=[{"pk": PRESENT, "lease": ABSENT}, {"lease_ends": AtMost(now)}],
                set={"lease": holder, "lease_ends": now + LEASE},
            )
            if taken:
                return taken
            found = self.get(owner, name)
            if found is None or (found.lease and found.wanted >= wanted):
                return None
            theirs = {"lease": found.lease}
            if found.lease and self._update(
                owner,
                name,
                when=[theirs | {"wanted": ABSENT}, theirs | {"wanted": LessThan(wanted)}],
                set={"wanted": wanted},
            ):
                return None

    def advance(self, held: Connection, position: int) -> Connection:
        """Note how far a connection has come; the connection as it is now, in another turn maybe.

        Raises:
            LostLeaseError: Another holds the lease.
        """
        row = self._update(
            held.owner,
            held.name,
            when={"lease": held.lease, "turn": held.turn},
            set={"position": position},
        ) or self.get(held.owner, held.name)
        if row is None or row.lease != held.lease:
            raise LostLeaseError(held.name)
        return row

    def let_go(
        self, held: Connection, position: int, *, whatever: bool = False
    ) -> Connection | None:
        """Note how far a connection has come, and let its lease go; None where that is done.

        Args:
            held: The connection.
            position: How far it has come.
            whatever: Let it go even where more is wanted.

        Returns:
            The connection as it is now, where there is more to do.

        Raises:
            LostLeaseError: Another holds the lease.
        """
        mine: dict[str, Any] = {"lease": held.lease, "turn": held.turn}
        reached: When = [mine | {"wanted": ABSENT}, mine | {"wanted": AtMost(position)}]
        row = self._update(
            held.owner,
            held.name,
            when=mine if whatever else reached,
            set={"position": position},
            remove=["lease", "lease_ends"] if whatever else ["lease", "lease_ends", "wanted"],
        )
        if row:
            return None
        if whatever:
            # In another turn the position is another's; the lease is not.
            self._update(
                held.owner,
                held.name,
                when={"lease": held.lease},
                remove=["lease", "lease_ends"],
            )
            return None
        return self.advance(held, position)

    def _update(self, owner: str, name: str, *, when: When, **change: Any) -> Connection | None:
        """Change a row where a condition holds; the row afterwards, None where it does not hold."""
        try:
            return _connection(self._table.update((_pk(owner), name), when=when, **change))
        except ConditionFailedError:
            return None


class Pages:
    """A feed as one batch of wake-ups reads it: connections at the same place share one read.

    Not for longer than a batch. A page that has grown since is no loss: what has come since wakes
    somebody by itself, who finds the connection, or leaves with the holder of its lease that more
    is wanted.

    Args:
        feed: The feed.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._locks: dict[tuple[str, int], threading.Lock] = {}
        self._pages: dict[tuple[str, int], list[Entry]] = {}

    def read(self, owner: str, after: int, limit: int) -> list[Entry]:
        """The events after a position, as the feed has them."""
        key = owner, after
        with self._locks.setdefault(key, threading.Lock()):
            page = self._pages.get(key) or self._feed.read(owner, after, limit)
            if page:
                self._pages[key] = page
            return page


class Pusher:
    """Sends to connections what their owners' feeds have.

    Args:
        connections: The table of connections.
        feed: The feed.
        gateway: A client of the API that posts to connections.
    """

    def __init__(self, connections: Connections, feed: Feed | Pages, gateway: Any) -> None:
        self.connections = connections
        self._feed = feed
        self._gateway = gateway

    def for_a_batch(self) -> Pusher:
        """The same, whose connections share what they read."""
        assert isinstance(self._feed, Feed)
        return Pusher(self.connections, Pages(self._feed), self._gateway)

    def push(self, owner: str, name: str, wanted: int, *, until: float) -> bool:
        """Send a connection all that has come for it; whether that is done.

        Args:
            owner: Whose connection.
            name: The connection.
            wanted: The position that is there for sure.
            until: When there is no more time, by the connections' clock.

        Raises:
            TransientError: It has to be tried again.
            ClientError: API Gateway or DynamoDB refused.
        """
        held = self.connections.take(owner, name, wanted, uuid.uuid4().hex)
        if held is None:
            return True
        try:
            return self._serve(held, wanted, until)
        except GoneError:
            if self.connections.clock() - held.made < OPENING:
                raise TransientError(f"connection {name} is not open yet") from None
            self.connections.close(owner, name)
        except LostLeaseError:
            logger.warning("connection %s was closed, or its lease ended, meanwhile", name)
        return True

    def tell(self, name: str, told: Mapping[str, Any]) -> None:
        """Send a client something.

        Raises:
            GoneError: It is gone.
            ClientError: API Gateway refused.
        """
        data = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
        with _gone(name):
            self._gateway.post_to_connection(ConnectionId=name, Data=data)

    def refuse(self, connection: Connection, refusal: Mapping[str, Any]) -> None:
        """Tell a client what is wrong, and close its connection.

        Raises:
            GoneError: It is gone.
            ClientError: API Gateway refused.
        """
        self.tell(connection.name, {"type": "error", "problem": refusal})
        with suppress(GoneError), _gone(connection.name):
            self._gateway.delete_connection(ConnectionId=connection.name)
        self.connections.close(connection.owner, connection.name)

    def _serve(self, held: Connection, wanted: int, until: float) -> bool:
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
                        self._send(held, entry)
                    position, sent = entry.position, sent + 1
                if sent >= AT_MOST or self.connections.clock() > until:
                    self.connections.let_go(held, position, whatever=True)
                    return False
                is_behind = position < max(wanted, held.wanted)
                if is_behind and not entries:
                    raise TransientError("what has come cannot be read yet")
                if is_behind or len(entries) == PAGE:
                    held = self.connections.advance(held, position)
                elif now := self.connections.let_go(held, position):
                    held = now
                else:
                    return True
                position = held.position
        except CursorError as error:
            self.refuse(held, cursor_problem(error).body)
            return True
        except Exception:
            self.connections.let_go(held, position, whatever=True)
            raise

    def _send(self, held: Connection, entry: Entry) -> None:
        told = message(held.owner, entry)
        try:
            self.tell(held.name, told)
        except ClientError as error:
            if error.response["Error"]["Code"] != "PayloadTooLargeException":
                raise
            detail = f"an event of more than {LARGEST} bytes: GET /events has it"
            cursor = told["cursor"]
            refusal = problem("too-large", detail)
            self.tell(held.name, {"type": "error", "problem": refusal, "cursor": cursor})


class Wakes:
    """The queue of wake-ups.

    Args:
        sqs: An SQS client.
        url: The queue's URL.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send(self, owner: str, name: str, *, delay: int = 0) -> None:
        """Have somebody look after a connection, after some seconds."""
        told = {"owner": owner, "connection": name, "position": "0"}
        self._sqs.send_message(
            QueueUrl=self._url,
            MessageBody="{}",
            DelaySeconds=delay,
            MessageAttributes={
                key: {"DataType": "String", "StringValue": value} for key, value in told.items()
            },
        )


@contextmanager
def _gone(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] == "GoneException":
            raise GoneError(name) from error
        raise


def _pk(owner: str) -> str:
    return f"owner#{owner}"


def _connection(row: Item) -> Connection:
    return Connection(
        owner=row["pk"].removeprefix("owner#"),
        name=row["connection"],
        position=row["position"],
        made=row["made"],
        until=row["until"],
        turn=row["turn"],
        saga_id=row.get("saga_id"),
        wanted=row.get("wanted", 0),
        refusal=json.loads(row["refusal"]) if row["refusal"] else None,
        lease=row.get("lease"),
        told=row.get("told", 0),
    )
