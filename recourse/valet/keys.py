"""The valet table: keys, who did what with them, objects that are visible, and public keys.

One key, `pk`, as in every table:

| row | key |
|---|---|
| key | `key#<key id>`, in the index by owner |
| audit | `audit#<key id>#<moment>#<random>`, in the index by key |
| object that is visible: its pinned version | `object#<owner>#<name>` |
| how often in a minute | `rate#<whose>#<minute>`; expires |
| public keys | `jwks` |

A key's row and its token say the same; what changes (uses, revoked, completed) is in the row alone.
No decision is made by an index: those serve lists.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.declare.step import Item
from recourse.store.contention import Backoff
from recourse.store.expressions import ABSENT, IfAbsent, LessThan
from recourse.store.table import Table
from recourse.valet.errors import TooOftenError, UnknownKeyError
from recourse.valet.names import object_name, owner_space
from recourse.valet.token import Jwk, Operation

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

State = Literal["ISSUED", "COMPLETED", "QUARANTINED"]
Clock = Callable[[], float]
MINUTE = 60
KEY_RATE = 300
"""How often in a minute one key may be redeemed: a part each fifth of a second."""
OWNER_RATE = 6000
"""How often in a minute all keys of an owner may be issued and redeemed."""
OPEN: Mapping[str, Any] = {"state": "ISSUED", "revoked_at": ABSENT}
"""What must hold of a key's row for anything to be done with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A valet key.

    Attributes:
        key_id: Its id, and the token's `jti`.
        owner: Whose it is, and whose object.
        operation: What it is for.
        object: The object's name, relative to its owner.
        expires: When it expires, in seconds since 1970.
        max_uses: How often it may be redeemed.
        created_at: When it was issued.
        upload: What an upload must be: `content_type`, `content_length`, `sha256`.
        multipart: Of an upload in parts: `upload_id`, `part_size`, `parts`.
        uses: How often it was redeemed.
        parts_redeemed: How often parts of it were.
        state: What has become of an upload.
        revoked_at: When it was revoked.
        outcome: What completing it answered.
        stored: Of a document that a service has stored and lends: `bucket`, `key`, `version`,
            `content_type`. No caller ever names it.
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
        """What it is good for, in one word."""
        if self.revoked_at:
            return "REVOKED"
        if self.state != "ISSUED":
            return self.state
        if self.expires <= now:
            return "EXPIRED"
        return "USED_UP" if self.uses >= self.max_uses else "ACTIVE"

    @property
    def row(self) -> dict[str, Any]:
        """It as its row; what is not there yet has no attribute, for conditions ask for that."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        row = {name: value for name, value in fields.items() if value is not None}
        del row["key_id"]
        return row | {"pk": key_pk(self.key_id), "started": f"{self.created_at}#{self.key_id}"}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, as the audit has it.

    Attributes:
        caller: The subject of the bearer; `token` where the key's token is all there is.
        address: From where.
    """

    caller: str
    address: str


class Keys:
    """The valet table.

    Args:
        dynamodb: The client.
        table: The table's name.
        clock: The time, in seconds since 1970.
        sleep: Waits.

    Attributes:
        table: The table.
        clock: The same.
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
            UnknownKeyError: There is none, or it is not the owner's.
        """
        row = self.row(key_pk(key_id))
        if row is None or owner not in (None, row["owner"]):
            raise UnknownKeyError(f"there is no valet key {key_id!r}")
        return key_of(row)

    def row(self, pk: str) -> Item | None:
        """A row as it is now; what may be redeemed may be read in batches alone."""
        (row,) = self.table.get_many([pk])
        return row

    def missing(self, owner: str, names: Sequence[str]) -> list[str]:
        """Those of an owner's documents that are not there, or not visible."""
        rows = self.table.get_many([object_pk(owner, object_name(name)) for name in names])
        return [
            name
            for name, row in zip(names, rows, strict=True)
            if row is None or row["state"] != "VISIBLE"
        ]

    # What is written.

    def rate(self, whose: str, limit: int) -> TransactWriteItemTypeDef:
        """Counts one more in this minute, unless there have been enough."""
        minute = int(self.clock()) // MINUTE
        return self.table.update_request(
            f"rate#{whose}#{minute}",
            add={"n": 1},
            set={"expires_at": (minute + 2) * MINUTE},
            when=[{"n": ABSENT}, {"n": LessThan(limit)}],
        )

    def owner_rate(self, owner: str) -> TransactWriteItemTypeDef:
        """Counts what an owner does with all its keys."""
        return self.rate(f"owner#{owner_space(owner)}", OWNER_RATE)

    def audit(
        self, key_id: str, action: str, outcome: str, by: Actor, detail: str | None = None
    ) -> TransactWriteItemTypeDef:
        """Says that somebody did something with a key, and what came of it."""
        at = moment(self.clock())
        # What happens within one millisecond is still in order, and no two rows are the same.
        noise = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        row = {
            "pk": f"audit#{key_id}#{at}#{noise}",
            "key_id": key_id,
            "started": f"{at}#{noise}",
            "time": at,
            "action": action,
            "outcome": outcome,
            "caller": by.caller,
            "address": by.address,
        }
        said = row if detail is None else row | {"detail": detail}
        return self.table.put_request(said, when=ABSENT)

    # What is shown.

    def page(self, owner: str, *, cursor: str | None, limit: int) -> tuple[list[Key], str | None]:
        """An owner's keys, the newest first, and where the next page begins.

        Raises:
            BadCursorError: The cursor is none of ours.
        """
        rows, following = self.table.page("by-owner", {"owner": owner}, cursor=cursor, limit=limit)
        return [key_of(row) for row in rows], following

    def trail(self, key_id: str, limit: int = 1000) -> list[dict[str, Any]]:
        """What was done with a key, in order; an index lags by a moment."""
        rows = islice(self.table.query({"key_id": key_id}, index="by-key"), limit)
        shown = ("time", "action", "outcome", "caller", "address", "detail")
        return [{name: row[name] for name in shown if name in row} for row in rows]

    # Public keys.

    def publish(self, jwk: Jwk) -> None:
        """Add a public key to those that are known; none is ever taken away."""
        self.table.update("jwks", set={jwk["kid"]: IfAbsent(dict(jwk))})

    def public_keys(self) -> dict[str, Jwk]:
        """The public keys by their ids: today's and those before a rotation."""
        row = self.row("jwks") or {}
        return {kid: jwk for kid, jwk in row.items() if kid != "pk"}


def key_pk(key_id: str) -> str:
    """The key of a valet key's row."""
    return f"key#{key_id}"


def object_pk(owner: str, name: str) -> str:
    """The key of a visible object's row."""
    return f"object#{owner_space(owner)}#{name}"


def key_of(row: Mapping[str, Any]) -> Key:
    """A valet key from its row."""
    fields = {name: value for name, value in row.items() if name not in ("pk", "started")}
    return Key(key_id=row["pk"].partition("#")[2], **fields)


def moment(seconds: float) -> str:
    """A moment as every surface shows it."""
    return events.moment(datetime.fromtimestamp(seconds, UTC))


def too_often(owner: bool) -> TooOftenError:
    """The refusal of whatever comes after enough."""
    whose, limit = ("its owner", OWNER_RATE) if owner else ("the key", KEY_RATE)
    return TooOftenError(f"{whose} may do this {limit} times a minute")
