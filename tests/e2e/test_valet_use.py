"""Valet keys as people use them: the README's commands, and uploads that are interrupted."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from recourse.cli.api import Api
from tests import ROOT
from tests.e2e.conftest import Trip
from tests.patience import PATIENCE, until

MIB = 2**20
SECTION = "## Documents by valet key"


@pytest.fixture
def environment(api: Api, url: str, tmp_path: Path) -> dict[str, str]:
    """What somebody has exported who follows the README."""
    ours = {
        "RECOURSE_API": url,
        "RECOURSE_TOKEN": str(api.token),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    return os.environ | ours | {"PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
def test_curl_alone_uploads_and_downloads_by_the_readme(
    environment: dict[str, str], tmp_path: Path
) -> None:
    section = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    subprocess.run(["sh", "-eu", "-c", commands], cwd=tmp_path, env=environment, check=True)
    sample = (ROOT / "samples" / "passport.pdf").read_bytes()
    assert (tmp_path / "passport.pdf").read_bytes() == sample


class Put:
    """`recourse valet put` of one file, as a process that can be interrupted."""

    def __init__(self, environment: dict[str, str], file: Path, api: Api) -> None:
        self.environment, self.file, self.api = environment, file, api
        self.name = f"e2e/{uuid.uuid4().hex}"
        self.remembered = Path(environment["XDG_STATE_HOME"]) / "recourse" / "uploads"

    def start(self) -> subprocess.Popen[str]:
        command = ["-m", "recourse", "valet", "put", str(self.file), "--object", self.name]
        return subprocess.Popen(
            [sys.executable, *command, "--json"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background have it ignored, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def parts(self) -> set[int]:
        """The parts that are remembered as sent."""
        files = list(self.remembered.glob("*.jsonl"))
        return {int(line) for file in files for line in file.read_text().splitlines()[1:]}

    def interrupted(self, how: signal.Signals) -> tuple[int, str]:
        """Interrupt it once some parts are up; its exit code, and what it said."""
        process = self.start()

        def sent() -> set[int]:
            parts = self.parts()
            assert parts or process.poll() is None, process.communicate()
            return parts

        until(sent, "parts that are remembered as sent", pause=0.01)
        process.send_signal(how)
        _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def finished(self) -> dict[str, Any]:
        process = self.start()
        told, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        done: dict[str, Any] = json.loads(told)
        return done


@pytest.fixture
def put(environment: dict[str, str], api: Api, tmp_path: Path) -> Put:
    file = tmp_path / "large"
    file.write_bytes(secrets.token_bytes(96 * MIB + 1))
    return Put(environment, file, api)


def _killed(code: int, said: str) -> None:
    assert code == -signal.SIGKILL


def _ended(code: int, said: str) -> None:
    assert code == 130
    assert "run the same command to resume" in said


@pytest.mark.parametrize(
    ("how", "as_it_should"), [(signal.SIGKILL, _killed), (signal.SIGINT, _ended)]
)
def test_an_interrupted_upload_goes_on_where_it_was(
    put: Put, how: signal.Signals, as_it_should: Callable[[int, str], None], tmp_path: Path
) -> None:
    as_it_should(*put.interrupted(how))
    sent = put.parts()
    assert sent
    done = put.finished()
    shown = put.api.get(f"/valet-keys/{done['key_id']}")
    parts = shown["multipart"]["parts"]
    redeemed = [row["detail"] for row in shown["audit"] if row["action"] == "redeem-part"]
    for number in sent:
        assert redeemed.count(f"part {number}") == 1, "what was up was sent again"
    assert {f"part {number}" for number in range(1, parts + 1)} == set(redeemed)
    assert not put.parts()

    got = [sys.executable, "-m", "recourse", "valet", "get", put.name]
    there = tmp_path / "back"
    subprocess.run([*got, "--output", str(there)], env=put.environment, check=True)
    assert there.read_bytes() == put.file.read_bytes()


def test_the_python_of_the_docs_uploads(api: Api, environment: dict[str, str]) -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "valet-keys.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(code, "docs/valet-keys.md", "exec"), names)
    file, name = ROOT / "samples" / "passport.pdf", f"e2e/{uuid.uuid4().hex}.pdf"
    done = names["put"](
        environment["RECOURSE_API"],
        environment["RECOURSE_TOKEN"],
        file,
        name,
        "application/pdf",
    )
    assert (done["object"], done["content_length"]) == (name, file.stat().st_size)


def test_an_invoice_comes_down_by_the_link_of_its_saga_until_it_is_revoked(trip: Trip) -> None:
    saga_id = trip.start()
    trip.ended(saga_id, "SUCCEEDED")
    link = trip.api.get(f"/sagas/{saga_id}")["links"]["invoice"]
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=PATIENCE) as anybody:
        got = anybody.get(link)
        assert got.status_code == 200, got.text
        assert got.content.startswith(b"%PDF-")
        assert got.headers["content-type"] == "application/pdf"
        assert got.headers["content-disposition"].startswith("attachment")
        keys = trip.api.get("/valet-keys", limit=100)["items"]
        (key,) = [one for one in keys if one["object"] == f"invoices/{saga_id}.pdf"]
        trip.api.call("DELETE", f"/valet-keys/{key['key_id']}")
        gone = anybody.get(link)
        assert (gone.status_code, gone.json()["type"]) == (410, "urn:recourse:problem:key-revoked")
    assert "invoice" not in trip.api.get(f"/sagas/{saga_id}")["links"]
