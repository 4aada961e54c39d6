"""A saga is followed: drawn on a terminal, in lines in a pipe, over an API that goes away."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from recourse.cli.api import Api
from recourse.cli.screen import Screen
from recourse.cli.watching import Picture, follow
from tests.patience import PATIENCE
from tests.unit.test_cli import SAGA, STEP
from tests.unit.test_cli_terminal import HOSTILE, assert_harmless, everywhere

NOW = "2026-11-24T10:00:00.500Z"
DONE = STEP | {"status": "DONE", "error": None, "message": None, "undo_attempts": 0}
UNDONE = STEP | {"name": "hotel", "status": "UNDONE", "error": None, "undo_attempts": 3}
ID = "5a9a1d5a9a1d5a9a1d5a9a1d5a9a1d5a"


def saga(status: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return SAGA | {"saga_id": ID, "status": status, "steps": list(steps)} | more


def drawn(shown: dict[str, Any], width: int = 200, **options: Any) -> str:
    picture, file = Picture(), io.StringIO()
    picture.saga = shown
    Screen(file=file, width=width, **options).print(picture.draw())
    return file.getvalue()


def test_each_step_has_its_attempts_and_how_long_it_took() -> None:
    said = drawn(saga("SUCCEEDED", DONE | {"attempts": 3}))
    assert re.search(r"0\.50 s +✓ flight +DONE +0\.40 s, 3 attempts", said)


def test_an_undo_has_a_row_and_a_colour_of_its_own() -> None:
    said = drawn(saga("COMPENSATED", UNDONE), force_terminal=True, color_system="standard")
    action, undo = [line for line in said.splitlines() if "hotel" in line]
    assert "DONE" in action and "\x1b[32m" in action
    assert "undo of hotel" in undo and "3 attempts" in undo and "\x1b[33m" in undo


def test_the_clock_of_what_runs_goes_on() -> None:
    began = datetime.now(UTC) - timedelta(seconds=90)
    running = DONE | {"status": "RUNNING", "started_at": began.isoformat(), "ended_at": None}
    said = drawn(saga("RUNNING", running, ended_at=None))
    (took,) = re.findall(r"RUNNING +(\d+)\.\d\d s", said)
    assert 90 <= int(took) < 90 + PATIENCE


@pytest.mark.parametrize(
    ("left", "said"), [(3700, "1 h 1 min"), (200000, "2 d 7 h"), (-5, "its time is up")]
)
def test_who_is_waited_for_is_told_with_how_long_still(left: int, said: str) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=left + 5 * (left > 0))).isoformat()
    asked = {"name": "claims", "asked_at": NOW, "answer_by": until, "to": "ravi"}
    shown = saga("RUNNING", DONE | {"status": "RUNNING", "ended_at": None, "question": asked})
    assert "flight waits for ravi to decide until" in drawn(shown) and said in drawn(shown)
    later = DONE | {"status": "PENDING", "started_at": None, "ended_at": None, "begins_at": until}
    assert f"flight waits until {until}" in drawn(saga("RUNNING", later))
    anybody = DONE | {"status": "RUNNING", "question": {**asked, "to": None}}
    assert "anybody who decides claims" in drawn(saga("RUNNING", anybody))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_others_acts_on_what_is_drawn(text: str) -> None:
    assert_harmless(drawn(everywhere(text) | {"status": "COMPENSATION_FAILED"}))
    assert_harmless(drawn(everywhere(text) | {"status": "RUNNING"}))


class Served:
    """An API of one saga, which goes away and comes back at the same address."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.looked = threading.Event()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come(self, *states: dict[str, Any]) -> None:
        """Answer with these states, and with the last of them again and again."""
        served, self.states = self, list(states)
        self.looked.clear()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append({name.lower(): value for name, value in self.headers.items()})
                is_last = len(served.states) == 1
                body = json.dumps(served.states[0] if is_last else served.states.pop(0)).encode()
                tag = f'"{hash(body)}"'
                same = self.headers.get("if-none-match") == tag
                self.send_response(304 if same else 200)
                self.send_header("etag", tag)
                self.send_header("content-length", "0" if same else str(len(body)))
                self.end_headers()
                if not same:
                    self.wfile.write(body)
                if is_last:
                    served.looked.set()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        """Be away."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def api() -> Iterator[Served]:
    served = Served()
    yield served
    served.go()


def line_of(api: Served, *more: str) -> tuple[list[str], dict[str, str]]:
    words = [sys.executable, "-m", "recourse", "watch", ID, "--token", "t", "--api", api.url, *more]
    given = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return words, given | {"TERM": "xterm", "COLUMNS": "100"}


@contextmanager
def started(api: Served, *more: str) -> Iterator[subprocess.Popen[str]]:
    words, environment = line_of(api, *more)
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@contextmanager
def in_a_terminal(
    api: Served, *more: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of its own, and what reads that."""
    words, given = line_of(api, *more)
    ours, theirs = pty.openpty()
    # What a shell has started in the background ignores SIGINT, and so would all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        words, env=given | environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    signal.signal(signal.SIGINT, before)
    with process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_to_the_end(terminal: int, until: str = "") -> str:
    """What is on a terminal, until a text is or the command has ended."""
    shown = b""
    while not until or until.encode() not in shown:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    return shown.decode()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_saga_is_followed_over_an_api_that_goes_away(api: Served, more: list[str]) -> None:
    running = saga("RUNNING", DONE, ended_at=None)
    api.come(running)
    with started(api, *more) as process:
        assert process.stdout and process.stderr
        assert api.looked.wait(PATIENCE)
        first = [process.stdout.readline() for _ in range(1 if more else 2)]
        assert ("RUNNING" if more else "flight") in first[-1]
        api.go()
        assert "trying again" in process.stderr.readline()
        api.asked.clear()
        api.come(saga("SUCCEEDED", DONE))
        out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "the API answers again" in said
    assert "if-none-match" in api.asked[0], "it goes on from what was seen"
    again = out.count('"name": "flight"' if more else "flight")
    assert again == (1 if more else 0), "what was shown is not shown again"
    assert "SUCCEEDED" in out.splitlines()[-1]


def test_on_a_terminal_it_is_drawn_and_ends_with_what_has_become_of_it(api: Served) -> None:
    api.come(saga("COMPENSATING", UNDONE, ended_at=None), saga("COMPENSATED", UNDONE))
    with in_a_terminal(api) as (process, terminal):
        shown = read_to_the_end(terminal)
        assert process.wait(PATIENCE) == 1
    assert ID in shown and "undo of hotel" in shown and "COMPENSATED: all effects undone" in shown
    assert "\x1b[33m" in shown and shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_without_colours_there_are_none(api: Served) -> None:
    api.come(saga("COMPENSATED", UNDONE))
    with in_a_terminal(api, NO_COLOR="1") as (process, terminal):
        shown = read_to_the_end(terminal)
        assert process.wait(PATIENCE) == 1
    assert "undo of hotel" in shown and not re.search(r"\x1b\[[\d;]*[349]\dm", shown)


def test_a_dumb_terminal_gets_lines(api: Served) -> None:
    api.come(saga("SUCCEEDED", DONE))
    with in_a_terminal(api, TERM="dumb") as (process, terminal):
        shown = read_to_the_end(terminal)
        assert process.wait(PATIENCE) == 0
    assert "✓ flight" in shown and "\x1b" not in shown


def test_what_is_copied_is_whole_above_a_narrow_drawing(api: Served) -> None:
    by = {"saga_id": "9" * 32, "reason": "ill " * 20, "by": "asha"}
    api.come(saga("SUCCEEDED", DONE, reverses=by))
    with in_a_terminal(api, COLUMNS="40") as (_, terminal):
        shown = read_to_the_end(terminal)
    assert ID in shown and f"reverses {'9' * 32}, asked for by asha: {'ill ' * 20}" in shown


def test_ctrl_c_leaves_cleanly(api: Served) -> None:
    api.come(saga("RUNNING", DONE | {"status": "RUNNING", "ended_at": None}, ended_at=None))
    with in_a_terminal(api) as (process, terminal):
        shown = read_to_the_end(terminal, until="flight")
        process.send_signal(signal.SIGINT)
        shown += read_to_the_end(terminal)
        assert process.wait(PATIENCE) == 130
    assert "Traceback" not in shown and shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_a_pipe_that_is_closed_ends_it_without_a_word(api: Served, tmp_path: Path) -> None:
    api.come(*[saga("RUNNING", DONE, ended_at=None, business_key=str(n)) for n in range(20)])
    words, environment = line_of(api, "--json")
    said = tmp_path / "said"
    script = f'"$@" 2>{said} | head -1; echo "${{PIPESTATUS[0]}}"'
    ran = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    first, code = ran.stdout.splitlines()
    assert json.loads(first)["saga_id"] == ID and code == "141"
    assert said.read_text() == ""


def test_an_address_at_which_nobody_ever_answered_is_not_asked_again() -> None:
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ConnectError("refused")

    screen = Screen(file=io.StringIO())
    with (
        Api("http://api", "t", transport=httpx.MockTransport(refuse)) as client,
        pytest.raises(Exception, match="cannot reach the API"),
    ):
        follow(screen, client, ID, as_json=False)
    assert len(asked) == 1
    assert isinstance(screen, Console)
