"""What the TAB key completes besides commands and options: cheap, and never a word on the screen.

The names of sagas are those of the files that `recourse compile` writes, for no code of a project
is run at a key; where there is no project, the API is asked, for a moment only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

import httpx
import typer

from recourse.cli.command import LOCAL
from recourse.declare.declaration import Coordination as Way
from recourse.ledger.history import Status
from recourse.project import SHAPES, Project, ProjectError

STATUSES: Sequence[str] = get_args(Status)
"""What a saga's status may be."""
MOST_PATIENCE = 0.4
"""Seconds for which the API is waited for, to connect and to answer."""


def saga_names(context: typer.Context) -> list[str]:
    """The names of the project's sagas; without a project, of those that the API starts."""
    try:
        project = Project.find()
    except ProjectError:
        return _started_by(str(context.params.get("api") or LOCAL))
    where = project.root.joinpath(*project.sagas.partition(":")[0].split("."))
    folder = where if where.is_dir() else where.parent
    return sorted(file.name.removesuffix(SHAPES) for file in folder.glob(f"*{SHAPES}"))


def statuses() -> list[str]:
    """What a saga's status may be."""
    return list(STATUSES)


def coordinations() -> list[str]:
    """How a saga may be coordinated."""
    return list(get_args(Way))


Coordination = Annotated[
    str | None,
    typer.Option(
        help="orchestration or choreography; as declared by default.", autocompletion=coordinations
    ),
]


def _started_by(api: str) -> list[str]:
    try:
        with httpx.Client(timeout=MOST_PATIENCE, trust_env=False) as http:
            found = http.get(f"{api.rstrip('/')}/openapi.json").json()
        names = found["components"]["schemas"]["Saga"]["properties"]["saga"]["enum"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return []
    return [name for name in names if isinstance(name, str)]
