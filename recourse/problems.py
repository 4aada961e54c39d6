"""Problems: every error that is answered, over whichever channel, as RFC 9457 has it.

One catalogue for the API, for redeeming valet keys, for streams and sockets and for the local
cloud. A problem's `type` is `urn:recourse:problem:<kind>`; it and the status are stable, the title
and the detail are for people::

    raise ProblemError("not-found", f"there is no saga {saga_id!r}")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEDIA_TYPE = "application/problem+json"
TYPES: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "idempotency-key-missing": (400, "The header Idempotency-Key is missing or unusable"),
    "chaos-off": (400, "Faults on demand are switched off here"),
    "unknown-fault": (400, "There is no such fault"),
    "bad-cursor": (400, "The cursor is none of ours"),
    "foreign-cursor": (400, "The cursor is of somebody else's feed"),
    "bearer-on-link": (400, "A link is followed without a bearer"),
    "unauthorized": (401, "A bearer token is needed"),
    "bad-token": (401, "The token is none of ours"),
    "forbidden": (403, "The token lacks a scope"),
    "out-of-scope": (403, "The key is not for this"),
    "not-found": (404, "There is no such thing"),
    "object-not-found": (404, "There is no such object"),
    "not-allowed": (405, "The method is not allowed"),
    "idempotency-key-reused": (409, "The Idempotency-Key was used for something else"),
    "past-the-pivot": (409, "The saga can no longer be cancelled"),
    "nothing-to-resolve": (409, "There is nothing to resolve"),
    "pivot-not-skipped": (409, "The step that decides cannot be skipped"),
    "not-redrivable": (409, "What rests there cannot go back"),
    "too-many-webhooks": (409, "There are enough webhooks"),
    "webhook-disabled": (409, "The webhook is disabled"),
    "in-use": (409, "What is held forbids it"),
    "nothing-uploaded": (409, "Nothing has been uploaded with the key"),
    "not-an-upload": (409, "The key is not for an upload"),
    "cursor-expired": (410, "What comes after the cursor is not kept any more"),
    "key-expired": (410, "The key has expired"),
    "key-revoked": (410, "The key was revoked"),
    "key-used-up": (410, "The key is used up"),
    "too-large": (413, "The body is too large"),
    "not-json": (415, "The body is not JSON"),
    "not-a-form": (415, "The body is not a form"),
    "invalid": (422, "Request validation failed"),
    "unknown-coordination": (422, "There is no such coordination"),
    "wrong-part": (422, "The part does not belong to the upload"),
    "bad-object-name": (422, "The object's name cannot be taken"),
    "unknown-content-type": (422, "The content type cannot be checked"),
    "upload-too-large": (422, "The upload would be too large"),
    "wrong-length": (422, "What was uploaded has another length"),
    "wrong-content": (422, "What was uploaded is of another type"),
    "wrong-hash": (422, "What was uploaded has another SHA-256"),
    "too-often": (429, "The key or its owner asks too often"),
    "too-many": (429, "There were too many"),
    "internal": (500, "Internal error"),
    "try-again": (503, "It did not work now; try again"),
}
"""Each kind's status and title."""


class ProblemError(Exception):
    """A problem to answer with.

    Args:
        kind: One of `TYPES`.
        detail: What is wrong in this very request.
        errors: The fields that are wrong, each with a `field` and a `message`.

    Attributes:
        status: The HTTP status.
        body: The problem as it is answered.
    """

    def __init__(self, kind: str, detail: str, *, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.body = problem(kind, detail, errors)
        self.status: int = self.body["status"]


def problem(kind: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """A problem as it is answered; the arguments are those of `ProblemError`."""
    status, title = TYPES[kind]
    found = {"type": urn(kind), "title": title, "status": status, "detail": detail}
    return found | {"errors": list(errors)} if errors else found


def invalid(field: str, message: str) -> ProblemError:
    """The problem of one field that is wrong."""
    errors = [{"field": field, "message": message}]
    return ProblemError("invalid", f"{field}: {message}", errors=errors)


def urn(kind: str) -> str:
    """The `type` of a kind of problem."""
    return f"urn:recourse:problem:{kind}"


def untyped(title: str, status: int, detail: str) -> dict[str, Any]:
    """A problem that the status alone tells, as something between has it that is not the API."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}
