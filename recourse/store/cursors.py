"""Cursors of lists whose rows are ordered by `started`: time, number sign, id."""

from __future__ import annotations

import base64
import re

from recourse.errors import RecourseError

_STARTED = re.compile(r"[0-9TZ:.-]{1,40}#[0-9a-f]{32}")


class CursorError(RecourseError, ValueError):
    """A cursor that no page can begin with."""


class BadCursorError(CursorError):
    """The cursor was not issued by this API."""


def cursor_after(started: str) -> str:
    """The cursor of the page that begins after a row, by the row's `started`."""
    return base64.urlsafe_b64encode(started.encode()).decode().rstrip("=")


def started_of(cursor: str | None) -> str | None:
    """The `started` of the row that a page begins after; None for the first page.

    Raises:
        BadCursorError: The cursor was not issued by this API.
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
