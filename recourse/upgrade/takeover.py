"""Whether a release can take over the sagas that earlier shapes began, from every state.

    release = Release(SAGAS, recorded)     # the declarations, and the other shapes that it serves
    for finding in release.findings(shape.read(old)):
        print(finding)                     # which step of which saga, in which state, and why

A step of an old shape is served by the newest code of its function (`recourse.cdk.services`), which
is given what the old shape takes. So what the code asks for by now must be there; and what it may
do by now, refuse or act elsewhere, must be what the old shape is prepared for.

It sees what declarations say, types among it, and nothing within a function: not what a result
holds, not which rows are read, not which values of a type it refuses. Where a function is given
more by now than an old saga has, it says that somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

from recourse.declare.declaration import Step, part_of
from recourse.declare.fits import made_of, misfit
from recourse.declare.hints import fields_of, is_required, types_of
from recourse.declare.json_types import UnwritableError, read
from recourse.declare.request import without_none
from recourse.declare.reverse import OWN
from recourse.declare.saga import Saga
from recourse.declare.shape import RecordedShape, RecordedStep, Shape, ShapeError, digest, record
from recourse.declare.step import Action, Undo
from recourse.upgrade.states import Need, Part, explore

Consequence = Literal["stuck", "turned back", "unconfirmed", "irreversible"]
"""What becomes of a saga: it comes to no end; or it is undone, though nothing is wrong with it; or
its holds never become bookings; or it ends well, and cannot be reversed then."""
_MEANS: dict[Consequence, str] = {
    "stuck": "it would come to no end",
    "turned back": "it would be undone, though nothing is wrong with it",
    "unconfirmed": "its hold would never become a booking",
    "irreversible": "it could not be reversed",
}
SUCCEEDED = "every step done"
"""The state of a saga that can be reversed."""


Answer = Literal["safe", "look", "strands"]
"""Of a shape as a whole; `look`: somebody should look at functions, which no declaration shows."""


@dataclass(frozen=True)
class Finding:
    """A step that the release cannot carry on with.

    Attributes:
        saga: The saga's name.
        shape: The digest of the shape that it began with.
        step: The step.
        needs: What it needs: `action`, `undo`, `confirm`, `settle`, `cancel` or `reverse`.
        state: The nearest state in which it needs that.
        why: Why it cannot have it.
        consequence: What becomes of the saga.
        instead: How to get there in two deploys.
        is_certain: Whether declarations say so; else it hangs on what is within the function.
    """

    saga: str
    shape: str
    step: str
    needs: str
    state: str
    why: str
    consequence: Consequence
    instead: str
    is_certain: bool = True

    def __str__(self) -> str:
        within = not self.is_certain and self.needs != "reverse"
        would = "unless it does without, " if within else ""
        return (
            f"{self.saga} ({self.shape}), step {self.step!r}, {self.needs}: {self.why}. In the "
            f"state '{self.state}', {would}{_MEANS[self.consequence]}. Instead: {self.instead}"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def _types(shape: RecordedShape) -> dict[str, Any]:
    """The types of the fields that a shape takes, as far as it has them."""
    found = {}
    for name, written in shape.request_types.items():
        with suppress(UnwritableError):  # a later release may write more
            found[name] = read(written)
    return found


def answer(findings: Sequence[Finding]) -> Answer:
    """What findings come to, all together."""
    if any(one.is_certain for one in findings):
        return "strands"
    return "look" if findings else "safe"


@dataclass(frozen=True)
class _Served:
    """What a function runs: the parts of the newest step that it serves."""

    action: Action[Any, Any]
    undo: Undo[Any, Any] | None


@dataclass(frozen=True)
class Release:
    """What a release has for sagas in flight: its code, and the shapes that it serves.

    Attributes:
        sagas: Its declarations, by name.
        recorded: The shapes that it serves besides, in the order of their files, the oldest first.
    """

    sagas: Mapping[str, Saga]
    recorded: Sequence[RecordedShape] = ()

    def findings(self, shape: RecordedShape) -> list[Finding]:
        """What a saga of a shape would miss, from the nearest state in which it does; none: safe.

        Each need of a step is named once, with each reason. Findings that are not certain are what
        somebody should look at.
        """
        known = digest(record(shape))
        if known not in self._digests:
            return [self._not_served(shape, known)]
        external = [step.name for step in shape.all if self._acts_elsewhere(step)]
        lacks = {
            (step.name, part): list(self._lacks(shape, step, part))
            for step in shape.all
            for part in (*get_args(Part), "find", "begun undo", "action within")
        }
        found: dict[tuple[str, str, str], Finding] = {}
        for state, need in explore(shape, external):
            parts: list[str] = [need.part]
            if need.fate == "begun" and need.part == "settle":
                parts.append("find")
            if need.fate == "begun" and need.part == "undo":
                parts.append("begun undo")
            if need.part == "action":
                parts.append("action within")
            for part in parts:
                for why, instead in lacks[need.step, part]:
                    key = need.step, need.part, why
                    if key not in found:
                        consequence = self._consequence(shape, need)
                        found[key] = Finding(
                            saga=shape.name,
                            shape=known,
                            step=need.step,
                            needs=need.part,
                            state=str(state),
                            why=why,
                            consequence=consequence,
                            instead=instead,
                            is_certain=part != "action within",
                        )
        return [*found.values(), *self._not_reversed(shape, known)]

    def _not_reversed(self, shape: RecordedShape, known: str) -> Iterator[Finding]:
        """Why a saga that has succeeded cannot be reversed by this release, if it could be or can.

        Somebody should look at that, for nothing strands by it.
        """
        declared = self.sagas.get(shape.name)
        reverse = self.sagas.get(declared.reverse) if declared and declared.reverse else None
        whys = []
        if declared is not None and reverse is not None:
            whys = self._unmade_reverse(shape, declared, reverse)
        elif shape.reverse is not None:
            whys = [f"it was to be reversed by {shape.reverse}, and nothing is declared for it now"]
        for why in whys:
            yield Finding(
                saga=shape.name,
                shape=known,
                step=shape.pivot.name,
                needs="reverse",
                state=SUCCEEDED,
                why=why,
                consequence="irreversible",
                instead="name a reverse whose request has `| None = None` for what sagas of this "
                "shape do not have; or leave it so, if they are not to be reversed any more",
                is_certain=False,
            )

    def _unmade_reverse(self, shape: RecordedShape, declared: Saga, reverse: Saga) -> list[str]:
        """Why the request of a reverse cannot be made of what a saga of the shape has."""
        found = []
        types, asked = _types(shape), types_of(reverse.request)
        for name, field in fields_of(reverse.request).items():
            if name in OWN:
                continue
            if name in declared.by_name:
                if name not in shape.by_name and is_required(field):
                    found.append(
                        f"its reverse {reverse.name} takes what step {name!r} returns, which this "
                        "shape does not have"
                    )
            elif name in types and (
                reason := misfit(types[name], made_of(field, asked[name]), name)
            ):
                found.append(f"its reverse {reverse.name} takes something else by now: {reason}")
        return found

    def _consequence(self, shape: Shape[Any], need: Need) -> Consequence:
        if need.part == "confirm":
            return "unconfirmed"
        forward = shape.role(need.step) == "retriable"
        return "turned back" if need.part == "action" and not forward else "stuck"

    def _not_served(self, shape: RecordedShape, known: str) -> Finding:
        kept = {s.function for one in self.recorded for s in one.all}
        kept |= {s.function for one in self.sagas.values() for s in one.all}
        gone = [step for step in shape.all if step.function not in kept]
        step = (gone or shape.all)[0]
        return Finding(
            shape.name,
            known,
            step.name,
            "action",
            "no step has begun",
            "its shape is not among those that this release serves, so neither the machine nor "
            f"the queues and functions of its steps stay: {step.function} is of this shape",
            "stuck",
            f"put the shape back into {shape.name}.shape.json beside the declarations, with the "
            f"functions that it names; `recourse upgrade --retire {shape.name}` takes it out once "
            "nothing in flight needs it",
        )

    @cached_property
    def _digests(self) -> set[str]:
        shapes: list[Shape[Any]] = [*self.recorded, *self.sagas.values()]
        return {digest(record(one)) for one in shapes}

    @cached_property
    def _serving(self) -> dict[str, _Served]:
        """What each function runs, where the code has it."""
        found = {}
        for step in (step for one in self.recorded for step in one.all):
            try:
                action, undo = part_of(step, "action"), part_of(step, "undo")
            except ShapeError:
                continue  # it is named where the step needs it
            assert isinstance(action, Action) and not isinstance(undo, Action)
            found[step.function] = _Served(action, undo if isinstance(undo, Undo) else None)
        for declared in self._declared:
            found[declared.function] = _Served(declared.action, declared.undo)
        return found

    @property
    def _declared(self) -> list[Step]:
        return [step for saga in self.sagas.values() for step in saga.all]

    def _acts_elsewhere(self, step: RecordedStep) -> bool:
        served = self._serving.get(step.function)
        return served is not None and served.action.external

    def _lacks(
        self, shape: RecordedShape, step: RecordedStep, part: str
    ) -> Iterator[tuple[str, str]]:
        """Why a part of a step is not to be had, and what to do instead."""
        named = {"undo": "undo", "begun undo": "undo", "confirm": "confirm"}.get(part, "action")
        try:
            part_of(step, named)
        except ShapeError as problem:
            why = str(problem).removeprefix(f"step {step.name!r}: ")
            yield why, self._keep_beside(shape, step, named)
            return
        served = self._serving.get(step.function)
        if served is None:
            return  # another part is gone, and is named where it is needed
        instead = self._name_anew(shape, step, named)
        if part == "action":
            whys = self._unmade(shape, step, served.action)
            whys += self._unforeseen(shape, step, served.action)
        elif part == "action within":
            whys = self._unsure(step, served.action)
        elif part == "undo":
            whys = self._not_undone(shape, step, served)
        elif part == "find":
            whys = self._not_found(shape, step, served.action)
        elif part == "begun undo":
            whys = self._unmade(shape, step, served.undo) if served.undo else []
        else:
            whys = []
        yield from ((why, instead) for why in whys)

    def _unmade(
        self, shape: RecordedShape, step: RecordedStep, part: Action[Any, Any] | Undo[Any, Any]
    ) -> list[str]:
        """Why what a part asks for cannot be made of what the old step takes."""
        found = []
        types, asked = _types(shape), types_of(cast(Any, part.ask))
        for name, field in fields_of(part.ask).items():
            if name not in step.takes:
                if is_required(field):
                    found.append(
                        f"{part.ref} asks for {name!r} by now, which this shape does not take"
                    )
            elif name in types:
                # A step that takes one field alone is left out where that is None.
                given = types[name] if step.takes[1:] else without_none(types[name])
                if reason := misfit(given, made_of(field, asked[name]), name):
                    found.append(f"{part.ref} asks for something else by now: {reason}")
        return found

    def _unforeseen(
        self, shape: RecordedShape, step: RecordedStep, action: Action[Any, Any]
    ) -> list[str]:
        """What an action may do by now that the old shape is not prepared for."""
        found = []
        was, now = step.waits and step.waits.name, action.waits and action.waits.name
        if was != now:
            found.append(
                f"{action.ref} asks {now or 'nobody'} by now, and by this shape {was or 'nobody'}"
            )
        if shape.role(step.name) == "retriable":
            if action.refuses:
                names = ", ".join(sorted(kind.__name__ for kind in action.refuses))
                found.append(f"{action.ref} may refuse by now ({names}), and it is after the pivot")
            if step.external and not action.external:
                found.append(f"{action.ref} no longer acts outside DynamoDB, where it had begun")
        return found

    def _unsure(self, step: RecordedStep, action: Action[Any, Any]) -> list[str]:
        """What an action may count on by now that a saga of the old shape does not have."""
        found = []
        now = [one for one in self._declared if one.function == step.function]
        if now and not any(set(one.after) <= set(step.after) for one in now):
            more = sorted(set(min(now, key=lambda one: len(one.after)).after) - set(step.after))
            found.append(
                f"{action.ref} is given the results of {', '.join(more)} by now, which sagas of "
                "this shape do not have for it"
            )
        sizes = [one.result_bytes for one in now]
        if sizes and (least := min(size or 0 for size in sizes)) > step.result_bytes:
            found.append(
                f"its result may have {least} bytes by now, and this shape has room for "
                f"{step.result_bytes}"
            )
        return found

    def _not_undone(self, shape: RecordedShape, step: RecordedStep, served: _Served) -> list[str]:
        if served.undo is None:
            return [f"its function {step.function} has no undo any more"]
        found = self._unmade(shape, step, served.undo)
        if step.external != served.undo.external:
            was, now = ("outside", "in") if step.external else ("in", "outside")
            found.append(f"it acted {was} DynamoDB, and {served.undo.ref} undoes {now} it by now")
        return found

    def _not_found(
        self, shape: RecordedShape, step: RecordedStep, action: Action[Any, Any]
    ) -> list[str]:
        """Why a pivot that has begun outside DynamoDB cannot be settled."""
        if action.find is None:
            return [f"{action.ref} has no find, and what it did elsewhere cannot be found out"]
        return self._unmade(shape, step, action)

    def _keep_beside(self, shape: RecordedShape, step: RecordedStep, part: str) -> str:
        return (
            f"keep {step.refs[part]} beside what replaces it and deploy; remove it in a later "
            f"deploy, once `recourse upgrade --retire {shape.name}.{step.name}` has taken the "
            "shape out"
        )

    def _name_anew(self, shape: RecordedShape, step: RecordedStep, part: str) -> str:
        return (
            f"leave {step.action} and its parts as this shape needs them, declare what is new as "
            f"an action of another name, and deploy; remove the old one in a later deploy, once "
            f"`recourse upgrade --retire {shape.name}.{step.name}` has taken the shape out"
        )
