"""Open WebSocket connections: who is connected, how far each has come, who sends to it now.

One pusher at a time sends to a connection: the one that holds its lease. Another that finds the
lease held leaves the position that it was woken for (`wanted`) in the row, and the holder can
release the lease only when it has reached that position. So nothing is forgotten, nothing overtakes
and nothing is sent twice, unless a holder dies between sending and noting it: then its lease ends,
its own message is redelivered, and what it had not noted is sent again, with the same `id` and
`cursor`.

A row is found by its owner and read consistently: an index would show a new connection late.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recourse.declare.step import Item
from recourse.errors import RecourseError
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, PRESENT, AtMost, LessThan, When
from recourse.store.slots import Slots
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

MAX_CONNECTION_SECONDS = 2 * 3600
"""Seconds after which API Gateway ends every connection."""
LEASE = 20
"""Seconds that a lease lasts: more than a pusher lives, so it ends only if its holder has died."""
MAX_MESSAGES_PER_MINUTE = 60
"""Messages that a client may send in a minute."""


class GoneError(RecourseError):
    """The connection does not exist any more."""


class LostLeaseError(RecourseError):
    """Another pusher holds the lease."""


@dataclass(frozen=True)
class Connection:
    """An open connection.

    Attributes:
        owner: The owner, whose events it receives.
        name: Its id in API Gateway.
        position: How far in the owner's feed it has come.
        made: When it was opened, in seconds of the epoch.
        until: When its token ends, in seconds of the epoch.
        turn: The number of its subscriptions; a position counts only within its turn.
        saga_id: The saga whose events it receives; None for all of the owner's.
        wanted: The position that other pushers were woken for while the lease was held.
        refusal: The problem with which it is to be closed.
        lease: The holder of its lease.
        received: The number of messages that its client has sent in this minute.
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
    received: int = 0


class Connections:
    """The table of open connections.

    Usage::

        held = connections.acquire_lease(owner, name, wanted=7, holder=uuid4().hex)
        if held is not None:
            ...  # send the events after held.position, up to 7
            behind = connections.release_lease(held, position=7)  # None: released

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name.
        clock: The time of day, in seconds of the epoch.
        most: How many an owner may have open.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        clock: Callable[[], float] = time.time,
        *,
        most: int,
    ) -> None:
        self._table = Table(dynamodb, table, ("pk", "connection"))
        self.clock = clock
        self._slots = Slots(
            self._table,
            "sockets",
            most=most,
            seconds=MAX_CONNECTION_SECONDS,
            sort="slots",
            clock=clock,
        )

    def open(
        self,
        owner: str,
        name: str,
        position: int,
        *,
        until: int,
        refusal: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a new connection, which receives what comes after a position.

        Raises:
            LimitReachedError: The owner has as many open as one may have.
        """
        now = int(self.clock())
        slot = self._slots.acquire(owner)
        row = {
            "pk": _pk(owner),
            "connection": name,
            "position": position,
            "made": now,
            "until": until,
            "turn": 0,
            "refusal": json.dumps(refusal) if refusal else None,
            "slot": slot,
            "expires_at": now + MAX_CONNECTION_SECONDS + 60,
        }
        self._table.put(row)

    def close(self, owner: str, name: str) -> None:
        """Remove a connection."""
        was = self._table.delete((_pk(owner), name))
        if was and "slot" in was:
            self._slots.release(owner, was["slot"])

    def get(self, owner: str, name: str) -> Connection | None:
        """A connection; None if it is not open."""
        row = self._table.get((_pk(owner), name))
        return _connection(row) if row else None

    def of(self, owner: str) -> list[Connection]:
        """Every open connection of an owner."""
        return list(map(_connection, self._table.query({"pk": _pk(owner)}, consistent=True)))

    def count_message(self, owner: str, name: str) -> Connection:
        """Count a message that a client has sent in this minute.

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
        """Have a connection receive what comes after a position from now on.

        Raises:
            GoneError: The connection is not open.
        """
        changes = {"position": position, "saga_id": saga_id}
        # A pusher that is sending notes its position only within the turn that it has read.
        if not self._update(owner, name, when=PRESENT, set=changes, add={"turn": 1}):
            raise GoneError(name)

    def acquire_lease(self, owner: str, name: str, wanted: int, holder: str) -> Connection | None:
        """Acquire the lease of a connection.

        Args:
            owner: The owner.
            name: The connection.
            wanted: The position up to which it is to receive events.
            holder: A unique id for this lease.

        Returns:
            The connection; None if it is gone, or if the holder of its lease will send the rest.
        """
        while True:
            now = int(self.clock())
            acquired = self._update(
                owner,
                name,
                when=[{"pk": PRESENT, "lease": ABSENT}, {"lease_ends": AtMost(now)}],
                set={"lease": holder, "lease_ends": now + LEASE},
            )
            if acquired:
                return acquired
            found = self.get(owner, name)
            if found is None or (found.lease and found.wanted >= wanted):
                return None
            # Leave what is wanted with the holder, provided that it is still the holder: one that
            # has released the lease meanwhile would never see it. Then try to acquire it again.
            theirs = {"lease": found.lease}
            if found.lease and self._update(
                owner,
                name,
                when=[theirs | {"wanted": ABSENT}, theirs | {"wanted": LessThan(wanted)}],
                set={"wanted": wanted},
            ):
                return None

    def advance(self, held: Connection, position: int) -> Connection:
        """Note how far a connection has come.

        Returns:
            The connection as it is now. Where its client has subscribed anew, the position is that
            of the new turn.

        Raises:
            LostLeaseError: Another pusher holds the lease.
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

    def release_lease(self, held: Connection, position: int) -> Connection | None:
        """Note how far a connection has come, and release its lease unless there is more to send.

        Args:
            held: The connection.
            position: How far it has come.

        Returns:
            None if the lease is released; the connection as it is now where there is more to send.

        Raises:
            LostLeaseError: Another pusher holds the lease.
        """
        mine: dict[str, Any] = {"lease": held.lease, "turn": held.turn}
        released = self._update(
            held.owner,
            held.name,
            when=[mine | {"wanted": ABSENT}, mine | {"wanted": AtMost(position)}],
            set={"position": position},
            remove=["lease", "lease_ends", "wanted"],
        )
        return None if released else self.advance(held, position)

    def abandon_lease(self, held: Connection, position: int) -> None:
        """Note how far a connection has come, and release its lease although there may be more.

        What is wanted stays in the row; the caller has the connection pushed again.

        Args:
            held: The connection.
            position: How far it has come.
        """
        mine = {"lease": held.lease}
        lease = ["lease", "lease_ends"]
        if not self._update(
            held.owner,
            held.name,
            when=mine | {"turn": held.turn},
            set={"position": position},
            remove=lease,
        ):
            # In another turn the position belongs to that turn; the lease is still this pusher's.
            self._update(held.owner, held.name, when=mine, remove=lease)

    def _update(self, owner: str, name: str, *, when: When, **change: Any) -> Connection | None:
        """Change a row where a condition holds; the row afterwards, None where it does not hold."""
        try:
            return _connection(self._table.update((_pk(owner), name), when=when, **change))
        except ConditionFailedError:
            return None


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
        received=row.get("told", 0),
    )
