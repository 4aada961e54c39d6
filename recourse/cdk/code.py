"""The functions' code: bundled once, by uv, without Docker; locally the project itself.

The library is copied from where it is installed, so that no index needs to have it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk.aws_lambda import Architecture, Code, Runtime

import recourse
from recourse.errors import RecourseError
from recourse.project import Project, ProjectError

if TYPE_CHECKING:
    from recourse.cdk.stage import Stage

LIBRARY = Path(recourse.__file__).parent
RUNTIME = Path(__file__).with_name("runtime")
"""What the local cloud gets: a bootstrap that runs the project where it is."""
NO_FUNCTION_NEEDS = ("cdk", "cli", "local", "new", "testing")
"""Parts of the library for beginning, deploying and testing, which functions do not need."""
PYTHON = Runtime.PYTHON_3_13
ARCHITECTURE = Architecture.ARM_64


class BundlingError(RecourseError):
    """The functions' code cannot be bundled; the message says what is missing."""


def sources(project: Project) -> dict[Path, Path]:
    """Every file of the functions' code, by its path in the bundle.

    A package is found in the project's root, or is a path from there such as `src/shop`; it may
    also be a single module, `shop.py`.

    Raises:
        ProjectError: A package is not there, or is named as the library is.
    """
    unneeded = [Path(LIBRARY.name, one) for one in NO_FUNCTION_NEEDS]
    found = {
        name: path
        for name, path in _files(LIBRARY).items()
        if path.suffix in (".py", ".json", ".sh")
        and not any(name.is_relative_to(one) for one in unneeded)
    }
    for one in project.packages:
        package = project.root / one
        if not package.exists():
            raise ProjectError(f"[tool.recourse] packages: there is no {package}")
        if package.name == LIBRARY.name:
            raise ProjectError(
                f"[tool.recourse] packages: {one!r} must have another name than ours"
            )
        found |= _files(package)
    return dict(sorted(found.items()))


def _files(package: Path) -> dict[Path, Path]:
    """The files of a package or a module by their paths beside it, without caches and the like."""
    inside = [package] if package.is_file() else package.rglob("*")
    names = {path.relative_to(package.parent): path for path in inside if path.is_file()}
    return {
        name: path
        for name, path in names.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    }


def fingerprint(project: Project) -> str:
    """A hash of the code and its requirements: equal code is bundled and uploaded once.

    Raises:
        ProjectError: The requirements or a package are not there.
    """
    if not project.requirements.is_file():
        raise ProjectError(f"[tool.recourse] requirements: there is no {project.requirements}")
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
        uv = _uv()
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


def _uv() -> Path:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise BundlingError(
            "bundling the functions' code takes uv: pip install 'recourse-aws[cdk]'"
        )
    return Path(found)


def of(stage: Stage) -> Code:
    """The code of every function of a stage.

    Raises:
        ProjectError: No project was found, or one of its packages.
    """
    if stage.local:
        return Code.from_asset(str(RUNTIME))
    return stage.code() if stage.code else _bundled(stage.carried, stage.fingerprint)


def _bundled(project: Project, now: str) -> Code:
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
