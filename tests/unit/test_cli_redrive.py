"""`recourse redrive`, against an API that is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from recourse.cli import command, main
from recourse.cli.api import Api


@dataclass
class Played:
    """An API with dead-letter queues, of which a pass looks at three messages, for a saga at all.

    Attributes:
        waiting: The saga of each message, by queue.
        calls: The bodies that were sent, with the queue.
        comes_back: Whether what is moved is dead-lettered again at once.
        lost: A queue that is out of reach.
    """

    waiting: dict[str, list[str]]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    comes_back: bool = False
    lost: str = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        if request.method == "GET":
            return httpx.Response(200, json={"items": self._items(), "cursor": None})
        name, body = request.url.path.split("/")[2], json.loads(request.content)
        self.calls.append((name, body))
        if name == "Relay":
            problem = {"title": "What rests there cannot go back", "detail": "Relay: no events"}
            return httpx.Response(409, json=problem)
        rests, saga = self.waiting[name], body["saga_id"]
        looked_at = rests[:] if saga else rests[:3]
        matching = [one for one in looked_at if saga in (None, one)]
        moved = [] if body["dry_run"] else matching
        if not self.comes_back:
            for one in moved:
                rests.remove(one)
        return httpx.Response(
            200,
            json={
                "name": name,
                "dry_run": body["dry_run"],
                "looked_at": len(looked_at),
                "matched": len(matching),
                "moved": len(moved),
                "left": len(rests),
                "reasons": [{"reason": "[red]Error: no", "count": len(matching)}],
                "sagas": [{"saga_id": one, "count": 1} for one in dict.fromkeys(matching)],
            },
        )

    def _items(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "waiting": None if name == self.lost else len(rests),
                "redrives_to": None if name == "Relay" else f"Recourse-dev-{name}",
                "why_not": "it holds no events" if name == "Relay" else None,
            }
            for name, rests in self.waiting.items()
        ]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command against an API that is played."""

    def ran(played: Played, *arguments: str) -> Result:
        transport = httpx.MockTransport(played)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        return CliRunner().invoke(main.app, ["redrive", "--token", "t", *arguments])

    return ran


def test_without_a_name_all_are_shown_and_all_that_can_be_is_redriven(run: Run) -> None:
    played = Played({"Ledger": ["a"] * 7, "FlightsHold": ["b"], "Parked": [], "Relay": ["c"]})
    result = run(played)
    assert result.exit_code == 0, result.output
    assert played.waiting == {"Ledger": [], "FlightsHold": [], "Parked": [], "Relay": ["c"]}
    assert [name for name, _ in played.calls] == ["Ledger"] * 3 + ["FlightsHold"]
    for said in ("Parked", "Relay cannot be redriven: it holds no events", "7 moved, 0 left"):
        assert said in result.stdout
    assert "7 x [red]Error: no" in result.stdout
    assert "Ledger: 3 moved, 4 left" in result.stderr


def test_a_dry_run_only_looks(run: Run) -> None:
    played = Played({"Ledger": ["a", "b"]})
    result = run(played, "--dry-run")
    assert result.exit_code == 0
    assert played.calls == [("Ledger", {"saga_id": None, "dry_run": True})]
    assert "Ledger: 2 would be moved" in result.stdout and "sagas: a, b" in result.stdout


def test_where_not_all_could_be_looked_at_it_says_so(run: Run) -> None:
    assert "3 of 5 were examined" in run(Played({"Ledger": ["a"] * 5}), "--dry-run").stdout


def test_one_queue_and_one_saga_may_be_asked_for(run: Run) -> None:
    played = Played({"Ledger": ["a", "b"], "FlightsHold": ["a"]})
    result = run(played, "Ledger", "--saga", "b")
    assert result.exit_code == 0
    assert played.waiting == {"Ledger": ["a"], "FlightsHold": ["a"]}
    assert "1 moved, 1 left" in result.stdout and "waiting" not in result.stdout


def test_what_comes_back_at_once_is_not_redriven_for_ever(run: Run) -> None:
    played = Played({"Ledger": ["a"] * 4}, comes_back=True)
    assert run(played).exit_code == 0
    assert len(played.calls) == 2
    played = Played({"Ledger": ["a", "b"]}, comes_back=True)
    assert "1 moved" in run(played, "--saga", "b").stdout
    assert len(played.calls) == 1


def test_as_json_it_is_one_document_with_the_sum_of_all_passes(run: Run) -> None:
    result = run(Played({"Ledger": ["a"] * 4}), "--json")
    found = json.loads(result.stdout)
    assert found["items"][0]["waiting"] == 4
    (redriven,) = found["redriven"]
    assert (redriven["matched"], redriven["moved"], redriven["left"]) == (4, 4, 0)
    assert redriven["reasons"] == [{"reason": "[red]Error: no", "count": 4}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "nothing to redrive"), (["--saga", "z"], "nothing to redrive for saga z")],
)
def test_where_there_is_nothing_it_says_so(run: Run, arguments: list[str], said: str) -> None:
    result = run(Played({"Ledger": []}), *arguments)
    assert result.exit_code == 0
    assert said in result.stdout


def test_what_cannot_be_redriven_fails_in_one_line(run: Run) -> None:
    result = run(Played({"Relay": ["a"]}), "Relay")
    assert result.exit_code == 8
    assert "What rests there cannot go back (409)" in result.stderr


def test_a_queue_that_is_out_of_reach_is_shown_so_and_redriven_where_it_is_named(run: Run) -> None:
    played = Played({"Ledger": ["a"], "Payments": ["b"]}, lost="Payments")
    result = run(played)
    assert "out of reach" in result.stdout and [name for name, _ in played.calls] == ["Ledger"]
    assert run(played, "Payments").exit_code == 0
    assert played.waiting == {"Ledger": [], "Payments": []}
