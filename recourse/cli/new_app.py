"""`recourse new` among the other commands: for `--help` and for the TAB key.

`recourse.new` does it, which the base install has too, and which loads nothing of the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recourse.cli.command import AsJson
from recourse.new import main


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    name: Annotated[
        str | None, typer.Option(help="What the app is called; as the folder by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a new app into a folder: a saga of two steps, its tests, its CDK app.

    Example: recourse new my-sagas
    """
    called = ["--name", name] if name is not None else []
    main([*called, *(["--json"] if as_json else []), "--", str(folder)])
