"""Cursors of lists whose rows are ordered by `started`: the moment, a number sign, the id."""

from __future__ import annotations

import base64
import re

from recourse.errors import RecourseError

_STARTED = re.compile(r"[0-9TZ:.-]{1,40}#[0-9a-f]{32}")


class CursorError(RecourseError, ValueError):
    """A cursor with which no page can begin."""


class BadCursorError(CursorError):
    """The cursor is none of ours."""


def cursor_after(started: str) -> str:
    """The cursor with which the next page begins after a row."""
    return base64.urlsafe_b64encode(started.encode()).decode().rstrip("=")


def started_of(cursor: str | None) -> str | None:
    """The `started` of the row that a page comes after; None for the first page.

    Raises:
        BadCursorError: The cursor is none of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), "-_", validate=True).decode()
    except ValueError as problem:
        raise BadCursorError(cursor) from problem
    if not _STARTED.fullmatch(text):
        raise BadCursorError(cursor)
    return text
