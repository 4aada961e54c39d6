"""Drawings of a saga, of what its declaration compiles to.

`machine` draws the state machine: each arrow is a transition of the compiled ASL. `choreography`
draws who listens to what, which the filters of the queues are made of. Neither is drawn by hand, so
neither can say other than what runs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from recourse.choreography import routing
from recourse.declare.shape import Shape
from recourse.orchestration.compiler import compile_saga
from tests.guide.svg import Drawing

WIDTH, HEIGHT, GAP, MARGIN = 124, 40, 26, 20
COLUMN = WIDTH + GAP
LETTERS = 26
"""Of a line in a card of a choreography."""


class NotDrawnError(ValueError):
    """A state machine has a transition that the drawing has no place for."""


def machine(shape: Shape[Any]) -> str:
    """The state machine of a saga: forward above, what undoes below, and how it ends.

    Not drawn are the look-ups of a recovery, which are none of a saga that runs.

    Raises:
        NotDrawnError: the machine has a transition between states that have no place.
    """
    states: dict[str, Any] = compile_saga(shape)["States"]
    places = _places(shape)
    bottom = max(y for _, y in places.values()) + HEIGHT
    drawn = Drawing(f"{shape.name}: its state machine")
    drawn.text(MARGIN, 22, shape.name, anchor="start", weight=700, size=13)
    first = shape.groups[0]
    begin = places[_name(first)]
    drawn.arrow(
        [(MARGIN + 12, begin[1] + 20), (begin[0] - (6 if len(first) > 1 else 0), begin[1] + 20)]
    )
    drawn.box(MARGIN, begin[1] + 14, 12, 12, fill="ink", stroke="ink", round=6)
    for name, to, kind in sorted({*_transitions(states)}):
        if name not in places or to not in places:
            raise NotDrawnError(f"{shape.name}: no place for {name} -> {to}")
        _arrow(drawn, shape, places, name, to, kind, bottom)
    for group in shape.groups:
        x, y = places[_name(group)]
        if len(group) > 1:
            drawn.box(
                x - 6, y - 24, WIDTH + 12, 30 + (HEIGHT + 8) * len(group), fill="none", dashed=True
            )
            drawn.text(x + WIDTH / 2, y - 10, "together", size=10.5, colour="quiet")
        for number, step in enumerate(group):
            at = y + number * (HEIGHT + 8)
            role = shape.role(step.name)
            small = step.service + (", waits" if step.waits else "")
            if role == "pivot":
                small = f"{step.service}: pivot"
            stroke = {"pivot": "pivot", "retriable": "good", "compensable": "line"}[role]
            drawn.box(x, at, WIDTH, HEIGHT, step.name, small=small, stroke=stroke)
    for name, (x, y) in places.items():
        if name.endswith(".undo"):
            drawn.box(x, y, WIDTH, HEIGHT, name[: -len(".undo")], small="undo", stroke="undo")
        elif name.endswith(".settle"):
            drawn.box(x, y, WIDTH, HEIGHT, "settle", small="had it acted?", stroke="pivot")
        elif name in ENDS:
            text, small, stroke = ENDS[name]
            drawn.box(x, y, WIDTH, HEIGHT, text, small=small, stroke=stroke, round=20)
    right = max(x for x, _ in places.values()) + WIDTH + MARGIN
    return drawn.svg(right, bottom + 44)


ENDS = {
    "Succeeded": ("SUCCEEDED", "every effect", "good"),
    "Compensated": ("COMPENSATED", "no net effect", "undo"),
    "Park": ("parked", "an operator decides", "bad"),
}


def _name(group: tuple[Any, ...]) -> str:
    return " | ".join(step.name for step in group)


def _places(shape: Shape[Any]) -> dict[str, tuple[float, float]]:
    """Where each state stands, by its name: the upper left corner."""
    places: dict[str, tuple[float, float]] = {}
    x = float(MARGIN + COLUMN)
    lower = 62 + max(len(group) for group in shape.groups) * (HEIGHT + 8) + 46.0
    for group in shape.groups:
        roles = {shape.role(step.name) for step in group}
        columns = len(group) if roles == {"compensable"} else 1
        places[_name(group)] = (x + (columns - 1) * COLUMN / 2, 62.0)
        for number, step in enumerate(group):
            if shape.role(step.name) == "compensable":
                places[f"{step.name}.undo"] = (x + number * COLUMN, lower)
            elif step.pivot:
                places[f"{step.name}.settle"] = (x, lower)
        x += columns * COLUMN
    places["Succeeded"] = (x, 62.0)
    places["Park"] = (x, lower)
    places["Compensated"] = (float(MARGIN), lower)
    return places


def _transitions(states: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """From which state to which, and whether by what is `next` or `caught`."""
    for name, state in states.items():
        if state["Type"] not in ("Task", "Parallel") or name == "Park" or name.endswith(".first"):
            continue
        for to in _met(states, state["Next"]):
            yield name, to, "next" if to != "Park" else "caught"
        for catch in state.get("Catch", []):
            for to in _met(states, catch["Next"]):
                if to != state["Next"] and catch["ErrorEquals"] != ["WaitingError"]:
                    yield name, to, "caught"


def _met(states: Mapping[str, Any], name: str) -> Iterator[str]:
    """The states that one leads to, past those that only choose."""
    if states[name]["Type"] != "Choice":
        yield name.removesuffix(".first")
        return
    choices = [one["Next"] for one in states[name]["Choices"]]
    for to in [*choices, states[name]["Default"]]:
        if to != "LookupFailed":
            yield to.removesuffix(".first")


def _arrow(
    drawn: Drawing,
    shape: Shape[Any],
    places: dict[str, tuple[float, float]],
    name: str,
    to: str,
    kind: str,
    bottom: float,
) -> None:
    (x, y), (to_x, to_y) = places[name], places[to]
    middle, group = HEIGHT / 2, len(name.split(" | "))
    frame = 6 if group > 1 else 0
    to_frame = 6 if " | " in to else 0
    if y == to_y and kind == "next" and x < to_x:  # forward
        drawn.arrow([(x + WIDTH + frame, y + middle), (to_x - to_frame, to_y + middle)])
    elif y == to_y and x > to_x:  # undoing, one after the other
        drawn.arrow([(x, y + middle), (to_x + WIDTH, to_y + middle)], colour="undo")
    elif name.endswith(".undo"):  # an undo failed
        under = bottom + 18
        path = [(x + WIDTH / 2, y + HEIGHT), (x + WIDTH / 2, under), (to_x + WIDTH / 2, under)]
        drawn.arrow([*path, (to_x + WIDTH / 2, to_y + HEIGHT)], colour="bad", dashed=True)
        drawn.text((x + to_x + WIDTH) / 2, under + 14, "an undo failed", size=10.5, colour="quiet")
    elif name.endswith(".settle") and to == "Park":
        drawn.arrow([(x + WIDTH, y + middle), (to_x, to_y + middle)], colour="bad", dashed=True)
    elif name.endswith(".settle"):  # it had acted
        turn = x + WIDTH + GAP / 2
        path = [(x + WIDTH - 16, y), (x + WIDTH - 16, y - 26), (turn, y - 26), (turn, to_y + 32)]
        drawn.arrow([*path, (to_x - to_frame, to_y + 32)], colour="pivot")
        drawn.text(turn + 4, y - 12, "it had", anchor="start", size=10.5, colour="quiet")
    else:  # caught
        colour = "bad" if to == "Park" else "pivot" if to.endswith(".settle") else "undo"
        start = y + group * (HEIGHT + 8) - 8 + (14 if group > 1 else 0)
        if to == "Park":
            path = [
                (x + WIDTH / 2, start),
                (x + WIDTH / 2, to_y - 14),
                (to_x + WIDTH / 2, to_y - 14),
            ]
        elif to_x == x:
            path = [(x + WIDTH / 2, start)]
        else:
            path = [
                (x + WIDTH / 2, start),
                (x + WIDTH / 2, to_y - 14),
                (to_x + WIDTH / 2, to_y - 14),
            ]
        drawn.arrow([*path, (to_x + WIDTH / 2, to_y)], colour=colour, dashed=True)


def choreography(shape: Shape[Any]) -> str:
    """Who listens to what: a card a step, between them the topic that all events pass."""
    cards = {
        name: (
            [*textwrap.wrap(acts, LETTERS)],
            [*textwrap.wrap(undoes, LETTERS)] if undoes != "-" else [],
        )
        for name, acts, undoes in routing.table(shape)
    }
    width, step = 186, 186 + 16
    lines = max(len(acts) + len(undoes) for acts, undoes in cards.values())
    height = 62 + lines * 15 + 30
    drawn = Drawing(f"{shape.name}: its choreography")
    drawn.text(
        MARGIN, 22, f"{shape.name}, without a coordinator", anchor="start", weight=700, size=13
    )
    right = MARGIN + step * len(cards) - 16
    topic = 36 + height + 34
    drawn.box(MARGIN, topic, right - MARGIN, 30, "topic: events", stroke="line")
    for number, (name, (acts, undoes)) in enumerate(cards.items()):
        x = MARGIN + number * step
        pivot = name.endswith("*")
        drawn.box(x, 36, width, height, stroke="pivot" if pivot else "line")
        title = f"{name.rstrip('*')}: pivot" if pivot else name
        drawn.text(x + 12, 58, title, anchor="start", weight=600)
        y = 80
        for label, texts, colour in (("acts on", acts, "good"), ("undoes on", undoes, "undo")):
            if texts:
                drawn.text(x + 12, y, label, anchor="start", size=10.5, colour=colour, weight=600)
                for text in texts:
                    y += 15
                    drawn.text(x + 12, y, text, anchor="start", size=11)
                y += 22
        drawn.arrow([(x + 60, topic), (x + 60, 36 + height)], colour="good")
        drawn.arrow([(x + 126, 36 + height), (x + 126, topic)])
        drawn.text(x + 54, topic - 13, "hears", size=10.5, colour="quiet", anchor="end")
        drawn.text(x + 132, topic - 13, "says", size=10.5, colour="quiet", anchor="start")
    return drawn.svg(right + MARGIN, topic + 30 + MARGIN)
