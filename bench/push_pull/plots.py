"""Two small plots as SVG, drawn here: a library for this would be larger than the benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, ROW, LEFT, RIGHT, TOP = 760, 30, 170, 90, 64
PUSH, PULL, NEITHER = "#c2410c", "#1d4ed8", "#6b7280"
COLOURS = {"push": PUSH, "pull": PULL}


def ranges(
    title: str, unit: str, rows: Sequence[tuple[str, str, float, float]], *, low: float, high: float
) -> str:
    """Ranges on a logarithmic scale: a line from one figure to a larger one for each row.

    Args:
        title: What it shows.
        unit: The unit of the scale.
        rows: Name, kind (`push`, `pull` or other), the smaller and the larger figure.
        low: Where the scale begins; above 0.
        high: Where it ends; what lies beyond is drawn there, with an arrow.
    """

    def x(value: float) -> float:
        inside = min(max(value, low), high)
        part = math.log10(inside / low) / math.log10(high / low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    bottom = TOP + ROW * len(rows)
    drawn = [_text(LEFT, 24, title, size=15, weight="600")]
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at = x(10.0**power)
        drawn.append(_line(at, TOP - 12, at, bottom, "#e5e7eb", 1))
        drawn.append(_text(at, TOP - 18, f"{10.0**power:g} {unit}", anchor="middle", grey=True))
    for number, (name, kind, small, large) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        colour = COLOURS.get(kind, NEITHER)
        drawn.append(_text(LEFT - 12, y + 4, name, anchor="end"))
        drawn.append(_line(x(small), y, x(large), y, colour, 4))
        drawn += [
            f'<circle cx="{x(at):.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" '
            'stroke-width="2"/>'
            for at, fill in ((small, colour), (large, "#ffffff"))
        ]
        if large > high:
            drawn.append(_text(x(high) + 10, y + 4, "beyond", grey=True))
    return _svg(bottom + 24, drawn)


def bars(title: str, unit: str, rows: Sequence[tuple[str, str, float]]) -> str:
    """Bars from nought, one a row.

    Args:
        title: What it shows.
        unit: The unit of the figures.
        rows: Name, kind and figure.
    """
    most = max((figure for *_, figure in rows), default=0) or 1
    drawn = [_text(LEFT, 24, title, size=15, weight="600")]
    for number, (name, kind, figure) in enumerate(rows):
        y = TOP - 20 + ROW * number
        length = figure / most * (WIDTH - LEFT - RIGHT)
        drawn.append(_text(LEFT - 12, y + 19, name, anchor="end"))
        drawn.append(
            f'<rect x="{LEFT}" y="{y + 6:.1f}" width="{max(length, 1):.1f}" height="{ROW - 12}" '
            f'fill="{COLOURS.get(kind, NEITHER)}"/>'
        )
        drawn.append(_text(LEFT + length + 8, y + 19, f"{figure:,.3g} {unit}".strip(), grey=True))
    return _svg(TOP + ROW * len(rows), drawn)


def legend() -> Mapping[str, str]:
    """What the colours mean."""
    return {"push": PUSH, "pull": PULL, "no channel": NEITHER}


def _text(
    x: float,
    y: float,
    said: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "400",
    grey: bool = False,
) -> str:
    colour = "#6b7280" if grey else "#111827"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(said)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )


def _svg(height: float, drawn: Sequence[str]) -> str:
    keys = [
        f'<circle cx="{LEFT + 110 * number:.0f}" cy="{height:.0f}" r="5" fill="{colour}"/>'
        + _text(LEFT + 110 * number + 10, height + 4, name, grey=True)
        for number, (name, colour) in enumerate(legend().items())
    ]
    size = f'width="{WIDTH}" height="{height + 20:.0f}" viewBox="0 0 {WIDTH} {height + 20:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *drawn,
        *keys,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
