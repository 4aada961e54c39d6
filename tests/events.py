"""Events for tests: of any kind, and with whatever data the test is about."""

from __future__ import annotations

from typing import Any

from recourse.events import Event, now


def event(
    saga_id: str,
    saga: str,
    kind: str,
    *,
    step: str | None = None,
    occasion: str = "",
    id: str | None = None,
    time: str | None = None,
    sequence: int | None = None,
    **data: Any,
) -> Event:
    """An event of a saga, or of one of its steps.

    Args:
        saga_id: The saga.
        saga: Its name.
        kind: The last part of the type.
        step: The step, where it is one's.
        occasion: What tells it from another of the same type.
        id: Its id; made of all of these where it is absent.
        time: When it happened; now where it is absent.
        sequence: Its sequence, where it has one.
        data: What it says besides `step`, by the names that it has in JSON.
    """
    path = f"{step}.{kind}" if step else kind
    return Event(
        id=id or f"{saga_id}.{path}{'.' if occasion else ''}{occasion}",
        saga_id=saga_id,
        saga=saga,
        step=step,
        kind=kind,
        time=time or now(),
        source=f"/sagas/{saga}",
        data=({"step": step} if step else {}) | data,
        sequence=sequence,
    )
