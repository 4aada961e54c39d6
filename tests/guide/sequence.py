"""Sequence diagrams, as far as the pages use Mermaid's: what is not understood is refused.

GitHub draws them itself; the site has a drawing that was made when it was built, so that it loads
no script for them, and a mistake in one fails the build.
"""

from __future__ import annotations

import re

from tests.guide.svg import Drawing

PARTICIPANT = re.compile(r"participant (\w+) as (.+)")
CALL = re.compile(r"(\w+)(-->>|->>)(\w+): ([^;#]+)")
APART, ROW, TOP = 150, 34, 64


class SequenceError(ValueError):
    """A line of a diagram is not understood; the message quotes it."""


def drawing(source: str, title: str) -> str:
    """A diagram as an SVG.

    ::

        drawing(source, "Valet keys")    # "<svg xmlns=…"

    Raises:
        SequenceError: a line is neither a participant, a call, nor a loop or its end.
    """
    first, *lines = (line.strip() for line in source.strip().splitlines())
    if first != "sequenceDiagram":
        raise SequenceError(f"must begin with sequenceDiagram, got {first!r}")
    calls = [line for line in lines if not line.startswith("participant")]
    names: dict[str, float] = {}
    drawn = Drawing(title)
    height = TOP + ROW * len(calls) + 24
    heads = [PARTICIPANT.fullmatch(line) for line in lines if line not in calls]
    width = APART * len(heads)
    for number, head in enumerate(heads):
        if head is None:
            raise SequenceError(f"participants must be written 'participant A as …' in {title!r}")
        x = names[head[1]] = APART * number + APART / 2
        drawn.line(x, 44, x, height - 12, dashed=True)
        drawn.box(x - 62, 14, 124, 30, head[2])
    y = float(TOP)
    opened: list[tuple[float, str]] = []
    for line in calls:
        if line.startswith("loop "):
            opened.append((y, line.removeprefix("loop ")))
        elif line == "end" and opened:
            top, label = opened.pop()
            drawn.box(8, top - 8, width - 16, y - top + 4, fill="none", dashed=True)
            drawn.text(18, top + 8, f"loop: {label}", anchor="start", size=11, colour="quiet")
        elif (
            (call := CALL.fullmatch(line))
            and call[1] != call[3]
            and {call[1], call[3]} <= names.keys()
        ):
            _call(drawn, names[call[1]], names[call[3]], y + 18, call[4], call[2] == "-->>", width)
        else:
            raise SequenceError(f"is not understood in {title!r}: {line!r}")
        y += ROW
    return drawn.svg(width, height)


def _call(
    drawn: Drawing, x: float, to: float, y: float, text: str, answers: bool, width: float
) -> None:
    drawn.arrow([(x, y), (to, y)], dashed=answers)
    half = len(text) * 5.6 / 2
    middle = min(max((x + to) / 2, half + 8), width - half - 8)
    drawn.text(middle, y - 5, text, size=11)
