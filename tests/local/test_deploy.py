from pathlib import Path

import pytest

from recourse.local.deploy import Deployment
from recourse.project import Project

CONTEXT = {"runtime": "local", "timescale": "0.1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "saga.py").write_text("saga = 1\n")
    (tmp_path / "app.py").write_text("app = 1\n")
    return tmp_path


def fingerprint(root: Path, context: dict[str, str] = CONTEXT) -> str:
    project = Project(root, "shop.saga:SAGAS", ("shop",), root / "requirements.lock")
    deployment = Deployment(endpoint="http://127.0.0.1:1", folder=root / ".local", project=project)
    return deployment.fingerprint(context)


def test_nothing_changed_is_nothing_to_deploy(root: Path) -> None:
    before = fingerprint(root)
    (root / "README.md").write_text("Hello")
    (root / "shop" / "__pycache__").mkdir()
    (root / "shop" / "__pycache__" / "saga.pyc").write_bytes(b"\0")
    (root / "app.py").touch()
    assert fingerprint(root) == before


def test_a_changed_source_is_deployed(root: Path) -> None:
    before = fingerprint(root)
    (root / "shop" / "saga.py").write_text("saga = 2\n")
    assert fingerprint(root) != before


def test_a_new_or_renamed_source_is_deployed(root: Path) -> None:
    before = fingerprint(root)
    (root / "shop" / "saga.py").rename(root / "shop" / "step.py")
    renamed = fingerprint(root)
    (root / "shop" / "saga.py").touch()
    assert len({before, renamed, fingerprint(root)}) == 3


def test_another_context_is_deployed(root: Path) -> None:
    assert fingerprint(root) != fingerprint(root, CONTEXT | {"timescale": "1"})
