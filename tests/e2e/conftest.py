"""The end-to-end tier: HTTP from outside, against one local cloud, or any address.

    RECOURSE_API=https://… RECOURSE_TOKEN=… pytest tests/e2e

runs it against a deployment instead; the token needs every scope, and the stage chaos. What needs
the inside of the local cloud is then skipped.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, get_args

import pytest

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests import LOCAL
from tests.decisions import Refusal, decisions_of, unexpected
from tests.patience import PATIENCE
from tests.starting import local_cloud

PRICES = {"flights": 4800, "hotels": 9500, "cars": 2200}
BALANCE = 10_000_000


@dataclass(frozen=True)
class Trip:
    """A trip for things that nobody else books, so that every count can be foretold."""

    api: Api
    total: int = 10
    coordination: Coordination = "orchestration"
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def stocked(self) -> Self:
        """With everything there that it needs."""
        for kind, amount in PRICES.items():
            price = {"amount": amount, "currency": "INR"}
            self.api.call("PUT", self.path(kind), json={"total": self.total, "price": price})
        account = {"currency": "INR", "balance": BALANCE}
        self.api.call("PUT", self.path("accounts"), json=account)
        return self

    def path(self, kind: str) -> str:
        return f"/{kind}/{self.name}"

    @property
    def request(self) -> dict[str, Any]:
        return {
            "trip_id": self.name,
            "traveller": {"name": "Asha Rao", "email": "asha@example.com"},
            "flight": {"id": self.name, "seats": 2},
            "hotel": {"id": self.name, "rooms": 1, "nights": 3},
            "car": {"id": self.name, "days": 3},
            "payment": {"account_id": self.name},
        }

    @property
    def price(self) -> int:
        return 2 * PRICES["flights"] + 3 * PRICES["hotels"] + 3 * PRICES["cars"]

    def start(self, chaos: str | None = None, key: str | None = None) -> str:
        saga = self.api.start(
            "travel-booking",
            self.request,
            key=key or uuid.uuid4().hex,
            chaos=chaos,
            coordination=self.coordination,
        )
        assert saga["coordination"] == self.coordination
        return str(saga["saga_id"])

    def ended(self, saga_id: str, status: str) -> dict[str, Any]:
        """The saga when it is at rest, which must be in this status."""
        *_, saga = self.api.follow(saga_id)
        assert saga["status"] == status, saga
        return saga

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """What the services hold, which must add up."""
        shown = {kind: self.api.get(self.path(kind)) for kind in (*PRICES, "accounts")}
        for kind in PRICES:
            one = shown[kind]
            assert one["total"] == one["available"] + one["held"] + one["confirmed"], one
        account = shown["accounts"]
        assert account["balance"] == account["available"] + account["held"]
        return shown


@dataclass
class Receiver:
    """An endpoint on loopback.

    Attributes:
        url: Where it is.
        got: The headers and the body of each call.
        status: What it answers.
    """

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204
    more: threading.Condition = field(default_factory=threading.Condition)

    def until(self, kind: str) -> list[dict[str, Any]]:
        """The events that came, once one of a type is there."""
        with self.more:
            came = self.more.wait_for(
                lambda: kind in [one["type"] for one in self.events], PATIENCE
            )
            assert came, self.events
            return self.events

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


def machine_of_trips(cloud: LocalCloud) -> str:
    """The ARN of the state machine that runs trips."""
    (arn,) = [arn for name, arn in cloud.outputs.items() if name.startswith("TravelBookingArn")]
    return arn


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares the one local cloud in one process, while others run the rest."""
    for item in items:
        if "inside" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cloud"))
    items.sort(key=lambda item: item.path.name == "test_rights_used.py")  # after the whole tier


@pytest.fixture(scope="session")
def expected() -> list[Refusal]:
    """The refusals that tests provoke; after any other one the tier has failed."""
    return []


@pytest.fixture(scope="session")
def inside(expected: list[Refusal]) -> Iterator[LocalCloud | None]:
    """The local cloud, unless the tier runs against another address."""
    if "RECOURSE_API" in os.environ:
        yield None
        return
    with local_cloud(
        port=0, aws_port=0, state_dir=LOCAL / "tests", fresh=True, seed_file=None
    ) as cloud:
        yield cloud
    must_be_judged(cloud, expected)


def must_be_judged(cloud: LocalCloud, expected: Iterable[Refusal] = ()) -> None:
    """The rights of roles of the app were judged, and nothing but what is expected was refused."""
    decisions = decisions_of(cloud.decisions)
    assert any(":assumed-role/Recourse-" in one["who"] for one in decisions)
    assert not unexpected(decisions, expected)


@pytest.fixture
def cloud(inside: LocalCloud | None) -> LocalCloud:
    """The local cloud itself."""
    if inside is None:
        pytest.skip("needs the inside of a local cloud")
    return inside


@pytest.fixture(scope="session")
def url(inside: LocalCloud | None) -> str:
    return inside.api_url if inside else os.environ["RECOURSE_API"]


@pytest.fixture(scope="session")
def api(inside: LocalCloud | None, url: str) -> Iterator[Api]:
    """The API, with every scope."""
    token = inside.token("asha", EVERY_SCOPE) if inside else os.environ["RECOURSE_TOKEN"]
    with Api(url, token) as made:
        yield made


@pytest.fixture(params=get_args(Coordination))
def trip(api: Api, request: pytest.FixtureRequest) -> Trip:
    """A trip for things of its own, in each coordination."""
    return Trip(api, coordination=request.param).stocked()


@pytest.fixture
def orchestrated(api: Api) -> Trip:
    """A trip for things of its own, run by the state machine."""
    return Trip(api).stocked()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with found.more:
                found.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                found.more.notify_all()
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hooks"
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield found
        server.shutdown()
        thread.join()
