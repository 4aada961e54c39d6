"""The sagas that benchmarks run: the requests of `samples/`, with plenty of what they need."""

from __future__ import annotations

import json
from typing import Any

from bench import ROOT
from recourse.declare.declaration import Declaration
from recourse.declare.reverse import reversed_by
from statemachines import SAGAS

SAMPLES = ROOT / "samples"
PLENTY = 100_000
STARTED = [saga for saga in SAGAS.values() if saga.name not in reversed_by(SAGAS)]
"""The sagas that callers start; others begin only where what they reverse has ended."""


def sample(saga: Declaration) -> dict[str, Any]:
    """A request that succeeds; of a saga that reverses another that one's."""
    for first in reversed_by(SAGAS).get(saga.name, ())[:1]:
        saga = SAGAS[first.name]
    found: dict[str, Any] = json.loads((SAMPLES / f"{saga.name}.json").read_text())
    return found


def things() -> dict[tuple[str, str], dict[str, Any]]:
    """What all samples together need, a hundred thousand times over, by kind and id."""
    return {
        (kind, thing): body
        | {name: body[name] * PLENTY for name in ("total", "balance") if name in body}
        for kind, found in json.loads((SAMPLES / "seed.json").read_text()).items()
        for thing, body in found.items()
    }
