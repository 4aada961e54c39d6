"""Which parked sagas `--where` means."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from recourse.cli.exits import UsageError

FILTERS = ("status", "saga", "step", "error", "business_key", "older_than", "younger_than")
PARKED = ("COMPENSATION_FAILED", "RUNNING")
"""The statuses of sagas that wait for an operator: at an undo, or at a step after the pivot."""
_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Stuck(NamedTuple):
    """A step that waits for an operator.

    Attributes:
        step: Its name.
        error: The class name of its error.
        message: What the error says.
        since: When it failed, in RFC 3339.
    """

    step: str
    error: str
    message: str
    since: str


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which parked sagas are meant; what is None may be anything.

    ::

        where = Where.parse(["status=COMPENSATION_FAILED,step=payment"], now=datetime.now(UTC))
        where.matching(saga)    # its steps that wait for an operator, and are meant

    Attributes:
        status: The status; one of `PARKED`.
        saga: The name of the saga.
        step: The name of the step.
        error: The class name of the step's error.
        business_key: The saga's business key.
        before: It was started before this moment.
        after: It was not started before this moment.
    """

    status: str | None = None
    saga: str | None = None
    step: str | None = None
    error: str | None = None
    business_key: str | None = None
    before: datetime | None = None
    after: datetime | None = None

    @classmethod
    def parse(cls, texts: Sequence[str], *, now: datetime) -> Where:
        """What filters say, each `name=value`, separated by commas.

        Args:
            texts: Them; a value with a comma is quoted as in CSV: `"business_key=a,b"`.
            now: The moment from which ages count.

        Raises:
            UsageError: There is none, or one that is unknown, is not valid, or contradicts another.
        """
        found: dict[str, str] = {}
        for name, value in (_pair(one) for text in texts for one in _parts(text)):
            if found.setdefault(name, value) != value:
                raise UsageError(
                    f"--where: {name} must be given once, got {found[name]!r} and {value!r}"
                )
        if not found:
            raise UsageError(f"--where must have a filter: {', '.join(FILTERS)}")
        if found.get("status", PARKED[0]) not in PARKED:
            raise UsageError(
                f"--where: status must be {' or '.join(PARKED)}, for no other saga waits for an "
                f"operator, got {found['status']!r}"
            )
        before, after = (
            _moment(name, found.pop(name, None), now) for name in ("older_than", "younger_than")
        )
        if before and after and after >= before:
            raise UsageError("--where: no saga is both as old and as young as that")
        return cls(**found, before=before, after=after)

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses to look through."""
        return (self.status,) if self.status else PARKED

    def matching(self, saga: Mapping[str, Any]) -> tuple[Stuck, ...]:
        """The steps of a saga that wait for an operator and are meant."""
        started = datetime.fromisoformat(saga["started_at"])
        if (
            saga["status"] not in self.statuses
            or self.saga not in (None, saga["saga"])
            or self.business_key not in (None, saga["business_key"])
            or (self.before and started >= self.before)
            or (self.after and started < self.after)
        ):
            return ()
        return tuple(
            one
            for one in stuck(saga)
            if self.step in (None, one.step) and self.error in (None, one.error)
        )


def stuck(saga: Mapping[str, Any]) -> list[Stuck]:
    """All steps of a saga that wait for an operator."""
    return [
        Stuck(one["name"], one["error"] or "", one["message"] or "", one["ended_at"] or "")
        for one in saga["steps"]
        if one["name"] in saga["stuck"]
    ]


def _parts(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as problem:
        raise UsageError(f"--where: {text!r} cannot be read: {problem}") from None
    return rows[0] if rows else []


def _pair(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if name not in FILTERS:
        raise UsageError(f"--where: a filter must be one of {', '.join(FILTERS)}, got {name!r}")
    if not equals or not value:
        raise UsageError(f"--where: {name} must have a value, as in {name}=…")
    return name, value


def _moment(name: str, text: str | None, now: datetime) -> datetime | None:
    """The moment that an age or a moment means."""
    if text is None:
        return None
    try:
        if age := _DURATION.fullmatch(text):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"--where: {name} must be an age as 90s, 15m, 2h or 3d, or a moment as "
        f"2026-11-24T10:00:00Z, got {text!r}"
    )
