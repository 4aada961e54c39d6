"""What one owner may have open or under way: the limits, all in one place.

The context `owner_limits` overrides any of them: `-c owner_limits="streams=5 waits=50"`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from recourse.ledger.listing import BY_OWNER_STATUS

LONGEST_STREAM = 900
LONGEST_SOCKET = 2 * 3600
LONGEST_WAIT = 29
WHILE_IN_FLIGHT = 10
"""Seconds after which who has too many sagas in flight may try again: by then some have ended."""


class Limit(NamedTuple):
    """A limit by owner.

    Attributes:
        most: How many at once.
        seconds: How long one lasts at the most; where `is_rate`, the time that they are counted in;
            of sagas, which last as long as they do, when a caller may try again.
        is_rate: Whether one counts for all of that time, however soon it is over.
        what: What is counted.
    """

    most: int
    seconds: int
    what: str
    is_rate: bool = False


LIMITS: Mapping[str, Limit] = {
    "streams": Limit(10, LONGEST_STREAM, "open streams of server-sent events"),
    "sockets": Limit(50, LONGEST_SOCKET, "open WebSocket connections"),
    "waits": Limit(20, LONGEST_WAIT, "requests that wait (`Prefer: wait`, `wait=`)"),
    "tests": Limit(10, 60, "test events of webhooks", is_rate=True),
    "replays": Limit(30, 60, "replays of webhooks", is_rate=True),
    "starts": Limit(1200, 60, "starts of sagas", is_rate=True),
    "imported": Limit(50, WHILE_IN_FLIGHT, "sagas in flight, where imports begin more"),
    "in_flight": Limit(1000, WHILE_IN_FLIGHT, "sagas in flight, which wait for nobody"),
}


def limit(name: str) -> Limit:
    """A limit, as this deployment has it (`OWNER_LIMITS`)."""
    return overridden(os.environ.get("OWNER_LIMITS", ""))[name]


def has_count_in_flight() -> bool:
    """Whether what is in flight can be counted: a stage gets one index with each deploy."""
    return os.environ.get("UNINDEXED") != BY_OWNER_STATUS.name


def room_for_imports(in_flight: Callable[[str, int], int], owner: str) -> int:
    """How many more sagas of an owner's imports may begin now.

    Args:
        in_flight: How many are in flight, as `SagaQueries.in_flight` counts them.
        owner: The owner.
    """
    most = limit("imported").most
    return most - in_flight(owner, most) if has_count_in_flight() else most


def overridden(text: str) -> dict[str, Limit]:
    """The limits, some of them with other numbers.

    Args:
        text: Names and numbers, such as `streams=5 waits=50`.

    Raises:
        ValueError: It names no limit, or a number is not 1 or more.
    """
    made = dict(LIMITS)
    for pair in text.replace(",", " ").split():
        name, _, most = pair.partition("=")
        if name not in made:
            raise ValueError(f"must name one of {', '.join(made)}, got {name!r}")
        if not (most.isascii() and most.isdecimal() and int(most) >= 1):
            raise ValueError(f"{name} must be a number of 1 or more, got {most!r}")
        made[name] = made[name]._replace(most=int(most))
    return made
