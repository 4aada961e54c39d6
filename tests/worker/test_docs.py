"""docs/add-a-consumer.md shows what is there: its quotations stand so in the files it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recourse.message import Message

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/add-a-consumer.md").read_text()
QUOTED = re.findall(r"\bin `([\w./]+)`:\n\n```python\n(.*?)^```$", PAGE, re.I | re.S | re.M)


def test_the_page_quotes_an_inbox_and_a_function() -> None:
    assert [path for path, _ in QUOTED] == ["lambdas/consumers/tally.py"] * 2


@pytest.mark.parametrize(("path", "text"), QUOTED)
def test_what_the_page_quotes_stands_so_in_the_file(path: str, text: str) -> None:
    assert text in (ROOT / path).read_text()


def test_the_page_s_own_handler_takes_a_notice(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"in\n`mine.py`[^\n]*:\n\n```python\n(.*?)^```$", PAGE, re.S | re.M)
    scope: dict[str, Any] = {}
    exec(text, scope)
    attributes = {"saga": "travel-booking", "step": "hotel"}
    scope["handle"](Message("m", "{}", attributes, None, 1))
    assert capsys.readouterr().out == "travel-booking hotel {}\n"
