"""The description of redeeming a valet key; `recourse.functions.valet` is the handler."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from recourse.functions.api.routes import FAILURES, Answer, Operation, Routes

routes = Routes(
    "Redeeming",
    "Use a valet key; its token is the only credential needed",
    needs="VALET_TABLE",
)


class SignedRequestView(TypedDict):
    """A request to send to S3 unchanged, before it expires."""

    method: Literal["GET", "PUT"]
    url: str
    headers: dict[str, str]
    expires_at: str


class _Part(TypedDict):
    number: int
    sha256: str
    content_length: int


class _Redeemed(TypedDict):
    token: str
    part: NotRequired[_Part]


UNUSABLE = (
    "bad-token",
    "out-of-scope",
    "not-found",
    "object-not-found",
    "key-expired",
    "key-revoked",
    "key-used-up",
    "too-often",
)
"""The problems of a token."""
routes.describe(
    "POST",
    "/valet-keys/redeem",
    Operation(
        "redeem-valet-key",
        "Redeem a token for a request to S3 that is valid for ten seconds",
        takes=_Redeemed,
        answers=[Answer(200, "the request to send to S3", SignedRequestView)],
        problems=("wrong-part", *UNUSABLE, *FAILURES),
    ),
)
routes.describe(
    "GET",
    "/v/<token>",
    Operation(
        "follow-valet-key",
        "Follow a download key as a link",
        answers=[Answer(307, "redirected to S3", headers={"Location": "the URL"})],
        problems=("bearer-on-link", *UNUSABLE, *FAILURES),
    ),
)
