"""The exit codes of all commands; `docs/cli.md` has the same table, and a test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from recourse.errors import RecourseError
from recourse.problems import TYPES


class Exit(IntEnum):
    """What a command ends with, for scripts.

    ::

        raise typer.Exit(Exit.PARTLY)
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    UNDER_WAY = 4
    NOT_SIGNED_IN = 5
    FORBIDDEN = 6
    NOT_FOUND = 7
    CONFLICT = 8
    TRY_AGAIN = 75
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "what was asked for is done; a saga that was followed has SUCCEEDED",
    Exit.FAILED: "it was tried and came out badly: a saga that was followed is COMPENSATED, or "
    "waits for an operator; a check has found something; another error",
    Exit.USAGE: "the command, its file or the request that it makes is not valid; nothing was done",
    Exit.PARTLY: "of many, some are not done: `import`, `resolve --where`",
    Exit.UNDER_WAY: "of many, some are still under way: `import`, `resolve --where`",
    Exit.NOT_SIGNED_IN: "there is no bearer token, or it is not valid any more (401)",
    Exit.FORBIDDEN: "the token lacks a scope, or must not do this (403)",
    Exit.NOT_FOUND: "there is no such thing, or it is gone (404, 410)",
    Exit.CONFLICT: "the state of the thing does not allow it (409, 412)",
    Exit.TRY_AGAIN: "the API or the issuer cannot be reached, or is busy (429, 5xx); try again",
    Exit.INTERRUPTED: "it was interrupted by Ctrl-C",
    Exit.BROKEN_PIPE: "whoever read its output has closed it, such as `head`",
}
"""What each of them means."""
TITLES: Mapping[Exit, str] = {
    Exit.FAILED: "It has failed",
    Exit.USAGE: "The command cannot be run as given",
    Exit.NOT_SIGNED_IN: TYPES["unauthorized"][1],
    Exit.FORBIDDEN: "This is not permitted",
    Exit.NOT_FOUND: TYPES["not-found"][1],
    Exit.CONFLICT: "The state does not allow it",
    Exit.TRY_AGAIN: TYPES["try-again"][1],
    Exit.INTERRUPTED: "Interrupted",
}
"""The titles of the problems that are the command's own, not the API's."""


ERRORS = frozenset(TITLES) - {Exit.INTERRUPTED}
"""What a command ends with whose call or file was refused."""


def of_status(status: int) -> Exit:
    """What a command ends with where the API has answered with an error."""
    known = {
        401: Exit.NOT_SIGNED_IN,
        403: Exit.FORBIDDEN,
        404: Exit.NOT_FOUND,
        409: Exit.CONFLICT,
        410: Exit.NOT_FOUND,
        412: Exit.CONFLICT,
        429: Exit.TRY_AGAIN,
    }
    return known.get(status, Exit.TRY_AGAIN if status >= 500 else Exit.USAGE)


class UsageError(RecourseError):
    """The command cannot be run as given; the message says what to change."""


class FailedError(RecourseError):
    """What was asked for was tried, and has failed; the message says why, and what to do."""
