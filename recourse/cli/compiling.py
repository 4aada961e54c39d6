"""`recourse compile`: writes what is made of the declarations."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from recourse.cli.command import AsJson, out
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.json_output import print_json


def compile_sagas(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Folder of the compiled machines.")] = Path(
        "statemachines"
    ),
    as_json: AsJson = False,
) -> None:
    """Compile every declared saga, and the description of the API.

    A saga becomes statemachines/<saga>.asl.json (its state machine),
    statemachines/<saga>.choreography.md (which step listens to which) and the
    last shape of <saga>.shape.json, beside the declarations: those before it are
    of sagas that may be in flight. The API is described in openapi.json, beside
    the API.

    Example: recourse compile --check
    """
    from recourse.choreography.routing import describe, table
    from recourse.declare import shape
    from recourse.functions.api.app import Api as HttpApi
    from recourse.functions.api.openapi import document
    from recourse.orchestration.compiler import compile_saga
    from recourse.project import SHAPES, Project, ProjectError, shapes_beside

    try:
        project = Project.find()
        sagas = project.declared()
        shapes = shapes_beside(project.sagas)
        os.environ.setdefault("RECOURSE_SAGAS", project.sagas)  # as the API's function is told
        api = project.own_api()
    except ProjectError as problem:
        raise UsageError(str(problem)) from problem
    if not isinstance(api, HttpApi):
        raise UsageError(f"{project.api} must be an Api, got {api!r:.80}")
    description = document(api.groups, api.info, sagas, project.samples)
    compiled = {api.description: json.dumps(description, indent=2, ensure_ascii=False) + "\n"}
    for saga in sagas.values():
        machine = json.dumps(compile_saga(saga), indent=2) + "\n"
        compiled[folder / f"{saga.name}.asl.json"] = machine
        compiled[folder / f"{saga.name}.choreography.md"] = describe(saga)
        recorded = shapes / f"{saga.name}{SHAPES}"
        compiled[recorded] = with_shape(recorded, shape.record(saga))
    changed = []
    for file, text in compiled.items():
        if not file.exists() or file.read_text("utf-8") != text:
            changed.append(os.path.relpath(file))
            if not check:
                file.write_text(text, "utf-8")
    if not check and not as_json:
        for saga in sagas.values():
            listens = Table(
                "step", "acts on", "undoes on", title=f"{saga.name}: which step listens to which"
            )
            for row in table(saga):
                listens.add_row(*row)
            out.print_table(listens)
    if as_json:
        print_json({"changed": changed})
    elif not check:
        out.print(f"compiled: sagas {len(sagas)}, files changed {len(changed)}")
    if check and changed:
        raise FailedError(f"out of date: {', '.join(changed)}; run `recourse compile`")


def with_shape(file: Path, now: dict[str, Any]) -> str:
    """The text of a file of shapes, with the shape of now as its last.

    The shape before it stays once it is committed, for then it may be deployed, until `recourse
    upgrade --retire` takes it out; before that it is one that nobody has but its author, and is
    replaced. Where git cannot say which are committed, all of them stay.
    """
    from recourse.declare.shape import digest
    from recourse.project import read_retired, read_shapes, text_of_shapes

    retired = read_retired(file)
    known = committed_shapes(file) if _is_in_git(file) else read_shapes(file)
    earlier = [one for one in known if one != now and digest(one) not in retired]
    return text_of_shapes([*earlier, now], retired)


def _is_in_git(file: Path) -> bool:
    """Whether a file is in a working tree of git that does not ignore it."""
    try:
        asked = ["git", "-C", str(file.parent), "check-ignore", "--quiet", file.name]
        return subprocess.run(asked, capture_output=True).returncode == 1
    except OSError:
        return False


def committed_shapes(file: Path, at: str = "HEAD") -> list[dict[str, Any]]:
    """The shapes that a file has at a commit; none where it has none, or git is not there."""
    asked = ["git", "-C", str(file.parent), "show", f"{at}:./{file.name}"]
    try:
        shown = subprocess.run(asked, capture_output=True, check=True, text=True, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError):
        return []
    found: list[dict[str, Any]] = json.loads(shown.stdout)["shapes"]
    return found
