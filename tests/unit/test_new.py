"""`recourse new` writes an app under its own name, and refuses what could not be one."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from recourse import new
from recourse.project import Project
from tests import ROOT


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        new.main(arguments)
    assert ended.value.code
    return str(ended.value.code) + capsys.readouterr().err


def test_an_app_has_its_own_name_and_this_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Tea_Shop"
    new.main([str(folder)])
    assert f"cd {folder}\n" in capsys.readouterr().out
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert about["name"] == "tea-shop"
    assert about["dependencies"] == [f"recourse-aws[all]=={version('recourse-aws')}"]
    assert 'app="TeaShop"' in (folder / "app.py").read_text()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert 15 <= len(files) <= 20
    for path in files:
        text = path.read_text()
        assert "my-sagas" not in text and "MySagas" not in text, path
    for dotted in (".gitignore", ".github/workflows/ci.yml"):
        assert (folder / dotted).is_file()
    found = Project.find(folder)
    assert found.root == folder.resolve() and found.testing == "tests.sagas"
    assert json.loads((folder / "cdk.json").read_text()) == json.loads(
        (ROOT / "cdk.json").read_text()
    )


def test_it_fits_beside_a_repository_that_was_made_first(tmp_path: Path) -> None:
    (tmp_path / "shop" / ".git").mkdir(parents=True)
    new.main([str(tmp_path / "shop")])
    assert (tmp_path / "shop" / "app.py").is_file()


def test_nothing_is_written_where_something_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    message = said(capsys, str(tmp_path), "--name", "shop")
    assert f"{tmp_path} is not empty, it has notes.txt: choose a new or an empty folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "notes.txt is a file" in said(capsys, str(tmp_path / "notes.txt"), "--name", "shop")
    assert "Not a directory" in said(capsys, str(tmp_path / "notes.txt" / "shop"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1shop", "must be a letter and then letters, digits and '-', got '1shop'"),
        ("sagas!", "must be a letter and then letters, digits and '-', got 'sagas!'"),
        ("überweisung", "must be a letter"),
        ("shop-", "must be a letter"),
        ("x" * 21, "at most 20 letters and digits, got 21"),
        ("Recourse", "must be another than the library's, got 'recourse'"),
        ("recourse_aws", "must be another than the library's, got 'recourse-aws'"),
    ],
)
def test_a_name_that_no_app_can_have_is_refused(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in said(capsys, str(tmp_path / name))
    assert not any(tmp_path.iterdir())


@pytest.mark.xdist_group("infra")  # it loads the CDK
def test_the_longest_name_is_one_that_a_stage_takes() -> None:
    from recourse.cdk.stage import ContextError, Stage

    longest = new.app_of(new.name_of("a-" + "b" * 19))
    assert Stage(app=longest).app == longest
    with pytest.raises(ContextError):
        Stage(app=longest + "c")


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """Nor boto3: all that it loads of packages is ours."""
    says = (
        "import sys; from recourse.__main__ import main; sys.argv[1:] = ['new', 'shop'];"
        "before = {*sys.modules}; main();"
        "print(*{one.partition('.')[0] for one in {*sys.modules} - before} "
        "- {*sys.stdlib_module_names})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", says], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1].split() == ["recourse"]
