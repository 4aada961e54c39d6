"""Requests and responses of the API about webhooks."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from recourse.declare.request import Checked, request_model

MOST_ASTERISKS = 5
_PATTERN = re.compile(r"[a-z0-9_.*-]{1,200}")


def flaw_of_pattern(text: str) -> str | None:
    """Why it is not a pattern of event types; None where it is."""
    if _PATTERN.fullmatch(text) is None:
        return "must have 1 to 200 characters of a-z, 0-9, '_', '.', '-' and '*'"
    if (asterisks := text.count("*")) > MOST_ASTERISKS:
        return f"must have at most {MOST_ASTERISKS} asterisks, got {asterisks}"
    return None


@request_model
class Registration:
    """A webhook, and which types of events it receives; all by default."""

    url: Annotated[str, Len(1, 2000)]
    events: Annotated[list[Annotated[str, Checked(flaw_of_pattern)]], Len(1, 20)] | None = None


Replay = TypedDict(
    "Replay",
    {
        "event_id": NotRequired[Annotated[str, Len(1, 1000)]],
        "from": NotRequired[Annotated[str, Len(1, 40)]],
        "to": NotRequired[Annotated[str, Len(1, 40)]],
    },
)
"""What to deliver again: one event, or those of a time range; no class can have a field `from`."""
Replay.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]


Status = Literal["ENABLED", "DISABLED"]


class _Webhook(TypedDict):
    webhook_id: str
    url: str
    events: list[str]
    status: Status
    created_at: str
    failing_since: str | None
    disabled_at: str | None
    disabled_reason: str | None
    links: dict[str, str]


class WebhookView(_Webhook):
    """A webhook as its owner sees it."""


class WebhookWithSecretView(_Webhook):
    """A webhook and its new secret, which is shown only once."""

    secret: str


class DeliveryView(TypedDict):
    """A delivery attempt and its result."""

    event_id: str
    type: str
    attempt: int
    outcome: Literal["delivered", "failed", "given-up"]
    status: int | None
    error: str | None
    latency_ms: int
    response: str
    at: str
    next_attempt_at: str | None
    replay_id: str | None
