"""Problems: every error the API answers, as RFC 9457 has it."""

from __future__ import annotations

from typing import Any

from recourse.valet.errors import REFUSALS, ValetError

TYPES = {
    "malformed": (400, "The request cannot be read"),
    "idempotency-key-missing": (400, "The header Idempotency-Key is missing or unusable"),
    "chaos-off": (400, "Faults on demand are switched off here"),
    "unknown-fault": (400, "There is no such fault"),
    "bad-cursor": (400, "The cursor is none of ours"),
    "foreign-cursor": (400, "The cursor is of somebody else's feed"),
    "unauthorized": (401, "A bearer token is needed"),
    "forbidden": (403, "The token lacks a scope"),
    "not-found": (404, "There is no such thing"),
    "idempotency-key-reused": (409, "The Idempotency-Key was used for something else"),
    "past-the-pivot": (409, "The saga can no longer be cancelled"),
    "nothing-to-resolve": (409, "There is nothing to resolve"),
    "pivot-not-skipped": (409, "The step that decides cannot be skipped"),
    "not-redrivable": (409, "What rests there cannot go back"),
    "too-many-webhooks": (409, "There are enough webhooks"),
    "webhook-disabled": (409, "The webhook is disabled"),
    "in-use": (409, "What is held forbids it"),
    "cursor-expired": (410, "What comes after the cursor is not kept any more"),
    "too-large": (413, "The body is too large"),
    "not-json": (415, "The body is not JSON"),
    "not-a-form": (415, "The body is not a form"),
    "invalid": (422, "The request is wrong"),
    "unknown-coordination": (422, "There is no such coordination"),
    "try-again": (503, "It did not work now; try again"),
    "internal": (500, "It did not work, and it is our fault"),
} | {refusal.kind: (refusal.status, refusal.title) for refusal in REFUSALS}


class ProblemError(Exception):
    """A problem to answer with.

    Args:
        kind: One of `TYPES`; the last part of the problem's `type`, which is stable.
        detail: What is wrong in this very request.
        errors: The fields that are wrong, each with a `field` and a `message`.
    """

    def __init__(
        self, kind: str, detail: str, *, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, title = TYPES[kind]
        self.body: dict[str, Any] = {
            "type": f"urn:recourse:problem:{kind}",
            "title": title,
            "status": self.status,
            "detail": detail,
        }
        if errors:
            self.body["errors"] = errors


def refused(error: ValetError) -> ProblemError:
    """The problem of what a valet key was refused for."""
    errors = [{"field": error.field, "message": str(error)}] if error.field else None
    return ProblemError(error.kind, str(error), errors=errors)
