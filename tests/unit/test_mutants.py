"""The list of mutants fits the code as it is, and what runs them says what became of each."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants import ROOT, Mutant, StaleError, mutants, run
from tests.mutants.run import run_each

CODE = "def double(n: int) -> int:\n    return 2 * n\n"
TESTS = """
import calc

def test_a_number_is_doubled():
    assert calc.double(3) == 6

def test_nothing():
    pass

def test_that_has_no_end_where_zero_is_doubled_wrongly():
    while calc.double(0):
        pass
"""
MISTAKE = Mutant(
    file="calc.py",
    what="a number is squared",
    old="2 * n",
    new="n * n",
    tests=("tests/test_calc.py::test_a_number_is_doubled",),
    tiers=("tests",),
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with its tests."""
    monkeypatch.setattr(run, "IMPORTED_ONCE", ["pytest", "schemathesis.pytest"])
    (tmp_path / "calc.py").write_text(CODE)
    shutil.copytree(ROOT / "tests" / "mutants", tmp_path / "tests" / "mutants")
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "test_calc.py").write_text(TESTS)
    return tmp_path


def test_every_entry_fits_the_code_and_names_tests_that_are_there() -> None:
    listed = mutants()
    assert not [n for n, times in Counter((m.file, m.what) for m in listed).items() if times > 1]
    for mutant in listed:
        try:
            mutant.applied(ROOT)
            mutant.check_tests(ROOT)
        except StaleError as problem:
            pytest.fail(f"{mutant.file}: {mutant.what}: {problem}")
        assert not (mutant.alive and mutant.equivalent), mutant.what
        assert all((ROOT / tier).exists() for tier in mutant.tiers), mutant.file


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"old": "3 * n"}, "0 times"),
        ({"old": "n"}, "times, not once"),
        ({"file": "gone.py"}, "0 times"),
        ({"new": "2 *"}, "no Python"),
        ({"new": "2 * n"}, "changes nothing"),
        ({"tests": ("tests/test_calc.py::test_gone",)}, "no test"),
        ({"tests": ()}, "names no test"),
    ],
)
def test_an_entry_that_does_not_fit_is_stale(
    tree: Path, changes: dict[str, str], said: str
) -> None:
    (result,) = run_each(tree, [replace(MISTAKE, **changes)], jobs=1, timeout=60)  # type: ignore[arg-type]
    assert (result.verdict, result.is_bad) == ("STALE", True)
    assert said in result.detail


def test_each_mutant_is_made_in_a_copy_and_gone_before_the_next(tree: Path) -> None:
    weak = replace(MISTAKE, what="none", tests=("tests/test_calc.py::test_nothing",))
    cases = [
        (MISTAKE, "KILLED", False),
        (weak, "SURVIVED", True),
        (replace(weak, alive="nobody looks"), "SURVIVED", False),
        (replace(weak, equivalent="it is the same"), "SURVIVED", False),
        # Neither the mutant before nor its compiled file is left: 3 would not be doubled.
        (
            replace(MISTAKE, file="tests/test_calc.py", old="    pass\n\ndef", new="    1\n\ndef"),
            "SURVIVED",
            True,
        ),
        (replace(MISTAKE, old="def double(n: int)", new="def triple(n: int)"), "KILLED", False),
        (replace(MISTAKE, old="def double", new="raise OSError\ndef double"), "ERROR", True),
    ]
    results = run_each(tree, [mutant for mutant, *_ in cases], jobs=1, timeout=60)
    found = {id(one.mutant): one for one in results}
    for mutant, verdict, is_bad in cases:
        result = found[id(mutant)]
        assert (result.verdict, result.is_bad) == (verdict, is_bad), result
    assert (tree / "calc.py").read_text() == CODE


def test_all_tests_that_touch_the_code_find_what_its_own_do_not(tree: Path) -> None:
    weak = replace(MISTAKE, tests=("tests/test_calc.py::test_nothing",))
    (result,) = run_each(tree, [weak], jobs=1, timeout=60, all_tests=True)
    assert (result.verdict, result.detail) == ("KILLED", MISTAKE.tests[0])


def test_tests_without_an_end_are_ended(tree: Path) -> None:
    endless = replace(
        MISTAKE,
        new="2 * n + 1",
        tests=("tests/test_calc.py::test_that_has_no_end_where_zero_is_doubled_wrongly",),
    )
    (result,) = run_each(tree, [endless], jobs=1, timeout=5)
    assert (result.verdict, result.detail) == ("ERROR", "no end within 5 s")
