"""`recourse seed`, against an API that is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from recourse.cli import command, main
from recourse.cli.api import Api

HELD = {"flights": {"AI 202/ü": {"total": 5}}, "accounts": {"a": {"currency": "INR"}}}
Run = Callable[..., Result]


class Played:
    """An API that knows what is put into it."""

    def __init__(self) -> None:
        self.holds: dict[str, object] = {"/accounts/a": {"currency": "EUR"}}
        self.may_put = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        path = request.url.raw_path.decode()
        if request.method == "PUT":
            if not self.may_put:
                return httpx.Response(403, json={"title": "Not allowed", "detail": "operator"})
            self.holds[path] = json.loads(request.content)
        return httpx.Response(200 if path in self.holds else 404, json=self.holds.get(path, {}))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    transport = httpx.MockTransport(played)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    return played


@pytest.fixture
def run(tmp_path: Path) -> Run:
    file = tmp_path / "seed.json"

    def seed(content: str = json.dumps(HELD), *more: str) -> Result:
        file.write_text(content)
        return CliRunner().invoke(main.app, ["seed", str(file), "--token", "t", *more])

    return seed


def test_what_is_not_there_is_put_and_what_is_there_stays(api: Played, run: Run) -> None:
    ran = run()
    assert ran.exit_code == 0, ran.output
    assert api.holds == {
        "/accounts/a": {"currency": "EUR"},
        "/flights/AI%20202%2F%C3%BC": {"total": 5},
    }
    assert "/flights/AI%20202%2F%C3%BC is put" in ran.output
    assert "/accounts/a is there already" in ran.output
    again = run(json.dumps(HELD), "--json")
    assert json.loads(again.output) == {
        "put": [],
        "there": ["/flights/AI%20202%2F%C3%BC", "/accounts/a"],
    }


def test_a_refusal_ends_it_with_the_reason(api: Played, run: Run) -> None:
    api.may_put = False
    ran = run()
    assert ran.exit_code == 6
    assert "Not allowed" in ran.output and "Traceback" not in ran.output


@pytest.mark.parametrize("content", ["", "[]", '{"flights": []}', '{"flights": 1}', '"x"'])
def test_a_file_without_holdings_is_refused(api: Played, run: Run, content: str) -> None:
    before = dict(api.holds)
    ran = run(content)
    assert ran.exit_code == 2
    assert "must be JSON such as" in ran.output.replace("\n", " ")
    assert api.holds == before
