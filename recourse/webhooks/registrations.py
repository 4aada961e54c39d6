"""Registrations: which webhooks an owner has, their secrets, and whether they are enabled."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, FewerThan, Not
from recourse.webhooks.errors import TooManyWebhooksError, UnknownWebhookError
from recourse.webhooks.rows import Rows, webhook_pk
from recourse.webhooks.signing import new_secret

Status = Literal["ENABLED", "DISABLED", "DELETED"]
MAX_WEBHOOKS = 20
"""How many webhooks an owner may have."""
SLOTS = ("s0", "s1", "s2", "s3")
"""Deliveries that an endpoint gets at the same time; a failing one gets only the first."""
SECRET_OVERLAP = 24 * 3600
"""Seconds for which a secret that was rotated out still signs."""
MAX_SECRETS = 4
"""Secrets that sign at the same time, however often they are rotated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """A webhook. Its fields are the attributes of its row.

    Attributes:
        webhook_id: Its id.
        owner: The owner, whose events it receives.
        url: The endpoint's URL.
        events: Which types it receives; `*` stands for anything.
        status: Whether events are delivered to it.
        created_at: When it was registered.
        secret: The secret that signs.
        old_secrets: Secrets that still sign, each with the `until` when that ends, in seconds.
        dispatched: The position in its owner's feed up to which events were sorted into lanes.
        busy: How many lanes have something in them.
        held: Whether the feed has more for it than there was room for.
        slots: When the lease of each delivery slot ends, in milliseconds.
        failing_since: Since when every attempt has failed, in milliseconds.
        disabled_at: When it was last disabled.
        disabled_reason: Why.
        disablings: How often it has been disabled after failures.
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
        """Whether it receives events of a type."""
        return any(fnmatchcase(kind, pattern) for pattern in self.events)

    def signs_with(self, now: float) -> list[str]:
        """The secrets that sign now, the newest first."""
        return [self.secret, *(one["secret"] for one in self.old_secrets if one["until"] > now)]

    @property
    def row(self) -> dict[str, Any]:
        """Its row."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        row = {name: value for name, value in fields.items() if value is not None}
        return row | {"pk": webhook_pk(self.webhook_id)}


@dataclass(frozen=True, slots=True)
class Registrations:
    """The registered webhooks of all owners.

    Args:
        rows: The table.
    """

    rows: Rows

    def register(self, owner: str, url: str, kinds: Sequence[str], head: int) -> Webhook:
        """Register a webhook, which receives what is appended to its owner's feed from now on.

        Args:
            owner: The owner.
            url: The endpoint's URL; the caller has checked it.
            kinds: Which types it receives.
            head: The head of the owner's feed.

        Raises:
            TooManyWebhooksError: Its owner has as many as one may have.
        """
        made = Webhook(
            webhook_id=uuid.uuid4().hex,
            owner=owner,
            url=url,
            events=list(kinds),
            status="ENABLED",
            created_at=self.rows.now(),
            secret=new_secret(),
            dispatched=head,
        )
        table = self.rows.table
        try:
            table.transact(
                [
                    table.put_request(made.row, when=ABSENT),
                    table.update_request(
                        _owner_pk(owner),
                        add={"webhooks": {made.webhook_id}},
                        when=[{"webhooks": ABSENT}, {"webhooks": FewerThan(MAX_WEBHOOKS)}],
                    ),
                ]
            )
        except ConditionFailedError:
            raise TooManyWebhooksError(f"one may have {MAX_WEBHOOKS} webhooks") from None
        return made

    def of(self, owner: str) -> list[Webhook]:
        """An owner's webhooks, the newest first."""
        known = (self.rows.table.get(_owner_pk(owner)) or {}).get("webhooks", ())
        rows = self.rows.table.get_many([webhook_pk(one) for one in known])
        found = [_webhook(row) for row in rows if row]
        return sorted(found, key=lambda one: (one.created_at, one.webhook_id), reverse=True)

    def get(self, webhook_id: str, owner: str | None = None) -> Webhook:
        """A webhook.

        Raises:
            UnknownWebhookError: It does not exist, or belongs to another owner.
        """
        row = self.rows.table.get(webhook_pk(webhook_id))
        found = _webhook(row) if row else None
        if found is None or found.status == "DELETED" or owner not in (None, found.owner):
            raise UnknownWebhookError(f"there is no webhook {webhook_id!r}")
        return found

    def delete(self, webhook: Webhook) -> None:
        """Delete a webhook: nothing more is delivered to it."""
        table = self.rows.table
        table.transact(
            [
                table.update_request(
                    webhook_pk(webhook.webhook_id),
                    set={"status": "DELETED", "expires_at": self.rows.expiry()},
                    remove=["secret", "old_secrets"],
                ),
                table.update_request(
                    _owner_pk(webhook.owner), discard={"webhooks": {webhook.webhook_id}}
                ),
            ]
        )

    def rotate(self, webhook: Webhook) -> str:
        """Replace the secret, and return the new one; the old one also signs for another day.

        Raises:
            UnknownWebhookError: It was deleted meanwhile.
        """
        read: Webhook | None = webhook

        def attempt() -> str:
            nonlocal read
            known, read = read or self.get(webhook.webhook_id), None
            now = int(self.rows.clock())
            old = [{"secret": known.secret, "until": now + SECRET_OVERLAP}]
            old += [one for one in known.old_secrets if one["until"] > now]
            fresh = new_secret()
            self.rows.update(
                webhook_pk(known.webhook_id),
                set={"secret": fresh, "old_secrets": old[: MAX_SECRETS - 1]},
                when={"secret": known.secret},
            )
            return fresh

        return self.rows.table.retry(attempt, what=f"webhook {webhook.webhook_id}")

    def enable(self, webhook: Webhook, head: int) -> Webhook:
        """Enable a disabled webhook: it receives what comes after the head of the feed."""
        if webhook.status == "DISABLED":
            self.rows.update(
                webhook_pk(webhook.webhook_id),
                set={"status": "ENABLED", "dispatched": head, "held": False},
                remove=["failing_since", "disabled_at", "disabled_reason"],
                when={"status": Not("DELETED")},
            )
        return self.get(webhook.webhook_id)

    def disable(self, webhook: Webhook, reason: str) -> Webhook | None:
        """Disable an enabled webhook and return it as it is now; None where it was not enabled."""
        try:
            self.rows.update(
                webhook_pk(webhook.webhook_id),
                set={
                    "status": "DISABLED",
                    "disabled_at": self.rows.now(),
                    "disabled_reason": reason,
                },
                add={"disablings": 1},
                when={"status": "ENABLED"},
            )
        except ConditionFailedError:
            return None
        return self.get(webhook.webhook_id)


def _owner_pk(owner: str) -> str:
    return f"owner#{owner}"


def _webhook(row: Mapping[str, Any]) -> Webhook:
    # A deleted webhook's row has no secrets any more.
    fields = {name: row[name] for name in Webhook.__slots__ if name in row}
    return Webhook(**{"secret": "", "old_secrets": []} | fields)
