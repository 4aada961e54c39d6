"""`recourse deploy` and `recourse destroy`: a stage of the project's CDK app, on AWS."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recourse.cli.command import reports_errors
from recourse.cli.doctor import stop_at_errors

if TYPE_CHECKING:
    from recourse.cdk.deploy import App

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Options that are not ours are the CDK CLI's."""


@reports_errors
def deploy(
    context: typer.Context,
    skip_doctor: Annotated[
        bool, typer.Option("--skip-doctor", help="Deploy whatever the account is like.")
    ] = False,
) -> None:
    """Deploy to the account of the environment: `recourse deploy -c stage=dev [CDK options]`.

    It begins with what `recourse doctor` finds in the account, and stops at an error. It takes two
    deploys where a value that is no longer exported is still in use.
    """
    _lead("deploy", context, None if skip_doctor else stop_at_errors)


@reports_errors
def destroy(context: typer.Context) -> None:
    """Delete a stage that does not keep its data, with all its data."""
    _lead("destroy", context)


def _lead(
    command: str, context: typer.Context, look: Callable[[App, Path], None] | None = None
) -> None:
    from recourse.cdk.deploy import main

    try:
        main([command, *context.args], look)
    except subprocess.CalledProcessError as problem:
        raise typer.Exit(problem.returncode) from None
