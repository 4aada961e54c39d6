"""`recourse import`: what it asks the API for, what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from recourse.cli import command, importing, main
from recourse.cli.api import POLL_ATTEMPTS, Api

BEGUN: dict[str, Any] = {
    "import_id": "5a",
    "status": "CHECKING",
    "why": None,
    "rows": None,
    "bad": 0,
    "started": 0,
    "already_there": 0,
    "not_started": 0,
    "problems": [],
    "links": {"self": "/imports/5a"},
}
DONE = BEGUN | {"status": "COMPLETED", "rows": 2, "started": 2}
BAD = {"line": 3, "field": "flight.seats", "why": "must be a\x1b[31m number"}
Run = Callable[..., Any]


class Server:
    """The API as it answers, one answer after the other, and what it was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return httpx.Response(200, json=answer)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    file = tmp_path / "trips.csv"
    file.write_text("trip_id\n")
    done = {"object": "trips.csv", "sha256": "0" * 64}
    monkeypatch.setattr(importing, "uploaded", lambda *_: done)
    monkeypatch.setattr("time.sleep", lambda _: None)

    def with_server(server: Server, *more: str, code: int = 0) -> Any:
        transport = httpx.MockTransport(server)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        words = ["import", str(file), "--saga", "travel-booking", "--token", "t", *more]
        ended = CliRunner().invoke(main.app, words, catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        return ended

    return with_server


def test_it_follows_an_import_until_all_is_started(run: Run) -> None:
    server = Server(BEGUN, BEGUN | {"status": "STARTING", "rows": 2}, DONE)
    said = run(server).stdout
    assert said == "5a COMPLETED\n2 rows: 2 started\n"
    assert [one.method for one in server.asked] == ["POST", "GET", "GET"]
    body = json.loads(server.asked[0].content)
    assert body == {
        "saga": "travel-booking",
        "object": "trips.csv",
        "tolerated_failures": 100,
        "concurrency": 4,
    }


def test_the_same_file_and_settings_have_the_same_key(run: Run) -> None:
    keys = []
    for more in ((), (), ("--concurrency", "2"), ("--key", "mine")):
        server = Server(DONE)
        run(server, *more)
        keys.append(server.asked[0].headers["idempotency-key"])
    assert keys[0] == keys[1] != keys[2] and keys[3] == "mine"


def test_bad_rows_are_printed_by_line_and_field(run: Run) -> None:
    said = run(Server(DONE | {"bad": 30, "problems": [BAD] * 25}), code=3).stdout
    assert said.count("  line 3, flight.seats: must be a") == 20 and "\x1b" not in said
    assert "and 10 more bad rows" in said


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (BEGUN | {"status": "FAILED", "why": "the file is empty"}, 1),
        (DONE | {"status": "STOPPED", "why": "too many"}, 3),
        (DONE | {"not_started": 1}, 3),
        (BEGUN | {"status": "STARTING"}, 4),
    ],
)
def test_how_it_ends(run: Run, found: dict[str, Any], code: int) -> None:
    said = run(Server(found), "--wait", "0", "--json", code=code).stdout
    assert json.loads(said) == found


def test_what_was_stopped_goes_on(run: Run) -> None:
    links = {"self": "/imports/5a", "resume": "/imports/5a/resume"}
    server = Server(DONE | {"status": "INTERRUPTED", "why": "it died", "links": links}, DONE)
    assert "resuming: it died" in run(server).stderr
    assert [one.url.path for one in server.asked] == ["/imports", "/imports/5a/resume"]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    words = ["import", str(tmp_path / "trips.pdf"), "--saga", "order", "--token", "t"]
    ended = CliRunner().invoke(main.app, words)
    assert ended.exit_code == 2
    assert "must be a .csv, .jsonl or .ndjson, got application/pdf" in ended.stderr


def test_an_api_that_is_busy_for_long_ends_no_look_at_an_import(run: Run) -> None:
    class Busy(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET" and len(self.asked) <= POLL_ATTEMPTS + 1:
                self.asked.append(request)
                return httpx.Response(429, json={"message": "Rate Exceeded"})
            return super().__call__(request)

    server = Busy(BEGUN, DONE)
    ended = run(server)
    assert ended.stdout == "5a COMPLETED\n2 rows: 2 started\n"
    assert len(server.asked) > POLL_ATTEMPTS
    assert "the import goes on" in ended.stderr
