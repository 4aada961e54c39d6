"""What the live channels have in common: how an event and a refusal are worded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recourse.feed.feed import (
    Entry,
    ExpiredCursorError,
    ForeignCursorError,
    cursor_of,
)
from recourse.problems import ProblemError


def cursor_problem(error: Exception) -> ProblemError:
    """The problem to answer a `CursorError` with."""
    match error:
        case ForeignCursorError():
            return ProblemError("foreign-cursor", "use the cursors of your own events")
        case ExpiredCursorError():
            detail = "events are kept for 14 days: begin without a cursor"
            return ProblemError("cursor-expired", detail)
    return ProblemError("bad-cursor", "use the cursor of an event that you have had")


def message(owner: str, entry: Entry) -> Mapping[str, Any]:
    """An event as a WebSocket message, with its cursor as an extension attribute."""
    return entry.event.to_dict() | {"cursor": cursor_of(owner, entry.position)}


def opening(cursor: str, retry: int) -> str:
    """The first frame of a stream of server-sent events: the cursor where it begins.

    Args:
        cursor: The cursor.
        retry: The milliseconds after which a client that is cut off reconnects.
    """
    return f"retry: {retry}\nid: {cursor}\n\n"


def frame(owner: str, entry: Entry) -> str:
    """An event as a frame of a stream of server-sent events; its `id` is the cursor."""
    return f"id: {cursor_of(owner, entry.position)}\ndata: {entry.event.to_json()}\n\n"
