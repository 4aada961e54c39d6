from pathlib import Path

import pytest

from local.deploy import Deployment

CONTEXT = {"runtime": "local", "timescale": "0.1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "recourse").mkdir()
    (tmp_path / "recourse" / "saga.py").write_text("saga = 1\n")
    (tmp_path / "app.py").write_text("app = 1\n")
    return tmp_path


def fingerprint(root: Path, context: dict[str, str] = CONTEXT) -> str:
    deployment = Deployment(endpoint="http://127.0.0.1:1", folder=root / ".local", root=root)
    return deployment.fingerprint(context)


def test_nothing_changed_is_nothing_to_deploy(root: Path) -> None:
    before = fingerprint(root)
    (root / "README.md").write_text("Hello")
    (root / "recourse" / "__pycache__").mkdir()
    (root / "recourse" / "__pycache__" / "saga.pyc").write_bytes(b"\0")
    (root / "app.py").touch()
    assert fingerprint(root) == before


def test_a_changed_source_is_deployed(root: Path) -> None:
    before = fingerprint(root)
    (root / "recourse" / "saga.py").write_text("saga = 2\n")
    assert fingerprint(root) != before


def test_a_new_or_renamed_source_is_deployed(root: Path) -> None:
    before = fingerprint(root)
    (root / "recourse" / "saga.py").rename(root / "recourse" / "step.py")
    renamed = fingerprint(root)
    (root / "recourse" / "saga.py").touch()
    assert len({before, renamed, fingerprint(root)}) == 3


def test_another_context_is_deployed(root: Path) -> None:
    assert fingerprint(root) != fingerprint(root, CONTEXT | {"timescale": "1"})
