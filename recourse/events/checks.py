"""The validation of a message that should be an event: all that its consumers rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recourse.declare.limits import cut
from recourse.errors import UnreadableError

STEP_KINDS = ("done", "failed", "undone", "undo_failed", "asked", "reminded", "later", "due")
SAGA_KINDS = ("started", "succeeded", "compensated", "compensation_failed")
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading JSON raises where its shape is not the expected one."""
_CARRIED = ("saga", "request", "results")
_DATA: dict[str, tuple[Any, str]] = {
    "run": (int, "a number"),
    "outcome": (str, "a text"),
    "attempts": (int, "a number"),
    "entered_at": ((str, type(None)), "a text or null"),
    "error": (dict, "an object"),
    "question": (dict, "an object"),
    "answer": (dict, "an object"),
    "follows": (list, "a list"),
    "carried": (dict, "an object"),
    "shape": (str, "a text"),
    "due_at": (str, "a text"),
}
"""The types of the fields of an event's data, where they are there, and these types in words."""


def unreadable(name: str, right: str, found: Any) -> UnreadableError:
    """The error for a part of a message that is not what it must be."""
    shown = repr(found) if isinstance(found, str | int) else type(found).__name__
    why = f"its {name} must be {right}, got {cut(shown)}"
    return UnreadableError(f"this is not an event of a saga: {why}")


def check(step: str | None, kind: str, data: Mapping[str, Any]) -> None:
    """Check that the data of an event has the types of such events.

    Args:
        step: The step, where it is about one.
        kind: What has happened.
        data: The data of the event.

    Raises:
        UnreadableError: It is not such an event; the message says why.
    """
    kinds = SAGA_KINDS if step is None else STEP_KINDS
    if kind not in kinds:
        raise unreadable("kind", f"one of {', '.join(kinds)}", kind)
    for name, value in data.items():
        if (right := _DATA.get(name)) and not isinstance(value, right[0]):
            raise unreadable(name, right[1], value)
    follows, error = data.get("follows", ()), data.get("error", {})
    if not all(isinstance(kind, str) for kind in follows):
        raise unreadable("follows", "a list of kinds", follows)
    if kind in ("failed", "undo_failed") and not (
        isinstance(error.get("type"), str) and isinstance(error.get("message"), str)
    ):
        raise unreadable("error", "a type and a message", error)
    question = data.get("question", {})
    if kind in ("asked", "reminded") and not all(
        isinstance(question.get(name), str) for name in ("name", "answer_by")
    ):
        raise unreadable("question", "a name and an answer_by", question)
    if kind == "later" and "due_at" not in data:
        raise unreadable("due_at", "there", None)
    carried = data.get("carried")
    if carried is not None and not all(isinstance(carried.get(n), dict) for n in _CARRIED):
        raise unreadable("carried", f"an object of {', '.join(_CARRIED)}", carried)
