"""What people see: lines and tables in which no text of others acts on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleRenderable, RenderHook
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from recourse.cli.visible import visible

_WIDE = 100_000


class Screen(Console):
    """A console for text of others: it is made visible, never wrapped or cut, never markup.

    ::

        out = Screen()
        out.print(saga["business_key"])
        table = Table(identity("id"), "status")
        out.print_table(table)

    Args:
        options: rich's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)
        self.push_render_hook(_Visible())

    def on_broken_pipe(self) -> None:
        """Let the command end: whoever read it is gone."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich renders it, in a line, a cell or a title."""
        return super().render_str(visible(text), **options)

    def print_table(self, table: Table) -> None:
        """Print a table; its ids can be copied, however narrow the window is.

        Where they do not fit, lines are longer than the window. Where there is no window, as in a
        pipe, each row is one line.
        """
        for column in table.columns:
            column.overflow = "fold"
        wanted = Measurement.get(self, self.options.update(width=_WIDE), table)
        table.width = (
            max(min(self.width, wanted.maximum), wanted.minimum)
            if self.is_terminal
            else wanted.maximum
        )
        self.print(table, soft_wrap=False, crop=False)


class _Visible(RenderHook):
    """Makes texts visible that were composed with styles, which `render_str` does not see."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_shown(one) if isinstance(one, Text) else one for one in renderables]


def _shown(text: Text) -> Text:
    shown = text.copy()
    shown.plain = visible(text.plain)
    return shown


def identity(header: str) -> Column:
    """A column of ids: never wrapped, so that they can be copied."""
    return Column(header, no_wrap=True)
