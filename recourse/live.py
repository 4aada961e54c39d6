"""What the live channels have in common: how an event is told, and how a refusal is worded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recourse.cursors import BadCursorError
from recourse.feed import (
    Entry,
    ExpiredCursorError,
    ForeignCursorError,
    cursor_of,
)

CURSOR_PROBLEMS = (BadCursorError, ForeignCursorError, ExpiredCursorError)
"""What a cursor is refused with."""
PROBLEMS = {
    "malformed": (400, "The request cannot be read"),
    "bad-cursor": (400, "The cursor is none of ours"),
    "foreign-cursor": (400, "The cursor is of somebody else's feed"),
    "unauthorized": (401, "A bearer token is needed"),
    "forbidden": (403, "The token lacks a scope"),
    "not-found": (404, "There is no such thing"),
    "not-allowed": (405, "The method is not allowed"),
    "cursor-expired": (410, "What comes after the cursor is not kept any more"),
    "too-large": (413, "The body is too large"),
    "too-many": (429, "There were too many"),
    "try-again": (503, "It did not work now; try again"),
}
"""Those of the API that live channels have too, and a few of their own."""


def problem(kind: str, detail: str) -> dict[str, Any]:
    """A problem as RFC 9457 has it.

    Args:
        kind: One of `PROBLEMS`; the last part of its `type`.
        detail: What is wrong in this very case.
    """
    status, title = PROBLEMS[kind]
    about = {"title": title, "status": status, "detail": detail}
    return {"type": f"urn:recourse:problem:{kind}", **about}


def cursor_problem(error: Exception) -> dict[str, Any]:
    """The problem of a cursor that is refused, one of `CURSOR_PROBLEMS`."""
    match error:
        case ForeignCursorError():
            return problem("foreign-cursor", "use the cursors of your own events")
        case ExpiredCursorError():
            detail = "events are kept for 14 days: begin without a cursor"
            return problem("cursor-expired", detail)
    return problem("bad-cursor", "use the cursor of an event that you have had")


def message(owner: str, entry: Entry) -> Mapping[str, Any]:
    """An event as a WebSocket message: with the cursor beside it, as an extension attribute."""
    return entry.event.to_dict() | {"cursor": cursor_of(owner, entry.position)}


def opening(cursor: str, retry: int) -> str:
    """The first frame of a stream of server-sent events: where it begins.

    Args:
        cursor: The cursor of that place.
        retry: The milliseconds after which a client that is cut off comes back.
    """
    return f"retry: {retry}\nid: {cursor}\n\n"


def frame(owner: str, entry: Entry) -> str:
    """An event as a frame of such a stream; the cursor is its `id`."""
    return f"id: {cursor_of(owner, entry.position)}\ndata: {entry.event.to_json()}\n\n"
