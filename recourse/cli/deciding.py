"""`recourse questions` and `recourse decide`: what waits for a decision, and deciding it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from recourse.cli.api import segment
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    connected,
    out,
    skipping,
)
from recourse.cli.json_output import print_json
from recourse.cli.screen import identity

Name = Annotated[
    str, typer.Argument(help="What such questions are called, in the plural: `claims`.")
]


def questions(
    name: Name,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor of the next page, from the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most questions to list.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List what waits for a decision of yours, the most urgent first.

    Needs the scope that the saga's declaration names for such a question, such as `insurer`.

    Example: recourse questions claims
    """
    with connected(api, token) as client:
        page = client.collect(
            f"/{segment(name)}", cursor=cursor, limit=limit, skipping=skipping, status="open"
        )
    if as_json:
        print_json(page)
        return
    table = Table(identity("id"), "saga", "asked", "until", "about")
    for one in page["items"]:
        table.add_row(
            one["id"], one["saga"], one["asked_at"], one["answer_by"], json.dumps(one["about"])
        )
    out.print_table(table)
    if page["cursor"]:
        out.print(f"next page: --cursor {page['cursor']}")


def decide(
    name: Name,
    id: Annotated[str, typer.Argument(metavar="ID", help="Its id, which is that of its saga.")],
    decision: Annotated[
        Literal["approve", "reject"], typer.Argument(help="What you decide; it stays so.")
    ],
    reason: Annotated[str | None, typer.Option(help="Why; required for a rejection.")] = None,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Decide what a saga asks, once: it goes on, or is undone.

    Example: recourse decide claims 914d778eba9db48da737e287d928ea3d reject --reason "not covered"
    """
    body = {"decision": decision} | ({"reason": reason} if reason else {})
    with connected(api, token) as client:
        path = f"/{segment(name)}/{segment(id)}/decision"
        decided: Mapping[str, Any] = client.ask("POST", path, json=body)
    if as_json:
        print_json(decided)
    else:
        out.print(f"{decided['id']} {decided['status']}")
