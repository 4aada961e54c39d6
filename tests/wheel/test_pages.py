"""In a new app the pages are followed to the letter: what they add passes, and works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.integration.test_docs import files, insert
from tests.patience import until
from tests.wheel import additions
from tests.wheel.conftest import Place, up
from tests.wheel.test_new_app import on_the_oldest

COUNTED = """
import sys
import boto3

dynamodb = boto3.client("dynamodb")
(table,) = (one for one in dynamodb.list_tables()["TableNames"] if "failures" in one.lower())
for row in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]:
    print(row["pk"]["S"], row.get("times", {}).get("N"))
"""
"""Prints what the consumer of the page has counted."""


@pytest.fixture(scope="module")
def added(place: Place, app: Path) -> Path:
    """The app with what the pages add, and a saga with the mail of the steps' page."""
    copy: Path = app.parent / "added"
    shutil.copytree(app, copy, ignore=shutil.ignore_patterns(".venv", ".local", "cdk.out"))
    (copy / ".venv").symlink_to(app / ".venv")
    step, saga = files("add-a-step.md"), files("add-a-saga.md")
    listed = saga.pop("statemachines/__init__.py").splitlines()
    del step["services/holdings.py"]  # a new app has no routes of its own, says the page
    for name, text in {
        **step,
        **saga,
        **files("add-a-consumer.md"),
        **additions.FILES,
    }.items():
        (copy / name).write_text(text)
    for imported, name in (listed, additions.LISTED):
        insert(copy / "statemachines" / "__init__.py", "from recourse import collect", imported)
        insert(copy / "statemachines" / "__init__.py", "SAGAS = collect(", name)
    insert(copy / "tests" / "sagas.py", *additions.PROVIDED)
    late = place.run("make", "check", at=copy)
    said = (late.stdout + late.stderr).replace("\n", "")
    assert late.returncode != 0 and "lounge-visit.asl.json" in said
    place.must(app / ".venv" / "bin" / "recourse", "compile", at=copy)
    place.must("make", "check", at=copy)
    return copy


@on_the_oldest
def test_it_passes_with_every_fault(place: Place, added: Path) -> None:
    said = place.must("make", "test", at=added)
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) > 200 and "skipped" not in said


@on_the_oldest
def test_it_is_deployed_and_works(place: Place, added: Path) -> None:
    recourse = added / ".venv" / "bin" / "recourse"

    def started(api: str, token: str, *more: str, code: int = 0) -> str:
        command = (recourse, "start", "lounge-visit", "--request", "samples/lounge-visit.json")
        ran = place.run(
            *command, "--watch", *more, at=added, RECOURSE_API=api, RECOURSE_TOKEN=token
        )
        assert ran.returncode == code, ran.stderr
        return ran.stdout

    with up(place, added) as api:
        who = (recourse, "token", "--subject", "asha")
        token = place.must(*who, at=added, RECOURSE_API=api).strip()
        for coordination in ("orchestration", "choreography"):
            assert "SUCCEEDED: all steps done" in started(
                api, token, "--coordination", coordination
            )
            chaos = ("--coordination", coordination, "--chaos", "bill=reject")
            undone = started(api, token, *chaos, code=1)
            assert "COMPENSATED: all effects undone" in undone, undone
        look = (added / ".venv" / "bin" / "python", "-c", COUNTED)
        tools = str(added / ".local" / "cloud" / "aws.config")
        until(
            lambda: place.must(*look, at=added, AWS_CONFIG_FILE=tools),
            "both failures are counted",
            lambda said: re.search(r"^failures#lounge-visit#bill#\w+ 2$", said, re.MULTILINE),
        )
    templates = "".join(one.read_text() for one in (added / ".local").rglob("*.template.json"))
    assert '"lambdas.consumers.failures.handler"' in templates
    assert '"services.lounges:hold"' in templates
