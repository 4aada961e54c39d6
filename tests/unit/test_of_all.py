"""The suites that are about all sagas, steps, holdings and consumers name none of them.

What they know of each they derive from where it is declared; so whoever adds one edits no test.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lambdas.consumers import consumers
from lambdas.subscribers import subscribers
from services.holdings import HOLDINGS
from statemachines import SAGAS

TESTS = Path(__file__).parents[1]
STEPS = [step for saga in SAGAS.values() for step in saga.all]
LISTENING = [*consumers().values(), *subscribers().values()]
PHASES = {"action", "undo", "give_up", "settle", "cancel", "confirm"}
"""What a step is asked for: words of the library, which a step may have as its name too."""
NAMES = {
    *SAGAS,
    *(step.name for step in STEPS),
    *(step.function for step in STEPS),
    *(step.service for step in STEPS),
    *HOLDINGS,
    *(one.name for one in LISTENING),
} - PHASES
BEGINNINGS = (*{step.service.title() for step in STEPS}, *(one.name for one in LISTENING))
"""What the names of their functions, tables and queues begin with."""
OF_ONE = re.compile(r"(services|statemachines)\.(?!(holdings|counted|fields|SAGAS)\b)")
"""What is imported of one service or one saga."""
MARK = "of_all"


def marked(tree: ast.Module) -> list[ast.AST]:
    """What is about all: the module where it says so, else each test that does."""
    assigned = [one for one in tree.body if isinstance(one, ast.Assign)]
    marks = [one.value for one in assigned if ast.unparse(one.targets[0]) == "pytestmark"]
    if any(MARK in ast.unparse(one) for one in marks):
        return [tree]
    tests = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    return [one for one in tests if any(MARK in ast.unparse(by) for by in one.decorator_list)]


def named(tree: ast.AST) -> list[tuple[int, str]]:
    """Every name of one of them in it, with its line: as a text or in one, or imported.

    A docstring and a sentence may use their words.
    """
    told = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    found = []
    for one in ast.walk(tree):
        text = one.value if isinstance(one, ast.Constant) and id(one) not in told else None
        if isinstance(one, ast.Constant) and isinstance(text, str) and names(text):
            found.append((one.lineno, text))
        if isinstance(one, ast.ImportFrom):
            imported = [f"{one.module}.{name.name}" for name in one.names]
            found += [(one.lineno, name) for name in imported if OF_ONE.match(name)]
    return found


def names(text: str) -> bool:
    """Whether a text that is no sentence names one, by itself or in the name of a resource."""
    words = [] if " " in text else re.findall(r"[\w-]+", text)
    return any(word in NAMES or word.startswith(BEGINNINGS) for word in words)


TREES = {
    path.relative_to(TESTS).as_posix(): ast.parse(text)
    for path in sorted(TESTS.rglob("test_*.py"))
    # No other can be about all, or go through all; and each worker parses them.
    if any(word in (text := path.read_text()) for word in (MARK, "SAGAS", "HOLDINGS"))
}
OF_ALL = {path: found for path, tree in TREES.items() if (found := marked(tree))}


@pytest.mark.parametrize("path", OF_ALL)
def test_a_suite_about_all_names_none(path: str) -> None:
    assert [one for tree in OF_ALL[path] for one in named(tree)] == []


def test_whoever_goes_through_all_of_them_is_about_all() -> None:
    going = re.compile(r"\bin (SAGAS|HOLDINGS)\b|\b(SAGAS|HOLDINGS)\.(values|items)\(")
    tests = {
        f"{path}: {one.name}"
        for path, tree in TREES.items()
        if path != "unit/test_of_all.py" and tree not in OF_ALL.get(path, ())
        for one in tree.body
        if isinstance(one, ast.FunctionDef) and one not in OF_ALL.get(path, ())
        if one.name.startswith("test_") and going.search(ast.unparse(one))
    }
    assert tests == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 'travel-booking'", True),
        ("x = f'marker#{saga}#flight#action'", True),
        ("x = {'<TallyEvents/Queue.Arn>'}", True),
        ("from services import flights", True),
        ("from services.holdings import HOLDINGS", False),
        ("def f():\n    'Of travel-booking and flights.'", False),
        ("x = 'in any order'", False),
        ("x = '<LedgerTable.Arn>'", False),
    ],
)
def test_what_names_one_is_found(code: str, found: bool) -> None:
    assert bool(named(ast.parse(code))) == found
