"""One catalogue of problems: whatever is answered has its type, status and title from there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from recourse.problems import TYPES, ProblemError, invalid, urn
from recourse.valet.errors import ValetError

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "recourse" / "problems.py"
SOURCES = [
    path
    for package in ("recourse", "services", "statemachines", "lambdas", "infra", "local", "cli")
    for path in (ROOT / package).rglob("*.py")
]
MAKERS = {"ProblemError", "LimitReachedError", "problem"}


def strings(path: Path) -> Iterator[str]:
    """The strings of a module, docstrings among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def made(path: Path) -> Iterator[str]:
    """The kinds of the problems that a module makes by name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            kind = node.args[0]
            if node.func.id in MAKERS and isinstance(kind, ast.Constant):
                yield str(kind.value)


def test_no_problem_is_made_elsewhere() -> None:
    foreign = {
        path.relative_to(ROOT): text
        for path in SOURCES
        if path != CATALOGUE
        for text in strings(path)
        if any(part in text for part in ("application/problem", "about:blank", "urn:recourse:prob"))
        or text in {title for _, title in TYPES.values()}
    }
    assert not foreign


def test_what_is_made_is_in_the_catalogue_and_what_is_there_is_made() -> None:
    refusals = {refusal.kind for refusal in ValetError.__subclasses__()}
    kinds = {kind for path in SOURCES for kind in made(path)} | refusals
    assert kinds == set(TYPES)


def test_a_problem_says_what_the_catalogue_says_and_what_is_wrong_here() -> None:
    error = invalid("limit", "should be a number")
    status, title = TYPES["invalid"]
    assert error.status == status
    assert error.body == {
        "type": urn("invalid"),
        "title": title,
        "status": status,
        "detail": "limit: should be a number",
        "errors": [{"field": "limit", "message": "should be a number"}],
    }
    assert "errors" not in ProblemError("not-found", "nothing is there").body


def test_there_is_no_problem_but_those_of_the_catalogue() -> None:
    with pytest.raises(KeyError, match="unheard-of"):
        ProblemError("unheard-of", "what is it?")
