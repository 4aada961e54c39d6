"""The functions' code: bundled once, by uv, without Docker; locally the checkout itself."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk.aws_lambda import Architecture, AssetCode, Code, Runtime

import recourse
from recourse.project import Project, ProjectError

LIBRARY = Path(recourse.__file__).parent
NO_FUNCTION_NEEDS = ("cdk", "cli", "local", "testing")
"""Parts of the library for deploying and testing, which functions do not need."""
PYTHON = Runtime.PYTHON_3_13
ARCHITECTURE = Architecture.ARM_64


def sources(project: Project) -> dict[Path, Path]:
    """Every file of the functions' code, by its path in the bundle."""
    found = {
        path.relative_to(package.parent): path
        for package in (LIBRARY, *(project.root / name for name in project.packages))
        for path in package.rglob("*")
        if path.suffix in (".py", ".json", ".sh") and "__pycache__" not in path.parts
    }
    unneeded = [Path(LIBRARY.name, one) for one in NO_FUNCTION_NEEDS]
    return {
        name: path
        for name, path in sorted(found.items())
        if not any(name.is_relative_to(one) for one in unneeded)
    }


def fingerprint(project: Project) -> str:
    """A hash of the code and its requirements: equal code is bundled and uploaded once."""
    digest = hashlib.sha256(project.requirements.read_bytes())
    digest.update(json.dumps(project.only, sort_keys=True).encode())
    for name, path in sources(project).items():
        digest.update(str(name).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def prune(target: Path, only: Mapping[str, Sequence[str]]) -> None:
    """Delete what functions do not need of what they import.

    Args:
        target: The folder of the packages.
        only: The patterns of the names that stay, by the folder; nothing below it does.

    Raises:
        ProjectError: There is no such folder, or nothing in it that would stay.
    """
    for folder, patterns in only.items():
        found = list((target / folder).glob("*"))
        kept = [path for path in found if any(fnmatchcase(path.name, one) for one in patterns)]
        if not kept:
            raise ProjectError(f"[tool.recourse] only: no package has {folder!r} with {patterns}")
        for path in set(found).difference(kept):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@jsii.implements(ILocalBundling)
class _Bundle:
    """Installs the pinned wheels for the functions' platform, and adds the project's packages."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def try_bundle(self, output_dir: str, options: Any = None, **_: Any) -> bool:
        """Bundle into a folder."""
        target = Path(output_dir)
        uv = Path(sys.executable).with_name("uv")
        wheels = (
            "--python-platform aarch64-manylinux_2_28 --python-version 3.13 --only-binary :all:"
        )
        pinned = ("--require-hashes", "-r", self._project.requirements)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", target, *wheels.split(), *pinned],
            check=True,
        )
        for leftover in ("bin", "share", ".lock"):
            path = target / leftover
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        prune(target, self._project.only)
        for name, path in sources(self._project).items():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)  # with its mode: a script is executable
        return True


def bundled() -> AssetCode:
    """The code as AWS gets it."""
    project = Project.find()
    now = fingerprint(project)
    return Code.from_asset(
        str(LIBRARY),
        asset_hash=now,
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(
            image=DockerImage.from_registry("never-used"),
            command=[now],
            local=_Bundle(project),
        ),
    )


def checkout() -> AssetCode:
    """The code as the local cloud gets it: a bootstrap that runs the checkout."""
    return Code.from_asset(str(Project.find().root / "local" / "runtime"))
