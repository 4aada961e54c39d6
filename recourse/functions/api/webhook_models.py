"""Requests and responses of the API about webhooks."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NotRequired

from annotated_types import Len, Predicate
from typing_extensions import TypedDict

from recourse.declare.request import request_model

_PATTERN = re.compile(r"[a-z0-9_.*-]{1,200}")


def is_pattern(text: str) -> bool:
    """Whether it is a pattern of event types: with at most five asterisks."""
    return _PATTERN.fullmatch(text) is not None and text.count("*") <= 5


@request_model
class Registration:
    """A webhook, and which types of events it receives; all by default."""

    url: Annotated[str, Len(1, 2000)]
    events: Annotated[list[Annotated[str, Predicate(is_pattern)]], Len(1, 20)] | None = None


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
