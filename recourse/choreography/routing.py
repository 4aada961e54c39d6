"""Who listens to whom: a declaration as a choreography, without a coordinator.

Each step has its queue on the topic `events`. What it receives is computed from the declaration:

- *forward*, to act: on `done` of the steps of the group before it; the first group on `started`;
  a step that is done later once more when it is `due`;
- *backward*, to undo: on `undone` or `undo_failed` of the group after it, on `failed` of the pivot
  where that comes next, and on `failed` of a step that runs together with it.

If it waits for several steps (those before it run together), their events are joined in its inbox.
A step that a request leaves out is skipped in both directions, so what a step *may* receive (its
subscription, `triggers`) can be more than what triggers it for one request (`trigger`).

Only a step that has not acted fails (the listener makes sure of it), and a join needs every step
before it, so no step after a failed one ever acts, and the pivot never does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recourse.declare.shape import AnyStep, Shape
from recourse.events import Event

Side = Literal["action", "undo"]
STARTED = "started"


@dataclass(frozen=True)
class Triggers:
    """The types of the events that a step subscribes to.

    Attributes:
        forward: Those that may trigger its action.
        backward: Those that may trigger its undo.
    """

    forward: tuple[str, ...]
    backward: tuple[str, ...]


@dataclass(frozen=True)
class Trigger:
    """What an event triggers in a step.

    Attributes:
        side: Its action or its undo.
        sources: The steps whose events it waits for; empty for `started`.
    """

    side: Side
    sources: frozenset[str]


def triggers(shape: Shape[Any], step: AnyStep) -> Triggers:
    """The events that a step has to subscribe to, whatever steps a request leaves out."""
    forward: list[str] = []
    for group in reversed(shape.groups[: shape.rank(step.name)]):
        forward += [_type(shape, one, "done") for one in group]
        if not all(shape.optional(one) for one in group):
            break
    else:
        forward.append(f"recourse.{shape.name}.{STARTED}")
    if step.later:
        forward.append(_type(shape, step, "due"))
    return Triggers(tuple(forward), tuple(_backward(shape, step)))


def _backward(shape: Shape[Any], step: AnyStep) -> Iterator[str]:
    if shape.role(step.name) != "compensable":
        return
    rank = shape.rank(step.name)
    for sibling in shape.groups[rank]:
        if sibling != step:
            yield _type(shape, sibling, "failed")
    for group in shape.groups[rank + 1 :]:
        if group == (shape.pivot,):
            yield _type(shape, shape.pivot, "failed")
            return
        for one in group:
            yield _type(shape, one, "undone")
            yield _type(shape, one, "undo_failed")
        if not all(shape.optional(one) for one in group):
            return


def trigger(
    shape: Shape[Any], step: AnyStep, event: Event, request: Mapping[str, Any]
) -> Trigger | None:
    """What an event triggers in a step, for one request; None if nothing.

    Args:
        shape: The shape that the saga began with.
        step: The step that receives it.
        event: The event.
        request: The saga's request.
    """
    if shape.left_out(step, request):
        return None
    source, kind = event.step, event.kind
    before = _nearest(shape, request, reversed(shape.groups[: shape.rank(step.name)]))
    if source is None:
        return Trigger("action", frozenset()) if kind == STARTED and not before else None
    if kind == "due":
        return Trigger("action", frozenset({source})) if source == step.name else None
    if kind == "done":
        return Trigger("action", before) if source in before else None
    if shape.role(step.name) != "compensable":
        return None
    if kind == "failed":
        beside = shape.rank(source) == shape.rank(step.name) and source != step.name
        if beside:
            return Trigger("undo", frozenset({source}))
    after = _nearest(shape, request, shape.groups[shape.rank(step.name) + 1 :])
    if source in after and (kind == "failed") == (source == shape.pivot.name):
        return Trigger("undo", after)
    return None


def _nearest(
    shape: Shape[Any], request: Mapping[str, Any], groups: Iterable[tuple[AnyStep, ...]]
) -> frozenset[str]:
    """The steps, as far as the request has them, of the first group that is not left out whole."""
    for group in groups:
        plays = frozenset(one.name for one in group if not shape.left_out(one, request))
        if plays:
            return plays
    return frozenset()


def listeners(shapes: Iterable[Shape[Any]]) -> dict[str, list[str]]:
    """The event types that the queue of each step's function subscribes to, by function.

    A function that serves steps of several sagas has one queue for all of them.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for shape in shapes:
        for step in shape.all:
            needed = triggers(shape, step)
            found[step.function].update(needed.forward, needed.backward)
    return {function: sorted(types) for function, types in sorted(found.items())}


def table(shape: Shape[Any]) -> list[tuple[str, str, str]]:
    """Who listens to whom, as rows of text: a step, what it acts on and what it undoes on."""
    short = len(f"recourse.{shape.name}.")

    def shortened(types: Iterable[str]) -> str:
        return ", ".join(one[short:] for one in types) or "-"

    rows = []
    for step in shape.all:
        needed = triggers(shape, step)
        name = f"{step.name}*" if step.pivot else step.name
        rows.append((name, shortened(needed.forward), shortened(needed.backward)))
    return rows


def diagram(shape: Shape[Any]) -> str:
    """Who listens to whom, as a Mermaid flowchart: solid lines go forward, dotted ones back."""
    lines = ["flowchart LR", f"    {STARTED}(({STARTED}))"]
    for step in shape.all:
        opened, closed = ("{{", "}}") if step.pivot else ("[", "]")
        lines.append(f"    {step.name}{opened}{step.name}{closed}")
    for step in shape.all:
        needed = triggers(shape, step)
        for arrow, types in (("-->", needed.forward), ("-.->", needed.backward)):
            kinds: dict[str, list[str]] = defaultdict(list)
            for one in types:
                *source, kind = one.split(".")[2:]
                kinds[source[0] if source else STARTED] += [kind] if source else []
            for name, named in kinds.items():
                label = f"|{', '.join(named)}|" if named else ""
                lines.append(f"    {name} {arrow}{label} {step.name}")
    lines += [f"    {step.name} -->|done| succeeded(((succeeded)))" for step in shape.groups[-1]]
    return "\n".join(lines) + "\n"


def describe(shape: Shape[Any]) -> str:
    """A page, in Markdown, that says who listens to whom: the table and the diagram."""
    rows = "".join(f"| {name} | {acts} | {undoes} |\n" for name, acts, undoes in table(shape))
    return (
        f"# {shape.name} as a choreography\n\n"
        "Compiled from its declaration, not edited by hand. Where several steps run together, the "
        "one after them\nwaits for all of them; `*` is the pivot.\n\n"
        f"| step | acts on | undoes on |\n|---|---|---|\n{rows}\n"
        f"```mermaid\n{diagram(shape)}```\n"
    )


def _type(shape: Shape[Any], step: AnyStep, kind: str) -> str:
    return f"recourse.{shape.name}.{step.name}.{kind}"
