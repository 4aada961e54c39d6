"""`recourse trace` shows what happened in a saga as the tree of its trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import httpx
import pytest
from typer.testing import CliRunner

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.declare.ids import Traceparent
from recourse.store.items import encode_item
from recourse.testing.ground import LEDGER
from tests.ground import Ground, ground
from tests.integration.calling import Caller
from tests.integration.test_api import asha, operator, ravi, standing
from tests.integration.trips import TRIP, stock

SENT = Traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
UNDONE = {"capture": "reject", "flight.undo": "error:2"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


Cli = Callable[..., str]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command on the API, as somebody; `said` is what other calls are answered."""

    def run(
        *asked: str, by: Caller = asha, said: Mapping[str, Any] | None = None, code: int = 0
    ) -> str:
        def answer(request: httpx.Request) -> httpx.Response:
            path = request.url.raw_path.decode()
            if (found := (said or {}).get(path.partition("?")[0])) is not None:
                return httpx.Response(200, json=found)
            if path == "/webhooks":
                return httpx.Response(404, json={"title": "Not found", "status": 404})
            got = by(request.method, path)
            return httpx.Response(got.status, text=got.text, headers=dict(got.headers))

        transport = httpx.MockTransport(answer)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        ended = CliRunner().invoke(main.app, list(asked), catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        return ended.output

    return run


def start(
    shared: Ground, key: str, coordination: Coordination = "orchestration", **more: Any
) -> str:
    saga = shared.start("travel-booking", TRIP, key=key, coordination=coordination, **more)
    shared.settle()
    return saga


@pytest.mark.parametrize("coordination", get_args(Coordination))
def test_a_saga_that_was_undone_is_a_tree_of_all_that_happened(
    shared: Ground, cli: Cli, coordination: Coordination
) -> None:
    saga = start(shared, f"undone {coordination}", coordination, faults=UNDONE, trace=SENT)
    shown = json.loads(cli("trace", saga, "--json"))
    assert (shown["saga_id"], shown["trace_id"]) == (saga, SENT.trace_id)
    root = shown["trace"]
    assert (root["name"], root["status"]) == ("travel-booking", "COMPENSATED")
    assert root["parent_id"] == SENT.span_id and root["span_id"] == SENT.at(saga).span_id
    assert [one["type"].rpartition(".")[2] for one in root["events"]] == ["started", "compensated"]
    spans = {(one["name"], one["side"]): one for one in root["spans"]}
    assert spans.keys() == {
        *((name, "action") for name in ("flight", "hotel", "car", "payment", "capture")),
        *((name, "undo") for name in ("flight", "hotel", "car", "payment")),
    }
    assert spans["capture", "action"]["status"] == "FAILED"
    assert spans["capture", "action"]["error"]["type"]
    assert (
        spans["flight", "undo"]["attempts"] == 3 and spans["flight", "undo"]["status"] == "UNDONE"
    )
    row = shared.row(LEDGER, saga)
    assert row is not None
    told = {one["id"]: one for one in row["entered"] if "sequence" in one}
    for (name, side), one in spans.items():
        assert one["span_id"] == SENT.at(saga, name, side).span_id
        assert one["parent_id"] == root["span_id"]
        assert one["seconds"] is not None and one["seconds"] >= 0, one
        for event in one["events"]:
            assert told[event["id"]]["traceparent"][36:52] == one["span_id"]
    assert sum(len(one["events"]) for one in [root, *spans.values()]) == len(told)


def test_the_tree_is_printed_with_whole_ids_and_times(shared: Ground, cli: Cli) -> None:
    saga = start(shared, "printed", faults=UNDONE, trace=SENT)
    lines = cli("trace", saga).splitlines()
    assert lines[0] == f"saga {saga}, trace {SENT.trace_id}"
    assert lines[1] == f"called in span {SENT.span_id}"
    assert lines[2].startswith("travel-booking COMPENSATED, at 0.000 s, ")
    assert SENT.at(saga).span_id in lines[2]
    (undo,) = [line for line in lines if "undo of flight UNDONE" in line]
    assert re.search(
        r"^├─ undo of flight UNDONE, at \d+\.\d{3} s, \d+\.\d{3} s, 3 attempts, span", undo
    )
    assert SENT.at(saga, "flight", "undo").span_id in undo
    after = lines[lines.index(undo) + 1]
    assert re.fullmatch(r"│  └─ event undone at \d+\.\d{3} s", after)
    assert re.fullmatch(r"└─ event compensated at \d+\.\d{3} s", lines[-1])


def test_deliveries_are_shown_under_their_events(shared: Ground, cli: Cli) -> None:
    saga = start(shared, "delivered")
    at = shared.view(saga)["ended_at"]
    tried = {
        "event_id": f"{saga}.flight.done",
        "type": "recourse.travel-booking.flight.done",
        "at": at,
        "outcome": "failed",
        "status": 503,
        "error": None,
        "latency_ms": 12,
        "attempt": 1,
        "response": "",
        "next_attempt_at": at,
        "replay_id": None,
    }
    again = tried | {"outcome": "delivered", "status": 200, "attempt": 2, "at": at + "1"}
    other = tried | {"event_id": "another"}
    said = {
        "/webhooks": {"items": [{"webhook_id": "w-1"}], "cursor": None},
        "/webhooks/w-1/deliveries": {"items": [again, other, tried], "cursor": None},
    }
    lines = cli("trace", saga, said=said).splitlines()
    (number,) = [n for n, line in enumerate(lines) if "flight DONE" in line]
    assert lines[number + 2].startswith("│     ├─ webhook w-1 failed at ")
    assert lines[number + 2].endswith("12 ms, attempt 1, status 503")
    assert lines[number + 3].startswith("│     └─ webhook w-1 delivered at ")
    assert sum("webhook" in line for line in lines) == 2
    shown = json.loads(cli("trace", saga, "--json", said=said))
    (flight,) = [one for one in shown["trace"]["spans"] if one["name"] == "flight"]
    assert [one["attempt"] for one in flight["events"][0]["deliveries"]] == [1, 2]


def test_a_saga_under_way_and_one_of_an_earlier_release_are_shown(shared: Ground, cli: Cli) -> None:
    saga = shared.start("travel-booking", TRIP, key="under way", run=False)
    shown = json.loads(cli("trace", saga, "--json"))
    assert {one["status"] for one in shown["trace"]["spans"]} == {"RUNNING"}
    assert all(one["ended_at"] is None for one in shown["trace"]["spans"])
    row = shared.row(LEDGER, saga)
    assert row is not None
    del row["entered"][0]["traceparent"]
    shared.dynamodb.put_item(TableName=LEDGER, Item=encode_item(row))
    lines = cli("trace", saga).splitlines()
    assert lines[0] == f"saga {saga}, trace none: an earlier release started it"
    assert not any("span" in line for line in lines)
    assert json.loads(cli("trace", saga, "--json"))["trace_id"] is None


def test_an_operator_sees_it_and_a_stranger_is_told_that_there_is_none(
    shared: Ground, cli: Cli
) -> None:
    saga = start(shared, "seen")
    assert cli("trace", saga, by=operator) == cli("trace", saga)
    assert "there is no saga" in cli("trace", saga, by=ravi, code=7)
    assert "recourse: " in cli("trace", "..", code=2)
