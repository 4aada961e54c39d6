"""The samples as people find them: each with exactly the things of `samples/seed.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statemachines import SAGAS
from tests.ground import Ground
from tests.integration.test_every_saga import SAMPLES, must_add_up

pytestmark = pytest.mark.of_all
DECLINED = "-declined"
FILES = sorted(path for path in SAMPLES.glob("*.json") if path.stem != "seed")


@pytest.fixture(scope="module")
def seeded(bare: Ground) -> Ground:
    """A ground with what the seed says."""
    for kind, things in json.loads((SAMPLES / "seed.json").read_text()).items():
        for thing, body in things.items():
            bare.put(kind, thing, body)
    return bare


def holdings(ground: Ground) -> dict[tuple[str, str], Any]:
    return {one: ground.held(*one) for one in ground.stock}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sample_does_what_its_name_says(seeded: Ground, file: Path) -> None:
    saga, declined = file.stem.removesuffix(DECLINED), file.stem.endswith(DECLINED)
    assert saga in SAGAS, f"{file.name} is a request of no saga"
    before = holdings(seeded)
    saga_id = seeded.start(saga, json.loads(file.read_text()), key=file.stem)
    seeded.settle()
    must_add_up(seeded)
    view = seeded.view(saga_id)
    if declined:
        assert view["status"] == "COMPENSATED"
        assert view["reason"]["error"] == "PaymentDeclinedError"
        assert holdings(seeded) == before
    else:
        assert view["status"] == "SUCCEEDED"
        assert holdings(seeded) != before
