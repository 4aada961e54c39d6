"""Cursors of lists whose rows are ordered by `started`: the moment, a number sign, the id."""

from __future__ import annotations

import base64
import re
from typing import Any

from recourse.store.items import encode

_STARTED = re.compile(r"[0-9TZ:.-]{1,40}#[0-9a-f]{32}")


class BadCursorError(ValueError):
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


def listed(
    table: str,
    index: str,
    attribute: str,
    value: str,
    before: str | None,
    *,
    after: str | None = None,
) -> Any:
    """The parameters of a Query of an index that is ordered by `started`.

    Args:
        table: The table.
        index: The index.
        attribute: Its partition key.
        value: Whose rows are asked for.
        before: Only what started before; None for all.
        after: Only what started after; None for all. Of both, DynamoDB knows no other range than
            one that includes its ends.
    """
    names = {"#attribute": attribute}
    values = {":value": encode(value)}
    condition = "#attribute = :value"
    if before is not None or after is not None:
        names["#started"] = "started"
    if before is not None:
        values[":before"] = encode(before)
    if after is not None:
        values[":after"] = encode(after)
    if before is not None and after is not None:
        condition += " AND #started BETWEEN :after AND :before"
    elif before is not None:
        condition += " AND #started < :before"
    elif after is not None:
        condition += " AND #started > :after"
    return {
        "TableName": table,
        "IndexName": index,
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
