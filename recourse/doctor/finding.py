"""What the doctor finds: each thing that was looked at, and what to do where it is not well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

Level = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was looked at.

    ::

        Finding("disk", "error", "0.2 GB are free", "a deploy needs 0.5 GB", "make clean")

    Attributes:
        check: What was looked at, such as `bootstrap`.
        level: `error` if a start or a deploy fails, or what was asked for cannot work; `warning` if
            it may, or is not known.
        what: What there is.
        why: Why it matters; empty where all is well.
        remedy: What to do, with the command.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, why: str, remedy: str) -> Finding:
    """It may go wrong, or is not known."""
    return Finding(check, "warning", what, why, remedy)


def error(check: str, what: str, why: str, remedy: str) -> Finding:
    """It goes wrong."""
    return Finding(check, "error", what, why, remedy)


def to_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """Findings as JSON, with how many of them are errors and warnings."""
    found = [one._asdict() for one in findings]
    levels = [one["level"] for one in found]
    return {
        "errors": levels.count("error"),
        "warnings": levels.count("warning"),
        "findings": found,
    }
