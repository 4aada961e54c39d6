"""Since when a thing is held, and by how many: kept in the row that each hold writes anyway.

A hold adds one to an attribute of the thing's row that is named for its moment, and whatever ends
the hold takes that one away again. So the row itself has the oldest hold and the number of holds,
with no further write, row or index, and as consistent as what is held. Where many hold a thing at
once, holds that begin close together share an attribute, whose moment is that of the first:
attributes stay few however many hold it.

One that counts nothing any more stays, 33 at the most, and is removed by a later hold, on the
condition that it still counts nothing. Whatever ends a hold does not remove it, for these reasons:

- An update of DynamoDB removes an attribute always or, by the condition of its transaction, not at
  all. So the end of a hold would have to know that it is the last that its attribute counts (the
  thing's row read besides the hold's: twice the read capacity of each release and confirmation),
  and would be decided again wherever that has changed since. As it is, ends only add, so any number
  of them that were decided at once are all committed as they are.
- A hold has read the row anyway. But if each removed what it finds at 0, two that were decided at
  once would remove the same, and one would be decided again: a thing that many want would be held
  by one at a time. So it is done once in 32 holds, for all of them together.

They cost nothing: the row stays within the 1 KB that one unit writes, and `show` passes them over.

Holds that an earlier release has taken are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from recourse import Item
from recourse.events import moment

PREFIX = "held@"
"""How the attributes begin; their moment follows, in milliseconds of the epoch."""
EXACT = 16
"""How many attributes there are before holds share one: up to that, each moment is its hold's."""
MOST = 32
"""How many there are before those that count nothing are removed."""


@dataclass(frozen=True)
class Change:
    """What beginning or ending a hold changes in the thing's row; for an `Update`."""

    add: Mapping[str, int] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    when: Mapping[str, int] = field(default_factory=dict)


def begin(row: Item, quantity: int) -> tuple[int | None, Change]:
    """Begin a hold of some of a thing.

    Args:
        row: The thing's row.
        quantity: How much is held; a hold of nothing is not counted.

    Returns:
        The moment that the hold's own row keeps, to end it by; and the change of the thing's row.
    """
    if not quantity:
        return None, Change()
    now = _now()
    there = {name: count for name, count in row.items() if name.startswith(PREFIX)}
    counts = _counts(row)
    newest = max(counts, default=0)
    # The longer the list, the wider apart are two of it: it never has many more than `MOST`.
    shares = len(counts) >= EXACT and now - newest < 4 ** (len(counts) - EXACT)
    begun = newest if shares else now
    idle = [name for name in there if _moment(name) not in (*counts, begun)]
    # What counts although nothing is held was left by a release that does not know of it.
    is_left = any(there[name] for name in idle)
    remove = tuple(name for name in idle if is_left or len(there) >= MOST)
    return begun, Change({f"{PREFIX}{begun}": 1}, remove, {name: there[name] for name in remove})


def end(begun: int | None) -> Change:
    """End a hold that began at a moment; None where it is not counted."""
    return Change() if begun is None else Change({f"{PREFIX}{begun}": -1})


def show(row: Item) -> dict[str, Any]:
    """Since when a thing is held, and by how many, as the API shows it."""
    counts = _counts(row)
    since = moment(datetime.fromtimestamp(min(counts) / 1000, UTC)) if counts else None
    return {"held_since": since, "held_by": sum(counts.values())}


def _counts(row: Item) -> dict[int, int]:
    """How many holds there are, by moment; none where nothing is held."""
    if not row["held"]:
        return {}
    named = ((name, count) for name, count in row.items() if name.startswith(PREFIX))
    return {_moment(name): count for name, count in named if count > 0}


def _now() -> int:
    """The current moment, in milliseconds of the epoch."""
    return int(datetime.now(UTC).timestamp() * 1000)


def _moment(name: str) -> int:
    return int(name.removeprefix(PREFIX))
