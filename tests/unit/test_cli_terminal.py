"""What people see: no text of others acts on the terminal, and what they copy is whole."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.cli.exits import of_status
from recourse.cli.screen import Screen, identity
from recourse.cli.timeline import print_event, print_timeline
from recourse.cli.visible import visible
from recourse.cli.worker import _Plain
from recourse.events import Event
from tests.unit.test_cli import SAGA, STEP

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m\x90",
    "\r  SUCCEEDED",
    "\n  0.50 s SUCCEEDED: all steps done",
    "\u202egnp.exe\u2066",
    "\u200e\u200f\u061c\u2028\u2029\x85",
    "\u200b\ufeff\u00ad\U000e0041",
    "\x00\x7f\x08",
    "\ud800",
)
OURS = "\n"
ANY = st.text(st.characters(exclude_categories=[]), max_size=60)


def assert_harmless(shown: str) -> None:
    bad = {one for one in shown if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert bad <= {OURS, "\u200c", "\u200d"}, bad


@pytest.mark.parametrize("text", HOSTILE)
def test_what_acts_on_a_terminal_is_shown_as_a_mark(text: str) -> None:
    assert_harmless(shown := visible(text))
    assert len(shown) == len(text) and "\ufffd" in shown and "\n" not in shown


@pytest.mark.parametrize(
    "text", ["Asha Rao", "नमस्ते", "می‌خواهم", "東京ガーデン", "€5", "👩‍✈️", "e\u0301"]
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(ANY)
def test_no_text_acts_on_a_screen(text: str) -> None:
    file = io.StringIO()
    screen = Screen(file=file, width=80)
    screen.print(f"a {text} b", style="red")
    screen.print("a", Text(text, "bold"), text)
    table = Table(identity("id"), "name")
    table.add_row(text, text)
    screen.print_table(table)
    assert_harmless(file.getvalue())
    assert file.getvalue().startswith(f"a {visible(text)} b\n")


def everywhere(text: str) -> dict[str, Any]:
    """A saga with this text wherever others may put one."""
    step = STEP | {"name": text, "error": text, "message": text}
    reason = {"step": text, "error": text, "message": text}
    texts = dict.fromkeys(("saga", "business_key", "owner", "saga_id"), text)
    return SAGA | texts | {"steps": [step], "reason": reason}


def api(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_command_prints_what_others_wrote_as_it_is(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    saga = everywhere(text)
    key = dict.fromkeys(("key_id", "operation", "object", "status", "expires_at"), text)
    row = dict.fromkeys(("time", "action", "outcome", "caller", "address", "detail"), text)
    key |= {"uses": 1, "max_uses": 1, "audit": [row], "cursor": None}  # type: ignore[dict-item]
    queue = {"name": text, "waiting": 1, "redrives_to": text, "why_not": text}
    error = {"type": text, "message": text}
    event = {
        "specversion": "1.0",
        "id": text,
        "type": f"recourse.{text}.failed",
        "source": text,
        "subject": text,
        "time": text,
        "data": {"step": None, "error": error},
        "sequence": None,
    }
    attempt = dict.fromkeys(("event_id", "type", "outcome", "at", "error", "response"), text)
    attempt |= {"status": text, "attempt": 1, "latency_ms": 1, "replay_id": text}  # type: ignore[dict-item]
    items = {
        "/sagas": [saga],
        "/events": [event],
        "/valet-keys": [key],
        "/deadletters": [queue],
        "/sagas/s/events": [event],
        "/webhooks": [{"webhook_id": "w"}],
        "/webhooks/w/deliveries": [attempt],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path in items:
            return httpx.Response(200, content=json.dumps({"items": items[path], "cursor": None}))
        whole = key if path.startswith("/valet-keys") else saga
        return httpx.Response(200, content=json.dumps(whole))

    api(monkeypatch, answer)
    for asked in (
        ["list"],
        ["show", "s"],
        ["watch", "s"],
        ["trace", "s"],
        ["cancel", "s"],
        ["reverse", "s"],
        ["resolve", "s", "hotel", "--action", "retry"],
        ["events"],
        ["valet", "show"],
        ["valet", "show", "k"],
        ["valet", "revoke", "k"],
        ["redrive", "--dry-run", "none"],
    ):
        for more in ([], ["--json"]):
            ended = CliRunner().invoke(main.app, [*asked, *more])
            assert ended.exit_code == 0 or asked[0] in ("events", "redrive", "trace", "watch"), (
                asked,
                ended.output,
            )
            assert not isinstance(ended.exception, Exception), (asked, ended.exception)
            assert_harmless(ended.output)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
def test_no_problem_acts_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, text: str, status: int
) -> None:
    errors = [{"field": text, "message": text}] * 2
    problem = {"title": text, "detail": text, "errors": errors, "type": text}
    for body in (json.dumps(problem).encode(), text.encode(errors="replace")):
        api(
            monkeypatch,
            lambda request, body=body: httpx.Response(
                status, content=body, headers={"location": "x", "www-authenticate": "y"}
            ),
        )
        ended = CliRunner().invoke(main.app, ["show", "s"])
        assert ended.exit_code == of_status(status)
        assert_harmless(ended.output)
        lines = ended.stderr.splitlines()
        assert lines[0].startswith("recourse: ") and len(lines) in (1, 3)
        assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("text", HOSTILE)
def test_no_timeline_event_or_log_line_acts_on_the_terminal(text: str) -> None:
    file = io.StringIO()
    print_timeline(Screen(file=file, width=200), [everywhere(text)])
    event = Event(
        id="1", saga_id=text, saga=text, step=text, kind="failed", time=text, source="/x",
        data={"error": {"type": text, "message": text}}, sequence=1,
    )  # fmt: skip
    print_event(Screen(file=file, width=200), event)
    assert_harmless(file.getvalue())
    assert file.getvalue().count("\n") == 3
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("recourse", 40, "", 1, text, None, sys.exc_info())
    record.message_id = text
    assert_harmless(line := _Plain().format(record))
    assert "\n  File" in line, "a traceback keeps its lines"


# What people copy.


@pytest.mark.parametrize("width", [10, 40, 80, 120, 250])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_id_is_never_cut_however_narrow_the_window(width: int, is_terminal: bool) -> None:
    file = io.StringIO()
    screen = Screen(file=file, width=width, force_terminal=is_terminal, color_system=None)
    ids = ["5a9a1d5a9a1d5a9a1d5a9a1d5a9a1d5a", "order-" + "9" * 100]
    table = Table(identity("id"), identity("business key"), "status", "reason")
    table.add_row(*ids, "COMPENSATED", "payment: PaymentDeclinedError " + "x" * 150)
    screen.print_table(table)
    assert all(one in file.getvalue() for one in ids)
    screen.print(f"started {ids[0]} {ids[1]}")
    assert file.getvalue().splitlines()[-1] == f"started {ids[0]} {ids[1]}"
    assert "…" not in file.getvalue()
    assert file.getvalue().count("x") == 150, "what is folded is whole, too"


def test_the_list_shows_whole_ids_in_a_narrow_window(monkeypatch: pytest.MonkeyPatch) -> None:
    saga = SAGA | {"saga_id": "5a9a1d5a9a1d5a9a1d5a9a1d5a9a1d5a", "business_key": "b" * 60}
    api(monkeypatch, lambda _: httpx.Response(200, json={"items": [saga], "cursor": None}))
    monkeypatch.setenv("COLUMNS", "40")
    ended = CliRunner().invoke(main.app, ["list"])
    assert saga["saga_id"] in ended.stdout and saga["business_key"] in ended.stdout


@pytest.mark.parametrize(
    ("status", "attempts", "undo_attempts", "said"),
    [
        ("DONE", 3, 0, "DONE         in 3 attempts"),
        ("FAILED", 4, 2, "FAILED       in 4 attempts"),
        ("UNDO_FAILED", 1, 4, "UNDO_FAILED  in 4 attempts"),
        ("UNDONE", 1, 5, "UNDONE       in 5 attempts"),
        ("UNDONE", 2, 1, "UNDONE      "),
    ],
)
def test_a_timeline_counts_the_tries_of_action_and_undo_apart(
    status: str, attempts: int, undo_attempts: int, said: str
) -> None:
    step = STEP | {"status": status, "attempts": attempts, "undo_attempts": undo_attempts}
    before = STEP | {"status": "DONE", "attempts": attempts, "undo_attempts": undo_attempts}
    file = io.StringIO()
    changes = [SAGA | {"status": "COMPENSATING", "steps": [before]}] if status == "UNDONE" else []
    print_timeline(Screen(file=file, width=200), [*changes, SAGA | {"steps": [step]}])
    lines = [line for line in file.getvalue().splitlines() if "flight" in line]
    assert said in lines[-1]
    if status == "UNDONE":
        assert ("in 2 attempts" in lines[0]) == (attempts == 2)
        assert ("attempts" in lines[-1]) == (undo_attempts > 1)


def test_a_terminal_without_unicode_gets_escapes_and_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "recourse", "show", "ü"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "RECOURSE_API": "http://127.0.0.1:9/ü"},
        capture_output=True,
    )
    assert ended.returncode == 75
    assert b"\\xfc" in ended.stderr and b"Traceback" not in ended.stderr
