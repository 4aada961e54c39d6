"""The wheel of this library, installed where nothing of this checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import NamedTuple

import pytest

from recourse.local.ports import free_port
from tests import ROOT
from tests.patience import PATIENCE
from tests.patience import until as until_true
from tests.wheel.interpreters import FOUND, NEWEST, OLDEST, VERSIONS

OURS = ("PYTHON", "PYTEST", "VIRTUAL_ENV", "RECOURSE", "AWS_", "MAKE", "MFLAGS", "POWERTOOLS")
BIN = Path(sys.executable).parent
CDK = "share/recourse/cdk/node_modules/aws-cdk/bin/cdk"


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

    def installed(self, name: str, extra: str = "", python: str = sys.executable) -> Path:
        """A new virtual environment with the library alone, or with one of its extras."""
        made = self.folder / name
        asked = f"recourse-aws[{extra}]" if extra else "recourse-aws"
        self.must(BIN / "uv", "venv", "--quiet", "--python", python, made)
        self.must(
            BIN / "uv", "pip", "install", "--quiet", "--python", made / "bin" / "python", asked
        )
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


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(version, marks=pytest.mark.xdist_group(version))
        for version in dict.fromkeys((OLDEST, NEWEST))
    ],
)
def app(request: pytest.FixtureRequest, place: Place) -> Path:
    """A new app, written by a base install of an interpreter and set up by its own Makefile."""
    version: str = request.param
    base = place.installed(f"base-{version}", python=FOUND[version])
    made: Path = place.folder / version / "my-sagas"
    made.parent.mkdir()
    said = place.must(base / "bin" / "recourse", "new", "my-sagas", at=made.parent)
    assert "cd my-sagas\n" in said and "make up" in said
    place.must("make", "setup", f"PYTHON={FOUND[version]}", at=made)
    says = "import sys; print('%d.%d' % sys.version_info[:2])"
    assert place.must(made / ".venv" / "bin" / "python", "-c", says).strip() == version
    return made


def synthesised(place: Place, app: Path) -> str:
    """An app's templates, by the CDK CLI that the library installs."""
    binaries = app / ".venv" / "bin"
    place.must(binaries / "python", "-m", "recourse.tools", at=app)
    place.must(
        *(binaries / "node", app / ".venv" / CDK, "synth", "--quiet", "--no-notices"),
        at=app,
        CI="1",
        PATH=f"{binaries}{os.pathsep}{place.environment['PATH']}",
    )
    return "".join(one.read_text() for one in (app / "cdk.out").glob("*.template.json"))


@contextmanager
def up(place: Place, app: Path) -> Iterator[str]:
    """The address of an app's API on its local cloud, until Ctrl-C."""
    port, aws_port = free_port(0), free_port(0)
    log = app.parent / f"{app.name}.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            ["make", "up", f"PORT={port}", f"AWS_PORT={aws_port}"],
            cwd=app,
            env=place.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C goes to all of its group
        ) as cloud,
    ):
        try:
            until = time.monotonic() + 2 * PATIENCE
            while "ready in" not in log.read_text():
                assert cloud.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
            os.killpg(cloud.pid, SIGINT)
            # What make itself says of a Ctrl-C is another matter: it ends by the same signal.
            assert cloud.wait(60) in (0, 2, -SIGINT)
            until_true(lambda: log.read_text().splitlines()[-1].endswith("stopped"), "it stops")
        finally:
            if cloud.poll() is None:
                os.killpg(cloud.pid, SIGKILL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on which interpreters a new app was tried, and which this machine has not."""
    tried = " and ".join(dict.fromkeys((OLDEST, NEWEST)))
    left = [
        f"{one} ({'it is between these' if one in FOUND else 'no such interpreter here'})"
        for one in VERSIONS
        if one not in (OLDEST, NEWEST)
    ]
    terminalreporter.write_line(f"a new app on Python {tried}; not on {', '.join(left) or 'none'}")
