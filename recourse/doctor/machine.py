"""This machine: Python, Node and the tools, disk, ports, and what a dead local cloud left."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from recourse import tools
from recourse.doctor.finding import Finding, error, ok, warning
from recourse.local import LocalCloudError, ports

OLDEST, NEWEST = (3, 11), (3, 14)
"""The versions of Python that the library is tested with."""
OLDEST_NODE = 20
ENOUGH, PLENTY = 0.5, 2.0
"""Gigabytes that must be free, and that had better be."""
GB = 10**9
_STATE = b"STATE_DIR="


def findings(root: Path, wanted: Mapping[str, int] | None = None) -> Iterator[Finding]:
    """What is found on this machine.

    Args:
        root: The folder of the project.
        wanted: The ports that the local cloud is to have, by their variables; where it is not to be
            started, neither they nor leftovers are looked at.
    """
    yield _python(sys.version_info[:2])
    yield _node()
    yield from _tools()
    yield _disk(root)
    if wanted is not None:
        running = dict(_running(root / ".local"))
        yield from _ports(wanted, running)
        yield from _leftovers(root / ".local", running)


def _python(version: tuple[int, int]) -> Finding:
    shown = ".".join(map(str, version))
    if version < OLDEST:
        why = "the library needs 3.11 or newer"
        return error(
            "python", f"Python {shown}", why, "make the virtual environment with python3.11"
        )
    if version > NEWEST:
        why = f"the library is tested with {'.'.join(map(str, OLDEST))} to 3.{NEWEST[1]}"
        return warning(
            "python", f"Python {shown}", why, f"use python3.{NEWEST[1]} if anything fails"
        )
    return ok("python", f"Python {shown}")


def _node() -> Finding:
    why = "the CDK CLI runs on it: `recourse up` and `recourse deploy` need it"
    remedy = "pip install 'recourse-aws[local]'"
    if not tools.NODE.exists():
        return error("node", f"there is no {tools.NODE}", why, remedy)
    try:
        said = subprocess.run(
            [tools.NODE, "--version"], capture_output=True, text=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as problem:
        return error("node", f"{tools.NODE} does not run: {type(problem).__name__}", why, remedy)
    major = said.removeprefix("v").partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST_NODE:
        return error("node", f"Node says {said[:40]!r}", f"{why}, {OLDEST_NODE} or newer", remedy)
    return ok("node", f"Node {said.removeprefix('v')}")


def _tools() -> Iterator[Finding]:
    why = "the first `recourse up` or `recourse deploy` installs it, and needs the network for that"
    for name, place in (("the CDK CLI", tools.CDK), ("ministack", tools.EMULATOR)):
        if place.exists():
            yield ok("tools", f"{name} is installed")
        else:
            yield warning("tools", f"{name} is not installed", why, "python -m recourse.tools")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / GB
    what = f"{free:.1f} GB are free at {root}"
    if free >= PLENTY:
        return ok("disk", what)
    why = "functions are bundled and the local cloud keeps its data there"
    remedy = "free some: `rm -r cdk.out .local` deletes templates and the data of the local cloud"
    return (error if free < ENOUGH else warning)("disk", what, why, remedy)


def _ports(wanted: Mapping[str, int], running: Mapping[Path, str]) -> Iterator[Finding]:
    for variable, port in wanted.items():
        own = [folder for folder in running if port in _ports_of(folder)]
        if own:
            yield ok("ports", f"{variable}: {port} is that of the local cloud in {own[0]}")
            continue
        try:
            ports.must_be_free(port, variable)
        except LocalCloudError as problem:
            what, _, remedy = str(problem).partition(": ")
            remedy = remedy or f"choose another with {variable}="
            yield error("ports", what, "`recourse up` listens there", remedy)
        else:
            yield ok("ports", f"{variable}: {port or 'any'} is free")


def _ports_of(folder: Path) -> list[int]:
    try:
        return list(json.loads((folder / "ports.json").read_text()).values())
    except (OSError, ValueError, AttributeError):
        return []


def _running(local: Path) -> Iterator[tuple[Path, str]]:
    """The folders of local clouds that run, and who runs each."""
    for lock in sorted(local.glob("*/lock")):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield lock.parent, file.read().strip()


def _leftovers(local: Path, running: Mapping[Path, str]) -> Iterator[Finding]:
    for folder, holder in running.items():
        yield ok("leftovers", f"a local cloud runs in {folder}, process {holder}")
    found = False
    for process, folder in _emulators(local):
        if folder not in running:
            found = True
            yield warning(
                "leftovers",
                f"process {process} is the emulator of a local cloud in {folder} that has died",
                "it has its port and its memory still",
                f"kill -KILL -- -{process}",
            )
    for folder in sorted(one.parent.parent for one in local.glob("*/emulator/tmp")):
        if folder not in running:
            found = True
            yield warning(
                "leftovers",
                f"the local cloud in {folder} has not ended in order",
                "its functions' files are there still; the next start uses what it had saved",
                f"rm -r {folder / 'emulator' / 'tmp'}",
            )
    if not found:
        yield ok("leftovers", "no local cloud has left anything")


def _emulators(local: Path) -> Iterator[tuple[int, Path]]:
    """The emulators of local clouds of this project, as Linux tells their own user."""
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            if b"recourse.local.boot" not in (process / "cmdline").read_bytes():
                continue
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it is another user's, or has ended
        for one in variables:
            if one.startswith(_STATE):
                folder = Path(os.fsdecode(one.removeprefix(_STATE))).parent.parent
                if folder.parent == local:
                    yield int(process.name), folder
