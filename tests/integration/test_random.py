"""Random sagas, many at once, under faults of every kind: each comes to a good end and stays there.

A batch is drawn from a seed: which sagas, in which coordination, under which faults on demand; what
is done to some of them around one call (a run aborted, a process killed, a cancel); texts and rows
of any size; and what becomes of messages and records: late, twice, in any order, or lost. Then
operators resolve what is stuck, and the sweeper goes round until all are at rest.

`HYPOTHESIS_TIMES=20 pytest tests/integration/test_random.py --junitxml FILE` draws twenty times as
many, 10,000, and leaves in the file what each batch was.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from recourse.declare import limits
from recourse.declare.declaration import Coordination
from recourse.declare.saga import Saga
from recourse.ledger.history import AT_REST
from recourse.orchestration import sweeper as sweeper_module
from recourse.testing.ground import LEDGER, Mishap
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.large import LARGE, STEPS, asked
from tests.integration.test_every_saga import (
    COORDINATIONS,
    PAST_EVERY_DEADLINE,
    from_outside,
    must_be_as_told,
    must_have_ended,
    sample,
    stuck,
    supply,
    targets,
)
from tests.profile import TIMES

pytestmark = pytest.mark.of_all
BATCH = 50
BATCHES = 10 * TIMES
EVERY = {**SAGAS, LARGE.name: LARGE}
TARGETS = {name: targets(saga) for name, saga in EVERY.items()}
SHARE = min(LARGE.shares.values())
SIZES: list[dict[str, int]] = [
    {"result": SHARE - 2},
    {"result": SHARE - 1},
    {"result": 100_000},
    {"refusal": 300_000},
    {"row": limits.ITEM},
    {"undone": 100_000},
]


@dataclass
class Batch:
    """Sagas that are under way at the same time, on one ground.

    Attributes:
        ground: Where they run.
        draw: What is random.
        begun: What was asked of each, by saga id, as a failing test says it.
        mishaps: What is done to some of them around a call, by saga id.
        figures: How much there was of what.
    """

    ground: Ground
    draw: random.Random
    begun: dict[str, Any] = field(default_factory=dict)
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    figures: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Start one."""
        saga = self.draw.choice(list(EVERY.values()))
        coordination: Coordination = self.draw.choice(COORDINATIONS)
        faults = {}
        for target, fault in self.draw.sample(TARGETS[saga.name], self.draw.choice([0, 0, 1, 2])):
            faults[target] = fault + self.draw.choice(["", *(f":{n}" for n in range(1, 7))])
        outside = None
        if self.draw.random() < 0.3:
            outside = (
                self.draw.choice(["abort", "cancel", "kill"]),
                self.draw.choice(saga.all).name,
                self.draw.choice(["action", "undo", "settle"]),
                self.draw.random() < 0.5,
            )
        body = self._asked() if saga is LARGE else sample(saga)
        saga_id = self.ground.start(
            saga.name,
            body,
            key=f"random-{len(self.begun)}",
            faults=faults,
            coordination=coordination,
            run=False,
        )
        self.begun[saga_id] = (saga.name, coordination, faults, outside, body)
        if outside:
            self.mishaps[saga_id] = from_outside(self.ground, *outside)
            self.figures[outside[0]] += 1
        self.figures[coordination] += 1
        self.figures["faults"] += len(faults)
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        self.ground.runs.start(record)

    def _asked(self) -> dict[str, Any]:
        sizes = {name: self.draw.choice(SIZES) for name in STEPS if self.draw.random() < 0.15}
        self.figures["sizes"] += len(sizes)
        after = sizes.get("after", {})
        # What comes after the pivot may not refuse, and what it says is not taken back.
        return asked(**sizes | {"after": {"result": after.get("result", 1)}})

    def happen(self) -> None:
        """Something becomes of messages and records."""
        made, draw = self.ground, self.draw
        waiting = [name for name in made.queues if made.waiting(name)]
        kind = draw.random()
        if kind < 0.3 or not waiting:
            made.relay(draw.randint(1, 20), shuffle=draw, twice=draw.random() < 0.3)
        elif kind < 0.9:
            made.deliver(
                draw.choice(waiting),
                draw.randint(1, 10),
                shuffle=draw,
                twice=draw.random() < 0.2,
                lost=draw.random() < 0.1,
            )
        elif kind < 0.95:
            made.pass_time()
        elif lost := [name for name in waiting if name == LEDGER or name in made.listeners]:
            name = draw.choice(lost)
            self.figures["lost"] += made.waiting(name)
            made.lose(name)

    def bring_to_rest(self) -> None:
        """Sweep and resolve until all are at rest: each stuck step first by retry, then by skip."""
        tries: Counter[tuple[str, str]] = Counter()
        for _ in range(20):
            self.ground.settle(shuffle=self.draw, twice=self.draw.random() < 0.5)
            left = [one for one in self.begun if self.ground.view(one)["status"] not in AT_REST]
            if not left:
                return
            for saga_id in left:
                record = self.ground.ledger.get(saga_id)
                assert record is not None
                if waiting := stuck(self.ground, EVERY[record.saga], saga_id):
                    tries[saga_id, waiting[0]] += 1
                    skip = tries[saga_id, waiting[0]] > 2
                    self.figures["skip" if skip else "retry"] += 1
                    self.ground.resolve(saga_id, waiting[0], skip=skip)
                elif not record.is_choreographed:
                    self.ground.hear_of_end(saga_id, record.run)
            self.ground.sweep(PAST_EVERY_DEADLINE)
        raise AssertionError(
            "not at rest: " + json.dumps([(self.begun[o], self.ground.view(o)) for o in left])
        )

    def must_be_well(self) -> None:
        """What was done is what is told; the end is the end, and nobody is asked about it."""
        made = self.ground
        for saga_id, what in self.begun.items():
            saga: Saga = EVERY[what[0]]
            try:
                status = must_be_as_told(made, saga, saga_id)
                must_have_ended(made, saga_id, status)
            except AssertionError as problem:
                problem.add_note(f"{saga_id}: {what}")
                raise


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper_module, "GRACE_PERIOD", timedelta(0))


@pytest.mark.parametrize("seed", range(BATCHES))
def test_random_sagas_come_to_a_good_end_and_stay_there(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    with ground(EVERY) as made:
        supply(made)
        batch = Batch(made, random.Random(seed))

        def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
            own = batch.mishaps.get(task["saga"]["id"]) if "saga" in task else None
            return own(function, task, run) if own else run()

        made.mishap = mishap
        while len(batch.begun) < BATCH:
            batch.begin()
            for _ in range(4):
                batch.happen()
        batch.bring_to_rest()
        batch.must_be_well()
        made.clear()
        assert made.asked() == {}, "of sagas at rest nobody is asked anything"
        batch.must_be_well()
        ends = Counter(made.view(saga_id)["status"] for saga_id in batch.begun)
        for what, times in (ends + batch.figures).items():
            record_property(what, times)
