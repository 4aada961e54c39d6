"""`recourse up` and `recourse token`: the local cloud, and who calls it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recourse.cli.address import must_be_address
from recourse.cli.command import LOCAL, ApiUrl, AsJson, err
from recourse.cli.exits import UsageError
from recourse.cli.json_output import print_json
from recourse.cli.tokens import EVERYDAY_SCOPE
from recourse.functions.users import SCOPES, own_scopes

if TYPE_CHECKING:
    from recourse.local.cloud import LocalCloud


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
    as_json: AsJson = False,
) -> None:
    """Run the local cloud in the foreground; Ctrl-C stops it.

    It deploys the project's CDK app to an AWS emulator on this machine and serves its API, and the
    console, whose address and passcode it prints. Its data stays in .local/cloud. The environment
    variable RECOURSE_WORKERS bounds its function workers, by default by the machine's memory.

    With --again, in another terminal, it deploys the app anew while the local cloud runs on, as a
    deploy to AWS does: sagas in flight are not interrupted.

    With --json its addresses are printed once it is ready, as one line; what it says meanwhile goes
    to stderr.

    Example: recourse up --port 0
    """
    from recourse.local import cloud

    told: dict[str, Any] = {"say": err.print} if as_json else {}
    if again:
        running = cloud.LocalCloud(**told)
        running.deploy_again()
        if as_json:
            _print_addresses(running)
    elif as_json:
        cloud.run(port=port, aws_port=aws_port, ready=_print_addresses, **told)
    else:
        cloud.run(port=port, aws_port=aws_port)


def _print_addresses(cloud: LocalCloud) -> None:
    print_json(
        {
            "api": cloud.api_url,
            "console": f"{cloud.api_url}/",
            "aws_endpoint": cloud.aws_endpoint,
            "aws_config": str(cloud.aws_config),
        }
    )


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

    Example: recourse token --subject asha --scope "sagas:write sagas:read"
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
        print_json({"token": made, "expires_in": lifetime, **about, "scope": scope})
        return
    expiry = time.strftime("%H:%M:%S", time.localtime(time.time() + lifetime))
    print(made)
    err.print(
        f"for {subject} at {api} until {expiry} (issuer {issuer.url}, audience {AUDIENCE}); "
        f"scopes: {scope}"
    )
