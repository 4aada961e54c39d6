"""`recourse import`: a saga for each row of a file, with a bar; the same file again goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from recourse.cli.api import POLL_INTERVAL, Api, ApiError, Found, segment
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    connected,
    err,
    out,
)
from recourse.cli.completing import Coordination, saga_names
from recourse.cli.exits import Exit, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.valet import uploaded
from recourse.valet.types import guess

KINDS = ("text/csv", "application/x-ndjson")
SHOWN = 20
"""How many bad rows are printed."""


def import_file(
    file: Annotated[Path, typer.Argument(help="The file: CSV, or JSON Lines (.jsonl, .ndjson).")],
    saga: Annotated[
        str,
        typer.Option(help="Name of the saga that each row starts.", autocompletion=saga_names),
    ],
    object_name: Annotated[
        str | None,
        typer.Option("--object", help="Its name in your space; the file's name by default."),
    ] = None,
    coordination: Coordination = None,
    tolerated_failures: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="Percent of the rows that may be bad or fail before it stops."
        ),
    ] = 100,
    concurrency: Annotated[
        int, typer.Option(min=1, max=20, help="How many batches of 45 rows to start at once.")
    ] = 4,
    key: Annotated[
        str | None, typer.Option(help="Idempotency-Key; by default by the file and the saga.")
    ] = None,
    wait: Annotated[int, typer.Option(min=0, help="Seconds to wait until all are started.")] = 3600,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Start a saga for each row of a file; needs the scope `valet:issue` besides `sagas:write`.

    The file is uploaded by a valet key. Its first line names the columns, which are fields of the
    request (`flight.id`); JSON Lines have a request in each line. Bad rows are named, and the good
    ones run. The same file again starts nothing twice: what was stopped or interrupted goes on.

    Example: recourse import trips.csv --saga travel-booking

    Exit codes: 0 every row has its saga; 1 nothing of the file could be imported; 3 some rows are
    bad or not started; 4 still at work after --wait; others as for all commands (docs/cli.md).
    """
    kind = guess(file.name)
    if kind not in KINDS:
        raise UsageError(f"{file} must be a .csv, .jsonl or .ndjson, got {kind}")
    with connected(api, token) as client:
        done = uploaded(client, api, file, object_name or file.name)
        asked = {
            "saga": saga,
            "object": done["object"],
            "tolerated_failures": tolerated_failures,
            "concurrency": concurrency,
        } | ({"coordination": coordination} if coordination else {})
        # What is asked for is part of the key: other settings are another import of the same rows.
        settings = f"{tolerated_failures}-{concurrency}-{coordination}-{done['object']}"
        headers = {"Idempotency-Key": key or _key(saga, done["sha256"], settings)}
        found = client.ask("POST", "/imports", json=asked, headers=headers)
        if "resume" in found["links"]:
            err.print(f"resuming: {found['why'] or 'some rows were not started'}")
            found = client.ask("POST", found["links"]["resume"])
        try:
            found = Found(_followed(client, found, wait))
        except KeyboardInterrupt:
            err.print("it goes on: the same command follows it")
            raise
    if as_json:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(_exit_code(found))


def _key(saga: str, sha256: str, settings: str) -> str:
    text = json.dumps([saga, sha256, settings])
    return f"import-{hashlib.sha256(text.encode()).hexdigest()}"


def _followed(client: Api, found: Mapping[str, Any], wait: int) -> Mapping[str, Any]:
    """An import at rest, or as it is when the time is up."""
    until = time.monotonic() + wait
    with _bar() as show:
        show(found)
        while found["status"] in ("CHECKING", "STARTING") and time.monotonic() < until:
            time.sleep(POLL_INTERVAL)
            path = f"/imports/{segment(found['import_id'])}"
            try:
                found = client.read(client.poll(path, {}))
            except ApiError as problem:
                if not problem.is_transient:
                    raise
                err.print(f"{problem}; the import goes on, and so does the look at it")
                continue
            show(found)
    return found


@contextmanager
def _bar() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar on stderr if that is a terminal; call the result with the import as it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("checking", total=None)

        def show(found: Mapping[str, Any]) -> None:
            over = found["bad"] + found["started"] + found["already_there"] + found["not_started"]
            what = "checking" if found["rows"] is None else "starting"
            bar.update(task, description=what, total=found["rows"], completed=over)

        yield show


def _print(found: Mapping[str, Any]) -> None:
    why = f": {found['why']}" if found["why"] else ""
    out.print(f"{found['import_id']} {found['status']}{why}")
    for one in found["problems"][:SHOWN]:
        where = f"line {one['line']}" + (f", {one['field']}" if one["field"] else "")
        out.print(f"  {where}: {one['why']}")
    if found["bad"] > SHOWN:
        out.print(f"  and {found['bad'] - SHOWN} more bad rows, which the result names")
    if found["rows"] is not None:
        counts = {
            "started": found["started"],
            "started before": found["already_there"],
            "bad": found["bad"],
            "not started": found["not_started"],
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        out.print(f"{found['rows']} rows: {said or 'none'}")
    if "result" in found["links"]:
        out.print(f"  result {found['links']['result']}")


def _exit_code(found: Mapping[str, Any]) -> Exit:
    if found["status"] in ("CHECKING", "STARTING"):
        return Exit.UNDER_WAY
    if found["status"] == "FAILED":
        return Exit.FAILED
    is_all = found["status"] == "COMPLETED" and not found["bad"] and not found["not_started"]
    return Exit.OK if is_all else Exit.PARTLY
