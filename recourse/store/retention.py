"""How long what is kept for a time is kept: in days, each by a CDK context `retain_<name>`.

A function has a number that is not the default in its environment, as `RETAIN_<NAME>`. What has no
name here is kept for good: see docs/retention.md.

**What something still waits for does not expire.** A saga may be parked, or wait, for a year. So
its row, its shape and its markers have no date; what may expire is only a copy (an outbox row, of
which ledger and markers have what a recovery needs), or outlives whoever may still ask for it: an
inbox row the last delivery of a message (`INBOX`), and where it joins events also the silence after
which the saga goes on without messages; a lane its deliveries; a slot its holder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

DAY = 24 * 3600
MOST = 3650
"""Days at the most: ten years."""


INBOX = 42 * DAY
"""For how much longer an inbox row is kept than an outbox row, from which its event may be
published once more: the message may be 14 days in its queue, 14 in the dead-letter queue, and 14 in
its queue again when it is redriven."""


class Kept(NamedTuple):
    """How long one kind is kept.

    Attributes:
        days: Days, by default; None for good.
        least: Fewer would break what is promised.
        why: Why, in words.
    """

    days: int | None
    least: int
    why: str


KINDS: Mapping[str, Kept] = {
    "events": Kept(14, 14, "an event is published again for as long as a queue holds a message"),
    "feed": Kept(14, 4, "a webhook is tried for three days, and reads its event there"),
    "webhooks": Kept(30, 4, "owners look at the log of attempts; a lane outlives its three days"),
    "imports": Kept(30, 1, "who has imported a file looks at what became of its rows"),
    "refusals": Kept(30, 1, "who was refused with a valet key, counted by day"),
    "trail": Kept(None, 1, "who was allowed what with a valet key is evidence"),
    "quarantine": Kept(30, 1, "an upload that was not what its key says can be looked into"),
    "uploads": Kept(None, 1, "a visible object is its owner's until it is withdrawn or erased"),
    "documents": Kept(None, 1, "invoices are kept for as long as tax law says"),
}


def seconds(name: str) -> int | None:
    """How long a kind is kept in this deployment, in seconds; None for good."""
    days = os.environ.get(variable(name)) or KINDS[name].days
    return None if days is None else int(days) * DAY


def for_a_time(name: str) -> int:
    """The same of a kind that is never kept for good."""
    found = seconds(name)
    assert found is not None, f"{name} has a number of days"
    return found


def variable(name: str) -> str:
    """The environment variable of a kind."""
    return f"RETAIN_{name.upper()}"


def parse(name: str, text: str) -> int:
    """The days that a context says.

    Raises:
        ValueError: It is not a number of days that the kind can have.
    """
    least = KINDS[name].least
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= MOST):
        raise ValueError(f"must be {least} to {MOST} days, got {text!r}: {KINDS[name].why}")
    return int(text)
