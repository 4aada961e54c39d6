"""What the API itself is sent, besides the sagas' own requests."""

import re
from typing import Annotated, Literal

from annotated_types import Interval, Len, Predicate

from recourse.saga import request_model
from recourse.valet.issue import LARGEST

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 in hex, in lower case."""
    return _SHA256.fullmatch(text) is not None


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
