"""What the API itself is sent, besides the sagas' own requests."""

import re
from typing import Annotated, Literal, NotRequired

from annotated_types import Interval, Len, Predicate
from typing_extensions import TypedDict

from recourse.saga import request_model
from recourse.valet.issue import LARGEST

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATTERN = re.compile(r"[a-z0-9_.*-]{1,200}")


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 in hex, in lower case."""
    return _SHA256.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether it stands for types of events: one, or some by an asterisk."""
    return _PATTERN.fullmatch(text) is not None and text.count("*") <= 5


@request_model
class Resolution:
    """What an operator decides on a stuck step; a skip needs a reason."""

    action: Literal["retry", "skip"]
    reason: Annotated[str, Len(0, 1000)] | None = None


@request_model
class Upload:
    """What an upload must be, to the byte."""

    content_type: Annotated[str, Len(3, 200)]
    content_length: Annotated[int, Interval(ge=1, le=LARGEST)]
    sha256: Annotated[str, Predicate(is_sha256)]


@request_model
class ValetKey:
    """A key that somebody asks for; an upload says what it will be, a download does not."""

    operation: Literal["upload", "download"]
    object: Annotated[str, Len(1, 1000)]
    expires_in: Annotated[int, Interval(ge=1, le=7 * 24 * 3600)] = 900
    max_uses: Annotated[int, Interval(ge=1, le=10_000)] = 1
    upload: Upload | None = None


@request_model
class Redrive:
    """Which messages of a dead-letter queue go back; a dry run only looks."""

    saga_id: Annotated[str, Len(1, 128)] | None = None
    dry_run: bool = False


@request_model
class Registration:
    """A webhook, and which types of events it is told; all of them where it does not say."""

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
"""What is to be delivered again: one event, or those of a time; no class has a field `from`."""
Replay.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
