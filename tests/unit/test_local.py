"""`python -m local` says how it is used, and does not start anything to say so."""

from __future__ import annotations

from typing import Any

import pytest

from local import LocalCloudError
from local import __main__ as started


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what the local cloud was run."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(started, "run", lambda **options: made.append(options))
    for name in started.PORTS:
        monkeypatch.delenv(name, raising=False)
    return made


def test_help_names_the_variables_and_starts_nothing(
    runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        started.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith("usage: python -m local")
    assert all(name in said for name in ("PORT", "AWS_PORT", "RECOURSE_WORKERS", "8000", "4566"))
    assert runs == []


def test_an_option_that_there_is_not_starts_nothing(runs: list[dict[str, Any]]) -> None:
    with pytest.raises(SystemExit, match="2"):
        started.main(["--port", "8001"])
    assert runs == []


def test_the_ports_come_from_the_environment(
    runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started.main([])
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("AWS_PORT", "4600")
    started.main([])
    assert runs == [{"port": 8000, "aws_port": 4566}, {"port": 0, "aws_port": 4600}]


def test_a_port_that_is_not_a_number_starts_nothing(
    runs: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SystemExit, match="2"):
        started.main([])
    assert "PORT and AWS_PORT must be whole numbers" in capsys.readouterr().err
    assert runs == []


def test_what_stops_the_local_cloud_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise LocalCloudError("port 8000 is in use: choose another with PORT=")

    monkeypatch.setattr(started, "run", fail)
    with pytest.raises(SystemExit) as ended:
        started.main([])
    assert ended.value.code == "local cloud: port 8000 is in use: choose another with PORT="
