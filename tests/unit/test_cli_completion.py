"""The TAB key: what is completed, in a real shell, and that nothing else is on the screen."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recourse.cli import completing
from statemachines import SAGAS
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with the command `recourse`, of this interpreter."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "recourse"
    command.write_text(
        f"#!{sys.executable}\nfrom recourse.__main__ import main\n"
        f"import sys; sys.argv[0] = 'recourse'\nmain()\n"
    )
    command.chmod(0o755)
    return folder


def shell(bin_folder: Path, script: str, at: Path = ROOT, **more: str) -> str:
    """What a script of bash prints, which says nothing else."""
    environment = os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(bin_folder.parent),
    }
    ran = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=at, env=environment | more, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def completed(bin_folder: Path, line: str, at: Path = ROOT, **more: str) -> list[str]:
    """What bash completes the last word of a line to."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        "source <(_RECOURSE_COMPLETE=source_bash recourse); "
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _recourse_completion recourse; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return shell(bin_folder, script, at, **more).split()


def test_bash_completes_commands_options_and_values(bin_folder: Path) -> None:
    assert completed(bin_folder, "recourse re") == ["reverse", "resolve", "redrive"]
    assert completed(bin_folder, "recourse valet re") == ["revoke"]
    assert "--business-key" in completed(bin_folder, "recourse list --")
    assert completed(bin_folder, "recourse list --status COMPEN") == [
        "COMPENSATING",
        "COMPENSATED",
        "COMPENSATION_FAILED",
    ]
    assert completed(bin_folder, "recourse start order --coordination ch") == ["choreography"]
    assert completed(bin_folder, "recourse resolve --action ") == ["retry", "skip"]


def test_it_completes_the_names_of_the_projects_sagas(bin_folder: Path) -> None:
    assert set(completed(bin_folder, "recourse start ")) >= set(SAGAS)
    assert completed(bin_folder, "recourse list --saga travel-b") == ["travel-booking"]


def test_without_a_project_and_an_api_it_says_nothing_and_waits_for_nobody(
    bin_folder: Path, tmp_path: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # it takes the connection, and never answers
        api = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert completed(bin_folder, "recourse start ", tmp_path, RECOURSE_API=api) == []
    for wrong in ("http://127.0.0.1:9", "no address", "\x1b"):
        assert completed(bin_folder, "recourse start ", tmp_path, RECOURSE_API=wrong) == []
    (tmp_path / "pyproject.toml").write_text("[tool.recourse]\nsagas = 1\n")
    assert completed(bin_folder, "recourse start ", tmp_path, RECOURSE_API="http://[") == []


def test_a_silent_api_is_waited_for_for_less_than_a_second() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert completing._started_by(f"http://127.0.0.1:{silent.getsockname()[1]}") == []
    assert completing.MOST_PATIENCE <= 0.5 and time.monotonic() - began < PATIENCE


def test_no_code_of_a_project_is_run(bin_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.recourse]\nsagas = "mine:SAGAS"\npackages = []\n'
    )
    (folder / "__init__.py").write_text("raise SystemExit('it was run')\n")
    (folder / "tea.shape.json").write_text("{}")
    assert completed(bin_folder, "recourse start ", tmp_path) == ["tea"]


@pytest.mark.parametrize(
    ("name", "has"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_each_shell_has_its_script(bin_folder: Path, name: str, has: str) -> None:
    script = shell(bin_folder, f"_RECOURSE_COMPLETE=source_{name} recourse")
    assert has in script and "recourse" in script


@pytest.mark.parametrize(("name", "line"), [("zsh", '"start"'), ("fish", "start\tStart a saga.")])
def test_the_other_shells_are_answered_too(bin_folder: Path, name: str, line: str) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "recourse st", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert line in shell(bin_folder, f"_RECOURSE_COMPLETE=complete_{name} recourse", ROOT, **asked)


def test_without_the_extra_nothing_is_said(bin_folder: Path) -> None:
    """Whoever works in two environments has the command of one without the command line."""
    script = (
        "import sys, os; sys.modules['typer'] = None; os.environ['_RECOURSE_COMPLETE'] = "
        "'complete_bash'; sys.argv = ['recourse']; from recourse.__main__ import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("", "")
    told = script.replace("os.environ['_RECOURSE_COMPLETE'] = 'complete_bash'", "0")
    told = told.replace("['recourse']", "['recourse', 'list', '--json']")
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert json.loads(ran.stdout)["exit_code"] == ran.returncode == 1
