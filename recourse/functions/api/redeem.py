"""What redeeming a valet key takes and answers; what does it is `recourse.functions.valet`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from recourse.functions.api.routes import FAILURES, Answer, Operation, Routes

routes = Routes("Redeeming", "What a valet key is good for; its token is all that is needed")


class SignedRequestView(TypedDict):
    """A request to send to S3 as it is, before it expires."""

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
"""What a token may be refused for."""
routes.describe(
    "POST",
    "/valet-keys/redeem",
    Operation(
        "redeem-valet-key",
        "Redeem a token for a request to S3 that is good for ten seconds",
        takes=_Redeemed,
        answers=[Answer(200, "what to send to S3", SignedRequestView)],
        problems=("wrong-part", *UNUSABLE, *FAILURES),
    ),
)
routes.describe(
    "GET",
    "/v/{token}",
    Operation(
        "follow-valet-key",
        "Follow a download key as a link",
        answers=[Answer(307, "to S3", headers={"Location": "the URL"})],
        problems=("bearer-on-link", *UNUSABLE, *FAILURES),
    ),
)
