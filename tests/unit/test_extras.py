"""A package that is not there is named with the command that brings it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from recourse.extras import needed
from tests import ROOT


def without(package: str, says: str, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python where there is no such package."""
    code = f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(ROOT)!r}); {says}"
    return subprocess.run([sys.executable, "-c", code], cwd=at, capture_output=True, text=True)


ONE = "tests/unit/test_project.py"
"""A file of tests, rather than all."""


def command(*arguments: str) -> str:
    return f"from recourse.__main__ import main; sys.argv[1:] = {list(arguments)}; main()"


@pytest.mark.parametrize(
    ("package", "says", "extra"),
    [
        ("typer", command("list"), "cli"),
        ("rich", command("--help"), "cli"),
        ("httpx", command("start", "order", "--request", "r.json"), "cli"),
        ("starlette", command("up"), "local"),
        ("jwt", command("token", "--subject", "asha"), "local"),
        ("aws_cdk", "from recourse.cdk import SagaApi", "cdk"),
        ("moto", f"import pytest; sys.exit(pytest.main(['--sagas', '-q', '{ONE}']))", "testing"),
    ],
)
def test_the_extra_and_the_command_are_in_the_message(package: str, says: str, extra: str) -> None:
    ran = without(package, says)
    assert ran.returncode != 0
    said = f"{package} is not installed: pip install 'recourse-aws[{extra}]'"
    assert said in ran.stdout + ran.stderr, ran.stderr


def test_without_the_command_line_what_there_is_is_said() -> None:
    ran = without("typer", command())
    assert ran.stderr.strip().endswith("there are `recourse new` and `recourse --version`")
    assert without("typer", command("--version")).stdout.startswith("recourse ")


def test_what_a_project_itself_lacks_is_its_own() -> None:
    try:
        import_module("nowhere.to_be_found")
    except ModuleNotFoundError as problem:
        assert needed(problem) is None
