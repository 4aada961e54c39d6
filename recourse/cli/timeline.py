"""Prints a saga's timeline and its events, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from recourse import Money
from recourse.cli.api import ApiError, is_at_rest
from recourse.cli.json_output import print_json
from recourse.errors import UnreadableError
from recourse.events import Event

MARKS = {
    "DONE": ("✓", "green"),
    "FAILED": ("✗", "red"),
    "UNDONE": ("↺", "yellow"),
    "SKIPPED": ("-", "bright_black"),
    "UNDO_FAILED": ("!", "bold red"),
}
ENDINGS = {
    "SUCCEEDED": ("all steps done", "bold green"),
    "COMPENSATED": ("all effects undone", "bold yellow"),
    "COMPENSATION_FAILED": ("an undo failed; waiting for `recourse resolve`", "bold red"),
    "RUNNING": ("a step after the pivot is stuck; waiting for `recourse resolve`", "bold red"),
}


def print_status(console: Console, saga: Mapping[str, Any], as_json: bool) -> None:
    """Print a saga's id and status, or all of it as JSON."""
    if as_json:
        print_json(saga)
    else:
        console.print(f"{saga['saga_id']} {saga['status']}")


def print_timeline(console: Console, changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Print what happens to a saga, and return its last state.

    Args:
        console: Where to print.
        changes: The saga after each change.
    """
    printed: dict[str, str] = {}
    done: set[str] = set()
    asked: set[str] = set()
    status = ""
    saga: Mapping[str, Any] = {}
    said: set[str] = set()
    for saga in changes:
        for line in links(saga):
            if line not in said:
                said.add(line)
                console.print(f"  {line}", highlight=False)
        moved = [step for step in saga["steps"] if printed.get(step["name"]) != step["status"]]
        moved.sort(key=lambda step: step["ended_at"] or "9")
        for step in saga["steps"]:
            if "question" in step and step["name"] not in asked:
                asked.add(step["name"])
                console.print(_asking(saga, step), soft_wrap=True)
            if "begins_at" in step and step["name"] not in asked:
                asked.add(step["name"])
                console.print(f"          {waiting(step)}", soft_wrap=True)
        for step in moved:
            if step["status"] == "UNDONE" and step["name"] not in done:
                console.print(_line(saga, {**step, "status": "DONE", "ended_at": None}))
            printed[step["name"]] = step["status"]
            if step["status"] == "DONE":
                done.add(step["name"])
            if step["status"] in MARKS:
                console.print(_line(saga, step), soft_wrap=True)
        if saga["status"] != status:
            status = saga["status"]
            if status == "COMPENSATING" and saga["reason"]:
                reason = saga["reason"]
                console.print(
                    f"          compensating: {reason['step']} failed with {reason['error']}",
                    style="yellow",
                    highlight=False,
                    soft_wrap=True,
                )
        if is_at_rest(saga):
            console.print(ending(saga), soft_wrap=True)
    return dict(saga)


def links(saga: Mapping[str, Any]) -> list[str]:
    """When it begins, which saga it reverses, and which one reverses it, in words."""
    lines = []
    if begins := begins_later(saga):
        lines.append(f"begins at {begins}; until then `recourse cancel` has no effect to undo")
    if reverses := saga.get("reverses"):
        why = f": {reverses['reason']}" if reverses["reason"] else ""
        lines.append(f"reverses {reverses['saga_id']}, asked for by {reverses['by']}{why}")
    if saga.get("reversed_by"):
        lines.append(f"reversed by {saga['reversed_by']}")
    return lines


def begins_later(saga: Mapping[str, Any]) -> str | None:
    """When a saga begins that has not begun; None for any other."""
    steps = {step["status"] for step in saga["steps"]}
    has_come = any("begins_at" in step for step in saga["steps"])  # to a step that is not due
    is_waiting = saga["status"] == "RUNNING" and steps <= {"PENDING", "SKIPPED"} and not has_come
    return saga.get("begins_at") if is_waiting else None


def event_of(found: Any) -> Event:
    """The event that the API shows.

    Raises:
        ApiError: It is not an event that this version knows.
    """
    try:
        return Event.from_dict(found)
    except UnreadableError as problem:
        raise ApiError(f"{problem}: try a newer version, or --json") from problem


def print_event(console: Console, event: Event) -> None:
    """Print an event of a saga."""
    error = event.error
    line = Text(f"{event.time} {event.saga_id} {event.saga} ")
    line.append(f"{event.sequence or '':>3} {event.path:<20}", style="red" if error else "")
    if error:
        line.append(f" {error['type']}: {error['message']}", style="bright_black")
    elif isinstance(event.result, dict):
        shown = {"status": "DONE", "error": None, "result": event.result}
        line.append(f" {detail(shown)}", style="bright_black")
    console.print(line, soft_wrap=True)


def _line(saga: Mapping[str, Any], step: Mapping[str, Any]) -> Text:
    mark, style = MARKS[step["status"]]
    line = Text(f"  {since(saga, step['ended_at']):>7} ")
    line.append(f"{mark} {step['name']:<10} {step['status']:<12}", style=style)
    is_undo = step["status"] in ("UNDONE", "UNDO_FAILED")
    attempts = step["undo_attempts" if is_undo else "attempts"]
    if attempts > 1:
        line.append(f" in {attempts} attempts", style="bright_black")
    if not is_undo and (took := lasted(step)) is not None:
        line.append(f" {took:.2f} s", style="bright_black")
    line.append(f" {detail(step)}", style="bright_black")
    return line


def ending(saga: Mapping[str, Any]) -> Text:
    """What has become of a saga that has ended, or waits for an operator."""
    text, style = ENDINGS[saga["status"]]
    return Text(f"  {since(saga, saga['ended_at']):>7} {saga['status']}: {text}", style=style)


def waiting(step: Mapping[str, Any]) -> str:
    """What a step waits for: who decides, and until when; or only until when."""
    if asked := step.get("question"):
        who = asked.get("to") or f"anybody who decides {asked['name']}"
        return f"{step['name']} waits for {who} to decide until {asked['answer_by']}"
    return f"{step['name']} waits until {step['begins_at']}"


def lasted(step: Mapping[str, Any]) -> float | None:
    """How many seconds a step took that has acted or failed; None where that is not known."""
    if not step["started_at"] or not step["ended_at"]:
        return None
    begun, ended = (datetime.fromisoformat(step[name]) for name in ("started_at", "ended_at"))
    return max(0.0, (ended - begun).total_seconds())  # two clocks have told them


def deciding(saga: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    """The command that decides what a step waits for."""
    return f"recourse decide {step['question']['name']} {saga['saga_id']} approve"


def _asking(saga: Mapping[str, Any], step: Mapping[str, Any]) -> Text:
    """That a step waits for somebody, and how they decide."""
    line = Text(f"  {since(saga, step['question']['asked_at']):>7} ? {waiting(step)}: ")
    return line.append(deciding(saga, step), style="cyan")


def detail(step: Mapping[str, Any]) -> str:
    """The error of a step that failed, or what its result is about."""
    if step["error"] and step["status"] in ("FAILED", "UNDO_FAILED"):
        return f"{step['error']}: {step['message']}"
    result = step["result"]
    if step["status"] != "DONE" or not isinstance(result, dict):
        return ""
    amount = _money(result.get("price")) or _money(result.get("amount"))
    parts = [str(result[name]) for name in ("invoice_id", "quantity") if name in result]
    if "quantity" in result:
        parts[-1] = f"{result['quantity']} held"
    if amount:
        parts.append(amount.shown())
    return ", ".join(parts)


def _money(said: Any) -> Money | None:
    """An amount in a result, which may be anything: another's step may call a number `price`."""
    try:
        return Money.of(dict(said))  # plain: a field that is missing here is not an error
    except (KeyError, TypeError, ValueError):
        return None


def since(saga: Mapping[str, Any], moment: str | None) -> str:
    """A moment as seconds from the beginning of a saga on; nothing for none."""
    if moment is None:
        return ""
    begun = datetime.fromisoformat(max(saga["started_at"], saga.get("begins_at", "")))
    return f"{(datetime.fromisoformat(moment) - begun).total_seconds():.2f} s"
