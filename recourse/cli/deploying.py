"""`recourse deploy` and `recourse destroy`: a stage of the project's CDK app, on AWS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recourse.cli.command import AsJson, err, out
from recourse.cli.doctor import stop_at_errors
from recourse.cli.exits import FailedError
from recourse.cli.json_output import print_json

if TYPE_CHECKING:
    from recourse.cdk.deploy import App

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Options that are not ours are the CDK CLI's."""


def deploy(
    context: typer.Context,
    skip_doctor: Annotated[
        bool, typer.Option("--skip-doctor", help="Deploy whatever the account is like.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Deploy to the account of the environment: `recourse deploy -c stage=dev [CDK options]`.

    It begins with what `recourse doctor` finds in the account, and stops at an error. It takes two
    deploys where a value that is no longer exported is still in use. With --json the outputs of all
    stacks are printed at the end; what is said meanwhile goes to stderr.

    Example: recourse deploy -c stage=dev
    """
    screen = err if as_json else out
    look = None if skip_doctor else partial(stop_at_errors, screen=screen)
    _lead("deploy", context, as_json, look)


def destroy(context: typer.Context, as_json: AsJson = False) -> None:
    """Delete a stage that does not keep its data, with all its data.

    Example: recourse destroy -c stage=dev --force
    """
    _lead("destroy", context, as_json)


def _lead(
    command: str,
    context: typer.Context,
    as_json: bool,
    look: Callable[[App, Path], None] | None = None,
) -> None:
    from recourse.cdk.deploy import main

    aside: dict[str, Any] = {"say": err.print, "stdout": sys.stderr} if as_json else {}
    try:
        stacks = main([command, *context.args], look, **aside)
    except subprocess.CalledProcessError as problem:
        why = f"the CDK CLI has failed ({problem.returncode}), and says why above"
        raise FailedError(why) from problem
    if as_json:
        print_json({"stacks": stacks})
