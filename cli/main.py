"""`recourse`: start, watch and look after sagas from the command line."""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from cli import redrive as redriving
from cli import valet
from cli.api import Api
from cli.command import LOCAL, ApiUrl, AsJson, Token, UsageError, connected, err, out, tells
from cli.timeline import print_event, print_timeline
from cli.worker import worker
from recourse.events import Event

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Distributed transactions that can be trusted: sagas whose every step has its undo.",
    epilog="Locally: `make up` in one terminal, then "
    '`export RECOURSE_TOKEN=$(recourse token --subject asha --scope "sagas:write sagas:read")`.',
)
app.add_typer(valet.app, name="valet")
app.command()(worker)
SAMPLES = Path("samples")
SagaId = Annotated[str, typer.Argument(help="The saga's id.")]


@app.command()
@tells
def up(
    port: Annotated[int, typer.Option(help="The API's port.")] = 8000,
    aws_port: Annotated[int, typer.Option(help="The AWS endpoint's port.")] = 4566,
) -> None:
    """Run the local cloud in the foreground; Ctrl-C ends it."""
    from local.cloud import LocalCloudError, run

    try:
        run(port=port, aws_port=aws_port)
    except LocalCloudError as problem:
        raise UsageError(str(problem)) from problem


@app.command()
@tells
def token(
    subject: Annotated[str, typer.Option(help="Who it is for: the owner of what it starts.")],
    scope: Annotated[
        str, typer.Option(help="What it may do: sagas:write, sagas:read, valet:issue, operator.")
    ] = "sagas:write sagas:read",
    lifetime: Annotated[int, typer.Option(help="Seconds that it is good for.")] = 3600,
    api: ApiUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Issue a bearer token of the local issuer. On AWS, tokens come from your own issuer."""
    from local.issuer import Issuer, issuer_of

    made = Issuer(issuer_of(api)).token(subject, scope, lifetime=lifetime)
    print(json.dumps({"token": made, "expires_in": lifetime}) if as_json else made)


@app.command()
@tells
def start(
    saga: Annotated[str, typer.Argument(help="The saga's name, travel-booking.")],
    request: Annotated[
        str, typer.Option(help="A file with the request as JSON, or - for standard input.")
    ],
    key: Annotated[
        str | None, typer.Option(help="The Idempotency-Key; a new one where none is given.")
    ] = None,
    chaos: Annotated[
        str | None, typer.Option(help="Faults to inject: hotel=reject,payment=crash:1.")
    ] = None,
    coordination: Annotated[
        str | None, typer.Option(help="orchestration or choreography; the saga's own if absent.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show what happens until it ends.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Start a saga.

    For instance: recourse start travel-booking --request samples/travel-booking.json --watch
    """
    body = _read(request)
    with connected(api, token) as client:
        started = client.start(
            saga, body, key=key or str(uuid.uuid4()), chaos=chaos, coordination=coordination
        )
        if watch:
            _watch(client, started["saga_id"], as_json)
        elif as_json:
            print(json.dumps(started))
        else:
            out.print(f"{started['saga_id']} {started['status']}")


@app.command()
@tells
def show(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Show a saga and its steps."""
    with connected(api, token) as client:
        saga = client.get(f"/sagas/{saga_id}")
    if as_json:
        print(json.dumps(saga))
        return
    out.print(f"{saga['saga']} {saga['saga_id']}:", Text(saga["status"], "bold"))
    out.print(f"  {saga['business_key']}, of {saga['owner']}, started {saga['started_at']}")
    if saga["reason"]:
        reason = saga["reason"]
        out.print(f"  because {reason['step']}: {reason['error']}: {reason['message']}")
    table = Table("step", "status", "tries", "undo tries", "result or error")
    for step in saga["steps"]:
        table.add_row(
            step["name"],
            step["status"],
            str(step["attempts"]),
            str(step["undo_attempts"]),
            f"{step['error']}: {step['message']}" if step["error"] else json.dumps(step["result"]),
        )
    out.print(table)


@app.command()
@tells
def watch(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Show what happens to a saga as it happens, until it is at rest."""
    with connected(api, token) as client:
        _watch(client, saga_id, as_json)


@app.command()
@tells
def events(
    after: Annotated[
        str | None, typer.Option(help="The cursor to go on from; the oldest event if absent.")
    ] = None,
    saga: Annotated[str | None, typer.Option(help="Only those of this saga, by id.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on as they come, until Ctrl-C.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show your own events in order, and the cursor to go on from, now or next week.

    With --json each event is a line on stdout. The cursor is on stderr.
    """
    cursor = after
    with connected(api, token) as client:
        try:
            for page in client.events(after, wait=follow, saga_id=saga):
                items, cursor = page
                for event in items:
                    print(json.dumps(event), flush=True) if as_json else print_event(
                        out, Event.of(event)
                    )
                if not items and not follow:
                    break
        finally:
            if cursor:
                err.print(f"go on with --after {cursor}", markup=False)


@app.command("list")
@tells
def list_sagas(
    saga: Annotated[str | None, typer.Option(help="Only those of this saga.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those in this status.")] = None,
    business_key: Annotated[str | None, typer.Option(help="Only those with this key.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List sagas, the newest first."""
    page: dict[str, Any] = {"items": [], "cursor": cursor}
    with connected(api, token) as client:
        while True:  # a page may be short, or empty, where few sagas match
            found = client.get(
                "/sagas",
                saga=saga,
                status=status,
                business_key=business_key,
                cursor=page["cursor"],
                limit=limit - len(page["items"]),
            )
            page = {"items": page["items"] + found["items"], "cursor": found["cursor"]}
            if page["cursor"] is None or len(page["items"]) >= limit:
                break
    if as_json:
        print(json.dumps(page))
        return
    table = Table("id", "saga", "business key", "status", "started", "reason")
    for one in page["items"]:
        reason = one["reason"]
        why = f"{reason['step']}: {reason['error']}" if reason else ""
        table.add_row(
            one["saga_id"], one["saga"], one["business_key"], one["status"], one["started_at"], why
        )
    out.print(table)
    if page["cursor"]:
        out.print(f"more with --cursor {page['cursor']}")


@app.command()
@tells
def cancel(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Cancel a saga whose pivot has not acted; what it did is undone."""
    with connected(api, token) as client:
        saga = client.call("POST", f"/sagas/{saga_id}/cancel").json()
    print(json.dumps(saga) if as_json else f"{saga_id} {saga['status']}")


@app.command()
@tells
def resolve(
    saga_id: SagaId,
    step: Annotated[str, typer.Argument(help="The stuck step.")],
    action: Annotated[Literal["retry", "skip"], typer.Option(help="What to do.")],
    reason: Annotated[str | None, typer.Option(help="Why; a skip needs one.")] = None,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Retry a stuck step, or skip it and settle by hand; needs the scope operator."""
    body = {"action": action} | ({"reason": reason} if reason else {})
    with connected(api, token) as client:
        saga = client.call("POST", f"/sagas/{saga_id}/steps/{step}/resolve", json=body).json()
    print(json.dumps(saga) if as_json else f"{saga_id} {saga['status']}")


@app.command()
@tells
def redrive(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Dead-letter queues; all where none is named."),
    ] = None,
    saga: Annotated[str | None, typer.Option(help="Only what is about this saga, by id.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what rests there and why; move nothing.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show the dead-letter queues and redrive them; needs the scope operator.

    Each message goes back to the queue that it came from, and is taken as if it were new.
    """
    with connected(api, token) as client:
        queues = client.get("/deadletters")["items"]
        if not names and not as_json:
            redriving.print_queues(out, queues)
        waiting = {one["name"]: one["waiting"] for one in queues}
        asked = names or [one["name"] for one in queues if one["waiting"] and not one["why_not"]]
        redriven = []
        for name in dict.fromkeys(asked):
            done = redriving.redrive(
                client,
                name,
                waiting.get(name, 0),
                saga_id=saga,
                dry_run=dry_run,
                say=lambda said: err.print(said, markup=False),
            )
            redriven.append(done)
            if not as_json:
                redriving.print_redriven(out, done)
    if as_json:
        print(json.dumps({"items": queues, "redriven": redriven}))
    elif not any(done["matched"] for done in redriven):
        out.print("nothing to redrive" + (f" of saga {saga}" if saga else ""), markup=False)


@app.command("compile")
@tells
def compile_sagas(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a file is not current.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where the compiled machines are.")] = Path(
        "statemachines"
    ),
    as_json: AsJson = False,
) -> None:
    """Compile every declaration: to its state machine, to who listens to whom, to the API's routes.

    The first is statemachines/<saga>.asl.json, the second statemachines/<saga>.choreography.md, and
    the last, for all of them, openapi.json where the API has it.
    """
    from recourse.choreography.routing import describe, table
    from recourse.functions.api.app import Api as HttpApi
    from recourse.functions.api.openapi import document
    from recourse.orchestration.compiler import compile_saga
    from recourse.project import Project, ProjectError

    try:
        project = Project.find()
        sagas = project.declared()
        os.environ.setdefault("RECOURSE_SAGAS", project.sagas)  # as the API's function is told
        api = project.own_api()
    except ProjectError as problem:
        raise UsageError(str(problem)) from problem
    if not isinstance(api, HttpApi):
        raise UsageError(f"{project.api} must be an Api, got {api!r:.80}")
    description = document(api.groups, api.info, sagas, SAMPLES)
    compiled = {api.description: json.dumps(description, indent=2, ensure_ascii=False) + "\n"}
    for saga in sagas.values():
        machine = json.dumps(compile_saga(saga), indent=2) + "\n"
        compiled[folder / f"{saga.name}.asl.json"] = machine
        compiled[folder / f"{saga.name}.choreography.md"] = describe(saga)
    changed = []
    for file, text in compiled.items():
        if not file.exists() or file.read_text() != text:
            changed.append(os.path.relpath(file))
            if not check:
                file.write_text(text)
    if not check and not as_json:
        for saga in sagas.values():
            listens = Table(
                "step", "acts on", "undoes on", title=f"{saga.name}: who listens to whom"
            )
            for row in table(saga):
                listens.add_row(*row)
            out.print(listens)
    if as_json:
        print(json.dumps({"changed": changed}))
    elif not check:
        out.print(f"compiled {len(sagas)} declarations, {len(changed)} files have changed")
    if check and changed:
        raise UsageError(
            f"not what the declarations compile to: {', '.join(changed)}; run `recourse compile`"
        )


def _watch(client: Api, saga_id: str, as_json: bool) -> None:
    changes = client.follow(saga_id)
    if as_json:
        for saga in changes:
            print(json.dumps(saga), flush=True)
        return
    out.print(f"{saga_id}")
    print_timeline(out, changes)


def _read(source: str) -> Any:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        return json.loads(text)
    except OSError as problem:
        raise UsageError(f"cannot read {source}: {problem.strerror}") from problem
    except ValueError as problem:
        raise UsageError(f"{source} is no JSON: {problem}") from problem


if __name__ == "__main__":
    app()
