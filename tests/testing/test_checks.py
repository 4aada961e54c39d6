"""What `pytest --sagas` calls a change of the stock, where every saga was undone."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.testing import checks

PLACE = ("items", "item#tea")
ROW = {"pk": "item#tea", "free": 3}


def wrong(**after: Any) -> list[str]:
    """What is wrong with the row, with these attributes besides, that no saga has changed."""
    rows = {PLACE: ROW | after}
    return list(checks.of_stock({PLACE: ROW}, rows, {}, undone=True, but=frozenset()))


def test_a_count_that_went_up_from_nothing_and_back_is_no_change() -> None:
    assert wrong(held=0) == []


@pytest.mark.parametrize("left", [1, -1, False, "", []], ids=repr)
def test_whatever_else_is_left_is_one(left: Any) -> None:
    assert wrong(note=left) == [
        f"'note' of item#tea in items must be None as before, got {left!r}: every saga was undone"
    ]
