"""`recourse seed`: puts first things into the services of any deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recourse.cli.api import Api, ApiError
from recourse.cli.command import LOCAL, ApiUrl, AsJson, Token, connected, out
from recourse.cli.exits import UsageError
from recourse.cli.json_output import print_json

if TYPE_CHECKING:
    from recourse.local.seed import Ask


def seed(
    file: Annotated[
        Path, typer.Argument(help="JSON: the body of each PUT, by kind and id.", dir_okay=False)
    ],
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Put what a file lists into the services, but for what exists already.

    It needs the scope `operator`. What exists stays as it is, so it can be run again.

    Example: recourse seed samples/seed.json
    """
    from recourse.local import seed as local

    put: list[str] = []
    there: list[str] = []
    with connected(api, token) as client:
        try:
            for path, is_new in local.seed(_asking(client), file):
                (put if is_new else there).append(path)
                if not as_json:
                    out.print(f"{path} {'is put' if is_new else 'is there already'}")
        except local.SeedError as problem:
            raise UsageError(str(problem)) from None
    if as_json:
        print_json({"put": put, "there": there})


def _asking(client: Api) -> Ask:
    """Calls of the API, for what a seed asks."""

    def ask(method: str, path: str, body: Any) -> int:
        try:
            return client.call(method, path, json=body).status_code
        except ApiError as problem:
            if method == "GET" and problem.status == 404:
                return 404
            raise

    return ask
