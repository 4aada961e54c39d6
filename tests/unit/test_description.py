"""The API's description is made when the project is built, and only read where it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main
from tests.description import FILE

ROOT = Path(__file__).parents[2]


def compiled(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(main.app, ["compile", *arguments])
    return ended.exit_code, ended.output


def test_the_file_is_what_the_routes_say() -> None:
    assert compiled("--check") == (0, "")


def test_a_stale_file_is_told_of_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "openapi.json"
    stale.write_text("{}\n")
    monkeypatch.setattr(main, "DESCRIPTION", stale)
    status, said = compiled("--check")
    assert status == 1 and "openapi.json" in said.replace("\n", "")
    assert stale.read_text() == "{}\n"
    assert compiled()[0] == 0
    assert stale.read_text() == FILE.read_text()


def test_the_function_that_answers_it_loads_nothing_that_makes_it() -> None:
    asked = {
        "rawPath": "/openapi.json",
        "headers": {},
        "requestContext": {"stage": "$default", "http": {"method": "GET"}},
    }
    code = (
        f"import lambdas.api, sys; print(lambdas.api.handler({asked!r}, None)['statusCode']);"
        "print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "POWERTOOLS_SERVICE_NAME": "test"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *loaded = ran.stdout.split()
    assert status == "200"
    assert "lambdas.api.about" in loaded
    assert not {"pydantic", "lambdas.api.openapi"} & set(loaded)
