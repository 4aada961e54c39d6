"""`recourse redrive`: dead-letter queues, pass after pass until each is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from recourse.cli.api import Api, segment
from recourse.cli.command import LOCAL, ApiUrl, AsJson, Token, connected, err, out
from recourse.cli.json_output import print_json
from recourse.cli.screen import Screen, identity

SHOWN = 5
"""How many reasons and sagas of a queue are printed."""


def redrive(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Dead-letter queues; all by default."),
    ] = None,
    saga: Annotated[
        str | None, typer.Option(help="Only messages about the saga with this id.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the messages and their reasons; move nothing.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show the dead-letter queues and redrive them; needs the scope `operator`.

    Each message goes back to its source queue and is processed as if it were new.

    Example: recourse redrive Parked --dry-run
    """
    with connected(api, token) as client:
        queues = client.get("/deadletters")["items"]
        if not names and not as_json:
            print_queues(out, queues)
        waiting = {one["name"]: one["waiting"] or 0 for one in queues}
        asked = names or [one["name"] for one in queues if one["waiting"] and not one["why_not"]]
        redriven = []
        for name in dict.fromkeys(asked):
            done = redrive_queue(
                client,
                name,
                waiting.get(name, 0),
                saga_id=saga,
                dry_run=dry_run,
                say=err.print,
            )
            redriven.append(done)
            if not as_json:
                print_redriven(out, done)
    if as_json:
        print_json({"items": queues, "redriven": redriven})
    elif not any(done["matched"] for done in redriven):
        out.print("nothing to redrive" + (f" for saga {saga}" if saga else ""))


def redrive_queue(
    client: Api,
    name: str,
    waiting: int,
    *,
    saga_id: str | None,
    dry_run: bool,
    say: Callable[[str], None],
) -> Mapping[str, Any]:
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
    total: Mapping[str, Any] | None = None
    while True:
        done = client.ask(
            "POST",
            f"/deadletters/{segment(name)}/redrive",
            json={"saga_id": saga_id, "dry_run": dry_run},
        )
        total = _added(total, done)
        if dry_run:
            return total
        say(f"{name}: {total['moved']} moved, {total['left']} left")
        if not done["moved"] or not done["left"] or total["looked_at"] >= waiting:
            return total


def _added(total: Mapping[str, Any] | None, done: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sum of two passes."""
    if total is None:
        return done
    summed = {name: total[name] + done[name] for name in ("looked_at", "matched", "moved")}
    for name, key in (("reasons", "reason"), ("sagas", "saga_id")):
        counts = {one[key]: one["count"] for one in total[name]}
        for one in done[name]:
            counts[one[key]] = counts.get(one[key], 0) + one["count"]
        summed[name] = [{key: value, "count": count} for value, count in counts.items()]
    return {**done, **summed}


def print_queues(console: Screen, queues: Sequence[Mapping[str, Any]]) -> None:
    """Print every dead-letter queue, and why messages in some cannot be redriven."""
    table = Table(identity("dead-letter queue"), "waiting", identity("redrives to"))
    for one in queues:
        waiting = "out of reach" if one["waiting"] is None else str(one["waiting"])
        table.add_row(one["name"], waiting, one["redrives_to"] or "-")
    console.print_table(table)
    for one in queues:
        if one["waiting"] and one["why_not"]:
            console.print(f"{one['name']} cannot be redriven: {one['why_not']}")


def print_redriven(console: Screen, done: Mapping[str, Any]) -> None:
    """Print the result of one queue."""
    if done["dry_run"]:
        console.print(f"{done['name']}: {done['matched']} would be moved")
    else:
        console.print(f"{done['name']}: {done['moved']} moved, {done['left']} left")
    if done["looked_at"] < (rested := done["moved"] + done["left"]):
        console.print(f"  {done['looked_at']} of {rested} were examined: run it again for the rest")
    for one in done["reasons"][:SHOWN]:
        console.print(f"  {one['count']} x {one['reason']}")
    sagas = [one["saga_id"] or "no saga" for one in done["sagas"]]
    if sagas:
        more = f", and {len(sagas) - SHOWN} more" if len(sagas) > SHOWN else ""
        console.print(f"  sagas: {', '.join(sagas[:SHOWN])}{more}")
