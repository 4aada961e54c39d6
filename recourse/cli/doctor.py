"""`recourse doctor`: what a start or a deploy would stumble over, and the way past it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import botocore.session
import typer
from botocore.exceptions import BotoCoreError

from recourse import tools
from recourse.cli.command import AsJson, err, out
from recourse.cli.exits import Exit, FailedError
from recourse.cli.json_output import print_json
from recourse.cli.screen import Screen
from recourse.doctor import machine
from recourse.doctor.finding import Finding, error, to_json, warning
from recourse.errors import RecourseError
from recourse.project import Project

if TYPE_CHECKING:
    from recourse.cdk.deploy import App

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}
INDENT = " " * 9
NO_ACCOUNT = "the account cannot be looked at, nor deployed to"
SIGN_IN = "sign in, as with `aws sso login`, or set AWS_PROFILE; and AWS_REGION"


def doctor(
    aws: Annotated[
        bool | None,
        typer.Option(
            "--aws/--no-aws",
            help="Look at the AWS account too, or not; by default if there are credentials.",
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="CDK context of the stage, as for `recourse deploy`."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of the AWS configuration.")] = None,
    port: Annotated[int, typer.Option(envvar="PORT", help="Port of `recourse up`.")] = 8000,
    aws_port: Annotated[
        int, typer.Option(envvar="AWS_PORT", help="Port of its AWS endpoint.")
    ] = 4566,
    as_json: AsJson = False,
) -> None:
    """Find what `recourse up` or `recourse deploy` would stumble over, and what to do.

    It looks at this machine and, with credentials, at their AWS account, against what the templates
    of the stage need. It changes nothing there, and every call only reads; to see the templates it
    installs the CDK CLI and ministack if they are missing. The exit status is 1 if there is an
    error; warnings do not count.

    Example: recourse doctor --aws -c stage=prod
    """
    root = Project.find().root
    found: list[Finding] = []
    wanted = {"PORT": port, "AWS_PORT": aws_port}
    for one in _everything(root, wanted, aws, context or [], profile):
        found.append(one)
        if not as_json:
            show(one)
    summary = to_json(found)
    if as_json:
        print_json(summary)
    else:
        out.print(", ".join(_counted(summary[kind], kind) for kind in ("errors", "warnings")))
    if summary["errors"]:
        raise typer.Exit(Exit.FAILED)


def _counted(number: int, plural: str) -> str:
    return f"{number} {plural if number != 1 else plural[:-1]}"


def show(found: Finding, screen: Screen = out) -> None:
    """Print a finding: what there is, why it matters and what to do."""
    screen.print(f"{found.level:<8} {found.check}: {found.what}", style=STYLES[found.level])
    if found.why:
        screen.print(f"{INDENT}{found.why}")
    if found.remedy:
        screen.print(f"{INDENT}-> {found.remedy}")


def stop_at_errors(app: App, assembly: Path, *, screen: Screen = out) -> None:
    """What a deploy begins with: the machine and the account, but for what is well.

    Raises:
        FailedError: There is an error.
    """
    look = (*machine.findings(app.root), *of_account(app, assembly))
    found = [one for one in look if one.level != "ok"]
    for one in found:
        show(one, screen)
    if any(one.level == "error" for one in found):
        raise FailedError("nothing was deployed: with --skip-doctor it would be all the same")


def of_account(app: App, assembly: Path) -> Iterator[Finding]:
    """What is found in the account of an app, and in the templates of an assembly."""
    from recourse.doctor.account import BOUNDED, Account
    from recourse.doctor.planned import Planned

    planned = Planned.of(assembly)
    yield from _endpoints(app)
    yield from planned.findings()
    yield from Account(partial(app.client, config=BOUNDED), planned, app.region).findings()


def _everything(
    root: Path,
    wanted: dict[str, int],
    aws: bool | None,
    context: Iterable[str],
    profile: str | None,
) -> Iterator[Finding]:
    broken = False
    for one in machine.findings(root, wanted):
        broken = broken or (one.level == "error" and one.check == "node")
        yield one
    if aws is False or broken:
        return
    from recourse.cdk.deploy import App

    try:
        credentials = botocore.session.Session(profile=profile).get_credentials()
        if credentials is None:
            if aws:
                yield error("credentials", "there are no AWS credentials", NO_ACCOUNT, SIGN_IN)
            return
        app = App(profile)
    except (RecourseError, BotoCoreError) as problem:
        yield error("credentials", str(problem), NO_ACCOUNT, SIGN_IN)
        return
    tools.install(err.print)
    with TemporaryDirectory() as folder:
        try:
            err.print("synthesizing the CDK app, to see what it needs")
            app.synthesise(Path(folder), context, stdout=sys.stderr)
        except (subprocess.CalledProcessError, OSError) as problem:
            why = "nothing can be deployed of an app that cannot be synthesised"
            remedy = "the CDK CLI has said why, above: mend that, or the context (-c)"
            yield error("app", f"cdk synth failed ({type(problem).__name__})", why, remedy)
            return
        yield from of_account(app, Path(folder))


def _endpoints(app: App) -> Iterator[Finding]:
    """An address that is not AWS's own would be taken for it."""
    found = {
        f"{name} is set": f"unset {name}"
        for name in sorted(os.environ)
        if name.startswith("AWS_ENDPOINT_URL")
    }
    if "endpoint_url" in app.session.get_scoped_config():
        found["the profile has an endpoint_url"] = (
            "take it out of the profile, set AWS_PROFILE to another one, or unset AWS_CONFIG_FILE"
        )
    for what, remedy in found.items():
        why = "what answers there is not AWS, and what follows is about that"
        yield warning("endpoint", what, why, remedy)
