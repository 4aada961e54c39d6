"""The public face: what `recourse` names is there, is typed, and costs nothing until it is used."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import recourse

ROOT = Path(__file__).parents[2]
HEAVY = {
    "annotated_types",
    "aws_cdk",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "jwt",
    "pydantic",
}


def typed() -> dict[str, str]:
    """The module of each name, as type checkers read it."""
    tree = ast.parse((ROOT / "recourse" / "__init__.py").read_text())
    (block,) = [one for one in tree.body if isinstance(one, ast.If)]
    return {
        name.name: str(one.module)
        for one in block.body
        if isinstance(one, ast.ImportFrom)
        for name in one.names
    }


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_what_type_checkers_read_is_what_is_imported() -> None:
    assert sorted(typed()) == recourse.__all__
    for name, module in typed().items():
        assert getattr(recourse, name) is getattr(import_module(module), name), name


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'recourse' has no attribute 'Sagas'"):
        recourse.Sagas  # noqa: B018
    assert {*recourse.__all__} <= {*dir(recourse)}


def test_the_package_and_its_rooms_load_nothing_heavy() -> None:
    rooms = [one.name for one in pkgutil.iter_modules(recourse.__path__) if one.ispkg]
    assert len(rooms) > 10
    loaded = loaded_by("import recourse\n" + "\n".join(f"import recourse.{one}" for one in rooms))
    assert not loaded & HEAVY


def test_what_a_step_is_written_with_loads_no_declaration() -> None:
    loaded = loaded_by("from recourse import Call, Decision, Money, Put, Refusal, Update, action")
    assert "recourse.declare.step" in loaded
    assert not loaded & {*HEAVY, "recourse.declare.saga", "recourse.declare.checks"}
