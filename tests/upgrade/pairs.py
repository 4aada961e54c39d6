"""Pairs of declarations, drawn by seed: what is deployed, and what a release makes of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from recourse.declare import shape
from recourse.declare.declaration import Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.shape import RecordedShape
from recourse.errors import DeclarationError
from recourse.upgrade.takeover import Finding, Release
from tests.upgrade.generic import SERVICES, Code, Deed, Undoing, install

Kind = Literal["held", "pivot", "later"]
FIELDS = ("color", "size", "place")
DEEDS = tuple(f"{service}:do{number}" for service in SERVICES for number in range(1, 5))


@dataclass(frozen=True)
class Planned:
    """A step as it is drawn.

    Attributes:
        name: Its name.
        ref: Its action.
        deed: What the code has for it.
        takes: What it takes.
        after: The steps whose results it is given.
    """

    name: str
    ref: str
    deed: Deed
    takes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A declaration and its code, as they are drawn.

    Attributes:
        groups: Its steps; the pivot is alone in its group.
        pivot: The pivot's name.
        nullable: The fields of the request that may be left out.
        others: The deeds that no step has.
        numbers: The fields of the request that are whole numbers; the others are text.
    """

    groups: tuple[tuple[Planned, ...], ...]
    pivot: str
    nullable: frozenset[str] = frozenset()
    others: tuple[tuple[str, Deed], ...] = ()
    numbers: frozenset[str] = frozenset()

    @property
    def steps(self) -> list[Planned]:
        return [step for group in self.groups for step in group]

    @property
    def code(self) -> Code:
        return dict(self.others) | {step.ref: step.deed for step in self.steps}

    def kind(self, name: str) -> Kind:
        names = [[one.name for one in group] for group in self.groups]
        rank = next(at for at, group in enumerate(names) if name in group)
        decided = names.index([self.pivot])
        return "held" if rank < decided else "later" if rank > decided else "pivot"

    def saga(self) -> Saga:
        """The declaration, of the code that is installed.

        Raises:
            DeclarationError: It could not keep its guarantees.
        """
        types: dict[str, Any] = {name: int if name in self.numbers else str for name in FIELDS}
        types |= {name: types[name] | None for name in self.nullable}
        body = {"__annotations__": {"key": str, **types}, **dict.fromkeys(self.nullable)}
        request: type[Any] = request_model(type("Request", (), body))
        steps = [
            Together(*map(self._step, group)) if group[1:] else self._step(group[0])
            for group in self.groups
        ]
        return Saga("drawn", request=request, business_key="key", steps=steps)

    def _step(self, planned: Planned) -> Step[Any]:
        service, _, name = planned.ref.partition(":")
        module, deed = sys.modules[service], planned.deed
        held = self.kind(planned.name) == "held"
        return Step(
            planned.name,
            getattr(module, name),
            undo=getattr(module, deed.undoing.name) if held and deed.undoing else None,
            confirm=getattr(module, f"book_{name}") if held and deed.confirms else None,
            takes=planned.takes,
            after=planned.after,
            pivot=planned.name == self.pivot,
            timeout=30,
        )


@dataclass(frozen=True)
class Pair:
    """What is deployed, and the release after it.

    Attributes:
        old: What is deployed.
        new: The release.
        is_kept: Whether the release's file has the old shape still.
        is_retired: Whether the release declares the saga no more.
    """

    old: Plan
    new: Plan
    is_kept: bool = True
    is_retired: bool = False

    def recorded(self) -> RecordedShape:
        """The shape of what is deployed; its code is installed then."""
        install(self.old.code)
        return shape.read(shape.record(self.old.saga()))

    def release(self, recorded: RecordedShape) -> Release:
        """The release, whose code is installed then."""
        install(self.new.code)
        sagas = {} if self.is_retired else {"drawn": self.new.saga()}
        return Release(sagas, [recorded] if self.is_kept else [])

    def findings(self) -> list[Finding]:
        """What the explorer says of it."""
        recorded = self.recorded()
        return self.release(recorded).findings(recorded)


def draw(seed: int) -> Pair:
    """The pair of a seed."""
    dice = random.Random(seed)
    while True:
        try:
            old = _plan(dice)
            install(old.code)
            old.saga()
            new = old
            for _ in range(dice.choice([1, 1, 2, 3])):
                new = _change(dice, new)
            new = _fitted(dice, new)
            # What no step has any more may stay in the code, as it was, or go.
            gone = {one.ref: one.deed for one in old.steps} | dict(old.others)
            left = [one for one in gone if one not in {step.ref for step in new.steps}]
            stays = [one for one in left if dice.random() < 0.7]
            new = replace(new, others=tuple((one, gone[one]) for one in stays))
            is_retired = dice.random() < 0.05
            if is_retired:  # no declaration gives its functions other results than before
                reads = {ref: deed.reads for ref, deed in gone.items()}
                each = [
                    replace(one, deed=replace(one.deed, reads=reads.get(one.ref, ())))
                    for one in new.steps
                ]
                new = _with(new, each)
            install(new.code)
            new.saga()
        except DeclarationError:
            continue
        return Pair(old, new, is_kept=dice.random() < 0.95, is_retired=is_retired)


def retyped(pair: Pair, seed: int) -> Pair:
    """The same, but the types of what is asked differ between the two, for some fields."""
    dice = random.Random(seed)
    was = frozenset(_some(dice, FIELDS))
    now = was.symmetric_difference(name for name in FIELDS if dice.random() < 0.3)
    old = _typed(pair.old, was, {})
    either = {step.ref: frozenset(_some(dice, step.takes)) for step in pair.new.steps}
    others = tuple((ref, replace(deed, numbers=was)) for ref, deed in pair.new.others)
    return replace(pair, old=old, new=replace(_typed(pair.new, now, either), others=others))


def _typed(plan: Plan, numbers: frozenset[str], either: Mapping[str, frozenset[str]]) -> Plan:
    each = [
        replace(one, deed=replace(one.deed, numbers=numbers, either=either.get(one.ref, none)))
        for none in [frozenset[str]()]
        for one in plan.steps
    ]
    return replace(_with(plan, each), numbers=numbers)


def _plan(dice: random.Random) -> Plan:
    refs = dice.sample(DEEDS, len(DEEDS))
    held = [refs.pop() for _ in range(dice.randint(1, 3))]
    later = [refs.pop() for _ in range(dice.randint(0, 2))]
    order = [*held, refs.pop(), *later]
    named = [Planned(ref.replace(":", "_"), ref, Deed()) for ref in order]
    groups = [(one,) for one in named]
    pivot = named[len(held)].name
    nullable = frozenset(name for name in FIELDS if dice.random() < 0.3)
    plan = Plan(tuple(groups), pivot, nullable)
    if dice.random() < 0.4:
        plan = _join(dice, plan)
    each = [replace(one, takes=_some(dice, FIELDS)) for one in plan.steps]
    each = [replace(one, deed=replace(one.deed, external=dice.random() < 0.3)) for one in each]
    each = [replace(one, after=_some(dice, _before(plan, one.name))) for one in each]
    return _fitted(dice, _with(plan, each), afresh=True)


def _fitted(dice: random.Random, plan: Plan, *, afresh: bool = False) -> Plan:
    """The plan with deeds that are what the roles of their steps need.

    What a deed asks for follows from what its step takes; the rest stays unless it is `afresh`.
    """
    names = {step.name for step in plan.steps}
    each = []
    for step in plan.steps:
        kind, deed = plan.kind(step.name), step.deed
        before = set(_before(plan, step.name)) & names
        after = tuple(one for one in step.after if one in before)
        alone = not step.takes[1:]
        asks = {
            name: deed.asks.get(name, alone or name not in plan.nullable)
            and (alone or name not in plan.nullable)
            for name in step.takes
        }
        undoing = deed.undoing or Undoing(f"un{step.ref.partition(':')[2]}")
        kept = {n: asks[n] for n in undoing.asks if n in asks}
        if afresh and asks and dice.random() < 0.3:
            kept = {n: asks[n] for n in [dice.choice(sorted(asks))]}
        reads = after if afresh and dice.random() < 0.5 else deed.reads
        deed = replace(
            deed,
            asks=asks,
            reads=tuple(one for one in reads if one in after),
            undoing=replace(undoing, asks=kept) if kind == "held" else None,
            confirms=kind == "held" and (deed.confirms or (afresh and dice.random() < 0.4)),
            finds=kind == "pivot" and deed.external,
            refuses=kind != "later" and (deed.refuses or (afresh and dice.random() < 0.5)),
        )
        each.append(replace(step, deed=deed, after=after))
    return _with(plan, each)


def _with(plan: Plan, each: Sequence[Planned]) -> Plan:
    left = iter(each)
    return replace(plan, groups=tuple(tuple(next(left) for _ in group) for group in plan.groups))


def _before(plan: Plan, name: str) -> list[str]:
    found: list[str] = []
    for group in plan.groups:
        if name in [one.name for one in group]:
            return found
        found += [one.name for one in group]
    raise LookupError(name)


def _some(dice: random.Random, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if dice.random() < 0.4)


def _join(dice: random.Random, plan: Plan) -> Plan:
    """Two neighbours of one role run together."""
    groups = list(plan.groups)
    can = [
        at
        for at in range(len(groups) - 1)
        if plan.kind(groups[at][0].name) == plan.kind(groups[at + 1][0].name) != "pivot"
    ]
    if can:
        at = dice.choice(can)
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return replace(plan, groups=tuple(groups))


def _change(dice: random.Random, plan: Plan) -> Plan:
    """What a release may do to a declaration and its code."""
    change = dice.choice(CHANGES)
    changed: Plan = change(dice, plan)
    return changed


def _add(dice: random.Random, plan: Plan) -> Plan:
    taken = {step.ref for step in plan.steps}
    ref = dice.choice([one for one in DEEDS if one not in taken])
    at = dice.randint(0, len(plan.groups))
    deed = Deed(external=dice.random() < 0.3)
    added = Planned(ref.replace(":", "_"), ref, deed, takes=_some(dice, FIELDS))
    if added.name in [step.name for step in plan.steps]:
        return plan
    groups = (*plan.groups[:at], (added,), *plan.groups[at:])
    return replace(plan, groups=groups)


def _remove(dice: random.Random, plan: Plan) -> Plan:
    step = dice.choice(plan.steps)
    if step.name == plan.pivot:
        return plan
    groups = (tuple(one for one in group if one is not step) for group in plan.groups)
    return replace(plan, groups=tuple(group for group in groups if group))


def _rename(dice: random.Random, plan: Plan) -> Plan:
    step = dice.choice(plan.steps)
    new = f"{step.name}_{dice.randint(2, 9)}"

    def said(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if name == step.name else name for name in names)

    each = [
        replace(
            one,
            name=new if one is step else one.name,
            after=said(one.after),
            deed=replace(one.deed, reads=said(one.deed.reads)),
        )
        for one in plan.steps
    ]
    pivot = new if plan.pivot == step.name else plan.pivot
    return replace(_with(plan, each), pivot=pivot)


def _reorder(dice: random.Random, plan: Plan) -> Plan:
    groups = list(plan.groups)
    dice.shuffle(groups)
    return replace(plan, groups=tuple(groups))


def _decide_elsewhere(dice: random.Random, plan: Plan) -> Plan:
    alone = [group[0].name for group in plan.groups if not group[1:]]
    return replace(plan, pivot=dice.choice(alone))


def _part_ways(dice: random.Random, plan: Plan) -> Plan:
    groups = [(one,) for one in plan.steps]
    return replace(plan, groups=tuple(groups))


def _change_step(dice: random.Random, plan: Plan, how: str) -> Plan:
    step = dice.choice(plan.steps)
    deed = step.deed
    match how:
        case "takes":
            step_ = replace(step, takes=_some(dice, FIELDS))
        case "needs":
            step_ = replace(step, deed=replace(deed, asks={}))
        case "after":
            step_ = replace(step, after=tuple(_before(plan, step.name)))
        case "reads":
            after = tuple(_before(plan, step.name))
            step_ = replace(step, after=after, deed=replace(deed, reads=after))
        case "external":
            step_ = replace(step, deed=replace(deed, external=not deed.external))
        case "refuses":
            step_ = replace(step, deed=replace(deed, refuses=not deed.refuses))
        case "confirms":
            step_ = replace(step, deed=replace(deed, confirms=not deed.confirms))
        case "undo asks":
            undoing = replace(
                deed.undoing or Undoing("undo_it"), asks=dict.fromkeys(step.takes, True)
            )
            step_ = replace(step, deed=replace(deed, undoing=undoing))
        case "another undo":
            undoing = Undoing(f"undo_{dice.randint(2, 9)}_{step.name}")
            step_ = replace(step, deed=replace(deed, undoing=undoing))
        case _:
            taken = {one.ref for one in plan.steps}
            ref = dice.choice([one for one in DEEDS if one not in taken])
            step_ = replace(step, ref=ref)
    return _with(plan, [step_ if one is step else one for one in plan.steps])


def _require(dice: random.Random, plan: Plan) -> Plan:
    return replace(plan, nullable=frozenset(_some(dice, FIELDS)))


WITHIN = (
    "takes",
    "needs",
    "after",
    "reads",
    "external",
    "refuses",
    "confirms",
    "undo asks",
    "another undo",
    "another action",
)
CHANGES: tuple[Any, ...] = (
    _add,
    _remove,
    _rename,
    _reorder,
    _decide_elsewhere,
    _join,
    _part_ways,
    _require,
    *(partial(_change_step, how=how) for how in WITHIN),
)
