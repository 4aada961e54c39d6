"""A step that is done later: after a delay, or not before a moment of the request.

::

    Step("reminder", notices.remind, takes=["trip"], delay=24 * 3600)
    Step("check_in", flights.check_in, takes=["trip"], not_before="trip.departs_at")

The saga rests there and nothing runs; the sweeper takes it on when the step is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from recourse.text import moment


@dataclass(frozen=True, slots=True)
class Later:
    """When a step is due.

    Attributes:
        delay: So many seconds after the saga has come to it.
        not_before: Or at the moment that a field of the request has, as a dotted path.
    """

    delay: float | None = None
    not_before: str | None = None

    def due(self, request: Mapping[str, Any], now: datetime, timescale: float) -> datetime:
        """When the step is due, by what it takes of the request; now where that says nothing.

        Args:
            request: The fields of the request that it takes.
            now: When the saga has come to it.
            timescale: Multiplies the delay; a moment is what it is.

        Raises:
            ValueError: The request has no moment there.
        """
        if self.delay is not None:
            return now + timedelta(seconds=self.delay * timescale)
        found = value_at(request, str(self.not_before))
        return now if found is None else moment(found)


def value_at(request: Mapping[str, Any], path: str) -> Any:
    """What a request has at a dotted path; None where it, or what it is within, is left out."""
    found: Any = request
    for name in path.split("."):
        if found is None:
            return None
        found = found.get(name)
    return found
