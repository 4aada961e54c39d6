"""`recourse deploy` and `recourse destroy`: a stage of the project's CDK app, on AWS."""

from __future__ import annotations

import subprocess

import typer

from recourse.cli.command import reports_errors

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Options that are not ours are the CDK CLI's."""


@reports_errors
def deploy(context: typer.Context) -> None:
    """Deploy to the account of the environment: `recourse deploy -c stage=dev [CDK options]`.

    It takes two deploys where a value that is no longer exported is still in use.
    """
    _lead("deploy", context)


@reports_errors
def destroy(context: typer.Context) -> None:
    """Delete a stage that does not keep its data, with all its data."""
    _lead("destroy", context)


def _lead(command: str, context: typer.Context) -> None:
    from recourse.cdk.deploy import main

    try:
        main([command, *context.args])
    except subprocess.CalledProcessError as problem:
        raise typer.Exit(problem.returncode) from None
