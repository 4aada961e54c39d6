"""A project says in its pyproject.toml where its sagas are and what its functions carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from recourse.project import Project, ProjectError
from statemachines import SAGAS

ROOT = Path(__file__).parents[2]
TABLE = """
[tool.recourse]
sagas = "statemachines:SAGAS"
packages = ["services"]
requirements = "pins.lock"
"""


def test_this_repository_is_a_project_whose_sagas_are_found_from_any_folder_of_it() -> None:
    found = Project.find(ROOT / "docs" / "decisions")
    assert found == Project.find(ROOT)
    assert found.root == ROOT
    assert found.declared() is SAGAS
    assert found.requirements.is_file()
    assert all((ROOT / package).is_dir() for package in found.packages)


def test_a_pyproject_without_the_table_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TABLE)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text('[project]\nname = "inner"\n')
    assert Project.find(inner) == Project(
        root=tmp_path.resolve(),
        sagas="statemachines:SAGAS",
        packages=("services",),
        requirements=tmp_path.resolve() / "pins.lock",
        samples=tmp_path.resolve() / "samples",
    )


def test_without_pins_functions_carry_what_the_library_needs(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TABLE.replace('requirements = "pins.lock"', ""))
    pins = Project.find(tmp_path).requirements
    assert pins == ROOT / "recourse" / "functions" / "requirements.lock"
    assert "--hash=sha256:" in pins.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.other]\n", r"no pyproject.toml with a table \[tool.recourse\] in "),
        ("[tool.recourse\n", "is not valid TOML"),
        (TABLE.replace('"statemachines:SAGAS"', "7"), "sagas must be text, got 7"),
        (TABLE.replace('["services"]', '"services"'), "packages must be a list of names, got 'ser"),
        (TABLE.replace('"pins.lock"', "7"), "requirements must be text, got 7"),
        (TABLE + "api = 7\n", "api must be text, got 7"),
        (TABLE + "only = 7\n", "only must be a table of folders, got 7"),
        (TABLE + 'only.x = "en"\n', "only of 'x' must be a list of names, got 'en'"),
    ],
)
def test_what_is_wrong_with_a_project_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ProjectError, match=message):
        Project.find(tmp_path)


@pytest.mark.parametrize(
    ("sagas", "message"),
    [
        ("nowhere:SAGAS", "no sagas are listed at 'nowhere:SAGAS': No module named 'nowhere'"),
        ("statemachines:NONE", "no sagas are listed at 'statemachines:NONE': module"),
        ("statemachines", "no sagas are listed at 'statemachines': "),
        ("statemachines.order:ORDER", "must be a mapping of sagas by name, got Saga"),
    ],
)
def test_sagas_that_are_not_there_are_told_by_where_they_should_be(
    sagas: str, message: str
) -> None:
    made = Project(root=ROOT, sagas=sagas, packages=(), requirements=ROOT)
    with pytest.raises(ProjectError, match=message):
        made.declared()
