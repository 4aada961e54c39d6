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

import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from recourse import events
from recourse.declare.step import AtLeast
from recourse.store.contention import Backoff, ConditionFailedError
from recourse.store.expressions import ABSENT, FewerThan, IfAbsent, LessThan, Not
from recourse.store.table import Table
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


class Webhooks:
    """The table of webhooks.

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
            self.table.transact(
                [
                    self.table.put_request(made.row, when=ABSENT),
                    self.table.update_request(
                        _owner_pk(owner),
                        add={"webhooks": {made.webhook_id}},
                        when=[{"webhooks": ABSENT}, {"webhooks": FewerThan(MOST_WEBHOOKS)}],
                    ),
                ]
            )
        except ConditionFailedError:
            raise TooManyWebhooksError(f"one may have {MOST_WEBHOOKS} webhooks") from None
        return made

    def of(self, owner: str) -> list[Webhook]:
        """An owner's webhooks, the newest first."""
        known = (self.table.get(_owner_pk(owner)) or {}).get("webhooks", ())
        rows = self.table.get_many([webhook_pk(one) for one in known])
        found = [_webhook(row) for row in rows if row]
        return sorted(found, key=lambda one: (one.created_at, one.webhook_id), reverse=True)

    def get(self, webhook_id: str, owner: str | None = None) -> Webhook:
        """A webhook.

        Raises:
            UnknownWebhookError: There is none, or it is not the owner's.
        """
        row = self.table.get(webhook_pk(webhook_id))
        found = _webhook(row) if row else None
        if found is None or found.status == "DELETED" or owner not in (None, found.owner):
            raise UnknownWebhookError(f"there is no webhook {webhook_id!r}")
        return found

    def delete(self, webhook: Webhook) -> None:
        """Take a webhook away: nothing more is delivered to it."""
        self.table.transact(
            [
                self.table.update_request(
                    webhook_pk(webhook.webhook_id),
                    set={"status": "DELETED", "expires_at": self._expiry()},
                    remove=["secret", "old_secrets"],
                ),
                self.table.update_request(
                    _owner_pk(webhook.owner), discard={"webhooks": {webhook.webhook_id}}
                ),
            ]
        )

    def rotate(self, webhook: Webhook) -> str:
        """A new secret; the one before it still signs beside it for a day.

        Raises:
            UnknownWebhookError: It was deleted meanwhile.
        """
        read: Webhook | None = webhook

        def attempt() -> str:
            nonlocal read
            known, read = read or self.get(webhook.webhook_id), None
            now = int(self.clock())
            old = [{"secret": known.secret, "until": now + OVERLAP}]
            old += [one for one in known.old_secrets if one["until"] > now]
            fresh = new_secret()
            self._change(
                webhook_pk(known.webhook_id),
                set={"secret": fresh, "old_secrets": old[: MOST_SECRETS - 1]},
                when={"secret": known.secret},
            )
            return fresh

        return self.table.retry(attempt, what=f"webhook {webhook.webhook_id}")

    def enable(self, webhook: Webhook, head: int) -> Webhook:
        """Bring a disabled webhook back: it is told what comes after the head of the feed."""
        if webhook.status == "DISABLED":
            self._change(
                webhook_pk(webhook.webhook_id),
                set={"status": "ENABLED", "dispatched": head, "held": False},
                remove=["failing_since", "disabled_at", "disabled_reason"],
                when={"status": Not("DELETED")},
            )
        return self.get(webhook.webhook_id)

    def disable(self, webhook: Webhook, reason: str) -> Webhook | None:
        """Disable a webhook that was enabled, and say how it is now; None where it was not."""
        try:
            self._change(
                webhook_pk(webhook.webhook_id),
                set={"status": "DISABLED", "disabled_at": self.now(), "disabled_reason": reason},
                add={"disablings": 1},
                when={"status": "ENABLED"},
            )
        except ConditionFailedError:
            return None
        return self.get(webhook.webhook_id)

    def log(
        self, webhook_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Attempt], str | None]:
        """A page of what was attempted, the newest first, and where the next one begins.

        Raises:
            BadCursorError: The cursor is none of ours.
        """
        rows, following = self.table.page(
            "by-webhook", {"webhook_id": webhook_id}, cursor=cursor, limit=limit
        )
        return [_attempt(row) for row in rows], following

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

        def attempt() -> bool:
            now = self.lane(webhook.webhook_id, lane)
            if entry["position"] <= now.last:
                # Whoever put it in may not have come to sending the message.
                return bool(now.entries)
            writes = [
                self.table.update_request(
                    now.pk,
                    set={
                        "entries": [*now.entries, dict(entry)],
                        "last": entry["position"],
                        "version": now.version + 1,
                        "expires_at": self._expiry(),
                    },
                    when=[{"version": ABSENT}, {"version": now.version}],
                )
            ]
            if not now.entries:
                writes.append(
                    self.table.update_request(
                        webhook_pk(webhook.webhook_id),
                        add={"busy": 1},
                        when={"status": Not("DELETED"), "busy": LessThan(MOST_BUSY)},
                    )
                )
            try:
                self.table.transact(writes)
            except ConditionFailedError as failed:
                if 1 in failed.rows and self.get(webhook.webhook_id).busy >= MOST_BUSY:
                    raise FullError(webhook.webhook_id) from None
                raise
            return not now.entries

        return self.table.retry(attempt, what=f"lane {lane}")

    def move(self, webhook: Webhook, to: int, *, held: bool = False) -> bool:
        """Say up to where the feed was sorted into lanes; whether nobody else had said it.

        Args:
            webhook: As it was read.
            to: The position.
            held: Whether there was no room for what comes next. Not said where there is by now.
        """
        when = {"dispatched": webhook.dispatched} | ({"busy": AtLeast(MOST_BUSY)} if held else {})
        try:
            self._change(
                webhook_pk(webhook.webhook_id), set={"dispatched": to, "held": held}, when=when
            )
        except ConditionFailedError:
            return False
        return True

    def lane(self, webhook_id: str, lane: str) -> Lane:
        """A lane; an empty one where it is not there."""
        known = self.table.get(lane_pk(webhook_id, lane)) or {}
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
        same: dict[str, Any] = {"version": lane.version}
        writes = [
            self.table.update_request(
                lane.pk,
                set={"taken_until": until, "taken_by": me},
                when=[same | {"taken_until": ABSENT}, same | {"taken_until": LessThan(now)}],
            )
        ]
        if slot:
            writes.append(
                self.table.update_request(
                    webhook_pk(webhook.webhook_id),
                    set={("slots", chosen): until},
                    when={("slots", chosen): LessThan(now)},
                )
            )
        try:
            self.table.transact(writes)
        except ConditionFailedError:
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
        read: Lane | None = lane

        def attempt_once() -> Lane:
            nonlocal read
            now, read = read or self._still(lane), None
            rest = now.entries[1:]
            mine = keep and bool(rest)
            changes = {
                "entries": rest,
                "version": now.version + 1,
                "attempts": 0,
                "first": 0,
                "next": 0,
                "taken_until": now.taken_until if mine else 0,
            }
            self.table.transact(
                [
                    self.table.update_request(
                        now.pk,
                        set=changes | {"expires_at": self._expiry()},
                        when={"version": now.version, "taken_by": now.taken_by},
                    ),
                    self._logged(webhook, attempt),
                    *self._after(webhook, attempt, slot if not mine else "", emptied=not rest),
                ]
            )
            return self._as(now, **changes)

        return self.table.retry(attempt_once, what=f"lane {lane.lane}")

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
            self.table.transact(
                [
                    self.table.update_request(
                        lane.pk,
                        set={
                            "attempts": attempt.attempt,
                            "first": lane.first or int(at * 1000),
                            "next": int(again * 1000),
                            "taken_until": 0,
                            "expires_at": self._expiry(),
                        },
                        when={"taken_by": lane.taken_by},
                    ),
                    self._logged(webhook, attempt),
                    *self._after(webhook, attempt, slot, emptied=False),
                ]
            )
        except ConditionFailedError:
            raise LostLaneError(lane.pk) from None

    def give_back(self, webhook: Webhook, lane: Lane, slot: str) -> None:
        """Give a lane and a slot back that is not delivered from any longer."""
        try:
            self.table.transact(
                [
                    self.table.update_request(
                        lane.pk, set={"taken_until": 0}, when={"taken_by": lane.taken_by}
                    ),
                    self.table.update_request(
                        webhook_pk(webhook.webhook_id), set={("slots", slot): 0}
                    ),
                ]
            )
        except ConditionFailedError:
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
        self.table.transact([self.table.put_request(row)])
        return replay_id

    def planned(self, webhook_id: str, replay_id: str) -> dict[str, Any]:
        """A replay as it was planned, `after` being how far it has come."""
        return self.table.get(_replay_pk(webhook_id, replay_id)) or {}

    def come(self, webhook_id: str, replay_id: str, after: int) -> None:
        """Say how far a replay has come."""
        self._change(_replay_pk(webhook_id, replay_id), set={"after": after})

    # Rows.

    def now(self) -> str:
        """This moment, as every surface shows it."""
        return moment(self.clock())

    def _after(
        self, webhook: Webhook, attempt: Attempt, slot: str, *, emptied: bool
    ) -> list[TransactWriteItemTypeDef]:
        """What an attempt changes in the webhook's own row, where it changes anything."""
        changes: dict[str, dict[Any, Any]] = {"set": {}, "add": {"busy": -1} if emptied else {}}
        if slot:
            changes["set"]["slots", slot] = 0
        if attempt.outcome == "failed" and webhook.failing_since is None:
            changes["set"]["failing_since"] = IfAbsent(int(self.clock() * 1000))
        ended = attempt.outcome == "delivered" and webhook.failing_since is not None
        remove = ["failing_since"] if ended else []
        if not any((remove, *changes.values())):
            return []
        key = webhook_pk(webhook.webhook_id)
        return [self.table.update_request(key, **changes, remove=remove)]

    def _logged(self, webhook: Webhook, attempt: Attempt) -> TransactWriteItemTypeDef:
        # What happens within one millisecond is still in order, and no two rows are the same.
        noise = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        started = f"{attempt.at}#{noise}"
        row = {name: value for name, value in attempt.view.items() if value is not None}
        row |= {"pk": f"log#{webhook.webhook_id}#{started}", "webhook_id": webhook.webhook_id}
        return self.table.put_request(row | {"started": started, "expires_at": self._expiry()})

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

    def _change(self, pk: str, **change: Any) -> None:
        """Change one row, as a transaction: it waits for those of others."""
        self.table.transact([self.table.update_request(pk, **change)])


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
