"""The states that a saga can be in, by its shape alone, and what it still needs from each.

A state says what has become of each step, and nothing of data or time. A move leads to the next
one, and needs a part of one step: its action, its undo, its confirmation, or that its pivot is
settled or cancelled::

    for state, need in explore(shape):
        print(need.part, "of", need.step, "where", state)

Both coordinations move alike here: an orchestration's retries, a choreography's messages and an
operator's decisions need the same parts of the same steps. Of steps that wait for nothing of each
other only one order is explored, that of the declaration, for what one needs does not depend on
whether the other has moved; and of undos, and of steps after the pivot, one is stuck at a time. So
a saga of n steps has some n³ states, and not 2ⁿ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from recourse.declare.shape import AnyStep, Shape

Fate = Literal[
    "to come", "left out", "begun", "acted", "confirmed", "failed", "undone", "stuck", "undo stuck"
]
"""What has become of a step; an external one may have begun, where no answer came."""
Part = Literal["action", "undo", "confirm", "settle", "cancel"]
_SAID: dict[Fate, str] = {
    "begun": "begun without an answer",
    "acted": "acted",
    "confirmed": "confirmed",
    "failed": "failed",
    "undone": "undone",
    "stuck": "parked",
    "undo stuck": "parked at its undo",
    "left out": "left out",
}


@dataclass(frozen=True)
class Need:
    """What a move needs of the release.

    Attributes:
        step: The step.
        part: Which part of it.
        fate: What has become of the step so far.
    """

    step: str
    part: Part
    fate: Fate


@dataclass(frozen=True)
class State:
    """What has become of each step, in the order of the declaration."""

    fates: tuple[tuple[str, Fate], ...]

    def __str__(self) -> str:
        said = []
        for fate, words in _SAID.items():
            if names := [name for name, one in self.fates if one == fate]:
                said.append(f"{', '.join(names)} {words}")
        return "; ".join(said) or "no step has begun"


Move = tuple[Need, "State"]


def explore(shape: Shape[Any], external: Collection[str] = ()) -> Iterator[tuple[State, Need]]:
    """Every state that a saga of a shape can come to, the nearest first, and each of its needs.

    Args:
        shape: The shape.
        external: Steps that act outside DynamoDB by now, besides those that do by their shape.
    """
    course = _Course(shape, external)
    waiting = deque(course.beginnings())
    seen = set(waiting)
    while waiting:
        state = waiting.popleft()
        needs = dict.fromkeys(need for need, _ in course.moves(state))
        yield from ((state, need) for need in needs)
        for _, following in course.moves(state):
            if following not in seen:
                seen.add(following)
                waiting.append(following)


class _Course:
    """How sagas of one shape move."""

    def __init__(self, shape: Shape[Any], external: Collection[str]) -> None:
        self._shape = shape
        self._external = {step.name for step in shape.all if step.external}.union(external)
        self._held = [s.name for s in shape.all if shape.role(s.name) == "compensable"]
        self._pivot = shape.pivot.name

    def beginnings(self) -> Iterator[State]:
        """Nothing has begun: of requests with all steps, without each optional one, without any."""
        names = [step.name for step in self._shape.all]
        optional = [step.name for step in self._shape.all if self._shape.optional(step)]
        for out in dict.fromkeys([(), *((one,) for one in optional), tuple(optional)]):
            fates: list[tuple[str, Fate]] = [
                (name, "left out" if name in out else "to come") for name in names
            ]
            yield State(tuple(fates))

    def moves(self, state: State) -> Iterator[Move]:
        """Every move out of a state; none leads out of an end."""
        fates = dict(state.fates)
        done = ("acted", "confirmed", "left out")
        held = all(fates[name] in done for name in self._held)
        failed = any(fates[n] in ("failed", "undone", "undo stuck") for n in self._held)
        if failed or (fates[self._pivot] == "failed" and held):
            yield from self._back(state, fates)
            return
        if fates[self._pivot] == "to come":
            yield self._move(state, self._pivot, "cancel", "failed")
        if not held:
            yield from self._hold(state, fates)
        elif fates[self._pivot] not in done:
            yield from self._decide(state, fates)
        else:
            yield from self._confirm(state, fates)
            yield from self._finish(state, fates)

    def _hold(self, state: State, fates: dict[str, Fate]) -> Iterator[Move]:
        """The steps before the pivot: one after the other, or some at the same time."""
        group = self._next_group(fates)
        first = group[0]
        yield self._move(state, first.name, "action", "acted")
        if first.name in self._external and fates[first.name] == "to come":
            yield self._move(state, first.name, "action", "begun")
        for step in group:
            yield self._move(state, step.name, "action", "failed")

    def _decide(self, state: State, fates: dict[str, Fate]) -> Iterator[Move]:
        ends: tuple[Fate, Fate] = "acted", "failed"
        for fate in ends:
            yield self._move(state, self._pivot, "action", fate)
            if fates[self._pivot] == "begun" or fate == "failed":
                yield self._move(state, self._pivot, "settle", fate)
        if self._pivot in self._external and fates[self._pivot] == "to come":
            yield self._move(state, self._pivot, "action", "begun")

    def _confirm(self, state: State, fates: dict[str, Fate]) -> Iterator[Move]:
        for name in self._held:
            if self._shape.by_name[name].confirms and fates[name] == "acted":
                yield self._move(state, name, "confirm", "confirmed")
                return

    def _finish(self, state: State, fates: dict[str, Fate]) -> Iterator[Move]:
        """The steps after the pivot; a stuck one is tried again once an operator says so."""
        group = self._next_group(fates)
        for step in (step for step in group if fates[step.name] == "stuck"):
            yield self._move(state, step.name, "action", "acted")
        for step in [step for step in group if fates[step.name] != "stuck"][:1]:
            yield self._move(state, step.name, "action", "acted")
            if not any(fates[one.name] == "stuck" for one in group):
                yield self._move(state, step.name, "action", "stuck")

    def _back(self, state: State, fates: dict[str, Fate]) -> Iterator[Move]:
        """Back, group by group; steps beside the one that failed may act until they are undone."""
        reached = [n for n in self._held if fates[n] not in ("to come", "left out", "undone")]
        ranks = [self._shape.rank(n) for n in self._held if fates[n] not in ("to come", "left out")]
        if not any(fate in ("undone", "undo stuck") for fate in fates.values()):
            beside = [s.name for s in self._shape.groups[max(ranks, default=0)]]
            for name in [n for n in beside if n in self._held and fates[n] == "to come"][:1]:
                yield self._move(state, name, "action", "acted")
        going = [name for name in reached if fates[name] != "undo stuck"]
        for name in going[-1:]:
            yield self._move(state, name, "undo", "undone")
            if len(going) == len(reached):
                yield self._move(state, name, "undo", "undo stuck")
        if not going:
            for name in reached:
                yield self._move(state, name, "undo", "undone")

    def _next_group(self, fates: dict[str, Fate]) -> list[AnyStep]:
        """The steps that are next: what waits of the first group that is not done."""
        for group in self._shape.groups:
            waiting = [s for s in group if fates[s.name] in ("to come", "begun", "stuck")]
            if waiting:
                return list(waiting)
        return []

    def _move(self, state: State, step: str, part: Part, fate: Fate) -> Move:
        fates = tuple((name, fate if name == step else one) for name, one in state.fates)
        return Need(step, part, dict(state.fates)[step]), replace(state, fates=fates)
