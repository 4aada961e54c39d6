"""What consumers declare, in the templates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recourse import Consumer
from recourse.erasure.places import Places
from statemachines.order import ORDER
from tests.infra.assembly import synthesise

pytestmark = pytest.mark.xdist_group("infra")


def test_what_a_consumer_keeps_is_said_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra import app

    keeps = {"airline": "complaints are counted by it"}
    may = {"table": ["dynamodb:PutItem"]}
    found = {
        "lambdas.consumers.tally": Consumer("Complaints", may=may, keeps=keeps),
        "lambdas.consumers.other": Consumer("Other", may=may),
    }
    monkeypatch.setattr(app, "consumers", lambda: found)
    made = synthesise(tmp_path, {}, {"order": replace(ORDER, reverse=None)})
    assert Places.parse(made.outputs["Places"]).keeps == {"Complaints": keeps}
