"""Sagas on the ground that a release meets at one call of theirs, and what becomes of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from recourse.declare.declaration import Coordination, Earlier
from recourse.declare.shape import ShapeError
from recourse.errors import RecourseError
from recourse.ledger.history import AT_REST
from tests.ground import Ground
from tests.integration.test_every_saga import PAST_EVERY_DEADLINE, outcome, stuck
from tests.upgrade.generic import BOOKS, SOLD_OUT, UNHEARD, install
from tests.upgrade.pairs import FIELDS, Pair

QUIET = 1000
"""The call before which nothing happens: the release comes once the saga is parked or at rest."""
ROUNDS = 4
"""How often operators and the sweeper look at a saga that has not ended."""
keys = itertools.count()


class GoneError(RecourseError):
    """A function was deleted by a deploy."""


@dataclass(frozen=True)
class Cut:
    """What happens to a saga, and when the release comes.

    Attributes:
        coordination: How it is coordinated.
        at: Before which call of a step's function the release is deployed, from 0; the call itself
            is still of before.
        faults: Faults on demand.
        unheard: The external step whose charge is not heard of until then.
        sold_out: The step that refuses from then on, if it may.
        left_out: The fields that its request leaves out.
    """

    coordination: Coordination
    at: int
    faults: tuple[tuple[str, str], ...] = ()
    unheard: str | None = None
    sold_out: str | None = None
    left_out: tuple[str, ...] = ()


def scene(pair: Pair, dice: random.Random) -> Cut:
    """What happens to a saga, drawn; the release comes once it is quiet."""
    held = [step for step in pair.old.steps if pair.old.kind(step.name) == "held"]
    later = [step.name for step in pair.old.steps if pair.old.kind(step.name) == "later"]
    fails = [step.name for step in pair.old.steps if step.name not in later]
    faults: dict[str, str] = {}
    match dice.choice(["well", "fails", "undo parks", "parks", "unheard"]):
        case "fails":
            faults = {dice.choice(fails): "error"}
        case "undo parks":
            faults = {pair.old.pivot: "error", f"{dice.choice(held).name}.undo": "error:16"}
        case "parks" if later:
            faults = {dice.choice(later): "error:16"}
        case _:
            pass
    external = [step.name for step in pair.old.steps if step.deed.external]
    unheard = dice.choice([None, *external]) if not faults else None
    coordination: Coordination = dice.choice(["orchestration", "choreography"])
    return Cut(coordination, QUIET, tuple(faults.items()), unheard)


@dataclass
class Cutting:
    """One saga of a pair.

    Attributes:
        ground: Where it runs.
        pair: What is deployed, and the release.
        cut: When the release comes.
        calls: Those that there were until the saga was quiet: step, phase and number of the try.
        is_deployed: Whether the release has come.
        deploying: Held while a call decides whether it comes, for steps that run together.
    """

    ground: Ground
    pair: Pair
    cut: Cut
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    is_deployed: bool = False
    deploying: RLock = field(default_factory=RLock)

    def states(self) -> Iterator[int]:
        """Before which calls another one may find it: each, its first retry and its last."""
        last = {(step, phase): at for at, (step, phase, _) in enumerate(self.calls)}
        seen: set[tuple[str, str, bool]] = set()
        for at, (step, phase, attempt) in enumerate(self.calls):
            if (one := (step, phase, attempt > 0)) not in seen or last[step, phase] == at:
                seen.add(one)
                yield at

    def wrong(self) -> str | None:
        """Why the saga has not ended, or not as it should; None where it has."""
        BOOKS.clear()
        UNHEARD.clear()
        SOLD_OUT.clear()
        self.ground.wipe()
        recorded = self.pair.recorded()
        old = self.pair.old.saga()
        self.ground.deploy({"drawn": old})
        UNHEARD.update([self.cut.unheard] if self.cut.unheard else [])
        self.ground.mishap = self._call
        numbers = self.pair.old.numbers
        body: dict[str, Any] = {name: 7 if name in numbers else "some" for name in FIELDS}
        body |= {"key": "k", **dict.fromkeys(self.cut.left_out)}
        saga_id = self.ground.start(
            "drawn",
            body,
            key=f"cut-{next(keys)}",
            coordination=self.cut.coordination,
            faults=dict(self.cut.faults),
        )
        self.ground.settle()
        if not self.is_deployed:
            self._deploy(recorded)
            self._come()
        self.ground.mishap = lambda function, task, run: run()
        missed = None
        try:
            self._bring_to_rest(saga_id)
        except* LookupError as problems:  # the sweeper raises those of all sagas together
            missed = f"it needs what is not deployed: {problems.exceptions}"
        if missed:
            return missed
        record = self.ground.ledger.get(saga_id)
        assert record is not None
        if record.status not in AT_REST:
            return f"it is {record.status}: {self.ground.statuses(saga_id)}"
        fails = [t for t, _ in self.cut.faults if "." not in t and old.role(t) != "retriable"]
        if record.status == "COMPENSATED" and not fails and not self.cut.unheard:
            return "it was undone"
        for step in old.all:
            held = record.status == "SUCCEEDED" and step.confirms
            if held and outcome(self.ground, saga_id, step.name, step.service, "confirm") is None:
                return f"{step.name} was not confirmed"
        books = [BOOKS.get(f"thing#{saga_id}#{step.name}") for step in old.all]
        if record.status == "COMPENSATED" and "CHARGED" in books:
            return "what was charged is not given back"
        return None

    def _bring_to_rest(self, saga_id: str) -> None:
        """Let the sweeper go round, and operators retry what is stuck."""
        for _ in range(ROUNDS):
            self.ground.settle()
            record = self.ground.ledger.get(saga_id)
            assert record is not None
            if record.status in AT_REST:
                return
            if waiting := stuck(self.ground, self.ground.ledger.shape(record), saga_id):
                self.ground.resolve(saga_id, waiting[0], skip=False)
            else:
                if self.ground.runs.describe(record).state != "ABSENT":
                    self.ground.hear_of_end(saga_id, record.run)
                self.ground.sweep(PAST_EVERY_DEADLINE)

    def _call(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        with self.deploying:
            comes = len(self.calls) == self.cut.at and not self.is_deployed
            self.calls.append((task["step"], task["phase"], task.get("attempt", 0)))
            if comes:
                self._deploy(self.pair.recorded())
        try:
            return run()
        finally:
            if comes:
                self._come()

    def _come(self) -> None:
        """From here on it is the release that acts."""
        UNHEARD.clear()
        SOLD_OUT.update([self.cut.sold_out] if self.cut.sold_out else [])

    def _deploy(self, recorded: Any) -> None:
        """Deploy the release; where it cannot be, it is with the old shape taken out by force."""
        self.is_deployed = True
        install(self.pair.new.code)
        sagas = {} if self.pair.is_retired else {"drawn": self.pair.new.saga()}
        earlier: list[Earlier] = []
        if self.pair.is_kept:
            with suppress(ShapeError):
                earlier = [Earlier(recorded=recorded)]
        before = set(self.ground.steps)
        self.ground.deploy(sagas, earlier)
        # As CloudFormation does, and the ground does not: what no shape names is deleted.
        for name in before - set(self.ground.steps):
            self.ground.functions[name] = _gone
            self.ground.queues.pop(name, None)
            self.ground.listeners.pop(name, None)


def _gone(task: dict[str, Any]) -> Any:
    raise GoneError("there is no such function")
