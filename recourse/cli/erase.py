"""`recourse erase`: one person's data are erased, with the operator's own AWS credentials."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table

from recourse.cli.command import AsJson, err, out
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.screen import identity
from recourse.cli.worker import CONFIGURED
from recourse.erasure.places import Places, PlacesError
from recourse.erasure.report import Change, NotAtRestError, Report
from recourse.project import Project, ProjectError, earlier_at
from recourse.store.aws import client

PLACES = "Places"
"""The output of the stack that names tables and buckets."""
PACE = 2.0
"""Seconds between two lines of progress."""


def erase(
    subject: Annotated[
        str, typer.Option(help="Whose data: the subject of their tokens, the owner of their sagas.")
    ],
    stack: Annotated[
        str | None,
        typer.Option(
            envvar="RECOURSE_ERASURE_STACK",
            help="The stack that says where the data are, by its output Places; the only one of "
            "the account and region by default.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Erase; without it, only what would be done is shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase one person's data everywhere, while sums still add up.

    Shows what would go, what must stay and why, and changes nothing without --yes. All of the
    person's sagas must be at rest. It reads whole tables, and needs AWS credentials with the policy
    of the stack's output ErasurePolicyArn. What is stopped goes on when it is run again.

    Example: recourse erase --subject asha --yes
    """
    from recourse.erasure.erase import Erasure  # it takes the extra `valet` besides

    if not subject:
        raise UsageError("--subject must not be empty")
    stack = stack or only_stack()
    try:
        project = Project.find()
        shapes = [*project.declared().values(), *earlier_at(project.sagas)]
        erasure = Erasure(client("dynamodb"), client("s3"), places_of(stack), shapes)
        report = erasure.run(subject, dry_run=not yes, progress=_Progress())
    except NotAtRestError as problem:
        raise FailedError(str(problem)) from problem
    except (ProjectError, PlacesError) as problem:
        raise UsageError(str(problem)) from problem
    except (ClientError, BotoCoreError) as problem:
        raise FailedError(f"--stack {stack}: {problem} ({CONFIGURED})") from problem
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if report.not_at_rest:
        raise FailedError(str(NotAtRestError(report.not_at_rest)))


def only_stack() -> str:
    """The one stack of the account and region that says where the data are.

    Raises:
        UsageError: There is none, or more than one, or they cannot be listed.
    """
    try:
        pages = client("cloudformation").get_paginator("describe_stacks").paginate()
        found: list[str] = sorted(
            one["StackName"]
            for page in pages
            for one in page["Stacks"]
            if any(output["OutputKey"] == PLACES for output in one.get("Outputs", ()))
        )
    except (ClientError, BotoCoreError) as problem:
        raise UsageError(
            f"--stack must be given where the stacks cannot be listed: {problem} ({CONFIGURED})"
        ) from problem
    if len(found) != 1:
        there = f": {', '.join(found)}" if found else ", and there is none in this region"
        raise UsageError(f"--stack must name a stack with an output {PLACES}{there}")
    err.print(f"the data are those of {found[0]}")
    return found[0]


def places_of(stack: str) -> Places:
    """Where the data of a deployment are, as its stack says.

    Raises:
        PlacesError: It has no such output.
    """
    found: Any = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}
    if PLACES not in outputs:
        raise PlacesError(f"the stack {stack} must have an output {PLACES}: deploy it first")
    return Places.parse(outputs[PLACES])


class _Progress:
    """A line on stderr now and then."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PACE

    def __call__(self, change: Change, number: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PACE
            err.print(f"{number}: {change.place}, {change.what}")


def _print(report: Report) -> None:
    found = report.to_json()
    done = "would be " if report.dry_run else ""
    out.print(f"{report.sagas} sagas")
    table = Table(identity("place"), "what", "count", f"{done}…", "text of the fields, or why")
    for one in found["changes"]:
        about = one["why"] or ", ".join(one["fields"])
        table.add_row(one["place"], one["what"], str(one["count"]), one["fate"], about)
    out.print_table(table)
    kept = Table(identity("what stays"), "why")
    for service, fields in found["keeps"].items():
        for name, why in fields.items():
            kept.add_row(f"{service}: {name}", why)
    for what, why in found["stays"].items():
        kept.add_row(what, why)
    out.print_table(kept)
    if report.dry_run:
        out.print("nothing was changed: --yes erases")
    else:
        out.print(f"erased: the owner of what stays is {report.pseudonym}")
