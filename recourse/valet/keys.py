"""The valet table: keys, their audit trail, visible objects, and public keys.

One key, `pk`, as in every table:

| row | key |
|---|---|
| key | `key#<key id>`, in the index by owner |
| audit | `audit#<key id>#<moment>#<random>`, in the index by key |
| refusals of a day, counted | `refused#<key id>#<day>#<action>#<outcome>`, likewise; expires |
| visible object: its pinned version | `object#<owner>#<name>` |
| rate: uses in a minute | `rate#<whose>#<minute>`; expires |
| public keys | `jwks` |

A key's row and its token say the same; what changes (uses, revoked, completed) is only in the row.
Indexes, which lag behind, serve lists; no decision is made by one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.declare.step import Item
from recourse.store import retention
from recourse.store.contention import Backoff
from recourse.store.cursors import cursor_after, started_of
from recourse.store.expressions import ABSENT, IfAbsent, LessThan
from recourse.store.table import Table
from recourse.valet.errors import TooOftenError, UnknownKeyError, ValetError
from recourse.valet.names import object_name, owner_space
from recourse.valet.token import Claims, Jwk, Operation

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

State = Literal["ISSUED", "COMPLETED", "QUARANTINED"]
Clock = Callable[[], float]
MINUTE = 60
DAY = 24 * 3600
KEY_RATE = 300
"""How often one key may be redeemed in a minute: five parts a second."""
OWNER_RATE = 6000
"""How often all keys of an owner may be issued or redeemed in a minute."""
OPEN: Mapping[str, Any] = {"state": "ISSUED", "revoked_at": ABSENT}
"""The condition on a key's row under which the key may be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A valet key.

    Attributes:
        key_id: Its id, and the token's `jti`.
        owner: The owner of the key and of the object.
        operation: What it is for.
        object: The object's name, relative to its owner.
        expires: When it expires, in seconds since 1970.
        max_uses: How often it may be redeemed.
        created_at: When it was issued.
        upload: What an upload must be: `content_type`, `content_length` in bytes, `sha256` in hex.
        multipart: Of a multipart upload: `upload_id`, `part_size`, `parts`.
        uses: How often it was redeemed.
        parts_redeemed: How often parts of it were redeemed.
        state: The state of an upload.
        revoked_at: When it was revoked.
        outcome: What completing it returned.
        stored: For a document that a service has stored: its `bucket`, `key`, `version` and
            `content_type`, which are never read from a request.
    """

    key_id: str
    owner: str
    operation: Operation
    object: str
    expires: int
    max_uses: int
    created_at: str
    upload: Mapping[str, Any] | None = None
    multipart: Mapping[str, Any] | None = None
    uses: int = 0
    parts_redeemed: int = 0
    state: State = "ISSUED"
    revoked_at: str | None = None
    outcome: Mapping[str, Any] | None = None
    stored: Mapping[str, Any] | None = None

    def status(self, now: float) -> str:
        """ACTIVE, or why it cannot be used, at a time in seconds since 1970."""
        if self.revoked_at:
            return "REVOKED"
        if self.state != "ISSUED":
            return self.state
        if self.expires <= now:
            return "EXPIRED"
        return "USED_UP" if self.uses >= self.max_uses else "ACTIVE"

    def opened_by(self, token: Claims) -> Key:
        """The key as one of its tokens opens it.

        A key that is renewed expires later; the tokens that were signed before do not.
        """
        return replace(self, expires=min(self.expires, token.exp))

    @property
    def row(self) -> dict[str, Any]:
        """The key as its row, without None: conditions ask whether an attribute exists."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        row = {name: value for name, value in fields.items() if value is not None}
        del row["key_id"]
        return row | {"pk": key_pk(self.key_id), "started": f"{self.created_at}#{self.key_id}"}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, for the audit trail.

    Attributes:
        caller: The subject of the bearer token; `token` where the request has only the key's token.
        address: The IP address that the request came from.
    """

    caller: str
    address: str


class Keys:
    """The valet table.

    Args:
        dynamodb: The client.
        table: The table's name.
        clock: The time, in seconds since 1970.
        sleep: Waits so many seconds.

    Attributes:
        table: The table.
        clock: The time, in seconds since 1970.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        clock: Clock = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.table = Table(dynamodb, table, backoff=Backoff(sleep=sleep))
        self.clock = clock

    def get(self, key_id: str, owner: str | None = None) -> Key:
        """A key.

        Raises:
            UnknownKeyError: It does not exist, or has another owner.
        """
        row = self.row(key_pk(key_id))
        if row is None or owner not in (None, row["owner"]):
            raise UnknownKeyError(f"valet key {key_id!r} does not exist")
        return key_of(row)

    def row(self, pk: str) -> Item | None:
        """A row, read consistently; by BatchGetItem, the only read the redeemer has a right to."""
        (row,) = self.table.get_many([pk])
        return row

    def missing(self, owner: str, names: Sequence[str]) -> list[str]:
        """Those of an owner's documents that do not exist or are not visible."""
        rows = self.table.get_many([object_pk(owner, object_name(name)) for name in names])
        return [
            name
            for name, row in zip(names, rows, strict=True)
            if row is None or row["state"] != "VISIBLE"
        ]

    # What is written.

    def rate(self, whose: str, limit: int) -> TransactWriteItemTypeDef:
        """The write that counts one more use in this minute, if that is within the limit."""
        minute = int(self.clock()) // MINUTE
        return self.table.update_request(
            f"rate#{whose}#{minute}",
            add={"n": 1},
            set={"expires_at": (minute + 2) * MINUTE},
            when=[{"n": ABSENT}, {"n": LessThan(limit)}],
        )

    def owner_rate(self, owner: str) -> TransactWriteItemTypeDef:
        """The same, for all keys of an owner."""
        return self.rate(f"owner#{owner_space(owner)}", OWNER_RATE)

    def audit(
        self, key_id: str, action: str, outcome: str, by: Actor, detail: str | None = None
    ) -> TransactWriteItemTypeDef:
        """The write that records an action on a key and its outcome."""
        at, started = self._now()
        row = {
            "pk": f"audit#{key_id}#{started}",
            "key_id": key_id,
            "started": started,
            "time": at,
            "action": action,
            "outcome": outcome,
            "caller": by.caller,
            "address": by.address,
        }
        if detail is not None:
            row["detail"] = detail
        if kept := retention.seconds("trail"):
            return self.table.put_request(
                row | {"expires_at": int(self.clock()) + kept}, when=ABSENT
            )
        return self.table.put_request(row, when=ABSENT)

    def refused(self, key_id: str, action: str, problem: ValetError, by: Actor) -> None:
        """Record that an action was refused.

        Whoever has a token may have it refused any number of times. So a day's refusals of an
        action for one reason are one row, which counts them and describes the last; and they are in
        a partition of their own, so that a trail is read as far as it goes whatever was refused.
        """
        at, started = self._now()
        day = int(self.clock()) // DAY
        first = {"key_id": _refusals(key_id), "started": started, "time": at}
        first |= {"action": action, "outcome": problem.kind}
        last = {"last_time": at, "caller": by.caller, "address": by.address, "detail": str(problem)}
        self.table.update(
            f"refused#{key_id}#{day}#{action}#{problem.kind}",
            set={
                **{name: IfAbsent(value) for name, value in first.items()},
                **last,
                "expires_at": (day + 1) * DAY + retention.for_a_time("refusals"),
            },
            add={"count": 1},
        )

    def _now(self) -> tuple[str, str]:
        """The time, and the place in a trail of what happens now."""
        at = moment(self.clock())
        # Nanoseconds keep rows of one millisecond in order, and the noise makes them unique.
        return at, f"{at}#{time.time_ns():016x}{secrets.token_hex(8)}"

    # What is shown.

    def page(self, owner: str, *, cursor: str | None, limit: int) -> tuple[list[Key], str | None]:
        """An owner's keys, newest first, and the cursor of the next page.

        Raises:
            BadCursorError: The cursor was not issued by this API.
        """
        rows, following = self.table.page("by-owner", {"owner": owner}, cursor=cursor, limit=limit)
        return [key_of(row) for row in rows], following

    def trail(
        self, key_id: str, *, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a key's audit trail, newest first, and the cursor of the next page.

        The index lags behind by a moment. The refusals of a day are where the first of them was.

        Raises:
            BadCursorError: The cursor was not issued by this API.
        """
        before = started_of(cursor)
        older = {} if before is None else {"started": LessThan(before)}
        each = [
            self.table.query(
                {"key_id": partition, **older}, index="by-key", newest_first=True, size=limit + 1
            )
            for partition in (key_id, _refusals(key_id))
        ]
        rows = merge(*each, key=lambda row: row["started"], reverse=True)
        found = list(islice(rows, limit + 1))
        shown = ("time", "action", "outcome", "caller", "address", "detail", "count", "last_time")
        trail = [{name: row[name] for name in shown if name in row} for row in found[:limit]]
        return trail, cursor_after(found[limit - 1]["started"]) if len(found) > limit else None

    # Public keys.

    def publish(self, jwk: Jwk) -> None:
        """Add a public key to the published ones; none is ever removed."""
        self.table.update("jwks", set={jwk["kid"]: IfAbsent(dict(jwk))})

    def public_keys(self) -> dict[str, Jwk]:
        """The public keys by key id: the current one and those before a rotation."""
        row = self.row("jwks") or {}
        return {kid: jwk for kid, jwk in row.items() if kid != "pk"}


def key_pk(key_id: str) -> str:
    """The key of a valet key's row."""
    return f"key#{key_id}"


def _refusals(key_id: str) -> str:
    """The partition of a key's refusals in the index by key."""
    return f"refused#{key_id}"


def object_pk(owner: str, name: str) -> str:
    """The key of a visible object's row."""
    return f"object#{owner_space(owner)}#{name}"


def key_of(row: Mapping[str, Any]) -> Key:
    """A valet key from its row."""
    fields = {name: value for name, value in row.items() if name not in ("pk", "started")}
    return Key(key_id=row["pk"].partition("#")[2], **fields)


def moment(seconds: float) -> str:
    """A time, in seconds since 1970, as API and events format it."""
    return events.moment(datetime.fromtimestamp(seconds, UTC))


def too_often(owner: bool) -> TooOftenError:
    """The refusal of a use beyond the rate of a key or of its owner."""
    whose, limit = ("its owner", OWNER_RATE) if owner else ("the key", KEY_RATE)
    return TooOftenError(f"{whose} may do this at most {limit} times a minute")
