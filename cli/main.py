"""`recourse`: start, watch and operate sagas from the command line."""

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
from cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    UsageError,
    connected,
    err,
    out,
    reports_errors,
)
from cli.timeline import print_event, print_timeline
from cli.worker import worker
from recourse.events import Event

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run and operate sagas: distributed transactions whose every step can be undone.",
    epilog="Locally: `make up` in one terminal, then "
    '`export RECOURSE_TOKEN=$(recourse token --subject asha --scope "sagas:write sagas:read")`.',
)
app.add_typer(valet.app, name="valet")
app.command()(worker)
SAMPLES = Path("samples")
SagaId = Annotated[str, typer.Argument(help="The saga's id.")]


@app.command()
@reports_errors
def up(
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    aws_port: Annotated[int, typer.Option(help="Port of the AWS endpoint.")] = 4566,
) -> None:
    """Run the local cloud in the foreground; Ctrl-C stops it."""
    from local.cloud import LocalCloudError, run

    try:
        run(port=port, aws_port=aws_port)
    except LocalCloudError as problem:
        raise UsageError(str(problem)) from problem


@app.command()
@reports_errors
def token(
    subject: Annotated[
        str, typer.Option(help="Who the token is for: the owner of the sagas it starts.")
    ],
    scope: Annotated[
        str,
        typer.Option(
            help="Scopes, space separated: sagas:write, sagas:read, valet:issue, operator."
        ),
    ] = "sagas:write sagas:read",
    lifetime: Annotated[int, typer.Option(help="Seconds until the token expires.")] = 3600,
    api: ApiUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Print a bearer token for the local cloud. On AWS, tokens come from your own issuer."""
    from local.issuer import Issuer, issuer_of

    made = Issuer(issuer_of(api)).token(subject, scope, lifetime=lifetime)
    print(json.dumps({"token": made, "expires_in": lifetime}) if as_json else made)


@app.command()
@reports_errors
def start(
    saga: Annotated[str, typer.Argument(help="Name of the saga, for example travel-booking.")],
    request: Annotated[
        str, typer.Option(help="File with the request as JSON; - for standard input.")
    ],
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; a new one by default.")] = None,
    chaos: Annotated[
        str | None, typer.Option(help="Faults to inject, for example hotel=reject,payment=crash:1.")
    ] = None,
    coordination: Annotated[
        str | None, typer.Option(help="orchestration or choreography; as declared by default.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the saga until it ends.")] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Start a saga.

    Example: recourse start travel-booking --request samples/travel-booking.json --watch
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
@reports_errors
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
    out.print(f"  {saga['business_key']}, owner {saga['owner']}, started {saga['started_at']}")
    if saga["reason"]:
        reason = saga["reason"]
        out.print(f"  reason: {reason['step']}: {reason['error']}: {reason['message']}")
    table = Table("step", "status", "attempts", "undo attempts", "result or error")
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
@reports_errors
def watch(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Follow a saga until it ends or needs an operator."""
    with connected(api, token) as client:
        _watch(client, saga_id, as_json)


@app.command()
@reports_errors
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
    """
    cursor = after
    with connected(api, token) as client:
        try:
            for page in client.events(after, wait=follow, saga_id=saga):
                items, cursor = page
                for event in items:
                    print(json.dumps(event), flush=True) if as_json else print_event(
                        out, Event.from_dict(event)
                    )
                if not items and not follow:
                    break
        finally:
            if cursor:
                err.print(f"continue with --after {cursor}", markup=False)


@app.command("list")
@reports_errors
def list_sagas(
    saga: Annotated[str | None, typer.Option(help="Only sagas of this name.")] = None,
    status: Annotated[str | None, typer.Option(help="Only sagas with this status.")] = None,
    business_key: Annotated[str | None, typer.Option(help="Only sagas with this key.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor of the next page, from the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most sagas to list.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List sagas, newest first."""
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
        out.print(f"next page: --cursor {page['cursor']}")


@app.command()
@reports_errors
def cancel(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Cancel a saga whose pivot has not acted; its effects are undone."""
    with connected(api, token) as client:
        saga = client.call("POST", f"/sagas/{saga_id}/cancel").json()
    print(json.dumps(saga) if as_json else f"{saga_id} {saga['status']}")


@app.command()
@reports_errors
def resolve(
    saga_id: SagaId,
    step: Annotated[str, typer.Argument(help="Name of the stuck step.")],
    action: Annotated[
        Literal["retry", "skip"],
        typer.Option(help="Run the step again, or leave it as it is and settle it by hand."),
    ],
    reason: Annotated[str | None, typer.Option(help="Why; required for a skip.")] = None,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Retry a stuck step, or skip it and settle by hand; needs the scope `operator`."""
    body = {"action": action} | ({"reason": reason} if reason else {})
    with connected(api, token) as client:
        saga = client.call("POST", f"/sagas/{saga_id}/steps/{step}/resolve", json=body).json()
    print(json.dumps(saga) if as_json else f"{saga_id} {saga['status']}")


@app.command()
@reports_errors
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
        out.print("nothing to redrive" + (f" for saga {saga}" if saga else ""), markup=False)


@app.command("compile")
@reports_errors
def compile_sagas(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Folder of the compiled machines.")] = Path(
        "statemachines"
    ),
    as_json: AsJson = False,
) -> None:
    """Compile every declared saga, and the description of the API.

    A saga becomes statemachines/<saga>.asl.json (its state machine) and
    statemachines/<saga>.choreography.md (which step listens to which). The API
    is described in openapi.json, beside the API.
    """
    from recourse.choreography.routing import describe, table
    from recourse.functions.api.app import Api as HttpApi
    from recourse.functions.api.openapi import document
    from recourse.orchestration.compiler import compile_saga
    from recourse.project import Project, ProjectError

    try:
        project = Project.find()
        sagas = project.declared()
        os.environ.setdefault("RECOURSE_SAGAS", project.sagas)  # as in the API's function
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
                "step", "acts on", "undoes on", title=f"{saga.name}: which step listens to which"
            )
            for row in table(saga):
                listens.add_row(*row)
            out.print(listens)
    if as_json:
        print(json.dumps({"changed": changed}))
    elif not check:
        out.print(f"compiled {len(sagas)} sagas, {len(changed)} files changed")
    if check and changed:
        raise UsageError(f"out of date: {', '.join(changed)}; run `recourse compile`")


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
        raise UsageError(f"{source} is not valid JSON: {problem}") from problem


if __name__ == "__main__":
    app()
