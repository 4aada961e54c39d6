"""`recourse up` says how it is used, and does not start anything to say so."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from recourse.cli import main
from recourse.local import LocalCloudError, cloud

call = CliRunner().invoke


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what the local cloud was run."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(cloud, "run", lambda **options: made.append(options))
    for name in ("PORT", "AWS_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERMINAL_WIDTH", "120")
    return made


def test_help_names_the_variables_and_starts_nothing(runs: list[dict[str, Any]]) -> None:
    said = call(main.app, ["up", "--help"])
    assert said.exit_code == 0
    for name in ("PORT", "AWS_PORT", "RECOURSE_WORKERS", "8000", "4566"):
        assert name in said.output
    assert runs == []


def test_an_option_that_there_is_not_starts_nothing(runs: list[dict[str, Any]]) -> None:
    assert call(main.app, ["up", "--ports", "8001"]).exit_code == 2
    assert runs == []


def test_the_ports_come_from_the_environment(
    runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(main.app, ["up"]).exit_code == 0
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("AWS_PORT", "4600")
    assert call(main.app, ["up"]).exit_code == 0
    assert runs == [{"port": 8000, "aws_port": 4566}, {"port": 0, "aws_port": 4600}]


def test_a_port_that_is_not_a_number_starts_nothing(
    runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "http")
    ended = call(main.app, ["up"])
    assert ended.exit_code == 2 and "env var: 'PORT'" in ended.output
    assert runs == []


def test_what_stops_the_local_cloud_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise LocalCloudError("port 8000 is in use: choose another with PORT=")

    monkeypatch.setattr(cloud, "run", fail)
    ended = call(main.app, ["up"])
    assert ended.exit_code == 1
    assert ended.output == "recourse: port 8000 is in use: choose another with PORT=\n"
