"""The functions' code: bundled once, by uv, without Docker; locally the checkout itself."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk.aws_lambda import Architecture, AssetCode, Code, Runtime

ROOT = Path(__file__).parents[2]
PACKAGES = ("recourse", "services", "statemachines", "lambdas")
REQUIREMENTS = ROOT / "lambdas" / "requirements.lock"
PYTHON = Runtime.PYTHON_3_13
ARCHITECTURE = Architecture.ARM_64


def sources() -> list[Path]:
    """Every file that the functions carry."""
    return sorted(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".json", ".sh") and "__pycache__" not in path.parts
    )


def fingerprint() -> str:
    """One hash over all of it and what it needs: equal code is bundled and uploaded once."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    for path in sources():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@jsii.implements(ILocalBundling)
class _Bundle:
    """Installs the pinned wheels for the functions' platform, and lays our packages beside them."""

    def try_bundle(self, output_dir: str, options: Any = None, **_: Any) -> bool:
        """Bundle into a folder."""
        target = Path(output_dir)
        uv = Path(sys.executable).with_name("uv")
        wheels = (
            "--python-platform aarch64-manylinux_2_28 --python-version 3.13 --only-binary :all:"
        )
        pinned = ("--require-hashes", "-r", REQUIREMENTS)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", target, *wheels.split(), *pinned],
            check=True,
        )
        for leftover in ("bin", "share", ".lock"):
            path = target / leftover
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in sources():
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)  # with its mode: a script is executable
        return True


def bundled() -> AssetCode:
    """The code as AWS gets it."""
    return Code.from_asset(
        str(ROOT / "lambdas"),
        asset_hash=fingerprint(),
        asset_hash_type=AssetHashType.CUSTOM,
        bundling=BundlingOptions(
            image=DockerImage.from_registry("never-used"),
            command=[fingerprint()],
            local=_Bundle(),
        ),
    )


def checkout() -> AssetCode:
    """The code as the local cloud gets it: a bootstrap that runs the checkout."""
    return Code.from_asset(str(ROOT / "local" / "runtime"))
