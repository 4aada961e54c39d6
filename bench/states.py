"""States entered, which is what Step Functions charges for."""

from __future__ import annotations

from bench.figures import Figure
from bench.samples import sample, things
from statemachines import SAGAS
from tests.ground import ground


def measure() -> list[Figure]:
    """Run each saga's sample, and count the states in the history of its execution."""
    figures = []
    with ground() as place:
        for (kind, thing), body in things().items():
            place.put(kind, thing, body)
        for saga in SAGAS.values():
            saga_id = place.start(saga.name, sample(saga), key="states")
            entered = sum(place.entered(saga_id).values())
            groups = sum(len(group) > 1 for group in saga.groups)
            necessary = len(saga.all) + groups + 1
            figures.append(
                Figure(
                    what=f"states entered by a {saga.name} that succeeds",
                    size=f"1 saga of {len(saga.all)} steps",
                    figure=f"{entered} states",
                    alternative=f"{len(saga.all)} steps + {groups} parallel + 1 terminal"
                    f" = {necessary}",
                    ratio=entered / necessary,
                    least=1,
                    most=1,
                )
            )
    return figures
