"""`recourse`: start, watch and operate sagas from the command line."""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from recourse.cli import redrive as redriving
from recourse.cli import valet
from recourse.cli.api import MOST_EMPTY_PAGES, must_be_address, segment
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    UsageError,
    connected,
    err,
    out,
    reports_errors,
    skipping,
)
from recourse.cli.compiling import compile_sagas
from recourse.cli.deciding import decide, questions
from recourse.cli.deploying import PASSES_ON, deploy, destroy
from recourse.cli.doctor import doctor
from recourse.cli.erase import erase
from recourse.cli.importing import import_file
from recourse.cli.login import login, logout
from recourse.cli.resolving import resolve
from recourse.cli.reverse import reverse
from recourse.cli.screen import identity
from recourse.cli.seeding import seed
from recourse.cli.timeline import (
    begins_later,
    event_of,
    follow,
    links,
    print_event,
    print_status,
)
from recourse.cli.tokens import EVERYDAY_SCOPE
from recourse.cli.trace import trace
from recourse.cli.upgrade import upgrade
from recourse.cli.worker import worker
from recourse.functions.users import SCOPES, own_scopes
from recourse.text import moment

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run and operate sagas: distributed transactions whose every step can be undone.",
    epilog="Locally: `make up` in one terminal, then `recourse login`, or without a "
    "browser `export RECOURSE_TOKEN=$(recourse token --subject asha)`.",
)
app.add_typer(valet.app, name="valet")
own = (login, logout, questions, decide, resolve, reverse, worker, erase, seed, doctor, trace)
for one in (*own, upgrade):
    app.command()(one)
app.command("compile")(compile_sagas)
app.command("import")(import_file)
app.command(context_settings=PASSES_ON)(deploy)
app.command(context_settings=PASSES_ON)(destroy)
SagaId = Annotated[str, typer.Argument(help="The saga's id.")]
LONGEST_KEY = 255


@app.callback()
def prepare() -> None:
    """Let a terminal that cannot show a character have its escape, rather than no output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@app.command()
@reports_errors
def up(
    port: Annotated[
        int, typer.Option(envvar="PORT", help="Port of the API and the console; 0 is a free one.")
    ] = 8000,
    aws_port: Annotated[
        int, typer.Option(envvar="AWS_PORT", help="Port of the AWS endpoint.")
    ] = 4566,
    again: Annotated[
        bool,
        typer.Option("--again", help="Deploy the app as it is now to the one that runs already."),
    ] = False,
) -> None:
    """Run the local cloud in the foreground; Ctrl-C stops it.

    It deploys the project's CDK app to an AWS emulator on this machine and serves its API, and the
    console, whose address and passcode it prints. Its data stays in .local/cloud. The environment
    variable RECOURSE_WORKERS bounds its function workers, by default by the machine's memory.

    With --again, in another terminal, it deploys the app anew while the local cloud runs on, as a
    deploy to AWS does: sagas in flight are not interrupted.
    """
    from recourse.local.cloud import LocalCloud, run

    if again:
        LocalCloud().deploy_again()
    else:
        run(port=port, aws_port=aws_port)


@app.command()
@reports_errors
def token(
    subject: Annotated[
        str, typer.Option(help="Who the token is for: the owner of the sagas it starts.")
    ],
    scope: Annotated[
        str,
        typer.Option(
            help=f"Scopes, space separated: {', '.join(SCOPES)}, and those of who decides."
        ),
    ] = EVERYDAY_SCOPE,
    lifetime: Annotated[int, typer.Option(min=1, help="Seconds until the token expires.")] = 3600,
    api: ApiUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Print a bearer token for the local cloud. Elsewhere, sign in with `recourse login`.

    The token goes to stdout; which API it is for, and what it permits, to stderr.
    """
    from recourse.local.issuer import AUDIENCE, Issuer, issuer_of
    from recourse.project import Project

    must_be_address(api)
    if not subject.strip() or not subject.isprintable():
        raise UsageError(f"--subject must be printable text, got {subject!r}")
    known = {*SCOPES}
    if unknown := set(scope.split()) - known:
        # Only then are the declarations loaded: they name the scopes of those who decide.
        known.update(own_scopes(Project.find().declared().values()))
    if not scope.split() or not known >= unknown:
        there = ", ".join([*SCOPES, *sorted(known - SCOPES.keys())])
        raise UsageError(f"--scope must be some of {there}, separated by spaces, got {scope!r}")
    issuer = Issuer(issuer_of(api))
    made = issuer.token(subject, scope, lifetime=lifetime)
    about = {"api": api, "issuer": issuer.url, "audience": AUDIENCE, "subject": subject}
    if as_json:
        print(json.dumps({"token": made, "expires_in": lifetime, **about, "scope": scope}))
        return
    expiry = time.strftime("%H:%M:%S", time.localtime(time.time() + lifetime))
    print(made)
    err.print(
        f"for {subject} at {api} until {expiry} (issuer {issuer.url}, audience {AUDIENCE}); "
        f"scopes: {scope}"
    )


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
            follow(out, client, started["saga_id"], as_json)
        else:
            print_status(out, started, as_json)


@app.command()
@reports_errors
def show(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Show a saga and its steps."""
    with connected(api, token) as client:
        saga = client.get(f"/sagas/{segment(saga_id)}")
    if as_json:
        print(json.dumps(saga))
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


@app.command()
@reports_errors
def watch(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Follow a saga until it ends or needs an operator."""
    with connected(api, token) as client:
        follow(out, client, saga_id, as_json)


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
    cursor, empty = after, 0
    with connected(api, token) as client:
        try:
            for page in client.events(after, wait=follow, saga_id=saga):
                items, cursor = page
                for event in items:
                    if as_json:
                        print(json.dumps(event), flush=True)
                    else:
                        print_event(out, event_of(event))
                empty = 0 if items or follow else empty + 1
                skipping(empty)
                if empty >= MOST_EMPTY_PAGES:
                    break
        finally:
            if cursor:
                err.print(f"continue with --after {cursor}")


@app.command("list")
@reports_errors
def list_sagas(
    saga: Annotated[str | None, typer.Option(help="Only sagas of this name.")] = None,
    status: Annotated[str | None, typer.Option(help="Only sagas with this status.")] = None,
    business_key: Annotated[str | None, typer.Option(help="Only sagas with this key.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor of the next page, from the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most sagas to list.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List sagas, newest first."""
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
        print(json.dumps(page))
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


@app.command()
@reports_errors
def cancel(
    saga_id: SagaId, api: ApiUrl = LOCAL, token: Token = None, as_json: AsJson = False
) -> None:
    """Cancel a saga whose pivot has not acted; its effects are undone."""
    with connected(api, token) as client:
        saga = client.ask("POST", f"/sagas/{segment(saga_id)}/cancel")
    print_status(out, saga, as_json)


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
        waiting = {one["name"]: one["waiting"] or 0 for one in queues}
        asked = names or [one["name"] for one in queues if one["waiting"] and not one["why_not"]]
        redriven = []
        for name in dict.fromkeys(asked):
            done = redriving.redrive(
                client,
                name,
                waiting.get(name, 0),
                saga_id=saga,
                dry_run=dry_run,
                say=err.print,
            )
            redriven.append(done)
            if not as_json:
                redriving.print_redriven(out, done)
    if as_json:
        print(json.dumps({"items": queues, "redriven": redriven}))
    elif not any(done["matched"] for done in redriven):
        out.print("nothing to redrive" + (f" for saga {saga}" if saga else ""))


def _read(source: str) -> Any:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
        return json.loads(text)
    except OSError as problem:
        raise UsageError(f"cannot read {source}: {problem.strerror}") from problem
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{source} is not valid JSON: {problem}") from problem


if __name__ == "__main__":
    app()
