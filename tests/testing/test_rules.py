"""docs/for-coding-assistants.md: its right code runs, its wrong code is found as it says."""

from __future__ import annotations

import ast
import logging
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, cast

import pytest

import recourse
from recourse import Call, DeclarationError, SagaId, TransientError
from tests.testing import projects
from tests.testing.test_plugin import WRONG, Change

PAGE = (projects.ROOT / "docs" / "for-coding-assistants.md").read_text()
RULE = re.compile(r"^### (\d+)\. .*?(?=^##|\Z)", re.MULTILINE | re.DOTALL)
RULES = {int(rule[1]): rule[0] for rule in RULE.finditer(PAGE)}
CODE = re.compile(r"^(Wrong|Right):\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REFUSED = re.compile(r"^Refused when it is built: `(.*)`$", re.MULTILINE)
FOUND = re.compile(r"^`pytest --sagas` says: `(.*)`$", re.MULTILINE)
ELSEWHERE = re.compile(r"^Right: as in rule (\d+)", re.MULTILINE)
BY_ITSELF = {14, 15}
"""The rules whose wrong code has a test of its own here."""
CALL: Call[Any] = Call(
    saga_id=SagaId("0" * 32),
    saga="purchase",
    step="money",
    owner="asha",
    business_key="o-1",
    started_at="2026-11-28T09:00:00.000Z",
    ask=None,
    results={},
)


def blocks(rule: str) -> dict[str, str]:
    """The code in the text of a rule."""
    return dict(CODE.findall(rule))


def code(rule: int, which: str) -> str:
    """The wrong or the right code of a rule."""
    return blocks(RULES[rule])[which]


def defined(text: str) -> dict[str, str]:
    """What a text defines, by name, whatever its format is: functions, classes and constants."""
    found = {}
    for one in ast.parse(text).body:
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            found[one.name] = ast.unparse(one)
        elif isinstance(one, ast.Assign):
            found[ast.unparse(one.targets[0])] = ast.unparse(one)
    return found


def changed(changes: Iterable[Change]) -> dict[str, str]:
    """The files of the project with changes."""
    made = dict(projects.FILES)
    for name, old, new in changes:
        assert old in made[name]
        made[name] = made[name].replace(old, new)
    return made


def all_defined(files: Mapping[str, str]) -> dict[str, str]:
    """What all modules of a project define."""
    return {
        name: text
        for path, file in files.items()
        if path.endswith(".py")
        for name, text in defined(file).items()
    }


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The project's modules, and a module of its own for the code of a rule."""
    for path in (
        "elsewhere.py",
        "warehouse/__init__.py",
        "warehouse/items.py",
        "warehouse/money.py",
    ):
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(projects.FILES[path], vars(module))
    rule = ModuleType("rule")
    monkeypatch.setitem(sys.modules, "rule", rule)
    exec("from recourse import *\nfrom warehouse import items, money", vars(rule))
    exec(projects.FILES["warehouse/items.py"].split("@undo")[0], vars(rule))
    exec(projects.FILES["declared.py"], vars(rule))
    vars(rule).update(Client=Client, uuid=uuid, logger=logging.getLogger("rule"))
    yield vars(rule)


class Client:
    """An API that notes which keys it was asked with."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def post(self, path: str, *, json: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """Note the key."""
        self.keys.add(headers["Idempotency-Key"])


class Provider:
    """A provider that is down."""

    def refund(self, key: str, *, timeout: float) -> None:
        """Do not answer."""
        raise ConnectionRefusedError("no route")


def test_every_rule_has_a_mistake_and_what_is_right() -> None:
    assert [*RULES] == [*range(1, len(RULES) + 1)]
    for number, rule in RULES.items():
        assert "Wrong" in blocks(rule), number
        assert ("Right" in blocks(rule)) != bool(ELSEWHERE.search(rule)), number
        ways = len(REFUSED.findall(rule)) + len(FOUND.findall(rule)) + (number in BY_ITSELF)
        assert ways == 1, number
    for number, rule in RULES.items():
        for other in ELSEWHERE.findall(rule):
            assert code(int(other), "Right"), number


@pytest.mark.parametrize("number", [n for n, rule in RULES.items() if REFUSED.search(rule)])
def test_what_is_said_to_be_refused_is_refused_with_these_words(
    number: int, shop: dict[str, Any]
) -> None:
    (words,) = REFUSED.findall(RULES[number])
    with pytest.raises((DeclarationError, ValueError), match=re.escape(words)):
        exec(code(number, "Wrong"), shop)


@pytest.mark.parametrize("number", [n for n, rule in RULES.items() if FOUND.search(rule)])
def test_what_pytest_is_said_to_find_is_what_another_test_lets_it_find(number: int) -> None:
    (words,) = FOUND.findall(RULES[number])
    wrong, right = defined(code(number, "Wrong")), all_defined(projects.FILES)
    assert wrong.keys() <= right.keys()
    matching = [
        says
        for changes, says in (cast("tuple[list[Change], str]", one.values) for one in WRONG)
        if wrong.items() <= all_defined(changed(changes)).items()
    ]
    assert any(wrong[name] != right[name] for name in wrong)
    assert [says for says in matching if says in words], (matching, words)


@pytest.mark.parametrize("number", [n for n, rule in RULES.items() if not ELSEWHERE.search(rule)])
def test_what_is_right_runs(number: int, shop: dict[str, Any]) -> None:
    """As it stands; what the project has under that name is just that, which pytest finds right."""
    text = code(number, "Right")
    exec(text, shop)
    if number not in BY_ITSELF:
        of_project = all_defined(projects.FILES)
        for name, one in defined(text).items():
            assert of_project.get(name, one) == one, name


def test_an_undo_that_swallows_an_error_says_that_it_has_undone(shop: dict[str, Any]) -> None:
    shop["provider"] = Provider()
    exec(code(14, "Wrong"), shop)
    assert shop["refund"](CALL) == recourse.Decision()
    exec(code(14, "Right"), shop)
    with pytest.raises(TransientError, match="the provider did not answer: no route"):
        shop["refund"](CALL)


def test_a_key_that_is_made_anew_makes_two_sagas_of_two_tries(shop: dict[str, Any]) -> None:
    sagas = {}
    for which in ("Wrong", "Right"):
        exec(code(15, which), shop)
        api = Client()
        for _ in range(2):
            shop["start"](api, {"order": "o-1", "item": "tea"})
        sagas[which] = {SagaId.of("purchase", "asha", key) for key in api.keys}
    assert (len(sagas["Wrong"]), len(sagas["Right"])) == (2, 1)
