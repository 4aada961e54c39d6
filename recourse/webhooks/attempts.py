"""The log of attempts: what was sent to an endpoint, when, and what it answered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from recourse.webhooks.rows import Rows

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Outcome = Literal["delivered", "failed", "given-up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A row of the log; its fields are what the API shows.

    Attributes:
        event_id: The event.
        type: Its type.
        attempt: Its number among the attempts to deliver this event, from 1.
        outcome: How it ended; `given-up`: there will be no other.
        status: The HTTP status; None where there was no answer.
        error: Why there was none, or why it was given up.
        latency_ms: How long it took.
        response: The beginning of the answer's body.
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
        """What the API shows of it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The log of all webhooks.

    Args:
        rows: The table.
    """

    rows: Rows

    def page(
        self, webhook_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Attempt], str | None]:
        """A page of a webhook's attempts, the newest first, and the cursor of the next page.

        Raises:
            BadCursorError: The cursor is not one that a page of this log returned.
        """
        rows, following = self.rows.table.page(
            "by-webhook", {"webhook_id": webhook_id}, cursor=cursor, limit=limit
        )
        return [_attempt(row) for row in rows], following

    def put_request(self, webhook_id: str, attempt: Attempt) -> TransactWriteItemTypeDef:
        """The request to add an attempt, in the transaction that changes its lane."""
        # Attempts of the same millisecond keep their order, and no two of them have the same key.
        suffix = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        started = f"{attempt.at}#{suffix}"
        row = {name: value for name, value in attempt.view.items() if value is not None}
        row |= {"pk": f"log#{webhook_id}#{started}", "webhook_id": webhook_id}
        row |= {"started": started, "expires_at": self.rows.expiry()}
        return self.rows.table.put_request(row)


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(**{name: row[name] for name in Attempt.__slots__ if name in row})
