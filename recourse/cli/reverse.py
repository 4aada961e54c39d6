"""`recourse reverse`: take back what has succeeded."""

from __future__ import annotations

from typing import Annotated

import typer

from recourse.cli.api import segment
from recourse.cli.command import LOCAL, ApiUrl, AsJson, Token, connected, out, reports_errors
from recourse.cli.timeline import follow, print_status


@reports_errors
def reverse(
    saga_id: Annotated[str, typer.Argument(help="The saga's id.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept with the reversing saga.")] = None,
    chaos: Annotated[
        str | None, typer.Option(help="Faults to inject, for example refund=reject.")
    ] = None,
    coordination: Annotated[
        str | None, typer.Option(help="orchestration or choreography; as declared by default.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the reversing saga until it ends.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Reverse a saga that has succeeded, by the saga that its declaration names for it.

    Again it shows the same one, unless that was COMPENSATED.
    """
    with connected(api, token) as client:
        saga = client.ask(
            "POST",
            f"/sagas/{segment(saga_id)}/reverse",
            json={"reason": reason} if reason else {},
            params={"coordination": coordination} if coordination else {},
            headers={"Recourse-Chaos": chaos} if chaos else {},
        )
        if watch:
            follow(out, client, saga["saga_id"], as_json)
        else:
            print_status(out, saga, as_json)
