"""Who has only the wheel comes from nothing to an app whose saga is booked, and is undone."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wheel.conftest import Place, synthesised, up
from tests.wheel.interpreters import OLDEST

on_the_oldest = pytest.mark.parametrize(
    "app", [pytest.param(OLDEST, marks=pytest.mark.xdist_group(OLDEST))], indirect=True
)
"""What does not depend on the interpreter."""
OWN = ["services", "statemachines", "lambdas", "tests"]


def spent() -> float:
    """The seconds of processors that ended children have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compiled(app: Path) -> set[str]:
    return {one.name for one in (app / "statemachines").iterdir() if one.suffix != ".py"}


def test_its_tests_pass_with_every_fault_and_its_files_are_current(place: Place, app: Path) -> None:
    made = {f"booking.{kind}" for kind in ("asl.json", "choreography.md", "shape.json")}
    assert compiled(app) == made | {"openapi.json"}
    began = spent()
    said = place.must("make", "test", at=app)
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) > 90 and "skipped" not in said and "warning" not in said
    # Of processors, within which all else is done too: how long it takes is up to who else works.
    assert spent() - began < 60
    place.must("make", "check", at=app)
    described = json.loads((app / "statemachines" / "openapi.json").read_text())
    assert "/sagas/booking" in described["paths"]


@on_the_oldest
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


@on_the_oldest
def test_its_stacks_carry_the_library_and_its_own_code_alone(place: Place, app: Path) -> None:
    assert "Recourse-" not in synthesised(place, app)
    assembly = app / "cdk.out"
    stacks = {one.name.partition(".")[0] for one in assembly.glob("*.template.json")}
    names = "Services Events Choreography Sagas Consumers Valet Webhooks Imports Issuer Live Api"
    names += " Console"
    assert stacks == {f"MySagas-dev-{one}" for one in names.split()}
    (code,) = assembly.glob("asset.*/recourse")
    inside = {one.name for one in code.parent.iterdir()}
    assert {"services", "statemachines", "lambdas", "pydantic"} <= inside
    assert not {"tests", "boto3", "moto", "aws_cdk"} & inside
    assert not {"cdk", "cli", "local", "testing", "new"} & {one.name for one in code.iterdir()}
    assert (code / "functions" / "sse.sh").stat().st_mode & 0o111


@on_the_oldest
def test_the_doctor_finds_nothing_wrong_with_it(place: Place, app: Path) -> None:
    doctor = (app / ".venv" / "bin" / "recourse", "doctor", "--no-aws", "--json")
    found = json.loads(place.must(*doctor, at=app, PORT="0", AWS_PORT="0"))["findings"]
    assert {one["check"] for one in found if one["level"] != "ok"} <= {"tools", "disk"}


@pytest.fixture(scope="module")
def api(place: Place, app: Path) -> Iterator[str]:
    """The address of the app's API on its local cloud."""
    with up(place, app) as address:
        yield address


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
