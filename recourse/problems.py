"""Problems: every error response, over any channel, in the form of RFC 9457.

One catalogue for the API, for redeeming valet keys, for streams and sockets and for the local
cloud. A problem's `type` is `urn:recourse:problem:<kind>`; it and the status are stable, the title
and the detail are for people::

    raise ProblemError("not-found", f"there is no saga {saga_id!r}")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recourse.errors import RecourseError
from recourse.text import shown

MEDIA_TYPE = "application/problem+json"
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What every answer has, a problem or not: no browser guesses its type, draws or frames it."""
TYPES: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "idempotency-key-missing": (400, "The header Idempotency-Key is missing or not valid"),
    "chaos-off": (400, "Faults on demand are switched off"),
    "unknown-fault": (400, "Unknown fault"),
    "bad-cursor": (400, "The cursor is not valid"),
    "foreign-cursor": (400, "The cursor belongs to another owner's feed"),
    "bearer-on-link": (400, "A link must be followed without a bearer token"),
    "unauthorized": (401, "A bearer token is required"),
    "bad-token": (401, "The token is not valid"),
    "forbidden": (403, "The token lacks a scope"),
    "out-of-scope": (403, "The key does not allow this"),
    "not-found": (404, "Not found"),
    "object-not-found": (404, "Object not found"),
    "not-allowed": (405, "The method is not allowed"),
    "idempotency-key-reused": (409, "The Idempotency-Key was used for another request"),
    "past-the-pivot": (409, "The saga can no longer be cancelled"),
    "nothing-to-resolve": (409, "There is nothing to resolve"),
    "pivot-not-skipped": (409, "The pivot cannot be skipped"),
    "not-open": (409, "The question is not open any more"),
    "not-deployed": (409, "What the saga needs is not deployed any more"),
    "shape-unknown": (409, "Nothing says what the steps of the saga are"),
    "not-succeeded": (409, "Only a saga that has succeeded can be reversed"),
    "no-reverse": (409, "No saga is declared that reverses this one"),
    "not-reversible": (409, "The saga began with a declaration that its reverse does not fit"),
    "not-resumable": (409, "The import has nothing to resume"),
    "not-redrivable": (409, "The dead-letter queue cannot be redriven"),
    "too-many-webhooks": (409, "Too many webhooks"),
    "webhook-disabled": (409, "The webhook is disabled"),
    "in-use": (409, "The resource is in use"),
    "nothing-uploaded": (409, "Nothing has been uploaded with the key"),
    "not-an-upload": (409, "The key is not for an upload"),
    "cursor-expired": (410, "The cursor has expired"),
    "saga-erased": (410, "The owner's data of the saga were erased"),
    "key-expired": (410, "The key has expired"),
    "key-revoked": (410, "The key was revoked"),
    "key-used-up": (410, "The key is used up"),
    "saga-changed": (412, "The saga has changed"),
    "too-large": (413, "The body is too large"),
    "not-json": (415, "The body is not JSON"),
    "not-a-form": (415, "The body is not a form"),
    "invalid": (422, "Request validation failed"),
    "unknown-coordination": (422, "Unknown coordination"),
    "wrong-part": (422, "The part does not belong to the upload"),
    "bad-object-name": (422, "The object's name is not valid"),
    "unknown-content-type": (422, "The content type cannot be checked"),
    "upload-too-large": (422, "The upload would be too large"),
    "wrong-length": (422, "The length of the upload does not match"),
    "wrong-content": (422, "The content type of the upload does not match"),
    "wrong-hash": (422, "The SHA-256 of the upload does not match"),
    "too-often": (429, "Too many requests by this key or its owner"),
    "too-many": (429, "Too many messages"),
    "limit-reached": (429, "The owner has reached a limit"),
    "internal": (500, "Internal error"),
    "try-again": (503, "Temporarily unavailable; try again"),
}
"""Each kind's status and title."""


class ProblemError(RecourseError):
    """A problem to answer with.

    Args:
        kind: One of `TYPES`.
        detail: What is wrong with this request.
        errors: The fields that are wrong, each with a `field` and a `message`.
        retry_after: Seconds after which it may be tried again; 1 for what is temporary.

    Attributes:
        status: The HTTP status.
        body: The problem as it is answered.
        headers: The headers that it is answered with: `retry-after`, where there is a time.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.body = problem(kind, detail, errors)
        self.status: int = self.body["status"]
        seconds = 1 if retry_after is None and self.status == 503 else retry_after
        self.headers = {} if seconds is None else {"retry-after": str(seconds)}


def problem(kind: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """A problem as it is answered; the arguments are those of `ProblemError`."""
    status, title = TYPES[kind]
    found = {"type": urn(kind), "title": title, "status": status, "detail": shown(detail)}
    if not errors:
        return found
    # A request may have text that no answer can have: it would end the process that writes it.
    fields = [{shown(name): shown(text) for name, text in one.items()} for one in errors]
    return found | {"errors": fields}


def invalid(field: str, message: str) -> ProblemError:
    """The problem of one field that is wrong."""
    errors = [{"field": field, "message": message}]
    return ProblemError("invalid", f"{field}: {message}", errors=errors)


def urn(kind: str) -> str:
    """The `type` of a kind of problem."""
    return f"urn:recourse:problem:{kind}"


def untyped(title: str, status: int, detail: str) -> dict[str, Any]:
    """A problem described by its status alone, as a proxy in front of the API answers."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}
