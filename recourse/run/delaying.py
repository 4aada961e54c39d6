"""A step that is done later: its marker is `later` until it is due.

::

    delayed(task, barrier, acted, now, timescale)   # the marker, while the step is not due
"""

from __future__ import annotations

from datetime import datetime

from recourse.declare.later import Later
from recourse.declare.step import Decision, Item
from recourse.events import moment
from recourse.run.barrier import LATER, Barrier
from recourse.run.task import Task


def delayed(
    task: Task, barrier: Barrier, acted: Item | None, now: datetime, timescale: float
) -> Item | None:
    """The marker of a step that is not due, which is put when its saga first comes to it.

    Args:
        task: The task of its action.
        barrier: The step's barrier.
        acted: The marker of its action that was read.
        now: The time.
        timescale: What a delay is multiplied by.

    Returns:
        None where the step is due.

    Raises:
        MarkerFound: Another delivery has put it.
    """
    if acted is not None:
        return acted if is_early(acted, now) else None
    if task.later is None:
        return None
    due_at = Later(**task.later).due(task.request, now, timescale)
    if due_at <= now:
        return None
    event = task.event("later", due_at=moment(due_at))
    marker = {**LATER, "at": event.time, "due_at": event.due_at}
    return barrier.commit("action", marker, Decision(), outbox=[task.outbox_row(event)])


def is_early(marker: Item, now: datetime) -> bool:
    """Whether a marker says that its action is not due."""
    return marker["outcome"] == "later" and datetime.fromisoformat(marker["due_at"]) > now
