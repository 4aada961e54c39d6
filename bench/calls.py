"""DynamoDB calls of a step: one write, and at most one read before it.

An action with an effect elsewhere writes twice: that it has begun, before it, and what came of it.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from bench.figures import Figure
from bench.samples import sample, things
from statemachines import SAGAS
from tests.ground import Ground, ground

READS = {"GetItem", "BatchGetItem"}


class _Counter:
    """Notes the DynamoDB calls that a client makes while a step's function is at work."""

    def __init__(self, place: Ground) -> None:
        self._at = threading.local()
        self.calls: dict[tuple[str, str, str], list[list[str]]] = defaultdict(list)
        place.mishap = self._step
        place.dynamodb.meta.events.register("before-call.dynamodb", self._call)

    def _step(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        work: list[str] = []
        self._at.work = work
        try:
            return run()
        finally:
            self._at.work = None
            self.calls[task["saga"]["name"], task["step"], task["phase"]].append(work)

    def _call(self, model: Any, **_: Any) -> None:
        work = getattr(self._at, "work", None)
        if work is not None:
            work.append(model.name)


def _side(calls: Sequence[list[str]]) -> Counter[str]:
    """The most of each kind that one call of the function made; a read after a write is `late`."""
    worst: Counter[str] = Counter()
    for work in calls:
        kinds = ["read" if name in READS else "write" for name in work]
        late = kinds[kinds.index("write") :].count("read") if "write" in kinds else 0
        worst |= Counter(kinds) | Counter(late=late)
    return worst


def measure() -> list[Figure]:
    """Count the DynamoDB calls of every action and every undo of every saga, at the client."""
    figures = []
    with ground() as place:
        for (kind, thing), body in things().items():
            place.put(kind, thing, body)
        counter = _Counter(place)
        for saga in SAGAS.values():
            # One that is booked acts in every step; one that the pivot refuses undoes every step.
            place.start(saga.name, sample(saga), key="calls-done")
            counted = dict(counter.calls)
            counter.calls.clear()
            faults = {saga.pivot.name: "reject"}
            place.start(saga.name, sample(saga), key="calls-undone", faults=faults)
            counted |= {key: made for key, made in counter.calls.items() if key[2] == "undo"}
            counter.calls.clear()
            external = {step.name for step in saga.all if step.action.external}
            acting = {step.name for step in saga.all}
            undone = {step.name for step in saga.all if step.undo}
            for what, phase, names, writes in (
                ("an action", "action", acting - external, 1),
                ("an external action", "action", external, 2),
                ("an undo", "undo", undone, 1),
            ):
                sides = [_side(counted[saga.name, name, phase]) for name in sorted(names)]
                if sides:
                    figures += _figures(f"{what} of {saga.name}", sides, writes)
    return figures


def _figures(what: str, sides: Sequence[Counter[str]], allowed: int) -> list[Figure]:
    size = f"{len(sides)} steps, one call each"
    writes = [side["write"] for side in sides]
    reads = max(side["read"] for side in sides)
    worst = max(writes) if max(writes) > allowed else min(writes)
    late = max(side["late"] for side in sides)
    return [
        Figure(
            what=f"writes by {what}",
            size=size,
            figure=f"{min(writes)} to {max(writes)} calls",
            alternative=("one transaction", "two transactions")[allowed - 1],
            ratio=worst / allowed,
            least=1,
            most=1,
        ),
        Figure(
            what=f"reads by {what}, before its write",
            size=size,
            figure=f"{min(side['read'] for side in sides)} to {reads} calls, {late} after a write",
            alternative="one read",
            ratio=reads + late,
            most=1,
        ),
    ]
