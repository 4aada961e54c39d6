"""How long `make up` takes on a checkout that was set up before.

It runs what `make up` runs, on state, ports and a copy of the sources of its own, so that neither
a local cloud that is running nor the checkout itself is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bench import LOCAL, ROOT
from bench.figures import Figure, say
from recourse.project import Project

ROUNDS = 3
TARGET = {"unchanged": 20, "after a change to a source": 45}
"""Seconds that it may take."""
PATIENCE = 60
"""Seconds that it may take to stop."""
CHANGED = Path("statemachines") / "travel_booking.py"
PIVOT = "payments.capture, pivot=True"
FOREGROUND = """
import sys
from pathlib import Path
from recourse.local.cloud import run
from recourse.project import Project
run(port=0, aws_port=0, state_dir=Path(sys.argv[1]), project=Project.find(Path(sys.argv[2])))
"""


def measure() -> list[Figure]:
    """Time `make up` until the API answers: unchanged, and after a change to a source."""
    folder = LOCAL / "bench" / "up"
    shutil.rmtree(folder, ignore_errors=True)
    sources = folder / "sources"
    project = Project.find(ROOT)
    own = ("cdk.json", "pyproject.toml", "samples", "recourse", *project.app, *project.packages)
    for name in own:
        _copy(ROOT / name, sources / name)
    say(f"for the first time: {_ready(folder, sources):.1f} s")
    took: dict[str, list[float]] = {name: [] for name in TARGET}
    for number in range(ROUNDS):
        for name, before in {
            "unchanged": lambda: None,
            "after a change to a source": _changing(sources, timeout=31 + number),
        }.items():
            before()
            took[name].append(_ready(folder, sources))
            say(f"{name}: {took[name][-1]:.1f} s")
    return [
        Figure(
            what=f"`make up` until the API answers, {name}",
            size=f"{ROUNDS} starts, median",
            figure=f"{statistics.median(took[name]):.1f} s",
            alternative=f"{target} s",
            ratio=statistics.median(took[name]) / target,
            most=1,
        )
        for name, target in TARGET.items()
    ]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _changing(sources: Path, *, timeout: int) -> Callable[[], None]:
    """Give the pivot a time-out, which changes what is deployed."""

    def change() -> None:
        text = (ROOT / CHANGED).read_text()
        assert PIVOT in text, f"{CHANGED} has no {PIVOT!r} to change"
        (sources / CHANGED).write_text(text.replace(PIVOT, f"{PIVOT}, timeout={timeout}"))

    return change


def _ready(folder: Path, sources: Path) -> float:
    """Seconds from the command to the API's first answer; then it is stopped.

    Raises:
        RuntimeError: It ended before it answered.
    """
    # The CDK app imports its own copy first: Python looks beside the script before PYTHONPATH.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    subprocess.run(["make", "--silent", "setup"], cwd=ROOT, check=True)
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(folder), str(sources)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("ready in "):
                url = line.split()[-1]
                httpx.get(f"{url}/health", timeout=10, trust_env=False).raise_for_status()
                return time.monotonic() - began
        raise RuntimeError(f"it ended before it was ready: {process.wait()}")
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.wait(PATIENCE)
