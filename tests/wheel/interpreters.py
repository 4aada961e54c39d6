"""The interpreters of this machine that the library supports."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

from tests import ROOT

UV = Path(sys.executable).with_name("uv")
SUPPORTED = SpecifierSet(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
)
VERSIONS = [one for one in (f"3.{minor}" for minor in range(100)) if one in SUPPORTED]
"""Every minor version that the library supports, the oldest first."""
OWN = f"3.{sys.version_info.minor}"


def interpreter(version: str) -> str | None:
    """An interpreter of a version that can make a virtual environment; None where there is none.

    It is this one, or what uv finds: by name on the PATH, or installed by uv itself. Of pyenv's,
    whose names on the PATH stand for the version that is chosen, each is chosen in its turn.
    """
    if version == OWN:
        return sys.executable
    find = (UV, "python", "find", "--no-python-downloads", "--no-project", "--system", version)
    chosen = os.environ | {"PYENV_VERSION": version}
    found = subprocess.run(find, env=chosen, capture_output=True, text=True).stdout.strip()
    makes = "import ensurepip, ssl, venv"
    usable = found and subprocess.run((found, "-c", makes), capture_output=True).returncode == 0
    return found if usable else None


FOUND = {one: path for one in VERSIONS if (path := interpreter(one))}
OLDEST, NEWEST = min(FOUND, key=VERSIONS.index), max(FOUND, key=VERSIONS.index)
