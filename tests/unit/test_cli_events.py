"""`recourse events`: what it asks, when it asks again, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from recourse.cli import api as api_module
from recourse.cli import command, main
from recourse.cli.api import Api, ApiError
from recourse.cli.exits import Exit
from tests.events import event as happened

Answers = Callable[..., list[httpx.Request]]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, of which nothing was."""
    found: list[float] = []
    monkeypatch.setattr("recourse.cli.api.time.sleep", found.append)
    monkeypatch.setattr("recourse.cli.api.random.uniform", lambda low, high: high)
    return found


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let the API answer so, one after the other; what it is asked."""

    def queue(*given: httpx.Response) -> list[httpx.Request]:
        left, asked = list(given), []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return left.pop(0)

        transport = httpx.MockTransport(answer)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        return asked

    return queue


def event(sequence: int, what: str = "flight.done", **data: Any) -> dict[str, Any]:
    step, _, kind = what.rpartition(".")
    return happened(
        "5a9a1d5a9a1d",
        "travel-booking",
        kind,
        step=step,
        time="2026-11-24T10:00:00.000Z",
        sequence=sequence,
        **data,
    ).to_dict()


def page(*items: Any, cursor: str) -> httpx.Response:
    body = {"items": items, "cursor": cursor}
    return httpx.Response(200, json=body, headers={"etag": f'"{cursor}"'})


def client() -> AbstractContextManager[Api]:
    return command.connected("http://api", None)


def test_all_that_there_is_is_shown_and_where_to_go_on(answers: Answers) -> None:
    price = {"price": {"amount": 480000, "currency": "INR"}}
    failed = {"error": {"type": "SeatUnavailableError", "message": "no [red]seat"}}
    asked = answers(
        page(event(1, result=price), event(2, "car.failed", **failed), cursor="c2"),
        page(cursor="c2"),
    )
    ended = CliRunner().invoke(main.app, ["events"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "5a9a1d5a9a1d travel-booking   1 flight.done" in ended.stdout
    assert "INR 4,800.00" in ended.stdout
    assert "SeatUnavailableError: no [red]seat" in ended.stdout
    assert "continue with --after c2" in ended.stderr
    assert [dict(one.url.params) for one in asked] == [{}, {"after": "c2"}]
    assert all("prefer" not in one.headers for one in asked)


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({"price": {"amount": 4800, "currency": "JPY"}}, "flight.done          JPY 4,800"),
        ({"amount": {"amount": 4800, "currency": "KWD"}}, "flight.done          KWD 4.800"),
        ({"price": 5, "amount": "much", "quantity": 2}, "flight.done          2 held"),
        ({"price": {"of": "freedom"}, "quantity": 2}, "flight.done          2 held"),
    ],
)
def test_money_is_shown_by_its_currency_and_anything_else_is_left_out(
    answers: Answers, result: Any, shown: str
) -> None:
    answers(page(event(1, result=result), cursor="c1"), page(cursor="c1"))
    ended = CliRunner().invoke(main.app, ["events"], catch_exceptions=False)
    assert ended.stdout.rstrip().endswith(shown)


def test_as_json_each_event_is_a_line(answers: Answers) -> None:
    answers(page(event(1), event(2), cursor="c2"), page(cursor="c2"))
    command = ["events", "--json", "--after", "c0", "--saga", "s"]
    ended = CliRunner().invoke(main.app, command, catch_exceptions=False)
    assert [json.loads(line) for line in ended.stdout.splitlines()] == [event(1), event(2)]


def test_following_waits_and_asks_only_for_what_is_new(answers: Answers, naps: list[float]) -> None:
    nothing = httpx.Response(304, headers={"etag": '"c1"'})
    asked = answers(
        page(event(1), cursor="c1"), page(cursor="c1"), nothing, page(event(2), cursor="c2")
    )
    with client() as api:
        found = list(islice(api.events(None, wait=True), 4))
    assert found == [([event(1)], "c1"), ([], "c1"), ([], "c1"), ([event(2)], "c2")]
    assert [one.headers["prefer"] for one in asked] == ["wait=15"] * 4
    assert [one.headers.get("if-none-match") for one in asked] == [None, None, '"c1"', '"c1"']
    assert naps == [1.5, 1.5], "where the API does not wait, the client does, with jitter"


def test_a_transient_error_is_retried_and_not_before_it_may_be(
    answers: Answers, naps: list[float]
) -> None:
    asked = answers(
        httpx.Response(503, headers={"retry-after": "7"}),
        httpx.Response(429, headers={"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}),
        httpx.Response(500, headers={"retry-after": "soon"}),
        page(cursor="c0"),
    )
    with client() as api:
        assert next(api.events(None, wait=True)) == ([], "c0")
    assert len(asked) == 4
    assert naps == [7.5, 1.0, 2.0]


def test_a_date_says_when_as_well(answers: Answers, naps: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    answers(httpx.Response(503, headers={"retry-after": soon}), page(cursor="c0"))
    with client() as api:
        next(api.events(None, wait=True))
    assert 29 <= naps[0] <= 31


def test_what_does_not_pass_is_told_in_the_end(answers: Answers, naps: list[float]) -> None:
    asked = answers(*[httpx.Response(503) for _ in range(api_module.POLL_ATTEMPTS)])
    with client() as api, pytest.raises(ApiError):
        next(api.events(None, wait=True))
    assert len(asked) == api_module.POLL_ATTEMPTS
    assert max(naps) == api_module.LONGEST_BACKOFF


def test_what_is_refused_is_not_asked_again(answers: Answers, naps: list[float]) -> None:
    asked = answers(httpx.Response(410, json={"title": "expired", "type": "x:cursor-expired"}))
    ended = CliRunner().invoke(main.app, ["events", "--after", "c0"])
    assert (ended.exit_code, len(asked), naps) == (Exit.NOT_FOUND, 1, [])
    assert "expired (410)" in ended.stderr


def pages_of(before: int, of_the_saga: int, size: int = 100) -> list[httpx.Response]:
    """A feed with older events of other sagas, of which pages hold only those of the saga."""
    found = []
    for start in range(0, before + of_the_saga, size):
        end = min(start + size, before + of_the_saga)
        items = [event(number) for number in range(max(start, before), end)]
        found.append(page(*items, cursor=f"c{end}"))
    return [*found, page(cursor=f"c{before + of_the_saga}")]


@pytest.mark.parametrize("before", [0, 99, 100, 132, 1000])
def test_events_of_a_saga_are_found_behind_pages_without_any(
    answers: Answers, naps: list[float], before: int
) -> None:
    asked = answers(*pages_of(before, 6))
    ended = CliRunner().invoke(main.app, ["events", "--saga", "s", "--json"])
    assert ended.exit_code == 0, ended.output
    assert len(ended.stdout.splitlines()) == 6
    assert f"continue with --after c{before + 6}" in ended.stderr
    assert naps == [], "a page that is empty on the way is no reason to wait"
    assert {one.url.params.get("saga_id") for one in asked} == {"s"}


def test_an_empty_feed_ends_where_its_cursor_stays(answers: Answers) -> None:
    asked = answers(page(cursor="c0"), httpx.Response(304, headers={"etag": '"c0"'}))
    ended = CliRunner().invoke(main.app, ["events"])
    assert (ended.exit_code, ended.stdout, len(asked)) == (0, "", 2)


def test_a_feed_without_a_match_is_not_read_for_ever(answers: Answers) -> None:
    most = api_module.MOST_EMPTY_PAGES
    asked = answers(*[page(cursor=f"c{number}") for number in range(2 * most)])
    ended = CliRunner().invoke(main.app, ["events", "--saga", "s"])
    assert (ended.exit_code, len(asked)) == (0, most)
    assert f"continue with --after c{most - 1}" in ended.stderr


@pytest.mark.parametrize("listed", [["list"], ["valet", "show"]], ids=" ".join)
def test_a_list_goes_on_over_empty_pages_and_not_for_ever(
    answers: Answers, listed: list[str]
) -> None:
    def found(cursor: str | None) -> httpx.Response:
        return httpx.Response(200, json={"items": [], "cursor": cursor})

    asked = answers(*[found(f"c{number}") for number in range(300)], found(None))
    ended = CliRunner().invoke(main.app, [*listed, "--limit", "250", "--json"])
    assert json.loads(ended.stdout) == {"items": [], "cursor": None}
    assert len(asked) == 301 and {one.url.params["limit"] for one in asked} == {"100"}
    most = api_module.MOST_EMPTY_PAGES
    asked = answers(*[found(f"c{number}") for number in range(2 * most)])
    ended = CliRunner().invoke(main.app, listed)
    assert len(asked) == most and f"next page: --cursor c{most - 1}" in ended.stdout
    assert CliRunner().invoke(main.app, [*listed, "--limit", "0"]).exit_code == 2
