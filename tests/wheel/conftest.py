"""The wheel of this library, installed where nothing of this checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import ROOT

OURS = ("PYTHON", "PYTEST", "VIRTUAL_ENV", "RECOURSE", "AWS_", "MAKE", "MFLAGS", "POWERTOOLS")
BIN = Path(sys.executable).parent


class Place(NamedTuple):
    """A folder with the wheel, and what is run there.

    Attributes:
        folder: The folder; nothing of this checkout can be found from it.
        wheel: The wheel.
    """

    folder: Path
    wheel: Path

    @property
    def environment(self) -> dict[str, str]:
        """That of somebody who knows of no checkout, and finds the wheel as in an index."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        found = [str(self.wheel.parent), kept.get("UV_FIND_LINKS", "")]
        path = [one for one in kept["PATH"].split(os.pathsep) if not one.startswith(str(ROOT))]
        return kept | {
            "UV_FIND_LINKS": ",".join(filter(None, found)),
            "PATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(
        self, *command: str | Path, at: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            cwd=at or self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def must(self, *command: str | Path, at: Path | None = None, **more: str) -> str:
        """Run a command that succeeds; what it prints."""
        ran = self.run(*command, at=at, **more)
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-6000:]}{ran.stderr[-6000:]}"
        return ran.stdout

    def installed(self, name: str, extra: str = "") -> Path:
        """A new virtual environment with the library alone, or with one of its extras."""
        made = self.folder / name
        asked = f"recourse-aws[{extra}]" if extra else "recourse-aws"
        self.must(BIN / "uv", "venv", "--quiet", "--python", sys.executable, made)
        python = made / "bin" / "python"
        self.must(BIN / "uv", "pip", "install", "--quiet", "--python", python, asked)
        return made


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder with the wheel, built from a copy: what a build leaves behind is no part of it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(ROOT / "recourse", source / "recourse", ignore=ignored)
    folder = tmp_path_factory.mktemp("elsewhere")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir")
    environment: Mapping[str, str] = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [*build, folder / "dist", source], check=True, capture_output=True, env=environment
    )
    (wheel,) = (folder / "dist").glob("*.whl")
    return Place(folder, wheel)


@pytest.fixture(scope="session")
def base(place: Place) -> Path:
    """A virtual environment with the library alone."""
    return place.installed("base")
