"""`recourse reverse`: take back what has succeeded."""

from __future__ import annotations

from typing import Annotated

import typer

from recourse.cli.api import segment
from recourse.cli.command import LOCAL, ApiUrl, AsJson, Token, connected, out
from recourse.cli.completing import Coordination
from recourse.cli.timeline import print_status
from recourse.cli.watching import follow


def reverse(
    saga_id: Annotated[str, typer.Argument(help="The saga's id.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept with the reversing saga.")] = None,
    chaos: Annotated[
        str | None, typer.Option(help="Faults to inject, for example refund=reject.")
    ] = None,
    coordination: Coordination = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the reversing saga until it ends.")
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Reverse a saga that has succeeded, by the saga that its declaration names for it.

    Again it shows the same one, unless that was COMPENSATED.

    Example: recourse reverse 914d778eba9db48da737e287d928ea3d --reason "the traveller is ill"

    Exit codes with --watch: 0 SUCCEEDED; 1 COMPENSATED, or it waits for an operator.
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
            raise typer.Exit(follow(out, client, saga["saga_id"], as_json))
    print_status(out, saga, as_json)
