"""Redrives dead-letter queues through the API: pass after pass, until a queue is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from cli.api import Api

SHOWN = 5
"""How many reasons and sagas of a queue are printed."""


def redrive(
    client: Api,
    name: str,
    waiting: int,
    *,
    saga_id: str | None,
    dry_run: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Redrive one queue to its end; the sum of all passes.

    Messages that are dead-lettered again meanwhile stay: no more are examined than were waiting
    at first.

    Args:
        client: The API.
        name: The queue.
        waiting: How many messages were waiting at first.
        saga_id: Only messages about this saga.
        dry_run: Look at them in one pass, and move nothing.
        say: Called with a line of progress after each pass.
    """
    total: dict[str, Any] = {}
    while True:
        done = client.call(
            "POST",
            f"/deadletters/{quote(name, safe='')}/redrive",
            json={"saga_id": saga_id, "dry_run": dry_run},
        ).json()
        total = _added(total, done)
        if dry_run:
            return total
        say(f"{name}: {total['moved']} moved, {total['left']} left")
        if not done["moved"] or not done["left"] or total["looked_at"] >= waiting:
            return total


def _added(total: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two passes."""
    if not total:
        return dict(done)
    summed = {name: total[name] + done[name] for name in ("looked_at", "matched", "moved")}
    for name, key in (("reasons", "reason"), ("sagas", "saga_id")):
        counts = {one[key]: one["count"] for one in total[name]}
        for one in done[name]:
            counts[one[key]] = counts.get(one[key], 0) + one["count"]
        summed[name] = [{key: value, "count": count} for value, count in counts.items()]
    return {**done, **summed}


def print_queues(console: Console, queues: Sequence[Mapping[str, Any]]) -> None:
    """Print every dead-letter queue, and why messages in some cannot be redriven."""
    table = Table("dead-letter queue", "waiting", "redrives to")
    for one in queues:
        table.add_row(one["name"], str(one["waiting"]), one["redrives_to"] or "-")
    console.print(table)
    for one in queues:
        if one["waiting"] and one["why_not"]:
            console.print(f"{one['name']} cannot be redriven: {one['why_not']}", markup=False)


def print_redriven(console: Console, done: Mapping[str, Any]) -> None:
    """Print the result of one queue."""
    if done["dry_run"]:
        console.print(f"{done['name']}: {done['matched']} would be moved", markup=False)
    else:
        console.print(f"{done['name']}: {done['moved']} moved, {done['left']} left", markup=False)
    if done["looked_at"] < (rested := done["moved"] + done["left"]):
        console.print(f"  {done['looked_at']} of {rested} were examined: run it again for the rest")
    for one in done["reasons"][:SHOWN]:
        console.print(f"  {one['count']} x {one['reason']}", markup=False)
    sagas = [one["saga_id"] or "no saga" for one in done["sagas"]]
    if sagas:
        more = f", and {len(sagas) - SHOWN} more" if len(sagas) > SHOWN else ""
        console.print(f"  sagas: {', '.join(sagas[:SHOWN])}{more}", markup=False)
