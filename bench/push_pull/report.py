"""The report: Markdown tables, put between two markers of a page that is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

BEGIN = "<!-- measured: `make bench-push-pull` writes what follows -->"
END = "<!-- measured: until here -->"


class UnmarkedPageError(ValueError):
    """The page has not the two markers, once each and in order."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in line) + " |" for line in lines)


def put(page: Path, written: str) -> None:
    """Put text between a page's markers; everything else stays as it is.

    Raises:
        UnmarkedPageError: The page has not both markers.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in old or END in before:
        raise UnmarkedPageError(f"{page}: wants one line {BEGIN!r} and, below it, one {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{written.strip()}\n\n{END}{after}")


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
