"""What is deprecated says what replaces it and from which release on it may be gone.

`docs/stability.md` promises it; nothing is deprecated yet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests import ROOT

RIGHT = re.compile(r"use .+ instead; .+ may be gone from \d+\.\d+ on$")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def deprecations(source: str) -> Iterator[ast.Call]:
    """The calls that warn that something is deprecated."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and re.search(r"\bwarn$", ast.unparse(node.func)):
            given = [*node.args, *(one.value for one in node.keywords)]
            if any(ast.unparse(one).endswith("DeprecationWarning") for one in given):
                yield node


def faults(call: ast.Call) -> list[str]:
    """What its users would miss."""
    message = call.args[0]
    text = "".join(
        str(part.value) if isinstance(part, ast.Constant) else "x"
        for part in (message.values if isinstance(message, ast.JoinedStr) else [message])
    )
    levels = [ast.literal_eval(one.value) for one in call.keywords if one.arg == "stacklevel"]
    return [
        *(["replacement and release"] if not RIGHT.search(text) else []),
        *(["where it is used"] if not levels or levels[0] < 2 else []),
    ]


def test_a_deprecation_says_what_its_users_need() -> None:
    for path in (ROOT / "recourse").rglob("*.py"):
        for call in deprecations(path.read_text("utf-8")):
            assert not faults(call), f"{path}:{call.lineno} lacks {faults(call)}"
            assert "### Deprecated" in CHANGELOG


@pytest.mark.parametrize(
    ("warned", "lacks"),
    [
        ('"use b instead; a may be gone from 0.4 on", DeprecationWarning, stacklevel=2', []),
        ('f"use {b} instead; {a} may be gone from 0.4 on", DeprecationWarning, stacklevel=3', []),
        ('"use b instead; a may be gone from 0.4 on", DeprecationWarning', ["where it is used"]),
        (
            '"a is deprecated", category=DeprecationWarning, stacklevel=2',
            ["replacement and release"],
        ),
    ],
)
def test_what_is_looked_for_is_found(warned: str, lacks: list[str]) -> None:
    (call,) = deprecations(f"import warnings\nwarnings.warn({warned})")
    assert faults(call) == lacks
