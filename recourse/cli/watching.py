"""Follows a saga: a live timeline on a terminal, lines in a pipe, JSON Lines with `--json`.

::

    raise typer.Exit(follow(out, client, saga_id, as_json=False))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from recourse.cli.api import Api, is_at_rest
from recourse.cli.exits import Exit
from recourse.cli.json_output import print_json_line
from recourse.cli.screen import Screen
from recourse.cli.timeline import (
    MARKS,
    deciding,
    detail,
    ending,
    lasted,
    links,
    print_timeline,
    since,
    waiting,
)
from recourse.cli.visible import visible

REFRESHES = 4
"""How often in a second a live timeline is drawn anew: its clocks run."""
UNDER_WAY: Mapping[str, tuple[str, str]] = {
    "RUNNING": ("▸", "cyan"),
    "UNDOING": ("↺", "yellow"),
    "PENDING": ("·", "bright_black"),
}
UNDO = "yellow"
"""The colour of whatever is about an undo."""


def follow(screen: Screen, client: Api, saga_id: str, as_json: bool) -> Exit:
    """Show what happens to a saga until it ends or needs an operator; what to end with.

    An API that goes away for a while is polled until it is back, from where it was left.

    Raises:
        ApiError: The API refused, or was away for longer than that.
    """
    saga: Mapping[str, Any] = {}
    changes = client.follow(saga_id)
    if as_json:
        for saga in changes:
            print_json_line(saga)
    else:
        screen.print(saga_id)
        is_live = screen.is_terminal and not screen.is_dumb_terminal
        saga = _live(screen, client, changes) if is_live else print_timeline(screen, changes)
    return Exit.OK if saga["status"] == "SUCCEEDED" else Exit.FAILED


def _live(screen: Screen, client: Api, changes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Draw a saga, and draw it anew while it goes on; what has become of it."""
    shown = Picture()
    said: set[str] = set()
    drawn = Live(get_renderable=shown.draw, console=screen, refresh_per_second=REFRESHES)
    with drawn:
        client.say = screen.print  # above what is drawn, which stays in its place
        for saga in changes:
            shown.saga = saga
            # What people copy is above, where no line is cut or folded.
            for line in (*links(saga), *_decisions(saga)):
                if line not in said:
                    said.add(line)
                    screen.print(f"  {line}")
            drawn.refresh()
    screen.print(ending(shown.saga))
    return shown.saga


def _decisions(saga: Mapping[str, Any]) -> list[str]:
    return [deciding(saga, step) for step in saga["steps"] if "question" in step]


class Picture:
    """A saga as a table, in which the clocks of what is under way run.

    Attributes:
        saga: It, as it was last heard of; empty at first.
    """

    def __init__(self) -> None:
        self.saga: Mapping[str, Any] = {}

    def draw(self) -> RenderableType:
        """It, now."""
        if not self.saga:
            return _text("…", "bright_black")
        rows = Table.grid(Column(justify="right"), *(Column() for _ in range(4)), padding=(0, 2))
        for step in self.saga["steps"]:
            for row in self._rows(step):
                rows.add_row(*row)
        lines: list[RenderableType] = [rows]
        if not is_at_rest(self.saga):
            lines.insert(0, self._head())
        return Group(*lines)

    def _head(self) -> Text:
        saga, style = self.saga, UNDO if self.saga["status"] == "COMPENSATING" else "bold"
        head = _text(f"{saga['saga']} ").append(_text(saga["status"], style))
        if reason := saga["reason"]:
            head.append(_text(f": {reason['step']}: {reason['error']}", "red"))
        return head

    def _rows(self, step: Mapping[str, Any]) -> list[tuple[Text, ...]]:
        """The row of a step's action, and that of its undo where there is one."""
        status = step["status"]
        is_undo = status in ("UNDOING", "UNDONE", "UNDO_FAILED")
        # By the time of its undo a step has acted or failed; the API says no more when that ended.
        action = {"FAILED": "FAILED"}.get(status, "FAILED" if step["error"] else "DONE")
        rows = [self._row(step, action if is_undo else status, step["attempts"], is_undo=False)]
        if is_undo:
            rows.append(self._row(step, status, step["undo_attempts"], is_undo=True))
        return rows

    def _row(
        self, step: Mapping[str, Any], status: str, attempts: int, *, is_undo: bool
    ) -> tuple[Text, ...]:
        mark, style = MARKS.get(status) or UNDER_WAY[status]
        style = UNDO if is_undo and status != "UNDO_FAILED" else style
        has_undo = step["status"] in ("UNDOING", "UNDONE", "UNDO_FAILED")
        ended = None if has_undo and not is_undo else step["ended_at"]
        about = waiting(step) if "question" in step or "begins_at" in step else ""
        if until := step.get("question", {}).get("answer_by") or step.get("begins_at"):
            about += f" ({_left(until)})"
        elif status == step["status"] or not is_undo:
            about = detail({**step, "status": status})
        return (
            _text(since(self.saga, ended), "bright_black"),
            _text(f"{mark} {'undo of ' if is_undo else ''}{step['name']}", style),
            _text(status, style),
            _text(self._took(step, status, attempts, has_undo=has_undo), "bright_black"),
            _text(about, "cyan" if until else "bright_black"),
        )

    def _took(self, step: Mapping[str, Any], status: str, attempts: int, *, has_undo: bool) -> str:
        tries = f"{attempts} attempts" if attempts > 1 else ""
        seconds = None if has_undo else lasted(step)
        if status == "RUNNING" and step["started_at"]:
            begun = datetime.fromisoformat(step["started_at"])
            seconds = max(0.0, (datetime.now(UTC) - begun).total_seconds())
        took = "" if seconds is None else f"{seconds:.2f} s"
        return ", ".join(part for part in (took, tries) if part)


def _text(text: str, style: str = "") -> Text:
    """Text of others, made visible here: a screen does not look into a table for it."""
    return Text(visible(text), style)


def _left(until: str) -> str:
    """How long it is until a moment, in words."""
    seconds = round((datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds())
    if seconds <= 0:
        return "its time is up"
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h left"
    if hours:
        return f"{hours} h {minutes} min left"
    return f"{minutes} min {seconds % 60} s left" if minutes else f"{seconds} s left"
