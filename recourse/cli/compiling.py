"""`recourse compile`: writes what is made of the declarations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from recourse.cli.command import AsJson, UsageError, out, reports_errors


@reports_errors
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

    A saga becomes statemachines/<saga>.asl.json (its state machine) and
    statemachines/<saga>.choreography.md (which step listens to which). The API
    is described in openapi.json, beside the API.
    """
    from recourse.choreography.routing import describe, table
    from recourse.functions.api.app import Api as HttpApi
    from recourse.functions.api.openapi import document
    from recourse.orchestration.compiler import compile_saga
    from recourse.project import Project, ProjectError

    try:
        project = Project.find()
        sagas = project.declared()
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
        print(json.dumps({"changed": changed}))
    elif not check:
        out.print(f"compiled {len(sagas)} sagas, {len(changed)} files changed")
    if check and changed:
        raise UsageError(f"out of date: {', '.join(changed)}; run `recourse compile`")
