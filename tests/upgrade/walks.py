"""A saga that walks through its steps in memory, and meets a release on its way.

It calls the functions themselves, with what a task of the old shape gives them, and knows nothing
of what the explorer looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from recourse.declare import asks, shape
from recourse.declare.declaration import Earlier, Step, with_functions
from recourse.declare.ids import SagaId
from recourse.declare.shape import RecordedShape, ShapeError
from recourse.declare.step import Call, Put
from recourse.errors import RecourseError, Refusal, TransientError
from tests.upgrade.generic import BOOKS, UNHEARD, install
from tests.upgrade.pairs import FIELDS, Pair, Plan

SAGA_ID = SagaId.of("drawn", "asha", "walk")


class StrandedError(RecourseError):
    """The saga cannot go on, or not as it should."""


@dataclass(frozen=True)
class Scene:
    """What a saga meets.

    Attributes:
        request: What it is asked.
        fails: The step that fails by itself.
        unheard: The external step whose charge is not heard of.
        is_heard: Whether it is heard of at the second try.
        cancelled: Whether a caller cancels it before its pivot.
    """

    request: Mapping[str, str | int | None]
    fails: str | None = None
    unheard: str | None = None
    is_heard: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class Releases:
    """The functions before and after a deploy, for the steps of the old shape.

    Attributes:
        recorded: The old shape.
        before: Its steps, before.
        after: What serves each, after; None where it cannot be deployed, or does not serve it.
        confirming: Its steps with the confirmations of after.
    """

    recorded: RecordedShape
    before: Mapping[str, Step[Any]]
    after: Mapping[str, Step[Any]] | None
    confirming: Mapping[str, Step[Any]]

    @classmethod
    def of(cls, pair: Pair) -> Releases:
        """Those of a pair, put together as `recourse.cdk.services` does."""
        recorded = pair.recorded()
        before = {step.name: with_functions(step) for step in recorded.all}
        install(pair.new.code)
        sagas = [] if pair.is_retired else [pair.new.saga()]
        try:
            earlier = [Earlier(recorded=recorded)] if pair.is_kept else []
        except ShapeError:
            return cls(recorded, before, None, {})
        if not earlier and recorded not in [shape.read(shape.record(one)) for one in sagas]:
            return cls(recorded, before, None, {})
        shapes = [*earlier, *sagas]
        serving = {step.function: step for one in shapes for step in one.all}
        after = {step.name: serving[step.function] for step in recorded.all}
        return cls(recorded, before, after, {s.name: with_functions(s) for s in recorded.all})


def scenes(releases: Releases, plan: Plan) -> Iterator[Scene]:
    """What may happen to a saga of the old shape, by its plan."""
    steps, role = releases.recorded.all, releases.recorded.role
    filled: dict[str, str | int | None] = {
        name: 7 if name in plan.numbers else "some" for name in FIELDS
    }
    requests = [filled]
    if plan.nullable:
        requests.append(filled | dict.fromkeys(plan.nullable))
    external = {step.name for step in steps if step.external}
    external |= {name for name, step in (releases.after or {}).items() if step.external}
    for request in requests:
        yield Scene(request)
        yield Scene(request, cancelled=True)
        for step in steps:
            if role(step.name) != "retriable":
                yield Scene(request, fails=step.name)
        for name in sorted(external):
            yield Scene(request, unheard=name)
            yield Scene(request, unheard=name, is_heard=True)


@dataclass
class Walk:
    """One saga; from the call `cut` on it meets the functions of after.

    Attributes:
        releases: The functions.
        scene: What it meets.
        cut: How many calls are of before.
        calls: How many there were.
    """

    releases: Releases
    scene: Scene
    cut: int
    calls: int = 0
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    fates: dict[str, str] = field(default_factory=dict)

    def run(self) -> str:
        """How it ends: `SUCCEEDED` or `COMPENSATED`.

        Raises:
            StrandedError: It does not, or not by what has happened to it.
        """
        BOOKS.clear()
        UNHEARD.clear()
        UNHEARD.update([self.scene.unheard] if self.scene.unheard else [])
        recorded = self.releases.recorded
        for step in recorded.all:
            if recorded.left_out(step, self.scene.request):
                continue
            if step.pivot and self.scene.cancelled:
                self._served(step.name)
                return self._back()
            if not self._act(step.name):
                return self._back()
            if step.pivot:
                self._confirm()
        return "SUCCEEDED"

    def _served(self, name: str) -> Step[Any]:
        self.calls += 1
        if self.calls <= self.cut:
            return self.releases.before[name]
        if self.releases.after is None:
            raise StrandedError(f"{name} is gone")
        return self.releases.after[name]

    def _act(self, name: str) -> bool:
        role = self.releases.recorded.role(name)
        if name == self.scene.fails:
            self._served(name)
            self.fates[name] = "failed"
            return False
        for _ in range(2):
            action = self._served(name).action
            try:
                decided = action.decide(self._call(name, action))
            except TransientError:
                self.fates[name] = "begun"
                if self.scene.is_heard or role == "retriable":
                    UNHEARD.clear()
                continue
            except Refusal as no:
                raise StrandedError(f"{name} refuses: {no}") from no
            except Exception as problem:
                raise StrandedError(f"{name}: {problem!r}") from problem
            self._done(name, decided)
            return True
        if role != "pivot":
            return False
        action = self._served(name).action
        if action.find is None:
            raise StrandedError(f"{name} cannot be settled")
        try:
            found = action.find(self._call(name, action))
        except Exception as problem:
            raise StrandedError(f"find of {name}: {problem!r}") from problem
        if found is not None:
            self._done(name, found)
        return found is not None

    def _done(self, name: str, decided: Any) -> None:
        self._write(decided)
        self.results[name] = decided.result
        self.fates[name] = "acted"

    def _confirm(self) -> None:
        for step in self.releases.recorded.all:
            if step.confirms and self.fates.get(step.name) == "acted":
                now = self._served(step.name) if self.calls < self.cut else None
                part = (now or self.releases.confirming.get(step.name) or self._gone()).confirm
                assert part is not None
                self._write(part.decide(self._call(step.name, part)))

    def _gone(self) -> Step[Any]:
        raise StrandedError("its confirmation is gone")

    def _back(self) -> str:
        held = [s.name for s in self.releases.recorded.all if s.name in self.fates]
        for name in reversed(held):
            if self.releases.recorded.role(name) != "compensable":
                continue
            undo = self._served(name).undo
            if undo is None:
                raise StrandedError(f"{name} has no undo")
            try:
                call = self._call(name, undo)
                if self.fates[name] != "failed":
                    items = [self.rows.get(str(one)) for one in undo.reads(call)]
                    result = self.results.get(name)
                    self._write(undo.decide(replace(call, items=items, result=result)))
            except Exception as problem:
                raise StrandedError(f"undo of {name}: {problem!r}") from problem
        if "CHARGED" in [BOOKS.get(f"thing#{SAGA_ID}#{name}") for name in held]:
            raise StrandedError("what was charged is not given back")
        return "COMPENSATED"

    def _call(self, name: str, part: Any) -> Call[Any]:
        step = self.releases.recorded.by_name[name]
        request = {one: self.scene.request.get(one) for one in step.takes}
        return Call(
            saga_id=SAGA_ID,
            saga="drawn",
            step=name,
            owner="asha",
            business_key="k",
            started_at="2026-11-28T09:00:00.000Z",
            ask=asks.make(part.ask, request),
            results={one: self.results.get(one) for one in step.after},
        )

    def _write(self, decided: Any) -> None:
        for write in decided.writes:
            if isinstance(write, Put):
                self.rows[write.item["pk"]] = dict(write.item)
            else:
                self.rows.setdefault(str(write.key), {"pk": write.key}).update(write.put)
