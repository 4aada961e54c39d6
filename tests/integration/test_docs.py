"""The pages in docs/ are followed to the letter, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    *("recourse", "services", "statemachines", "lambdas", "infra", "local", "cli", "samples"),
    *("tests", "app.py", "cdk.json", "pyproject.toml", "requirements.lock"),
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, without what is installed."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def files(page: str) -> dict[str, str]:
    """What a page says to write: the block after a paragraph that begins with a path."""
    text = (ROOT / "docs" / page).read_text()
    block = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return dict(block.findall(text))


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The project is installed as editable, so the copy goes before it.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in environment if name.startswith("PYTEST")]:
        del environment[name]
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_saga_is_added_by_following_the_page(copy: Path) -> None:
    written = files("add-a-saga.md")
    assert written.keys() == {
        "statemachines/seat_on_account.py",
        "statemachines/__init__.py",
        "samples/seat-on-account.json",
    }
    for path, text in written.items():
        (copy / path).write_text(text)
    missing = run(copy, "cli.main", "compile", "--check")
    assert missing.returncode == 1
    assert "seat-on-account.asl.json" in missing.stderr.replace("\n", "")
    compiled = run(copy, "cli.main", "compile")
    assert compiled.returncode == 0, compiled.stderr
    assert (copy / "statemachines/seat-on-account.asl.json").exists()
    tested = run(
        copy,
        "pytest",
        "--quiet",
        *("tests/statemachines", "tests/infra/test_machines.py"),
        "tests/integration/test_every_saga.py",
        *("-k", "seat-on-account"),
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    ran = re.search(r"(\d+) passed", tested.stdout)
    assert ran and int(ran.group(1)) > 30
    assert "skipped" not in tested.stdout


def test_a_saga_without_a_sample_is_told_what_is_missing(copy: Path) -> None:
    for path, text in files("add-a-saga.md").items():
        if not path.startswith("samples/"):
            (copy / path).write_text(text)
    tested = run(
        copy,
        "pytest",
        "--quiet",
        *("tests/integration/test_every_saga.py", "-k", "seat-on-account and sample"),
    )
    assert tested.returncode == 1
    assert "seat-on-account.json is missing" in tested.stdout


def test_a_step_is_added_by_following_the_page(copy: Path) -> None:
    ((path, text),) = files("add-a-step.md").items()
    (copy / path).write_text(text)
    (copy / "lounge_saga.py").write_text(
        "from dataclasses import fields\n"
        "from recourse.asl import compile_saga\n"
        "from recourse.saga import Saga, Step, request_model\n"
        "from services import flights, invoices, lounges\n"
        "@request_model\n"
        "class Ask:\n"
        "    order_id: str\n"
        "    lounge: dict[str, str]\n"
        "saga = Saga('lounge', request=Ask, business_key='order_id', steps=[\n"
        "    Step('lounge', lounges.hold, undo=lounges.release, confirm=lounges.book,\n"
        "         takes=['lounge']),\n"
        "    Step('invoice', invoices.issue, after=['lounge'], pivot=True),\n"
        "])\n"
        "print(saga.by_name['lounge'].function, len(compile_saga(saga)['States']))\n"
    )
    done = run(copy, "lounge_saga")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("LoungesHold")
