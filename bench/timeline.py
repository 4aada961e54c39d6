"""Timelines as SVG: a lane for each name, a bar for each thing, drawn here as the plots are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, LANE, TOP, FOOT = 900, 170, 18, 40, 34
COLOURS = {
    "waits in a queue": "#fcd34d",
    "waits in a stream": "#f59e0b",
    "waits for a worker": "#d1d5db",
    "function": "#1d4ed8",
    "AWS call": "#c2410c",
}


@dataclass(frozen=True)
class Bar:
    """Something that lasted.

    Attributes:
        lane: In whose lane it is.
        kind: One of `COLOURS`.
        began: Seconds from the beginning.
        ended: Seconds from the beginning.
    """

    lane: str
    kind: str
    began: float
    ended: float


def timeline(panels: Mapping[str, Sequence[Bar]]) -> str:
    """One panel below another, all on one scale of time."""
    longest = max(bar.ended for bars in panels.values() for bar in bars)
    scale = (WIDTH - LEFT - 20) / longest
    step = next(one for one in (0.05, 0.1, 0.2, 0.5, 1, 2, 5) if longest / one <= 12)
    drawn: list[str] = []
    y = 0
    for title, bars in panels.items():
        lanes = list(dict.fromkeys(bar.lane for bar in bars))
        drawn.append(_text(LEFT, y + 20, title, size=14, weight="600"))
        bottom = y + TOP + LANE * len(lanes)
        for number in range(int(longest / step) + 1):
            x = LEFT + number * step * scale
            drawn.append(_box(x, y + TOP, 0.5, bottom - y - TOP, "#d1d5db"))
            drawn.append(_text(x, bottom + 14, f"{1000 * number * step:g} ms", anchor="middle"))
        for number, lane in enumerate(lanes):
            at = y + TOP + LANE * number
            drawn.append(_text(LEFT - 8, at + 13, lane, anchor="end"))
            for bar in bars:
                if bar.lane == lane:
                    length = max((bar.ended - bar.began) * scale, 0.6)
                    start = LEFT + bar.began * scale
                    drawn.append(_box(start, at + 3, length, LANE - 6, COLOURS[bar.kind]))
        y = bottom + FOOT
    for number, (kind, colour) in enumerate(COLOURS.items()):
        drawn.append(_box(LEFT + 140 * number, y, 12, 12, colour))
        drawn.append(_text(LEFT + 140 * number + 18, y + 10, kind))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" '
        'font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{y + 24}" fill="#ffffff"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="#111827">{escape(text)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )
