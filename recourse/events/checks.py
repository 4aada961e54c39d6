"""What is checked of a message before it is taken for an event: all that who takes it relies on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recourse.limits import cut
from recourse.message import PoisonError

if TYPE_CHECKING:
    from recourse.events.event import Event
    from recourse.saga import Saga

STEP_KINDS = ("done", "failed", "undone", "undo_failed")
SAGA_KINDS = ("started", "succeeded", "compensated", "compensation_failed")
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading JSON of any shape raises where it is another one."""
_CARRIED = ("saga", "request", "results")
_DATA: dict[str, tuple[Any, str]] = {
    "run": (int, "a number"),
    "outcome": (str, "a text"),
    "attempts": (int, "a number"),
    "entered_at": ((str, type(None)), "a text or null"),
    "error": (dict, "an object"),
    "follows": (list, "a list"),
    "carried": (dict, "an object"),
}
"""The types of what an event says, where it does, and these in words."""


class UnreadableError(PoisonError):
    """A message that is no event: trying again will not make it one."""


def unreadable(name: str, right: str, found: Any) -> UnreadableError:
    """That a part of a message is not what it must be."""
    shown = repr(found) if isinstance(found, str | int) else type(found).__name__
    why = f"its {name} must be {right}, got {cut(shown)}"
    return UnreadableError(f"this is no event of a saga: {why}")


def check(event: Event, sagas: Mapping[str, Saga]) -> None:
    """Check that an event is one of a saga, and says what such events say.

    Raises:
        UnreadableError: It does not; the message says why.
    """
    declared, data = sagas.get(event.saga), event.data
    if declared is None:
        raise unreadable("saga", "declared", event.saga)
    if event.step is not None and event.step not in declared.by_name:
        raise unreadable("step", f"one of {event.saga}", event.step)
    kinds = SAGA_KINDS if event.step is None else STEP_KINDS
    if event.kind not in kinds:
        raise unreadable("kind", f"one of {', '.join(kinds)}", event.kind)
    for name, value in data.items():
        if (right := _DATA.get(name)) and not isinstance(value, right[0]):
            raise unreadable(name, right[1], value)
    if not all(isinstance(kind, str) for kind in event.follows):
        raise unreadable("follows", "a list of kinds", event.follows)
    if event.kind in ("failed", "undo_failed") and not (
        isinstance(event.error.get("type"), str) and isinstance(event.error.get("message"), str)
    ):
        raise unreadable("error", "a type and a message", event.error)
    if "carried" in data and not all(isinstance(event.carried.get(n), dict) for n in _CARRIED):
        raise unreadable("carried", f"an object of {', '.join(_CARRIED)}", event.carried)
