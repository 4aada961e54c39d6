"""A saga's events reach browsers, by server-sent events and by WebSocket, from outside."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from recourse.cli.api import Api
from recourse.local.cloud import LocalCloud
from tests import ROOT
from tests.e2e.conftest import Trip
from tests.patience import PATIENCE

OPENING: Any = {"proxy": None, "open_timeout": PATIENCE}


@pytest.fixture(scope="module")
def live(api: Api) -> dict[str, str]:
    """Where the live channels are."""
    found: dict[str, str] = api.get("/health")["events"]
    return found


@pytest.fixture
def token(api: Api) -> str:
    return str(api.token)


@contextmanager
def stream(url: str, token: str, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """A stream's frames: each its id and its event, None in the first."""
    sent = {"authorization": f"Bearer {token}"} | {
        n.replace("_", "-"): v for n, v in headers.items()
    }
    with httpx.stream("GET", url, headers=sent, timeout=PATIENCE, trust_env=False) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield frames(answer.iter_lines())


def frames(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif "id" in fields:
            yield fields["id"], json.loads(fields["data"]) if "data" in fields else None
            fields = {}


@contextmanager
def socket(url: str, token: str) -> Iterator[ClientConnection]:
    """A WebSocket as a browser opens it."""
    with connect(url, subprotocols=["recourse.v1", f"bearer.{token}"], **OPENING) as made:  # type: ignore[list-item]
        assert made.subprotocol == "recourse.v1"
        yield made


def until_the_end(events: Iterator[Any], saga: str) -> list[Any]:
    """A saga's events up to its last; others' may be among what comes."""
    found = []
    for event in events:
        if event["subject"] == saga:
            found.append(event)
            if event["type"].split(".")[-1] in ("succeeded", "compensated"):
                break
    return found


def messages(made: ClientConnection) -> Iterator[Any]:
    while True:
        yield json.loads(made.recv(timeout=PATIENCE))


def test_a_trip_arrives_by_both_in_order_and_can_be_resumed(
    orchestrated: Trip, live: dict[str, str], token: str
) -> None:
    with stream(live["sse"], token) as sse, socket(live["ws"], token) as ws:
        began, nothing = next(sse)
        assert nothing is None
        saga = orchestrated.start()
        streamed, cursors = [], {}
        for cursor, event in sse:
            streamed.append(event)
            cursors[event["id"]] = cursor
            if event["subject"] == saga and event["type"].endswith(".succeeded"):
                break
        pushed = until_the_end(messages(ws), saga)
    own = [event for event in streamed if event["subject"] == saga]
    assert [one["sequence"] for one in own] == list(range(1, len(own) + 1))
    assert [{**one, "cursor": cursors[one["id"]]} for one in own] == pushed
    # From where it began, from the middle, and by WebSocket: the rest, without gap or duplicate.
    with stream(live["sse"] + f"?after={began}", token) as again:
        next(again)
        assert until_the_end((event for _, event in again), saga) == own
    middle = cursors[own[4]["id"]]
    with stream(live["sse"], token, last_event_id=middle) as again:
        next(again)
        assert until_the_end((event for _, event in again), saga) == own[5:]
    with socket(f"{live['ws']}?after={middle}", token) as ws:
        assert until_the_end(messages(ws), saga) == pushed[5:]
        ws.send(json.dumps({"action": "subscribe", "saga_id": saga, "after": began}))
        told = next(message for message in messages(ws) if message["type"] == "subscribed")
        assert told == {"type": "subscribed", "saga_id": saga, "cursor": began}
        assert until_the_end(messages(ws), saga) == pushed


def test_nobody_gets_in_without_a_token(live: dict[str, str]) -> None:
    assert httpx.get(live["sse"], trust_env=False, timeout=PATIENCE).status_code == 401
    with pytest.raises(InvalidStatus) as refused, connect(live["ws"], **OPENING):
        pass
    assert refused.value.response.status_code == 401


def test_a_header_opens_a_websocket_too_and_what_is_wrong_is_said(
    live: dict[str, str], token: str
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with connect(live["ws"], additional_headers=headers, **OPENING) as ws:
        for said, kind in (
            ("{", "malformed"),
            ('{"\\ud800": 1}', "malformed"),
            ('{"action": "dance"}', "malformed"),
            ('{"action": "subscribe", "after": "x"}', "bad-cursor"),
            ("x" * 5000, "too-large"),
        ):
            ws.send(said)
            told = next(message for message in messages(ws) if message["type"] == "error")
            assert told["problem"]["type"] == f"urn:recourse:problem:{kind}"
        ws.send('{"action": "ping"}')
        assert (
            next(m for m in messages(ws) if not m["type"].startswith("recourse"))["type"] == "pong"
        )


def test_another_sees_nothing_of_it(
    orchestrated: Trip, live: dict[str, str], cloud: LocalCloud, token: str
) -> None:
    ravi = cloud.token(f"ravi-{uuid.uuid4().hex}", "sagas:read")
    with stream(live["sse"], token) as own, stream(live["sse"], ravi) as sse:
        (cursor, _), (foreign, _) = next(own), next(sse)
        with socket(live["ws"], ravi) as ws:
            saga = orchestrated.start()
            until_the_end((event for _, event in own), saga)
            ws.send('{"action": "ping"}')
            assert json.loads(ws.recv(timeout=PATIENCE)) == {"type": "pong"}
    with stream(live["sse"], ravi, last_event_id=foreign) as sse:
        assert next(sse) == (foreign, None)  # where it began is still the end
    refused = httpx.get(
        live["sse"],
        params={"after": cursor},
        headers={"Authorization": f"Bearer {ravi}"},
        trust_env=False,
        timeout=PATIENCE,
    )
    assert refused.status_code == 400
    assert refused.json()["type"] == "urn:recourse:problem:foreign-cursor"


PAGE = """
const health = {{events: {live}}};
const token = {token};
const show = (event) => console.log("websocket", event.id);
{socket}
ws.onopen = () => console.log("open", ws.protocol);
{stream}
listen(health.events.sse, () => token, (event) => console.log("stream", event.id));
"""


def test_a_page_hears_it_as_the_guide_says(
    orchestrated: Trip, live: dict[str, str], token: str, tmp_path: Path
) -> None:
    """Node's `fetch` and `WebSocket` are those of browsers."""
    socket_code, stream_code = re.findall(
        r"```js\n(.*?)```", (ROOT / "docs" / "live.md").read_text(), re.DOTALL
    )
    page = tmp_path / "page.mjs"
    page.write_text(
        PAGE.format(
            live=json.dumps(live),
            token=json.dumps(token),
            socket=socket_code,
            stream=stream_code,
        )
    )
    node = Path(sys.executable).with_name("node")
    with (
        stream(live["sse"], token) as own,
        subprocess.Popen([node, page], stdout=subprocess.PIPE, text=True) as browser,
    ):
        try:
            next(own)
            assert browser.stdout
            assert browser.stdout.readline() == "open recourse.v1\n"
            told = until_the_end((event for _, event in own), orchestrated.start())
            heard: dict[str, list[str]] = {"websocket": [], "stream": []}
            wanted = [event["id"] for event in told]
            while not all(wanted[-1] in ids for ids in heard.values()):
                way, name = browser.stdout.readline().split()
                heard[way].append(name)
        finally:
            browser.kill()
    own_ids = {way: [name for name in ids if name in wanted] for way, ids in heard.items()}
    assert own_ids["websocket"] == wanted
    # It says when the WebSocket is open; the stream may be a moment later.
    assert own_ids["stream"] == wanted[-len(own_ids["stream"]) :]
