"""`recourse new`: an app of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Write a new app into a folder."""
    sys.exit("recourse new: not written yet")
