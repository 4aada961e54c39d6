"""`recourse`: start, watch and operate sagas from the command line."""

from __future__ import annotations

import io
import json
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from recourse.cli import valet
from recourse.cli.api import MOST_EMPTY_PAGES, segment
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    connected,
    err,
    help_of,
    out,
    skipping,
)
from recourse.cli.compiling import compile_sagas
from recourse.cli.completing import STATUSES, Coordination, saga_names, statuses
from recourse.cli.deciding import decide, questions
from recourse.cli.deploying import PASSES_ON, deploy, destroy
from recourse.cli.doctor import doctor
from recourse.cli.erase import erase
from recourse.cli.exits import UsageError
from recourse.cli.importing import import_file
from recourse.cli.json_output import print_json, print_json_line
from recourse.cli.local_cloud import token, up
from recourse.cli.login import login, logout
from recourse.cli.new_app import new
from recourse.cli.opening import open_console
from recourse.cli.redrive import redrive
from recourse.cli.resolving import resolve
from recourse.cli.reverse import reverse
from recourse.cli.running import Commands
from recourse.cli.screen import identity
from recourse.cli.seeding import seed
from recourse.cli.timeline import begins_later, event_of, links, print_event, print_status
from recourse.cli.trace import trace
from recourse.cli.upgrade import upgrade
from recourse.cli.watching import follow
from recourse.cli.worker import worker
from recourse.text import moment

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run and operate sagas: distributed transactions whose every step can be undone.",
    epilog="Locally: `make up` in one terminal, then `recourse login`, or without a "
    "browser `export RECOURSE_TOKEN=$(recourse token --subject asha)`. Exit codes and --json: "
    "docs/cli.md.",
)
SagaId = Annotated[str, typer.Argument(help="The saga's id.")]
LONGEST_KEY = 255


def _say_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"recourse {version('recourse-aws')}")
        raise typer.Exit


@app.callback()
def prepare(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Let a terminal that cannot show a character have its escape, rather than no output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def start(
    saga: Annotated[
        str,
        typer.Argument(
            help="Name of the saga, for example travel-booking.", autocompletion=saga_names
        ),
    ],
    request: Annotated[
        str, typer.Option(help="File with the request as JSON; - for standard input.")
    ],
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; a new one by default.")] = None,
    chaos: Annotated[
        str | None, typer.Option(help="Faults to inject, for example hotel=reject,payment=crash:1.")
    ] = None,
    coordination: Coordination = None,
    not_before: Annotated[
        str | None,
        typer.Option(help="When it begins, for example 2026-12-24T18:05:00+05:30; by default now."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the saga until it ends.")] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Start a saga.

    Example: recourse start travel-booking --request samples/travel-booking.json --watch

    Exit codes with --watch: 0 SUCCEEDED; 1 COMPENSATED, or it waits for an operator.
    """
    if key is None:
        key = str(uuid.uuid4())
    elif not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise UsageError(
            f"--key must be 1 to {LONGEST_KEY} printable characters of ASCII, the same for a "
            f"retry, got {key!a:.80}"
        )
    if not_before is not None:
        try:
            moment(not_before)
        except ValueError as problem:
            raise UsageError(f"--not-before {problem}") from None
    body = _read(request)
    with connected(api, token) as client:
        started = client.start(
            saga, body, key=key, chaos=chaos, coordination=coordination, not_before=not_before
        )
        if watch:
            raise typer.Exit(follow(out, client, started["saga_id"], as_json))
    print_status(out, started, as_json)


def show(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Show a saga and its steps.

    Example: recourse show 914d778eba9db48da737e287d928ea3d
    """
    with connected(api, token) as client:
        saga = client.get(f"/sagas/{segment(saga_id)}")
    if as_json:
        print_json(saga)
        return
    out.print(f"{saga['saga']} {saga['saga_id']}:", Text(saga["status"], "bold"))
    out.print(f"  {saga['business_key']}, owner {saga['owner']}, started {saga['started_at']}")
    if saga["reason"]:
        reason = saga["reason"]
        out.print(f"  reason: {reason['step']}: {reason['error']}: {reason['message']}")
    for line in links(saga):
        out.print(f"  {line}")
    table = Table(identity("step"), "status", "attempts", "undo attempts", "result or error")
    for step in saga["steps"]:
        table.add_row(
            step["name"],
            step["status"],
            str(step["attempts"]),
            str(step["undo_attempts"]),
            f"{step['error']}: {step['message']}" if step["error"] else json.dumps(step["result"]),
        )
    out.print_table(table)


def watch(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Follow a saga until it ends or needs an operator.

    On a terminal its timeline is drawn anew as it goes on; in a pipe each step is a line; with
    --json each state of the saga is one. An API that is away for a while is waited for.

    Example: recourse watch 914d778eba9db48da737e287d928ea3d

    Exit codes: 0 SUCCEEDED; 1 COMPENSATED, or it waits for an operator; 130 interrupted, and the
    saga goes on.
    """
    with connected(api, token) as client:
        raise typer.Exit(follow(out, client, saga_id, as_json))


def events(
    after: Annotated[
        str | None, typer.Option(help="Cursor to continue from; the oldest event by default.")
    ] = None,
    saga: Annotated[str | None, typer.Option(help="Only events of the saga with this id.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for new events, until Ctrl-C.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show your events in order, and the cursor to continue from later.

    Events go to stdout, with --json one line each; the cursor goes to stderr.

    Example: recourse events --follow --json
    """
    cursor, empty = after, 0
    with connected(api, token) as client:
        try:
            for page in client.events(after, wait=follow, saga_id=saga):
                items, cursor = page
                for event in items:
                    if as_json:
                        print_json_line(event)
                    else:
                        print_event(out, event_of(event))
                empty = 0 if items or follow else empty + 1
                skipping(empty)
                if empty >= MOST_EMPTY_PAGES:
                    break
        finally:
            if cursor:
                err.print(f"continue with --after {cursor}")


def list_sagas(
    saga: Annotated[
        str | None, typer.Option(help="Only sagas of this name.", autocompletion=saga_names)
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help=f"Only sagas with this status: {', '.join(STATUSES)}.", autocompletion=statuses
        ),
    ] = None,
    business_key: Annotated[str | None, typer.Option(help="Only sagas with this key.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor of the next page, from the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most sagas to list.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List sagas, newest first.

    Example: recourse list --status COMPENSATION_FAILED
    """
    with connected(api, token) as client:
        page = client.collect(
            "/sagas",
            cursor=cursor,
            limit=limit,
            skipping=skipping,
            saga=saga,
            status=status,
            business_key=business_key,
        )
    if as_json:
        print_json(page)
        return
    table = Table(identity("id"), "saga", identity("business key"), "status", "started", "reason")
    for one in page["items"]:
        reason = one["reason"]
        why = f"{reason['step']}: {reason['error']}" if reason else ""
        begins = begins_later(one)
        table.add_row(
            one["saga_id"],
            one["saga"],
            one["business_key"],
            f"{one['status']}, begins {begins}" if begins else one["status"],
            one["started_at"],
            why,
        )
    out.print_table(table)
    if page["cursor"]:
        out.print(f"next page: --cursor {page['cursor']}")


def cancel(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Cancel a saga whose pivot has not acted; its effects are undone.

    Example: recourse cancel 914d778eba9db48da737e287d928ea3d
    """
    with connected(api, token) as client:
        saga = client.ask("POST", f"/sagas/{segment(saga_id)}/cancel")
    print_status(out, saga, as_json)


def _read(source: str) -> Any:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
        return json.loads(text)
    except OSError as problem:
        raise UsageError(f"cannot read {source}: {problem.strerror}") from problem
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{source} is not valid JSON: {problem}") from problem


PANELS: Mapping[str, Sequence[Callable[..., None]]] = {
    "Sagas": (start, watch, show, list_sagas, cancel, reverse, trace, events, import_file),
    "People and the console": (login, logout, open_console, questions, decide),
    "Operators": (resolve, redrive, seed, worker, erase),
    "A project": (new, up, token, compile_sagas, upgrade, doctor, deploy, destroy),
}
"""The commands, in the order and under the headings in which `recourse --help` has them."""
NAMES = {list_sagas: "list", import_file: "import", compile_sagas: "compile", open_console: "open"}
"""Commands whose names are Python's."""
for panel, commands in PANELS.items():
    for one in commands:
        settings = PASSES_ON if one in (deploy, destroy) else None
        app.command(
            NAMES.get(one), help=help_of(one), context_settings=settings, rich_help_panel=panel
        )(one)
app.add_typer(valet.app, name="valet", rich_help_panel="Documents")


if __name__ == "__main__":
    app()
