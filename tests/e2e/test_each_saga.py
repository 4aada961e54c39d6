"""Each saga from outside, by its sample: it succeeds, is undone, and can be cancelled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.declare.reverse import reversed_by
from recourse.local.seed import holdings
from statemachines import SAGAS

SAMPLES = Path(__file__).parents[2] / "samples"
ALL = list(SAGAS.values())


@pytest.fixture
def seeded(api: Api) -> Api:
    """The API, with as much as the samples need."""
    for path, body in holdings(SAMPLES / "seed.json").items():
        api.call("PUT", path, json=body)
    return api


def begun(api: Api, chaos: Mapping[str, str], coordination: Coordination) -> dict[str, str]:
    """The ids of all sagas, by name; each is begun before any is waited for."""
    reversing = reversed_by(SAGAS)
    firsts = {name: start(api, first[0].name) for name, first in reversing.items()}
    at_rest(api, firsts)
    ids = {}
    for saga in ALL:
        how = {"chaos": chaos.get(saga.name), "coordination": coordination}
        if saga.name in firsts:
            headers = {"Recourse-Chaos": how["chaos"]} if how["chaos"] else {}
            path = f"/sagas/{firsts[saga.name]}/reverse"
            query = {"coordination": coordination}
            ids[saga.name] = api.ask("POST", path, params=query, headers=headers)["saga_id"]
        else:
            ids[saga.name] = start(api, saga.name, **how)
    return ids


def start(api: Api, saga: str, **how: Any) -> str:
    """Start a saga's sample; its id."""
    body = json.loads((SAMPLES / f"{saga}.json").read_text())
    return str(api.start(saga, body, key=uuid.uuid4().hex, **how)["saga_id"])


def at_rest(api: Api, ids: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """All of them once they are at rest."""
    return {name: [*api.follow(saga_id)][-1] for name, saga_id in ids.items()}


@pytest.mark.parametrize("coordination", get_args(Coordination))
def test_each_sample_succeeds(seeded: Api, coordination: Coordination) -> None:
    for saga in at_rest(seeded, begun(seeded, {}, coordination)).values():
        assert saga["status"] == "SUCCEEDED", saga
        assert {step["status"] for step in saga["steps"]} <= {"DONE", "SKIPPED"}


@pytest.mark.parametrize("coordination", get_args(Coordination))
def test_each_is_undone_whose_pivot_refuses(seeded: Api, coordination: Coordination) -> None:
    chaos = {saga.name: f"{saga.pivot.name}=reject" for saga in ALL}
    undoable = {saga.name: [step.name for step in saga.all if step.undo] for saga in ALL}
    for name, saga in at_rest(seeded, begun(seeded, chaos, coordination)).items():
        assert saga["status"] == "COMPENSATED", saga
        undone = [step["name"] for step in saga["steps"] if step["status"] == "UNDONE"]
        assert undone == undoable[name]


def test_each_can_be_cancelled_before_its_pivot(seeded: Api) -> None:
    last = {saga.name: [step for step in saga.all if step.undo][-1] for saga in ALL}
    chaos = {name: f"{step.name}=timeout:1" for name, step in last.items()}
    ids = begun(seeded, chaos, "orchestration")
    for saga_id in ids.values():
        seeded.call("POST", f"/sagas/{saga_id}/cancel")
    for saga in at_rest(seeded, ids).values():
        assert (saga["status"], saga["reason"]["error"]) == ("COMPENSATED", "StepCancelledError")
