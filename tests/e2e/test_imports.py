"""An import over HTTP, from the file on a disk to its result: `recourse import`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from recourse.cli import main
from recourse.cli.api import Api
from tests.e2e.conftest import Trip
from tests.patience import PATIENCE

HEADER = (
    "trip_id,traveller.name,traveller.email,flight.id,flight.seats,"
    "hotel.id,hotel.rooms,hotel.nights,payment.account_id"
)


def row(trip: Trip, number: int, seats: str = "1") -> str:
    who = "Asha Rao,asha@example.com"
    return f"{trip.name}-{number},{who},{trip.name},{seats},{trip.name},1,1,{trip.name}"


def run(*words: str, code: int) -> dict[str, Any]:
    ended = CliRunner().invoke(main.app, [*words, "--json"], catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_file_becomes_sagas_and_the_same_file_starts_nothing_twice(
    api: Api, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(api.token, str)
    monkeypatch.setenv("RECOURSE_TOKEN", api.token)
    trip = Trip(api, total=40).stocked()
    rows = [row(trip, number) for number in range(12)]
    rows[7] = row(trip, 7, "two")
    file = tmp_path / f"{uuid.uuid4().hex}.csv"
    file.write_text("\n".join([HEADER, *rows, ""]))
    command = ("import", str(file), "--saga", "travel-booking", "--api", url)
    found = run(*command, code=3)
    assert (found["status"], found["started"], found["bad"]) == ("COMPLETED", 11, 1), found
    wrong = {"line": 9, "field": "flight.seats", "why": "Input should be a valid integer"}
    assert found["problems"] == [wrong]
    got = httpx.get(found["links"]["result"], follow_redirects=True, timeout=PATIENCE)
    lines = [json.loads(line) for line in got.text.splitlines()]
    assert [one["line"] for one in lines] == list(range(2, 14))
    assert lines[7] == wrong | {"outcome": "bad"}
    for one in lines[:2]:
        *_, saga = api.follow(one["saga_id"])
        assert saga["status"] == "SUCCEEDED", saga
    again = run(*command, "--concurrency", "2", code=3)
    assert again["import_id"] != found["import_id"]
    assert (again["started"], again["already_there"]) == (0, 11), again
    listed = api.get("/imports")["items"]
    assert [one["import_id"] for one in listed[:2]] == [again["import_id"], found["import_id"]]
