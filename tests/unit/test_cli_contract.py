"""What scripts rely upon in every command: `--json`, its errors, the exit codes, an example."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.cli.exits import ERRORS, MEANINGS, Exit
from recourse.problems import TYPES, problem
from tests.unit.test_cli import SAGA

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
EXAMPLE = re.compile(r"^Example: recourse (.+)$", re.MULTILINE)


def commands(group: Any = None, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that there is, by its words."""
    root: Any = group or get_command(main.app)
    for name, found in root.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, *path, name)
        else:
            yield (*path, name), found


ALL = dict(commands())
PASSING_ON = {
    words for words, one in ALL.items() if one.context_settings.get("ignore_unknown_options")
}
"""Commands whose options may be of another program."""
OPTIONS = {words: {name for p in one.params for name in p.opts} for words, one in ALL.items()}
CALLING = [words for words, options in OPTIONS.items() if {"--api", "--token"} <= options]
"""Commands that call the API with a token."""
each = pytest.mark.parametrize("words", ALL, ids=" ".join)


def run(*words: str) -> Result:
    return CliRunner().invoke(main.app, [*words])


def failed(ended: Result) -> dict[str, Any]:
    """The one document that a command has printed that failed."""
    assert isinstance(ended.exception, SystemExit), ended.exception
    (line,) = ended.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["exit_code"] == ended.exit_code != 0
    assert {"type", "title", "status", "detail"} <= found["error"].keys()
    assert ended.stderr, "people read the same"
    return found


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))


def test_there_are_commands() -> None:
    assert len(ALL) > 25 and PASSING_ON and len(CALLING) > 10


@each
def test_every_command_has_json_and_help_with_an_example_that_it_takes(
    words: tuple[str, ...],
) -> None:
    found = ALL[words]
    assert "--json" in OPTIONS[words]
    for option in ("--help", "-h"):
        shown = run(*words, option)
        assert shown.exit_code == 0 and f"Example: recourse {' '.join(words)}" in shown.stdout
    (example,) = EXAMPLE.findall(found.help)
    given = shlex.split(example)
    assert tuple(given[: len(words)]) == words
    found.make_context("recourse", given[len(words) :])  # it is parsed


@each
def test_a_wrong_option_is_an_error_in_json(words: tuple[str, ...]) -> None:
    if words in PASSING_ON:
        return
    found = failed(run(*words, "--no-such-option", "--json"))
    assert found["exit_code"] == Exit.USAGE
    assert "--no-such-option" in found["error"]["detail"]


@each
def test_a_missing_argument_is_an_error_in_json(words: tuple[str, ...]) -> None:
    needed = [one for one in ALL[words].params if one.required]
    if not needed:
        return
    found = failed(run(*words, "--json"))
    assert found["exit_code"] == Exit.USAGE
    assert found["error"]["errors"][0]["field"] in {name for p in needed for name in p.opts}


@pytest.mark.parametrize("words", CALLING, ids=" ".join)
@pytest.mark.parametrize("kind", ["forbidden", "try-again"])
def test_every_command_that_calls_the_api_says_in_json_what_the_api_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], kind: str
) -> None:
    refusal = problem(kind, "because")
    answering(monkeypatch, lambda _: httpx.Response(refusal["status"], json=refusal))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    for name in ("trips.csv", "passport.pdf"):
        Path(name).write_text("a\n1\n")
    Path("samples").mkdir()
    for name in ("travel-booking.json", "seed.json"):
        Path("samples", name).write_text('{"flights": {"AI-202": {"total": 1}}}')
    (example,) = EXAMPLE.findall(ALL[words].help)
    ended = run(*shlex.split(example), "--json", "--token", "t", "--api", "http://api.test")
    if words[-1] == "get":
        return  # by a name: it is asked for a key, which is the command `valet issue`
    found = failed(ended)
    assert found["error"] == refusal
    assert found["exit_code"] == {"forbidden": Exit.FORBIDDEN, "try-again": Exit.TRY_AGAIN}[kind]


@pytest.mark.parametrize("kind", TYPES)
def test_each_kind_of_problem_is_told_as_the_api_tells_it(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    said = problem(kind, "so", [{"field": "a", "message": "b"}])
    headers = {"retry-after": "7"} if said["status"] in (429, 503) else {}
    answering(
        monkeypatch,
        lambda _: httpx.Response(said["status"], content=json.dumps(said), headers=headers),
    )
    found = failed(run("show", "s1", "--json", "--token", "t"))
    assert found["error"] == said
    assert found.get("retry_after") == (7 if headers else None)
    expected = {
        401: Exit.NOT_SIGNED_IN,
        403: Exit.FORBIDDEN,
        404: Exit.NOT_FOUND,
        410: Exit.NOT_FOUND,
        409: Exit.CONFLICT,
        412: Exit.CONFLICT,
        429: Exit.TRY_AGAIN,
        500: Exit.TRY_AGAIN,
        503: Exit.TRY_AGAIN,
    }
    assert found["exit_code"] == expected.get(said["status"], Exit.USAGE)


def test_what_is_no_problem_of_the_api_is_one_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, lambda _: httpx.Response(502, text="<html>\x1b[2J"))
    found = failed(run("show", "s1", "--json", "--token", "t"))
    assert found["error"]["type"] == "urn:recourse:cli:try-again"
    assert (found["error"]["status"], found["exit_code"]) == (502, Exit.TRY_AGAIN)


def test_an_api_that_is_not_there_is_to_be_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        api = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for words in (["list"], ["watch", "s1"], ["open"]):
            found = failed(run(*words, "--json", "--api", api))
            assert (found["error"]["status"], found["exit_code"]) == (None, Exit.TRY_AGAIN)


def test_a_file_that_is_not_there_is_an_error_of_usage(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.csv")
    for words in (
        ["start", "order", "--request", nowhere],
        ["seed", nowhere],
        ["valet", "put", nowhere],
        ["import", nowhere, "--saga", "order"],
        ["valet", "issue", "a", "--operation", "upload", "--file", nowhere],
    ):
        found = failed(run(*words, "--json", "--token", "t"))
        assert found["exit_code"] == Exit.USAGE and "nowhere.csv" in found["error"]["detail"]


def test_an_interrupted_command_says_so_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    answering(monkeypatch, interrupt)
    ended = run("list", "--json", "--token", "t")
    assert json.loads(ended.stdout)["error"]["type"] == "urn:recourse:cli:interrupted"
    assert json.loads(ended.stdout)["exit_code"] == ended.exit_code == 130
    assert run("list", "--token", "t").stdout == ""


def test_an_error_after_the_events_is_a_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [[{"id": "1"}], None]

    def answer(_: httpx.Request) -> httpx.Response:
        items = pages.pop(0)
        if items is None:
            return httpx.Response(403, json=problem("forbidden", "no more"))
        return httpx.Response(200, json={"items": items, "cursor": "c1"})

    answering(monkeypatch, answer)
    ended = run("events", "--json", "--token", "t")
    first, last = map(json.loads, ended.stdout.splitlines())
    assert first == {"id": "1"}
    assert last == {"error": problem("forbidden", "no more"), "exit_code": 6}


def test_a_result_that_is_not_well_is_the_one_document(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    ended = run("compile", "--check", "--json", "--folder", str(tmp_path))
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["changed"] and ended.exit_code == Exit.FAILED
    assert "out of date" in ended.stderr


@pytest.mark.parametrize(
    ("status", "stuck", "code"),
    [
        ("SUCCEEDED", [], Exit.OK),
        ("COMPENSATED", [], Exit.FAILED),
        ("COMPENSATION_FAILED", ["flight"], Exit.FAILED),
        ("RUNNING", ["flight"], Exit.FAILED),
    ],
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_a_followed_saga_ends_with_is_what_has_become_of_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: str,
    stuck: list[str],
    code: Exit,
    more: Any,
) -> None:
    saga = SAGA | {"status": status, "stuck": stuck}
    answering(monkeypatch, lambda _: httpx.Response(200, json=saga))
    request = tmp_path / "r.json"
    request.write_text("{}")
    for words in (
        ["watch", "s1"],
        ["start", "order", "--request", str(request), "--watch"],
        ["reverse", "s1", "--watch"],
    ):
        ended = run(*words, *more, "--token", "t")
        assert ended.exit_code == code, ended.output
        assert not more or json.loads(ended.stdout) == saga
    assert run("show", "s1", *more, "--token", "t").exit_code == 0


def test_the_page_has_the_exit_codes_that_there_are() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(int(code), said) for code, said in rows] == [(int(c), m) for c, m in MEANINGS.items()]
    assert set(MEANINGS) == set(Exit) and set(Exit) > ERRORS


def test_the_page_names_every_command() -> None:
    text = PAGE.read_text()
    assert [words for words in ALL if f"`{' '.join(words)}`" not in text] == []


def test_new_says_as_the_others_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    found = failed(run("new", str(tmp_path), "--name", "tea", "--json"))
    assert found["exit_code"] == Exit.USAGE and "not empty" in found["error"]["detail"]
    made = run("new", str(tmp_path / "my-sagas"), "--json")
    assert json.loads(made.stdout)["name"] == "my-sagas"


def test_alone_it_says_what_there_is() -> None:
    alone = run()
    assert alone.exit_code == 2 and "start" in alone.output and "Usage" in alone.output
    assert run("--version").stdout.startswith("recourse ")


LONG = "5a9a1d5a9a1d5a9a1d5a9a1d5a9a1d5a"
LISTED = {
    "/sagas": SAGA | {"saga_id": LONG, "status": "COMPENSATION_FAILED", "stuck": ["flight"]},
    "/valet-keys": {
        "key_id": LONG,
        "operation": "download",
        "object": f"invoices/{LONG}.pdf",
        "status": "ACTIVE",
        "uses": 0,
        "max_uses": 1,
        "expires_at": "2026-11-24T10:00:00.000Z",
    },
    "/claims": {"id": LONG, "saga": "visit", "asked_at": "now", "answer_by": "then", "about": {}},
    "/deadletters": {"name": LONG, "waiting": 1, "redrives_to": f"R-{LONG}", "why_not": None},
    f"/deadletters/{LONG}/redrive": {"name": LONG, "dry_run": True, "reasons": []}
    | dict.fromkeys(("matched", "moved", "looked_at", "left"), 1)
    | {"sagas": [{"saga_id": f"s-{LONG}", "count": 1}]},
    "/events": {
        "specversion": "1.0",
        "id": "1",
        "type": "recourse.order.started",
        "source": "/x",
        "subject": LONG,
        "time": "2026-11-24T10:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {},
        "sequence": 1,
    },
}


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "list",
        "valet show",
        "questions claims",
        "redrive --dry-run",
        "events",
        "resolve --where status=COMPENSATION_FAILED --action retry",
    ],
)
def test_no_list_cuts_or_breaks_an_id_in_a_narrow_window(
    monkeypatch: pytest.MonkeyPatch, words: str, is_terminal: bool
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        found = LISTED[request.url.path]
        is_list = not request.url.path.endswith("/redrive")
        return httpx.Response(200, json={"items": [found], "cursor": None} if is_list else found)

    answering(monkeypatch, answer)
    monkeypatch.setattr(command.out, "_width", 40)
    monkeypatch.setattr(command.out, "_force_terminal", is_terminal)
    ended = run(*words.split(), "--token", "t")
    assert ended.exit_code == 0, ended.output
    plain = re.sub(r"\x1b\[[\d;]*m", "", ended.stdout)
    assert LONG in plain and "…" not in plain
    for row in [line for line in plain.splitlines() if LONG[:12] in line]:
        assert LONG in row, "it is whole in its line"
