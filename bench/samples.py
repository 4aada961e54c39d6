"""The sagas that benchmarks run: the requests of `samples/`, with plenty of what they need."""

from __future__ import annotations

import json
from typing import Any

from bench import ROOT
from recourse.declare.saga import Saga

SAMPLES = ROOT / "samples"
PLENTY = 100_000


def sample(saga: Saga) -> dict[str, Any]:
    """A request that succeeds."""
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
