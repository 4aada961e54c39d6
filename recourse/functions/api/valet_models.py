"""Requests and responses of the API about valet keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from recourse.declare.request import Checked, request_model
from recourse.valet.issue import MAX_UPLOAD_BYTES
from recourse.valet.keys import Key

_SHA256 = re.compile(r"[0-9a-f]{64}")


def flaw_of_sha256(text: str) -> str | None:
    """Why it is not a SHA-256 in hex; None where it is."""
    return None if _SHA256.fullmatch(text) else "must be 64 digits of lower-case hex"


@request_model
class Upload:
    """The exact type, length and hash of an upload."""

    content_type: Annotated[str, Len(3, 200)]
    content_length: Annotated[int, Interval(ge=1, le=MAX_UPLOAD_BYTES)]
    sha256: Annotated[str, Checked(flaw_of_sha256)]


@request_model
class ValetKey:
    """The key to issue; one for an upload describes it, one for a download does not."""

    operation: Literal["upload", "download"]
    object: Annotated[str, Len(1, 1000)]
    expires_in: Annotated[int, Interval(ge=1, le=7 * 24 * 3600)] = 900
    max_uses: Annotated[int, Interval(ge=1, le=10_000)] = 1
    upload: Upload | None = None


Status = Literal["ACTIVE", "USED_UP", "EXPIRED", "REVOKED", "COMPLETED", "QUARANTINED"]


class _Parts(TypedDict):
    part_size: int
    parts: int


class IssuedKeyView(TypedDict):
    """A new key: only this response has its token, and the link that contains it."""

    key_id: str
    token: str
    link: str
    expires_at: str
    object: str
    multipart: _Parts | None


class _Audit(TypedDict):
    """What was done with a key, or a day's refusals of an action for one reason, counted.

    Refusals have the `time` of the first and the `last_time` of the last, which `caller`, `address`
    and `detail` are of.
    """

    time: str
    action: str
    outcome: str
    caller: str
    address: str
    detail: NotRequired[str]
    count: NotRequired[int]
    last_time: NotRequired[str]


class ShownKeyView(TypedDict):
    """A key as its owner sees it."""

    key_id: str
    owner: str
    operation: Literal["upload", "download"]
    object: str
    status: Status
    created_at: str
    expires_at: str
    revoked_at: str | None
    max_uses: int
    uses: int
    parts_redeemed: int
    upload: dict[str, Any] | None
    multipart: _Parts | None
    outcome: dict[str, Any] | None
    links: dict[str, str]


class AuditedKeyView(ShownKeyView):
    """A key with a page of its audit trail, newest first; `cursor` leads to the next one."""

    audit: list[_Audit]
    cursor: str | None


class CommittedView(TypedDict):
    """The object that an upload was committed as."""

    key_id: str
    object: str
    version: str
    content_type: str
    content_length: int
    sha256: str
    completed_at: str


def multipart(key: Key) -> _Parts | None:
    """The size and number of the parts; the upload's id stays internal."""
    if not key.multipart:
        return None
    return {"part_size": key.multipart["part_size"], "parts": key.multipart["parts"]}
