"""Who has only the wheel comes from nothing to an app whose saga is booked, and is undone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recourse.local.ports import free_port
from tests import ROOT
from tests.patience import PATIENCE
from tests.patience import until as until_true
from tests.wheel.conftest import Place

pytestmark = pytest.mark.xdist_group("wheel")
OWN = ["services", "statemachines", "lambdas", "tests"]
CDK = "share/recourse/cdk/node_modules/aws-cdk/bin/cdk"


@pytest.fixture(scope="session")
def app(place: Place, base: Path) -> Path:
    """A new app, written by the base install and set up by its own Makefile."""
    said = place.must(base / "bin" / "recourse", "new", "my-sagas")
    assert "cd my-sagas\n" in said and "make up" in said
    made = place.folder / "my-sagas"
    place.must("make", "setup", f"PYTHON={sys.executable}", at=made)
    return made


def compiled(app: Path) -> set[str]:
    return {one.name for one in (app / "statemachines").iterdir() if one.suffix != ".py"}


def test_its_tests_pass_with_every_fault_and_its_files_are_current(place: Place, app: Path) -> None:
    assert compiled(app) == {"booking.asl.json", "booking.choreography.md", "openapi.json"}
    began = time.monotonic()
    said = place.must("make", "test", at=app)
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) > 90 and "skipped" not in said and "warning" not in said
    assert time.monotonic() - began < PATIENCE
    place.must("make", "check", at=app)
    described = json.loads((app / "statemachines" / "openapi.json").read_text())
    assert "/sagas/booking" in described["paths"]


def test_its_code_is_formatted_sorted_and_typed(app: Path) -> None:
    """By the rules of this library, with its own environment."""
    rules = ("--isolated", "--line-length=100", "--no-cache")
    for command in (
        ("ruff", "format", "--check", *rules, "."),
        ("ruff", "check", "--select=E,F,I,B,UP,SIM,RUF", *rules, "."),
        ("mypy", "--strict", f"--python-executable={app}/.venv/bin/python", *OWN),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=app, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def synthesised(place: Place, app: Path) -> str:
    """Its templates, by the CDK CLI that the library installs."""
    binaries = app / ".venv" / "bin"
    place.must(binaries / "python", "-m", "recourse.tools", at=app)
    place.must(
        *(binaries / "node", app / ".venv" / CDK, "synth", "--quiet", "--no-notices"),
        at=app,
        CI="1",
        PATH=f"{binaries}{os.pathsep}{place.environment['PATH']}",
    )
    return "".join(one.read_text() for one in (app / "cdk.out").glob("*.template.json"))


def test_its_stacks_carry_the_library_and_its_own_code_alone(place: Place, app: Path) -> None:
    assert "Recourse-" not in synthesised(place, app)
    assembly = app / "cdk.out"
    stacks = {one.name.partition(".")[0] for one in assembly.glob("*.template.json")}
    names = "Services Events Choreography Sagas Consumers Valet Webhooks Issuer Live Api"
    assert stacks == {f"MySagas-dev-{one}" for one in names.split()}
    (code,) = assembly.glob("asset.*/recourse")
    inside = {one.name for one in code.parent.iterdir()}
    assert {"services", "statemachines", "lambdas", "pydantic"} <= inside
    assert not {"tests", "boto3", "moto", "aws_cdk"} & inside
    assert not {"cdk", "cli", "local", "testing", "new"} & {one.name for one in code.iterdir()}
    assert (code / "functions" / "sse.sh").stat().st_mode & 0o111


@pytest.fixture(scope="session")
def api(place: Place, app: Path) -> Iterator[str]:
    """The address of the app's API on its local cloud, until Ctrl-C."""
    port, aws_port = free_port(0), free_port(0)
    log = place.folder / "up.log"
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
            os.killpg(cloud.pid, signal.SIGINT)
            # What make itself says of a Ctrl-C is another matter: it ends by the same signal.
            assert cloud.wait(60) in (0, 2, -signal.SIGINT)
            until_true(lambda: log.read_text().splitlines()[-1].endswith("stopped"), "it stops")
        finally:
            if cloud.poll() is None:
                os.killpg(cloud.pid, signal.SIGKILL)


@pytest.mark.parametrize("coordination", ["orchestration", "choreography"])
@pytest.mark.parametrize(
    ("sample", "ended"),
    [
        ("booking.json", "SUCCEEDED: all steps done"),
        ("booking-refused.json", "VoucherTooSmallError.*COMPENSATED: all effects undone"),
    ],
)
def test_a_saga_is_booked_and_one_is_undone(
    sample: str, ended: str, coordination: str, place: Place, app: Path, api: str
) -> None:
    recourse = app / ".venv" / "bin" / "recourse"
    token = place.must(recourse, "token", "--subject", "asha", at=app, RECOURSE_API=api).strip()
    started = (recourse, "start", "booking", "--request", f"samples/{sample}", "--watch")
    said = place.must(
        *started,
        *("--coordination", coordination),
        at=app,
        RECOURSE_API=api,
        RECOURSE_TOKEN=token,
    )
    assert re.search(ended, said, re.DOTALL), said


def test_what_the_pages_add_passes_there_too(place: Place, app: Path) -> None:
    """A consumer and steps, to the letter; a saga of these, listed as the page says."""
    from tests.integration.test_docs import files, insert
    from tests.wheel import additions

    copy = place.folder / "added"
    shutil.copytree(app, copy, ignore=shutil.ignore_patterns(".venv", ".local", "cdk.out"))
    (copy / ".venv").symlink_to(app / ".venv")
    consumer, step = files("add-a-consumer.md"), files("add-a-step.md")
    written = {
        "lambdas/consumers/failures.py": consumer["lambdas/consumers/failures.py"],
        "services/lounges.py": step["services/lounges.py"],
        "services/mails.py": step["services/mails.py"],
        "services/counted.py": (ROOT / "services" / "counted.py").read_text(),
        **additions.FILES,
    }
    for name, text in written.items():
        (copy / name).write_text(text)
    listed = copy / "statemachines" / "__init__.py"
    insert(listed, "from recourse import collect", additions.IMPORTED)
    insert(listed, "SAGAS = collect(", additions.LISTED)
    insert(copy / "tests" / "sagas.py", additions.AFTER, additions.STOCK)
    late = place.run("make", "check", at=copy)
    assert late.returncode != 0 and "lounge.asl.json" in (late.stdout + late.stderr).replace(
        "\n", ""
    )
    recourse = app / ".venv" / "bin" / "recourse"
    place.must(recourse, "compile", at=copy)
    place.must("make", "check", at=copy)
    said = place.must("make", "test", at=copy)
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) > 150
    templates = synthesised(place, copy)
    assert '"lambdas.consumers.failures.handler"' in templates
    assert '"services.lounges:hold"' in templates
