"""The results of a benchmark: figures, each with its alternative and the bound it must keep."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measurement.

    Attributes:
        what: What was measured.
        size: How large the run was.
        figure: The outcome, with its unit.
        alternative: What it is held against, with its own outcome in the same run.
        ratio: The figure over its alternative's.
        least: The smallest ratio that is right, if there is a bound below.
        most: The largest ratio that is right, if there is a bound above.
    """

    what: str
    size: str
    figure: str
    alternative: str
    ratio: float
    least: float | None = None
    most: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words; empty where there is none."""
        if self.least is not None and self.least == self.most:
            return f"exactly {self.least:g}"
        words = [] if self.least is None else [f"at least {self.least:g}"]
        words += [] if self.most is None else [f"at most {self.most:g}"]
        return ", ".join(words)

    @property
    def is_kept(self) -> bool:
        """Whether the ratio keeps its bound; without a bound it does."""
        low = self.least is None or self.ratio >= self.least
        return low and (self.most is None or self.ratio <= self.most)


def show(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """Print the figures of one benchmark as a table."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("what", "size of the run", "figure", "alternative"):
        table.add_column(column)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("bound")
    for one in figures:
        kept = ("kept" if one.is_kept else "MISSED") if one.bound else ""
        colour = "green" if one.is_kept else "red"
        verdict = f"{one.bound}: [{colour}]{kept}[/]" if one.bound else "none"
        table.add_row(one.what, one.size, one.figure, one.alternative, f"{one.ratio:.2f}", verdict)
    console.print(table)


def say(text: str) -> None:
    """Print a line of progress to stderr, apart from the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternated(
    sides: Sequence[Callable[[], float]], *, rounds: int, warmups: int = 0
) -> list[float]:
    """The median of each side, measured in turn: A B A B …, so that noise meets all of them.

    Args:
        sides: Each measures itself once.
        rounds: How often each side is measured.
        warmups: Rounds before these that do not count.
    """
    found: list[list[float]] = [[] for _ in sides]
    for number in range(-warmups, rounds):
        for side, kept in zip(sides, found, strict=True):
            measured = side()
            if number >= 0:
                kept.append(measured)
    return [statistics.median(kept) for kept in found]
