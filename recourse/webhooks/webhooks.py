"""The table of webhooks: who wants what, what is still to be delivered, and what came of it.

One key, `pk`, as in every table:

| row | key |
|---|---|
| webhook: its secrets, its position in the feed, its slots | `webhook#<webhook id>` |
| which webhooks an owner has | `owner#<owner>` |
| lane: what is still to be delivered, in order | `lane#<webhook id>#<lane>`; expires |
| log: one row an attempt, in the index by webhook | `log#<webhook id>#<moment>#<random>`; expires |
| replay of a range: how far it has come | `replay#<webhook id>#<replay id>`; expires |

A lane is a saga's id; of a replay, with its id behind it; of a test event, `test#<id>`. Every
decision is a condition on these rows. The index serves the log alone.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.store.cursors import cursor_after, listed, started_of
from recourse.store.items import decode_item, encode, encode_item
from recourse.transact import Contended, transact
from recourse.webhooks.errors import (
    FullError,
    LostLaneError,
    TooManyWebhooksError,
    UnknownWebhookError,
)
from recourse.webhooks.signing import new_secret

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Status = Literal["ENABLED", "DISABLED", "DELETED"]
Outcome = Literal["delivered", "failed", "given-up"]
Clock = Callable[[], float]
MOST_WEBHOOKS = 20
"""How many webhooks an owner may have."""
SLOTS = ("s0", "s1", "s2", "s3")
"""Deliveries that an endpoint gets at the same time; one that is failing gets the first alone."""
LEASE = 60
"""Seconds after which a slot or a lane is free whose holder has not come back."""
MOST_BUSY = 1000
"""Lanes of a webhook that wait at the same time; then the feed is its backlog."""
OVERLAP = 24 * 3600
"""Seconds for which a secret that was rotated out still signs."""
MOST_SECRETS = 4
"""Secrets that sign at the same time, however often they are rotated."""
KEPT = 30 * 24 * 3600
"""Seconds for which the log, an idle lane and a deleted webhook are kept."""
TEST = "test#"
TRIES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """A webhook.

    Attributes:
        webhook_id: Its id.
        owner: Whose it is, and whose events it is told.
        url: Where it is.
        events: Which types it is told; `*` stands for anything.
        status: Whether it is told anything.
        created_at: Since when it is there.
        secret: What signs.
        old_secrets: What signs besides, each with the `until` when that ends, in seconds.
        dispatched: The position in its owner's feed up to which events were sorted into lanes.
        busy: How many lanes have something in them.
        held: Whether the feed has more for it, for which there was no room.
        slots: Until when each delivery slot is taken, in milliseconds.
        failing_since: Since when every attempt has failed, in milliseconds.
        disabled_at: When it was disabled last.
        disabled_reason: Why.
        disablings: How often it was disabled by us.
    """

    webhook_id: str
    owner: str
    url: str
    events: list[str]
    status: Status
    created_at: str
    secret: str
    dispatched: int
    old_secrets: list[dict[str, Any]] = field(default_factory=list)
    busy: int = 0
    held: bool = False
    slots: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    failing_since: int | None = None
    disabled_at: str | None = None
    disabled_reason: str | None = None
    disablings: int = 0

    def wants(self, kind: str) -> bool:
        """Whether it is told events of a type."""
        return any(fnmatchcase(kind, pattern) for pattern in self.events)

    def signs_with(self, now: float) -> list[str]:
        """The secrets that sign now, the newest first."""
        return [self.secret, *(one["secret"] for one in self.old_secrets if one["until"] > now)]

    @property
    def row(self) -> dict[str, Any]:
        """It as its row."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        row = {name: value for name, value in fields.items() if value is not None}
        return row | {"pk": webhook_pk(self.webhook_id)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """What is still to be delivered to a webhook of one saga, in order.

    Attributes:
        webhook_id: The webhook.
        lane: The lane's name.
        entries: What waits: each with the `id` and the `type` of its event and its `position` in
            the feed, which is the lane's order; where the feed has it not, `event` is it, as JSON.
        last: The greatest position that was ever put in.
        attempts: How often the first entry was tried.
        first: When it was tried first, in milliseconds.
        next: When it is to be tried next, in milliseconds.
        version: Counts the changes of its entries.
        taken_until: Until when somebody delivers from it, in milliseconds.
        taken_by: Who.
    """

    webhook_id: str
    lane: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    last: int = 0
    attempts: int = 0
    first: int = 0
    next: int = 0
    version: int = 0
    taken_until: int = 0
    taken_by: str = ""

    @property
    def pk(self) -> str:
        """Its row's key."""
        return lane_pk(self.webhook_id, self.lane)

    @property
    def is_test(self) -> bool:
        """Whether a test event is in it, which is tried once and also where disabled."""
        return self.lane.startswith(TEST)

    @property
    def replay_id(self) -> str | None:
        """The replay that it is of, if it is of one."""
        return None if self.is_test else self.lane.partition("#")[2] or None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A row of the log; its fields are what the API shows.

    Attributes:
        event_id: The event.
        type: Its type.
        attempt: The how-manieth it was.
        outcome: What came of it; `given-up`: there will be no other.
        status: The HTTP status; None where there was no answer.
        error: Why there was none, or why it was given up.
        latency_ms: How long it took.
        response: The beginning of the answer.
        at: When it was made.
        next_attempt_at: When the next one will be.
        replay_id: The replay that it was part of.
    """

    event_id: str
    type: str
    attempt: int
    outcome: Outcome
    at: str
    status: int | None = None
    error: str | None = None
    latency_ms: int = 0
    response: str = ""
    next_attempt_at: str | None = None
    replay_id: str | None = None

    @property
    def view(self) -> dict[str, Any]:
        """It as the API shows it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class Webhooks:
    """The table of webhooks.

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

    # Their owners' side.

    def register(self, owner: str, url: str, kinds: Sequence[str], head: int) -> Webhook:
        """Add a webhook that is told what its owner's feed has from now on.

        Args:
            owner: Whose.
            url: Where it is; the caller has checked that.
            kinds: Which types it is told.
            head: The head of the owner's feed.

        Raises:
            TooManyWebhooksError: Its owner has enough.
        """
        made = Webhook(
            webhook_id=uuid.uuid4().hex,
            owner=owner,
            url=url,
            events=list(kinds),
            status="ENABLED",
            created_at=self.now(),
            secret=new_secret(),
            dispatched=head,
        )
        try:
            self._write(
                self._put(made.row, when="attribute_not_exists(pk)"),
                self._change(
                    _owner_pk(owner),
                    "ADD #webhooks :one",
                    when="attribute_not_exists(#webhooks) OR size(#webhooks) < :most",
                    values={":most": MOST_WEBHOOKS},
                    raw={":one": {"SS": [made.webhook_id]}},
                ),
            )
        except Contended:
            raise TooManyWebhooksError(f"one may have {MOST_WEBHOOKS} webhooks") from None
        return made

    def of(self, owner: str) -> list[Webhook]:
        """An owner's webhooks, the newest first."""
        row = self._got(_owner_pk(owner))
        known = row["webhooks"]["SS"] if "webhooks" in row else []
        if not known:
            return []
        keys: Any = [{"pk": {"S": webhook_pk(one)}} for one in known]
        rows: list[Any] = []
        for attempt in range(TRIES):
            got = self.dynamodb.batch_get_item(
                RequestItems={self.table: {"Keys": keys, "ConsistentRead": True}}
            )
            rows += got["Responses"][self.table]
            left: Any = got.get("UnprocessedKeys", {})
            keys = left.get(self.table, {}).get("Keys")
            if not keys:
                found = [_webhook(decode_item(row)) for row in rows]
                return sorted(found, key=lambda one: (one.created_at, one.webhook_id), reverse=True)
            self.sleep(0.01 * 2**attempt)
        raise TimeoutError("the table is too busy to be read")

    def get(self, webhook_id: str, owner: str | None = None) -> Webhook:
        """A webhook.

        Raises:
            UnknownWebhookError: There is none, or it is not the owner's.
        """
        row = self._got(webhook_pk(webhook_id))
        found = _webhook(decode_item(row)) if row else None
        if found is None or found.status == "DELETED" or owner not in (None, found.owner):
            raise UnknownWebhookError(f"there is no webhook {webhook_id!r}")
        return found

    def delete(self, webhook: Webhook) -> None:
        """Take a webhook away: nothing more is delivered to it."""
        self._write(
            self._change(
                webhook_pk(webhook.webhook_id),
                "SET #status = :deleted, #expires_at = :gone REMOVE #secret, #old_secrets",
                values={":deleted": "DELETED", ":gone": self._expiry()},
            ),
            self._change(
                _owner_pk(webhook.owner),
                "DELETE #webhooks :one",
                raw={":one": {"SS": [webhook.webhook_id]}},
            ),
        )

    def rotate(self, webhook: Webhook) -> str:
        """A new secret; the one before it still signs beside it for a day.

        Raises:
            UnknownWebhookError: It was deleted meanwhile.
        """
        for _ in range(TRIES):
            now = int(self.clock())
            old = [{"secret": webhook.secret, "until": now + OVERLAP}]
            old += [one for one in webhook.old_secrets if one["until"] > now]
            fresh = new_secret()
            try:
                self._write(
                    self._change(
                        webhook_pk(webhook.webhook_id),
                        "SET #secret = :fresh, #old_secrets = :old",
                        when="#secret = :known",
                        values={
                            ":fresh": fresh,
                            ":old": old[: MOST_SECRETS - 1],
                            ":known": webhook.secret,
                        },
                    )
                )
            except Contended:
                webhook = self.get(webhook.webhook_id)
            else:
                return fresh
        raise TimeoutError("others rotated the secret all the time")

    def enable(self, webhook: Webhook, head: int) -> Webhook:
        """Bring a disabled webhook back: it is told what comes after the head of the feed."""
        if webhook.status == "DISABLED":
            self._write(
                self._change(
                    webhook_pk(webhook.webhook_id),
                    "SET #status = :enabled, #dispatched = :head, #held = :no "
                    "REMOVE #failing_since, #disabled_at, #disabled_reason",
                    when="#status <> :deleted",
                    values={
                        ":enabled": "ENABLED",
                        ":head": head,
                        ":no": False,
                        ":deleted": "DELETED",
                    },
                )
            )
        return self.get(webhook.webhook_id)

    def disable(self, webhook: Webhook, reason: str) -> Webhook | None:
        """Disable a webhook that was enabled, and say how it is now; None where it was not."""
        try:
            self._write(
                self._change(
                    webhook_pk(webhook.webhook_id),
                    "SET #status = :disabled, #disabled_at = :at, #disabled_reason = :reason "
                    "ADD #disablings :one",
                    when="#status = :enabled",
                    values={
                        ":disabled": "DISABLED",
                        ":enabled": "ENABLED",
                        ":at": self.now(),
                        ":reason": reason,
                        ":one": 1,
                    },
                )
            )
        except Contended:
            return None
        return self.get(webhook.webhook_id)

    def log(
        self, webhook_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Attempt], str | None]:
        """A page of what was attempted, the newest first, and where the next one begins.

        Raises:
            BadCursorError: The cursor is none of ours.
        """
        pages = self.dynamodb.get_paginator("query").paginate(
            **listed(self.table, "by-webhook", "webhook_id", webhook_id, started_of(cursor)),
            ScanIndexForward=False,
            PaginationConfig={"MaxItems": limit + 1},
        )
        rows = [decode_item(item) for page in pages for item in page["Items"]]
        found = [_attempt(row) for row in rows[:limit]]
        more = len(rows) > limit
        return found, cursor_after(str(rows[limit - 1]["started"])) if more else None

    # What is to be delivered.

    def append(self, webhook: Webhook, lane: str, entry: Mapping[str, Any]) -> bool:
        """Put an entry into a lane, once.

        Args:
            webhook: For whom.
            lane: The lane's name.
            entry: Its position is beyond those of all that were put in before.

        Returns:
            Whether a message has to be sent for the lane. Where none has to, there is one.

        Raises:
            FullError: The lane was empty, and as many others as may have something in them.
            UnknownWebhookError: It was deleted meanwhile.
        """
        for _ in range(TRIES):
            now = self.lane(webhook.webhook_id, lane)
            if entry["position"] <= now.last:
                # Whoever put it in may not have come to sending the message.
                return bool(now.entries)
            writes = [
                self._change(
                    now.pk,
                    "SET #entries = :entries, #last = :last, #version = :next, #expires_at = :gone",
                    when="attribute_not_exists(#version) OR #version = :version",
                    values={
                        ":entries": [*now.entries, dict(entry)],
                        ":last": entry["position"],
                        ":version": now.version,
                        ":next": now.version + 1,
                        ":gone": self._expiry(),
                    },
                )
            ]
            if not now.entries:
                writes.append(
                    self._change(
                        webhook_pk(webhook.webhook_id),
                        "ADD #busy :one",
                        when="#status <> :deleted AND #busy < :most",
                        values={":one": 1, ":deleted": "DELETED", ":most": MOST_BUSY},
                    )
                )
            try:
                self._write(*writes)
            except Contended as contended:
                full = 1 in contended.rows and self.get(webhook.webhook_id).busy >= MOST_BUSY
                if full:
                    raise FullError(webhook.webhook_id) from None
            else:
                return not now.entries
        raise TimeoutError("others changed the lane all the time")

    def move(self, webhook: Webhook, to: int, *, held: bool = False) -> bool:
        """Say up to where the feed was sorted into lanes; whether nobody else had said it.

        Args:
            webhook: As it was read.
            to: The position.
            held: Whether there was no room for what comes next. Not said where there is by now.
        """
        when = "#dispatched = :was" + (" AND #busy >= :most" if held else "")
        try:
            self._write(
                self._change(
                    webhook_pk(webhook.webhook_id),
                    "SET #dispatched = :to, #held = :held",
                    when=when,
                    values={":was": webhook.dispatched, ":to": to, ":held": held}
                    | ({":most": MOST_BUSY} if held else {}),
                )
            )
        except Contended:
            return False
        return True

    def lane(self, webhook_id: str, lane: str) -> Lane:
        """A lane; an empty one where it is not there."""
        row = self._got(lane_pk(webhook_id, lane))
        if not row:
            return Lane(webhook_id=webhook_id, lane=lane)
        known = decode_item(row)
        fields = {name: known[name] for name in Lane.__slots__ if name in known}
        return Lane(webhook_id=webhook_id, lane=lane, **fields)

    def take(self, webhook: Webhook, lane: Lane, *, slot: bool = True) -> tuple[Lane, str] | None:
        """Take a lane for a while, and one of the webhook's slots; None where either is taken."""
        now = int(self.clock() * 1000)
        until = now + LEASE * 1000
        me = secrets.token_hex(8)
        free = [
            name
            for name in (SLOTS[:1] if webhook.failing_since else SLOTS)
            if webhook.slots[name] < now
        ]
        if slot and not free:
            return None
        chosen = secrets.choice(free) if slot else ""
        writes = [
            self._change(
                lane.pk,
                "SET #taken_until = :until, #taken_by = :me",
                when="#version = :version AND "
                "(attribute_not_exists(#taken_until) OR #taken_until < :now)",
                values={":until": until, ":me": me, ":version": lane.version, ":now": now},
            )
        ]
        if slot:
            writes.append(
                self._change(
                    webhook_pk(webhook.webhook_id),
                    f"SET #slots.#{chosen} = :until",
                    when=f"#slots.#{chosen} < :now",
                    values={":until": until, ":now": now},
                )
            )
        try:
            self._write(*writes)
        except Contended:
            return None
        return self._as(lane, taken_until=until, taken_by=me), chosen

    def done(
        self, webhook: Webhook, lane: Lane, slot: str, attempt: Attempt, *, keep: bool
    ) -> Lane:
        """Take the first entry out of a lane, for it is delivered or given up.

        Args:
            webhook: As it was read.
            lane: As this delivery has it.
            slot: The slot that this delivery has, if it has one.
            attempt: What goes into the log.
            keep: Whether to keep the lane and the slot for the next entry, if there is one.

        Returns:
            The lane as it is then.

        Raises:
            LostLaneError: Somebody else has it by now.
        """
        for _ in range(TRIES):
            rest = lane.entries[1:]
            mine = keep and bool(rest)
            taken_until = lane.taken_until if mine else 0
            writes = [
                self._change(
                    lane.pk,
                    "SET #entries = :rest, #version = :new, #attempts = :none, #first = :none, "
                    "#next = :none, #taken_until = :until, #expires_at = :gone",
                    when="#version = :version AND #taken_by = :me",
                    values={
                        ":rest": rest,
                        ":version": lane.version,
                        ":new": lane.version + 1,
                        ":none": 0,
                        ":until": taken_until,
                        ":me": lane.taken_by,
                        ":gone": self._expiry(),
                    },
                ),
                self._logged(webhook, attempt),
                *self._after(webhook, attempt, slot if not mine else "", emptied=not rest),
            ]
            try:
                self._write(*writes)
            except Contended:
                lane = self._still(lane)
            else:
                return self._as(
                    lane,
                    entries=rest,
                    version=lane.version + 1,
                    attempts=0,
                    first=0,
                    next=0,
                    taken_until=taken_until,
                )
        raise TimeoutError("others changed the lane all the time")

    def failed(
        self, webhook: Webhook, lane: Lane, slot: str, attempt: Attempt, at: float, again: float
    ) -> None:
        """Say that the first entry of a lane is to be tried again, and give lane and slot back.

        Args:
            webhook: As it was read.
            lane: As this delivery has it.
            slot: The slot that this delivery has.
            attempt: What goes into the log.
            at: When the attempt was made, in seconds.
            again: When the next one is to be.

        Raises:
            LostLaneError: Somebody else has it by now.
        """
        try:
            self._write(
                self._change(
                    lane.pk,
                    "SET #attempts = :attempts, #first = :first, #next = :again, "
                    "#taken_until = :none, #expires_at = :gone",
                    when="#taken_by = :me",
                    values={
                        ":attempts": attempt.attempt,
                        ":first": lane.first or int(at * 1000),
                        ":again": int(again * 1000),
                        ":none": 0,
                        ":me": lane.taken_by,
                        ":gone": self._expiry(),
                    },
                ),
                self._logged(webhook, attempt),
                *self._after(webhook, attempt, slot, emptied=False),
            )
        except Contended:
            raise LostLaneError(lane.pk) from None

    def give_back(self, webhook: Webhook, lane: Lane, slot: str) -> None:
        """Give a lane and a slot back that is not delivered from any longer."""
        try:
            self._write(
                self._change(
                    lane.pk,
                    "SET #taken_until = :none",
                    when="#taken_by = :me",
                    values={":none": 0, ":me": lane.taken_by},
                ),
                self._change(
                    webhook_pk(webhook.webhook_id),
                    f"SET #slots.#{slot} = :none",
                    values={":none": 0},
                ),
            )
        except Contended:
            raise LostLaneError(lane.pk) from None

    # Replays of a range.

    def plan(self, webhook: Webhook, *, since: str, until: str, after: int, upto: int) -> str:
        """Write down a replay that is to be done; its id.

        Args:
            webhook: For whom.
            since: Events from this moment on.
            until: Up to this one.
            after: The position in the feed after which they come.
            upto: The position up to which they come.
        """
        replay_id = uuid.uuid4().hex
        row = {
            "pk": _replay_pk(webhook.webhook_id, replay_id),
            "since": since,
            "until": until,
            "after": after,
            "upto": upto,
            "expires_at": self._expiry(),
        }
        self._write(self._put(row))
        return replay_id

    def planned(self, webhook_id: str, replay_id: str) -> dict[str, Any]:
        """A replay as it was planned, `after` being how far it has come."""
        return decode_item(self._got(_replay_pk(webhook_id, replay_id)))

    def come(self, webhook_id: str, replay_id: str, after: int) -> None:
        """Say how far a replay has come."""
        self._write(
            self._change(
                _replay_pk(webhook_id, replay_id),
                "SET #after = :after",
                values={":after": after},
            )
        )

    # Rows.

    def now(self) -> str:
        """This moment, as every surface shows it."""
        return moment(self.clock())

    def _after(
        self, webhook: Webhook, attempt: Attempt, slot: str, *, emptied: bool
    ) -> list[TransactWriteItemTypeDef]:
        """What an attempt changes in the webhook's own row, where it changes anything."""
        put: dict[str, Any] = {}
        clauses = []
        if slot:
            clauses.append(f"#slots.#{slot} = :none")
            put[":none"] = 0
        if attempt.outcome == "failed" and webhook.failing_since is None:
            clauses.append("#failing_since = if_not_exists(#failing_since, :now)")
            put[":now"] = int(self.clock() * 1000)
        expression = f"SET {', '.join(clauses)}" if clauses else ""
        if attempt.outcome == "delivered" and webhook.failing_since is not None:
            expression += " REMOVE #failing_since"
        if emptied:
            expression += " ADD #busy :fewer"
            put[":fewer"] = -1
        if not expression:
            return []
        return [self._change(webhook_pk(webhook.webhook_id), expression.strip(), values=put)]

    def _logged(self, webhook: Webhook, attempt: Attempt) -> TransactWriteItemTypeDef:
        # What happens within one millisecond is still in order, and no two rows are the same.
        noise = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        started = f"{attempt.at}#{noise}"
        row = {name: value for name, value in attempt.view.items() if value is not None}
        row |= {"pk": f"log#{webhook.webhook_id}#{started}", "webhook_id": webhook.webhook_id}
        return self._put(row | {"started": started, "expires_at": self._expiry()})

    def _still(self, lane: Lane) -> Lane:
        """A lane of ours as it is now: more may have come into it.

        Raises:
            LostLaneError: It is somebody else's by now.
        """
        now = self.lane(lane.webhook_id, lane.lane)
        if now.taken_by != lane.taken_by:
            raise LostLaneError(lane.pk)
        return self._as(now, taken_until=lane.taken_until)

    def _as(self, lane: Lane, **changed: Any) -> Lane:
        return Lane(**{name: getattr(lane, name) for name in Lane.__slots__} | changed)

    def _expiry(self) -> int:
        return int(self.clock()) + KEPT

    def _got(self, pk: str) -> dict[str, Any]:
        got: Any = self.dynamodb.get_item(
            TableName=self.table, Key={"pk": {"S": pk}}, ConsistentRead=True
        )
        found: dict[str, Any] = got.get("Item", {})
        return found

    def _write(self, *operations: TransactWriteItemTypeDef) -> None:
        transact(self.dynamodb, operations, self.sleep)

    def _put(self, row: Mapping[str, Any], *, when: str | None = None) -> TransactWriteItemTypeDef:
        put: Any = {"TableName": self.table, "Item": encode_item(row)}
        if when:
            put["ConditionExpression"] = when
        return {"Put": put}

    def _change(
        self,
        pk: str,
        expression: str,
        *,
        when: str = "",
        values: Mapping[str, Any] | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> TransactWriteItemTypeDef:
        """Changes a row; attributes are written with a number sign, and stand for themselves."""
        encoded = {name: encode(value) for name, value in (values or {}).items()} | (
            dict(raw) if raw else {}
        )
        update: Any = {
            "TableName": self.table,
            "Key": {"pk": {"S": pk}},
            "UpdateExpression": expression,
        }
        if when:
            update["ConditionExpression"] = when
        if names := re.findall(r"#(\w+)", f"{expression} {when}"):
            update["ExpressionAttributeNames"] = {f"#{name}": name for name in names}
        if encoded:
            update["ExpressionAttributeValues"] = encoded
        return {"Update": update}


def moment(seconds: float) -> str:
    """A moment as every surface shows it."""
    return events.moment(datetime.fromtimestamp(seconds, UTC))


def webhook_pk(webhook_id: str) -> str:
    """The key of a webhook's row."""
    return f"webhook#{webhook_id}"


def lane_pk(webhook_id: str, lane: str) -> str:
    """The key of a lane's row."""
    return f"lane#{webhook_id}#{lane}"


def _owner_pk(owner: str) -> str:
    return f"owner#{owner}"


def _replay_pk(webhook_id: str, replay_id: str) -> str:
    return f"replay#{webhook_id}#{replay_id}"


def _webhook(row: Mapping[str, Any]) -> Webhook:
    fields = {name: row[name] for name in Webhook.__slots__ if name in row}
    return Webhook(**{"secret": "", "old_secrets": []} | fields)


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(**{name: row[name] for name in Attempt.__slots__ if name in row})
