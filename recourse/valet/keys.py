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
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.store.cursors import cursor_after, listed, started_of
from recourse.store.items import decode_item, encode, encode_item
from recourse.transact import TRIES, transact
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
OPEN = "#state = :issued AND attribute_not_exists(revoked_at)"
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
class By:
    """Who does something, as the audit has it.

    Attributes:
        caller: The subject of the bearer; `token` where the key's token is all there is.
        address: From where.
    """

    caller: str
    address: str


@dataclass(frozen=True)
class Keys:
    """The valet table.

    Args:
        dynamodb: The client.
        table: The table's name.
        clock: The time, in seconds since 1970.
        sleep: Waits.
    """

    dynamodb: DynamoDBClient
    table: str
    clock: Clock = time.time
    sleep: Callable[[float], None] = time.sleep

    def get(self, key_id: str, owner: str | None = None) -> Key:
        """A key.

        Raises:
            UnknownKeyError: There is none, or it is not the owner's.
        """
        (row,) = self.rows(key_pk(key_id))
        if row is None or owner not in (None, row["owner"]):
            raise UnknownKeyError(f"there is no valet key {key_id!r}")
        return key_of(row)

    def rows(self, *keys: str) -> list[dict[str, Any] | None]:
        """Rows, read consistently and in one call."""
        wanted = {"Keys": [{"pk": {"S": pk}} for pk in keys], "ConsistentRead": True}
        for attempt in range(TRIES):
            got = self.dynamodb.batch_get_item(RequestItems={self.table: wanted})  # type: ignore[dict-item]
            if not got.get("UnprocessedKeys"):
                found = {row["pk"]["S"]: row for row in got["Responses"][self.table]}
                return [decode_item(found[pk]) if pk in found else None for pk in keys]
            self.sleep(0.01 * 2**attempt)
        raise TimeoutError("the table is too busy to be read")

    def missing(self, owner: str, names: Sequence[str]) -> list[str]:
        """Those of an owner's documents that are not there, or not visible."""
        rows = self.rows(*(object_pk(owner, object_name(name)) for name in names))
        return [
            name
            for name, row in zip(names, rows, strict=True)
            if row is None or row["state"] != "VISIBLE"
        ]

    def write(self, *operations: TransactWriteItemTypeDef) -> None:
        """Write all of it or nothing; try again where another write is under way.

        Raises:
            Contended: A condition does not hold.
            TimeoutError: Others have been in the way all the time.
        """
        transact(self.dynamodb, operations, self.sleep)

    # What is written.

    def put(self, row: Mapping[str, Any], *, new: bool = True) -> TransactWriteItemTypeDef:
        """Puts a row."""
        put: Any = {"TableName": self.table, "Item": encode_item(row)}
        if new:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        return {"Put": put}

    def change(
        self,
        pk: str,
        expression: str,
        *,
        when: str,
        values: Mapping[str, Any],
    ) -> TransactWriteItemTypeDef:
        """Changes a row where a condition holds; `#state` may stand in both."""
        update: Any = {
            "TableName": self.table,
            "Key": {"pk": {"S": pk}},
            "UpdateExpression": expression,
            "ConditionExpression": when,
            "ExpressionAttributeValues": {name: encode(value) for name, value in values.items()},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if "#state" in expression + when:
            update["ExpressionAttributeNames"] = {"#state": "state"}
        return {"Update": update}

    def check(self, pk: str, *, when: str, values: Mapping[str, Any]) -> TransactWriteItemTypeDef:
        """Checks that a condition holds of a row that is not changed."""
        check: Any = self.change(pk, "", when=when, values=values)["Update"]
        del check["UpdateExpression"], check["ReturnValuesOnConditionCheckFailure"]
        return {"ConditionCheck": check}

    def rate(self, whose: str, limit: int) -> TransactWriteItemTypeDef:
        """Counts one more in this minute, unless there have been enough."""
        minute = int(self.clock()) // MINUTE
        return self.change(
            f"rate#{whose}#{minute}",
            "ADD n :one SET expires_at = :gone",
            when="attribute_not_exists(n) OR n < :limit",
            values={":one": 1, ":limit": limit, ":gone": (minute + 2) * MINUTE},
        )

    def owner_rate(self, owner: str) -> TransactWriteItemTypeDef:
        """Counts what an owner does with all its keys."""
        return self.rate(f"owner#{owner_space(owner)}", OWNER_RATE)

    def audit(
        self, key_id: str, action: str, outcome: str, by: By, detail: str | None = None
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
        return self.put(row if detail is None else row | {"detail": detail})

    # What is shown.

    def page(self, owner: str, *, cursor: str | None, limit: int) -> tuple[list[Key], str | None]:
        """An owner's keys, the newest first, and where the next page begins.

        Raises:
            BadCursorError: The cursor is none of ours.
        """
        before = started_of(cursor)
        found = self._query("by-owner", "owner", owner, limit + 1, before, newest_first=True)
        keys = [key_of(row) for row in found]
        more = len(keys) > limit
        return keys[:limit], cursor_after(str(found[limit - 1]["started"])) if more else None

    def trail(self, key_id: str, limit: int = 1000) -> list[dict[str, Any]]:
        """What was done with a key, in order; an index lags by a moment."""
        rows = self._query("by-key", "key_id", key_id, limit, None, newest_first=False)
        shown = ("time", "action", "outcome", "caller", "address", "detail")
        return [{name: row[name] for name in shown if name in row} for row in rows]

    def _query(
        self,
        index: str,
        attribute: str,
        value: str,
        limit: int,
        before: str | None,
        *,
        newest_first: bool,
    ) -> list[dict[str, Any]]:
        pages = self.dynamodb.get_paginator("query").paginate(
            **listed(self.table, index, attribute, value, before),
            ScanIndexForward=not newest_first,
            PaginationConfig={"MaxItems": limit},
        )
        return [decode_item(item) for page in pages for item in page["Items"]]

    # Public keys.

    def publish(self, jwk: Jwk) -> None:
        """Add a public key to those that are known; none is ever taken away."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"pk": {"S": "jwks"}},
            UpdateExpression="SET #kid = if_not_exists(#kid, :jwk)",
            ExpressionAttributeNames={"#kid": jwk["kid"]},
            ExpressionAttributeValues={":jwk": encode(dict(jwk))},
        )

    def public_keys(self) -> dict[str, Jwk]:
        """The public keys by their ids: today's and those before a rotation."""
        (row,) = self.rows("jwks")
        return {kid: jwk for kid, jwk in (row or {}).items() if kid != "pk"}


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
