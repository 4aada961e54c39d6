"""The command line shows sagas as the API tells of them."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.cli.timeline import print_timeline

STEP: dict[str, Any] = {
    "name": "flight",
    "status": "FAILED",
    "attempts": 1,
    "undo_attempts": 1,
    "result": None,
    "error": "SeatUnavailableError",
    "message": "flight AI-202 has fewer than 2 available",
    "started_at": "2026-11-24T10:00:00.100Z",
    "ended_at": "2026-11-24T10:00:00.500Z",
}
SAGA: dict[str, Any] = {
    "saga_id": "5a9a1d",
    "saga": "travel-booking",
    "coordination": "orchestration",
    "status": "COMPENSATED",
    "reason": {"step": "flight", "error": STEP["error"], "message": STEP["message"]},
    "owner": "asha",
    "business_key": "t-1",
    "started_at": "2026-11-24T10:00:00.000Z",
    "ended_at": "2026-11-24T10:00:01.000Z",
    "steps": [STEP],
    "stuck": [],
    "links": {},
}
WHY = f"{STEP['error']}: {STEP['message']}"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the API tells of the one saga that there is."""
    saga = dict(SAGA)

    def answer(request: httpx.Request) -> httpx.Response:
        page = {"items": [saga], "cursor": None}
        return httpx.Response(200, json=page if request.url.path == "/sagas" else saga)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    monkeypatch.setattr(command.out, "_width", 200)
    return saga


def run(*command: str) -> str:
    ended = CliRunner().invoke(main.app, list(command), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_a_failed_step_is_shown_with_the_class_name_of_its_error(told: dict[str, Any]) -> None:
    shown = run("show", "5a9a1d")
    assert "travel-booking 5a9a1d: COMPENSATED" in shown
    assert f"reason: flight: {WHY}" in shown
    assert shown.count(WHY) == 2, "as the reason and with the step"
    assert json.loads(run("show", "5a9a1d", "--json")) == SAGA


@pytest.mark.parametrize("key", ["[/bold]", "[red]t-1", "[link=x]"])
def test_what_a_caller_has_named_is_shown_as_it_is(told: dict[str, Any], key: str) -> None:
    told["business_key"] = key
    told["reason"] = told["reason"] | {"message": f"no {key}"}
    assert f"{key}, owner asha" in run("show", "5a9a1d")
    assert key in run("list")


def test_a_list_goes_on_from_pages_that_are_short_or_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = {
        None: ([], "c1"),
        "c1": ([SAGA], "c2"),
        "c2": ([], "c3"),
        "c3": ([SAGA | {"saga_id": "other"}], "c4"),
    }
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        items, cursor = pages[request.url.params.get("cursor")]
        return httpx.Response(200, json={"items": items, "cursor": cursor})

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    listed = json.loads(run("list", "--limit", "2", "--status", "COMPENSATED", "--json"))
    assert [one["saga_id"] for one in listed["items"]] == ["5a9a1d", "other"]
    assert listed["cursor"] == "c4"
    assert [one["limit"] for one in asked] == ["2", "2", "1", "1"]
    assert {one["status"] for one in asked} == {"COMPENSATED"}


def test_a_timeline_tells_of_the_error_of_a_step() -> None:
    out = io.StringIO()
    print_timeline(Console(file=out, width=200), [SAGA])
    (line,) = [line for line in out.getvalue().splitlines() if "flight" in line]
    said = line.split(maxsplit=7)
    assert said == ["0.50", "s", "\u2717", "flight", "FAILED", "0.40", "s", WHY]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("SUCCEEDED", "SUCCEEDED: all steps done"),
        ("COMPENSATED", "COMPENSATED: all effects undone"),
        ("COMPENSATION_FAILED", "an undo failed; waiting for `recourse resolve`"),
        ("RUNNING", "a step after the pivot is stuck; waiting for `recourse resolve`"),
    ],
)
def test_a_timeline_ends_with_the_status_and_what_it_means(status: str, said: str) -> None:
    out = io.StringIO()
    saga = SAGA | {"status": status, "stuck": ["flight"] if status == "RUNNING" else []}
    print_timeline(Console(file=out, width=200), [saga])
    assert said in out.getvalue().splitlines()[-1]


def test_a_saga_that_is_parked_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look asks the API to wait for nothing; each further one waits for a change."""
    waits: list[str | None] = []
    states: list[dict[str, Any]] = [{"steps": []}, {"steps": [STEP], "stuck": ["flight"]}]

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(request.headers.get("prefer"))
        saga = SAGA | {"status": "RUNNING"} | states[min(len(waits), len(states)) - 1]
        return httpx.Response(200, json=saga, headers={"etag": f'"{len(waits)}"'})

    with Api("http://api", "token", transport=httpx.MockTransport(answer)) as client:
        assert [one["steps"] for one in client.follow("5a9a1d")] == [[], [STEP]]
    assert waits[0] is None and waits[1] is not None
    states.pop(0)
    waits.clear()
    with Api("http://api", "token", transport=httpx.MockTransport(answer)) as client:
        assert len(list(client.follow("5a9a1d"))) == len(waits) == 1


def test_whether_a_saga_is_parked_is_what_the_api_says_and_not_guessed_by_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = [{"status": "RUNNING"}, {"status": "SUCCEEDED"}]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=SAGA | states.pop(0))

    with Api("http://api", "token", transport=httpx.MockTransport(answer)) as client:
        seen = [one["status"] for one in client.follow("5a9a1d")]
    assert seen == ["RUNNING", "SUCCEEDED"], "a step that has FAILED is not stuck yet"


def test_an_operator_is_told_what_is_gone_and_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detail = "the step 'flight' needs the function FlightsHold. Put back what was taken out"

    def answer(request: httpx.Request) -> httpx.Response:
        kind = {"type": "urn:recourse:problem:not-deployed", "title": "Not deployed any more"}
        return httpx.Response(409, json=kind | {"status": 409, "detail": detail})

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    monkeypatch.setattr(command.err, "_width", 200)
    asked = ["resolve", "5a9a1d", "flight", "--action", "retry", "--token", "t"]
    ended = CliRunner().invoke(main.app, asked)
    assert ended.exit_code != 0
    assert detail in ended.output


LATER: dict[str, Any] = {
    "status": "RUNNING",
    "reason": None,
    "ended_at": None,
    "begins_at": "2026-12-24T12:35:00.000Z",
    "steps": [{**STEP, "status": "PENDING", "error": None, "message": None}],
}


def test_a_saga_that_begins_later_is_shown_with_when(told: dict[str, Any]) -> None:
    told |= LATER
    assert "begins at 2026-12-24T12:35:00.000Z; until then `recourse cancel`" in run("show", "5")
    assert "RUNNING, begins 2026-12-24T12:35:00.000Z" in run("list")


def test_a_saga_that_has_begun_is_timed_from_then(told: dict[str, Any]) -> None:
    told["begins_at"] = "2026-11-24T10:00:00.200Z"
    out = io.StringIO()
    print_timeline(Console(file=out, width=200), [told])
    assert "begins at" not in out.getvalue()
    assert "0.30 s" in out.getvalue(), "the step that ended at 10:00:00.500"


def test_what_is_no_moment_is_refused_before_the_file_is_read() -> None:
    asked = ["start", "order", "--request", "no.json", "--not-before", "tomorrow"]
    ended = CliRunner().invoke(main.app, asked)
    assert ended.exit_code == 2
    assert "--not-before must be a moment by RFC 3339 with its offset" in ended.output


def test_a_step_that_is_done_later_is_told_with_until_when() -> None:
    step = {**STEP, "status": "PENDING", "error": None, "begins_at": "2026-12-24T12:35:00.000Z"}
    saga = {**SAGA, **LATER, "steps": [step]}
    out = io.StringIO()
    print_timeline(Console(file=out, width=200), [saga, saga])
    assert out.getvalue().count("flight waits until 2026-12-24T12:35:00.000Z") == 1
    assert "begins at" not in out.getvalue(), "the saga has begun, and come to its step"
