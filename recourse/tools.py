"""The tools that are no Python packages of ours: the CDK CLI, and ministack, an AWS emulator.

Both are installed into the virtual environment, once for each lock of this library: ministack into
an environment of its own, since it pins another botocore, the CDK CLI by npm. Node and uv come with
the extra `local`::

    python -m recourse.tools    # installs what is missing, and says so
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recourse.errors import RecourseError

HERE = Path(__file__).parent
MINISTACK_LOCK = HERE / "local" / "ministack.lock"
CDK_LOCK = HERE / "cdk" / "cli" / "package-lock.json"
TOOLS = Path(sys.prefix) / "share" / "recourse"
BIN = Path(sys.executable).parent
EMULATOR = TOOLS / "ministack" / "bin" / "python"
"""The interpreter of ministack's environment."""
CDK = TOOLS / "cdk" / "node_modules" / "aws-cdk" / "bin" / "cdk"
"""The CDK CLI, a script for `NODE`."""
NODE = BIN / "node"


class ToolError(RecourseError):
    """A tool cannot be installed; the message ends with what the installer said."""


def install(say: Callable[[str], None] = print) -> None:
    """Install what is missing, or of another lock than this library's.

    Args:
        say: Called with a line for each tool that is installed.

    Raises:
        ToolError: A tool, or what installs it, cannot be installed.
    """
    if not _is_of(TOOLS / "ministack", MINISTACK_LOCK):
        say("installing ministack, the AWS emulator, in an environment of its own")
        place = _afresh(TOOLS / "ministack")
        _run(sys.executable, "-m", "venv", "--without-pip", place)
        pinned = ("--require-hashes", MINISTACK_LOCK)
        _run(_beside("uv"), "pip", "sync", "--quiet", "--python", place / "bin/python", *pinned)
        _note(place, MINISTACK_LOCK)
    if not _is_of(TOOLS / "cdk", CDK_LOCK):
        say("installing the CDK CLI")
        place = _afresh(TOOLS / "cdk")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CDK_LOCK.with_name(name), place)
        _run(_beside("npm"), "ci", "--silent", "--no-audit", "--no-fund", at=place)
        _note(place, CDK_LOCK)


def _is_of(place: Path, lock: Path) -> bool:
    note = place / ".lock"
    return note.is_file() and note.read_text() == hashlib.sha256(lock.read_bytes()).hexdigest()


def _note(place: Path, lock: Path) -> None:
    (place / ".lock").write_text(hashlib.sha256(lock.read_bytes()).hexdigest())


def _afresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(parents=True)
    except OSError as problem:
        raise ToolError(
            f"cannot write {place} ({problem.strerror}): "
            "tools are installed into the virtual environment, which must be this user's own"
        ) from problem
    return place


def _beside(name: str) -> Path:
    found = BIN / name
    if not found.exists():
        raise ToolError(f"{name} is not installed: pip install 'recourse-aws[local]'")
    return found


def _run(*command: str | Path, at: Path | None = None) -> None:
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    ran = subprocess.run(
        command,
        cwd=at,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if ran.returncode:
        raise ToolError(f"`{_shown(command)}` failed:\n{ran.stdout.strip()}")


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)


if __name__ == "__main__":
    try:
        install()
    except ToolError as problem:
        sys.exit(str(problem))
