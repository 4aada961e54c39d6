"""Apps of any size: sagas that are generated, for what AWS takes at the most."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

from recourse.declare.declaration import Step
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.step import action, confirm, undo
from recourse.project import Project
from tests.infra.assembly import CLI, LISTED, ROOT, Assembly

STEPS = ("reserve", "authorise", "allocate", "capture", "announce")
"""The actions of a saga, in their order; the fourth is its pivot."""
SOURCE = """
def {does}(call): ...
def un{does}(call): ...
def settle{does}(call): ...
"""


@request_model
class Wanted:
    """What every generated saga is asked for."""

    wanted_id: str


def many_sagas(sagas: int, services: int, *, shared: int = 1) -> dict[str, Saga]:
    """Sagas of five steps each.

    Args:
        sagas: How many.
        services: How many services their steps are spread over.
        shared: How many sagas have the same steps, and so the same functions.
    """
    made = [_service(f"department{number:02}") for number in range(services)]
    found = {}
    for number in range(0, sagas, shared):
        steps = [
            _step(made[(number // shared * len(STEPS) + at) % services], does, f"{does}{number:02}")
            for at, does in enumerate(STEPS)
        ]
        for name in (f"process-{one:02}" for one in range(number, number + shared)):
            found[name] = Saga(name, request=Wanted, business_key="wanted_id", steps=steps)
    return found


def synthesise_many(
    folder: Path, sagas: dict[str, Saga], homes: Mapping[str, Collection[str]]
) -> Assembly:
    """Synthesise an app of what grows with the sagas.

    Args:
        folder: Where it is written.
        sagas: The sagas.
        homes: The services whose steps are in stacks of their own, by the stacks' names.
    """
    from aws_cdk import App, Stack

    from recourse.cdk import (
        Choreography,
        EventBackbone,
        Issuer,
        Orchestration,
        SagaApi,
        Services,
        Stage,
    )

    LISTED.clear()
    LISTED.update(sagas)
    project = Project.find(ROOT)._replace(sagas="tests.infra.assembly:LISTED")
    app = App(
        context=CLI,
        outdir=str(folder),
        analytics_reporting=False,
        builtin_cloud_formation_validation=False,  # without its flag it would only warn
    )
    stage = Stage(app="Many", project=project)

    def stack(name: str) -> Stack:
        return Stack(app, f"Many-dev-{name}")

    stacks = {name: stack(name) for name in homes}
    apart = {service: stacks[name] for name, them in homes.items() for service in them}
    services = Services(
        stack("Services"),
        "Services",
        stage=stage,
        sagas=sagas.values(),
        homes=apart,
    )
    events = EventBackbone(stack("Events"), "Events", stage=stage, services=services)
    choreography = Choreography(
        stack("Choreography"),
        "Choreography",
        stage=stage,
        services=services,
        events=events,
        homes=apart,
    )
    orchestration = Orchestration(
        stack("Sagas"),
        "Sagas",
        stage=stage,
        services=services,
        events=events,
        choreography=choreography,
    )
    SagaApi(
        stack("Api"),
        "Api",
        stage=stage,
        services=services,
        events=events,
        orchestration=orchestration,
        choreography=choreography,
        issuer=Issuer("https://issuer.example", ("many",)),
    )
    app.synth()
    return Assembly(folder)


def _service(name: str) -> ModuleType:
    found = sys.modules.get(name) or ModuleType(name)
    sys.modules[name] = found
    return found


def _step(service: ModuleType, does: str, called: str) -> Step:
    exec(SOURCE.format(does=called), vars(service))
    undone = STEPS.index(does) < STEPS.index("capture")
    for name, made in ((called, action()), (f"un{called}", undo()), (f"settle{called}", confirm())):
        setattr(service, name, made(getattr(service, name)))
    return Step(
        does,
        getattr(service, called),
        undo=getattr(service, f"un{called}") if undone else None,
        confirm=getattr(service, f"settle{called}") if does == "reserve" else None,
        pivot=does == "capture",
    )
