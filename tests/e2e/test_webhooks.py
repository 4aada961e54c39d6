"""Webhooks end to end: a receiver on this machine is told of a trip, signed and in order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from socket import create_server
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from recourse.cli.api import Api
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests.e2e.conftest import Receiver, Trip
from tests.patience import PATIENCE, until


@pytest.fixture
def orchestrated(cloud: LocalCloud) -> Iterator[Trip]:
    """A trip of somebody to whom nothing else happens."""
    with Api(cloud.api_url, cloud.token(uuid.uuid4().hex, EVERY_SCOPE)) as api:
        yield Trip(api).stocked()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of an endpoint that is connected to and says nothing."""
    with create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_a_trip_is_told_to_a_webhook_signed_and_in_order(
    orchestrated: Trip, cloud: LocalCloud, receiver: Receiver, silent: str
) -> None:
    """Another webhook of the same owner never answers, and delays nothing."""
    api = orchestrated.api
    asked = {"url": receiver.url, "events": ["recourse.travel-booking.*"]}
    webhook = api.call("POST", "/webhooks", json=asked).json()
    path = f"/webhooks/{webhook['webhook_id']}"
    hanging = api.call("POST", "/webhooks", json=asked | {"url": silent}).json()
    try:
        saga_id = orchestrated.start()
        orchestrated.ended(saga_id, "SUCCEEDED")
        events = receiver.until("recourse.travel-booking.succeeded")
        assert events == api.get(f"/events?saga_id={saga_id}&limit=500")["items"]
        test = api.call("POST", f"{path}/test").json()
        receiver.until("recourse.webhook.test")
        for headers, body in receiver.got:
            told = Verifier(webhook["secret"]).verify(body, headers)
            assert told["id"] == headers["webhook-id"]
        log = _log(api, path, len(receiver.got))
        assert {one["outcome"] for one in log} == {"delivered"}
        assert log[0]["event_id"] == test["event_id"]
    finally:
        for one in (webhook, hanging):
            api.call("DELETE", f"/webhooks/{one['webhook_id']}")


def test_what_fails_is_tried_again_and_what_was_told_is_replayed(
    orchestrated: Trip, cloud: LocalCloud, receiver: Receiver
) -> None:
    api = orchestrated.api
    asked = {"url": receiver.url, "events": ["recourse.travel-booking.started"]}
    webhook = api.call("POST", "/webhooks", json=asked).json()
    path = f"/webhooks/{webhook['webhook_id']}"
    try:
        receiver.status = 500
        saga_id = orchestrated.start()
        receiver.until("recourse.travel-booking.started")
        receiver.status = 200
        with receiver.more:
            assert receiver.more.wait_for(lambda: len(receiver.got) == 2, PATIENCE)
        ids = {headers["webhook-id"] for headers, _ in receiver.got}
        assert ids == {f"{saga_id}.started"}
        orchestrated.ended(saga_id, "SUCCEEDED")
        log = _log(api, path, 2)
        assert [one["outcome"] for one in log] == ["delivered", "failed"]
        api.call("POST", f"{path}/replay", json={"event_id": ids.pop()})
        with receiver.more:
            assert receiver.more.wait_for(lambda: len(receiver.got) == 3, PATIENCE)
    finally:
        api.call("DELETE", path)


def _log(api: Any, path: str, count: int) -> list[dict[str, Any]]:
    """The log once it has so many rows: a row is written when the answer has been read."""

    def look() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = api.get(f"{path}/deliveries?limit=100")["items"]
        return items

    return until(look, f"{count} rows in the log", lambda items: len(items) >= count)
