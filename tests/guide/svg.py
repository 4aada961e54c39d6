"""What drawings are made of: boxes, arrows and texts, in colours for light and for dark."""

from __future__ import annotations

from html import escape

COLOURS = {
    # for: (light, dark)
    "ground": ("#ffffff", "#16181d"),
    "ink": ("#1f2937", "#e5e7eb"),
    "quiet": ("#6b7280", "#9ca3af"),
    "box": ("#f3f4f6", "#23262d"),
    "line": ("#9ca3af", "#6b7280"),
    "pivot": ("#4051b5", "#8c9eff"),
    "undo": ("#b45309", "#fbbf24"),
    "good": ("#15803d", "#4ade80"),
    "bad": ("#b91c1c", "#f87171"),
}


def _variables(shade: int) -> str:
    return "".join(f"--{name}:{colours[shade]};" for name, colours in COLOURS.items())


STYLE = (
    f".drawing{{{_variables(0)}}}@media (prefers-color-scheme:dark){{.drawing{{{_variables(1)}}}}}"
)
"""In a page of the site, the reader's own choice of light or dark goes before the system's."""
SITE_STYLE = (
    f'[data-md-color-scheme="default"] .drawing{{{_variables(0)}}}\n'
    f'[data-md-color-scheme="slate"] .drawing{{{_variables(1)}}}\n'
)


class Drawing:
    """An SVG, to which one adds.

    ::

        drawing = Drawing("travel-booking: its steps")
        drawing.box(0, 0, 100, 30, "flight")
        drawing.arrow([(100, 15), (140, 15)])
        drawing.svg(240, 30)
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._name = "".join(letter if letter.isalnum() else "-" for letter in title)
        self._parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        *,
        small: str = "",
        stroke: str = "line",
        fill: str = "box",
        round: float = 6,
        dashed: bool = False,
    ) -> None:
        """A box with its name in the middle, and something small below that."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        paint = f"var(--{fill})" if fill in COLOURS else fill
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round:g}" '
            f'fill="{paint}" stroke="var(--{stroke})" stroke-width="1.3"{dash}/>'
        )
        middle = y + height / 2
        if text:
            self.text(x + width / 2, middle + (-1 if small else 4.5), text, weight=600)
        if small:
            self.text(x + width / 2, middle + 13, small, size=10.5, colour="quiet")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12.5,
        weight: int = 400,
        anchor: str = "middle",
        colour: str = "ink",
    ) -> None:
        """A line of text, on whose baseline `y` is."""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="var(--{colour})">{escape(text)}</text>'
        )

    def arrow(
        self,
        points: list[tuple[float, float]],
        *,
        colour: str = "line",
        dashed: bool = False,
    ) -> None:
        """An arrow through some points."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="1.5"'
            f'{dash} marker-end="url(#{self._name}-{colour})"/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, *, dashed: bool = False) -> None:
        """A line without an end of its own."""
        dash = ' stroke-dasharray="3 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="var(--line)" '
            f'stroke-width="1"{dash}/>'
        )

    def svg(self, width: float, height: float) -> str:
        """All that was added, on a ground of this size."""
        heads = "".join(
            f'<marker id="{self._name}-{colour}" viewBox="0 0 8 8" refX="7" refY="4" '
            f'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="var(--{colour})"/></marker>'
            for colour in ("line", "undo", "bad", "good", "pivot")
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" role="img" '
            f'viewBox="0 0 {width:g} {height:g}" font-family="system-ui, sans-serif" '
            f'style="max-width:{width:g}px">\n'
            f"<title>{escape(self._title)}</title><style>{STYLE}</style><defs>{heads}</defs>\n"
            f'<rect width="{width:g}" height="{height:g}" rx="10" fill="var(--ground)"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )
