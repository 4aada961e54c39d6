"""The machine: what a start would stumble over is found, and what is well is not."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.session import Session
from typer.testing import CliRunner

from recourse import tools
from recourse.cli import doctor, main
from recourse.doctor import machine
from recourse.doctor.finding import Finding
from recourse.project import Project


def of(check: str, found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.check == check and one.level != "ok"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10), "error"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "warning")],
)
def test_a_python_that_is_too_old_or_untried(version: tuple[int, int], level: str) -> None:
    assert machine._python(version).level == level


@pytest.mark.parametrize("said", ["v18.1.0", "", "not node"])
def test_a_node_that_is_too_old_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    node = tmp_path / "node"
    monkeypatch.setattr(tools, "NODE", node)
    assert machine._node().level == "error"
    node.write_text(f"#!/bin/sh\necho {said}\n")
    assert machine._node().level == "error", "it is not executable"
    node.chmod(0o755)
    assert "recourse-aws[local]" in machine._node().remedy
    node.write_text("#!/bin/sh\necho v24.1.0\n")
    assert machine._node().level == "ok"


def test_tools_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "CDK", tmp_path / "cdk")
    monkeypatch.setattr(tools, "EMULATOR", Path(sys.executable))
    missing, there = machine._tools()
    assert (missing.level, there.level) == ("warning", "ok")
    assert missing.remedy == "python -m recourse.tools"


@pytest.mark.parametrize(("free", "level"), [(0.4, "error"), (0.6, "warning"), (2.1, "ok")])
def test_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: str
) -> None:
    usage = SimpleNamespace(free=free * machine.GB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = machine._disk(tmp_path)
    assert found.level == level
    assert "make" not in found.remedy, "an app's Makefile has other targets"


def test_a_port_that_is_taken_and_one_that_is_no_port(tmp_path: Path, taken: int) -> None:
    found = list(machine.findings(tmp_path, {"PORT": taken, "AWS_PORT": 70_000}))
    used, wrong = of("ports", found)
    assert used.level == wrong.level == "error"
    assert f"port {taken} is in use" in used.what and "PORT=" in used.remedy
    assert "70000" in wrong.what and wrong.remedy


def cloud(root: Path, **ports: int) -> Path:
    """The folder of a local cloud that was started."""
    folder = root / ".local" / "cloud"
    (folder / "emulator" / "tmp").mkdir(parents=True)
    (folder / "lock").write_text("4711 on http://127.0.0.1:8000")
    (folder / "ports.json").write_text(json.dumps(ports))
    return folder


def test_a_cloud_that_runs_has_its_ports_and_leaves_nothing(tmp_path: Path, taken: int) -> None:
    folder = cloud(tmp_path, port=taken)
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = list(machine.findings(tmp_path, {"PORT": taken}))
        assert of("ports", found) == of("leftovers", found) == []
        assert any("4711 on http" in one.what for one in found)
    assert of("ports", list(machine.findings(tmp_path, {"PORT": taken})))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells")
def test_what_a_dead_cloud_left_is_found(tmp_path: Path) -> None:
    folder = cloud(tmp_path)
    state = {"STATE_DIR": str(folder / "emulator" / "state")}
    line = [sys.executable, "-c", "print(1, flush=True); input()", "recourse.local.boot"]
    with subprocess.Popen(
        line, env=os.environ | state, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdout and orphan.stdout.readline(), "it runs"
        process, files = of("leftovers", list(machine.findings(tmp_path, {})))
        assert process.remedy == f"kill -KILL -- -{orphan.pid}"
        assert files.remedy == f"rm -r {folder / 'emulator' / 'tmp'}"
        orphan.communicate(b"\n")
    (folder / "emulator" / "tmp").rmdir()
    assert of("leftovers", list(machine.findings(tmp_path, {}))) == []


def run(
    monkeypatch: pytest.MonkeyPatch, *levels: str, arguments: tuple[str, ...] = ()
) -> tuple[int, str]:
    """What `recourse doctor --no-aws` says of a machine with such findings."""
    found = [Finding("disk", level, "what", "why", "remedy") for level in levels]  # type: ignore[arg-type]
    monkeypatch.setattr(machine, "findings", lambda root, ports: found)
    answer = CliRunner().invoke(main.app, ["doctor", "--no-aws", *arguments])
    return answer.exit_code, answer.stdout


@pytest.mark.parametrize(
    ("levels", "code"), [(["ok"], 0), (["ok", "warning"], 0), (["warning", "error"], 1)]
)
def test_the_exit_status_is_that_of_errors_alone(
    monkeypatch: pytest.MonkeyPatch, levels: list[str], code: int
) -> None:
    exit_code, said = run(monkeypatch, *levels)
    assert exit_code == code
    assert all(word in said for word in ("what", "why", "remedy"))
    exit_code, said = run(monkeypatch, *levels, arguments=("--json",))
    summary: Any = json.loads(said)
    assert exit_code == code
    assert [one["level"] for one in summary["findings"]] == levels
    assert (summary["errors"], summary["warnings"]) == (
        levels.count("error"),
        levels.count("warning"),
    )


def without_credentials(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "findings", lambda root, ports: [])
    answer = CliRunner().invoke(main.app, ["doctor", *arguments])
    return answer.exit_code, answer.stdout


def test_without_credentials_only_the_machine_is_looked_at_unless_aws_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert without_credentials(monkeypatch) == (0, "0 errors, 0 warnings\n")
    code, said = without_credentials(monkeypatch, "--aws")
    assert code == 1 and "there are no AWS credentials" in said and "AWS_PROFILE" in said
    code, said = without_credentials(monkeypatch, "--aws", "--profile", "nobody")
    assert code == 1 and "nobody" in said


def test_an_address_that_is_not_awss_is_said_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`recourse up` offers both ways: variables, and a configuration file."""

    def deaf(service: str, **_: Any) -> Any:
        problem = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return SimpleNamespace(get_caller_identity=Mock(side_effect=problem))

    def endpoints() -> list[tuple[str, str]]:
        app = SimpleNamespace(session=Session(), client=deaf, region="us-east-1")
        found = doctor.of_account(app, tmp_path)  # type: ignore[arg-type]
        return [(one.what, one.remedy) for one in found if one.check == "endpoint"]

    (tmp_path / "manifest.json").write_text('{"artifacts": {}}')
    config = tmp_path / "aws.config"
    config.write_text("[default]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert endpoints() == []
    config.write_text("[default]\nendpoint_url = http://127.0.0.1:1\n")
    ((what, remedy),) = endpoints()
    assert what == "the profile has an endpoint_url" and "AWS_CONFIG_FILE" in remedy
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert endpoints()[0] == ("AWS_ENDPOINT_URL is set", "unset AWS_ENDPOINT_URL")


def test_an_app_that_cannot_be_synthesised_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\nexit 3\n")
    node.chmod(0o755)
    monkeypatch.setattr(tools, "NODE", node)
    monkeypatch.setattr(tools, "install", lambda say: None)
    monkeypatch.setattr(machine, "findings", lambda root, ports: [])
    monkeypatch.setattr(Project, "find", lambda: SimpleNamespace(root=tmp_path))
    for name, value in (
        ("REGION", "eu-west-1"),
        ("ACCESS_KEY_ID", "a"),
        ("SECRET_ACCESS_KEY", "hush"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    answer = CliRunner().invoke(main.app, ["doctor", "--json"])
    (found,) = json.loads(answer.stdout)["findings"]
    assert (answer.exit_code, found["check"], found["level"]) == (1, "app", "error")
    assert "hush" not in answer.output
