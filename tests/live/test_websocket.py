"""WebSocket: who is let in, what a connection hears, and what is answered to what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from recourse.feed.connections import MAX_MESSAGES_PER_MINUTE, Connections
from recourse.feed.feed import Feed, cursor_of
from recourse.feed.pusher import Pusher
from recourse.functions import authorise, kit, websocket
from recourse.functions.bearer import Bearers
from recourse.local.issuer import AUDIENCE, Issuer
from tests.live.conftest import Clock, Gateway, append
from tests.live.test_push import WakeUps, expire

URL = "https://issuer.example"
METHOD = "arn:aws:execute-api:us-east-1:000000000000:api/live/$connect"
names = (f"socket-{number}" for number in count())


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(URL, tmp_path_factory.mktemp("issuer") / "key.pem")


@pytest.fixture
def wakes() -> WakeUps:
    return WakeUps()


@pytest.fixture(autouse=True)
def made(
    monkeypatch: pytest.MonkeyPatch,
    issuer: Issuer,
    connections: Connections,
    pusher: Pusher,
    feed: Feed,
    wakes: WakeUps,
) -> None:
    """The kit's parts, those of the test."""
    bearers = Bearers(URL, [AUDIENCE], keys=lambda: issuer.jwks)
    parts = {"bearers": bearers, "connections": connections, "pusher": pusher, "feed": feed}
    for name, part in (parts | {"wake_ups": wakes}).items():
        monkeypatch.setattr(kit, name, lambda part=part: part)


def let_in(**headers: str) -> dict[str, Any]:
    """The authorizer's decision on a handshake with such headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return authorise.handler({"methodArn": METHOD, "headers": sent}, None)


def effect(decision: dict[str, Any]) -> str:
    (statement,) = decision["policyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("execute-api:Invoke", METHOD)
    return str(statement["Effect"])


def test_a_token_in_the_header_or_in_the_second_subprotocol_lets_its_owner_in(
    issuer: Issuer,
) -> None:
    token = issuer.token("asha", "sagas:read")
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"authorization": f"bearer {token}"},
        {"Sec_WebSocket_Protocol": f"recourse.v1, bearer.{token}"},
        {"sec_websocket_protocol": f"recourse.v1,bearer.{token}"},
    ):
        decision = let_in(**headers)
        assert effect(decision) == "Allow"
        assert decision["context"]["owner"] == "asha"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer garbage"},
        {"Sec_WebSocket_Protocol": "recourse.v1"},
        {"Sec_WebSocket_Protocol": "recourse.v1, bearer."},
    ],
    ids=str,
)
def test_without_a_token_that_counts_it_is_a_401(headers: dict[str, str]) -> None:
    # API Gateway knows a 401 by the very text of the error.
    with pytest.raises(authorise.RefusedError, match=r"^Unauthorized$"):
        let_in(**headers)


def test_without_the_scope_it_is_a_403(issuer: Issuer) -> None:
    token = issuer.token("asha", "sagas:write")
    assert effect(let_in(Authorization=f"Bearer {token}")) == "Deny"


class Client:
    """A client as API Gateway shows it to the function."""

    def __init__(self, owner: str, gateway: Gateway, clock: Clock) -> None:
        self.owner = owner
        self.name = next(names)
        self._gateway = gateway
        self._clock = clock

    def connect(self, after: str | None = None, **headers: str) -> dict[str, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        query = {"after": after} if after is not None else None
        answer = self._call("CONNECT", headers=sent, queryStringParameters=query)
        self._gateway.open.add(self.name)
        return answer

    def say(self, message: Any) -> dict[str, Any]:
        """What is answered to a message; an object is sent as JSON."""
        before = len(self.heard)
        text = message if isinstance(message, str) else json.dumps(message)
        assert self._call("MESSAGE", body=text) == {"statusCode": 200}
        (answer,) = self.heard[before:]
        return dict(answer)

    def leave(self) -> None:
        self._gateway.open.discard(self.name)
        self._call("DISCONNECT")

    @property
    def heard(self) -> list[Any]:
        return self._gateway.sent[self.name]

    def _call(self, kind: str, **more: Any) -> dict[str, Any]:
        told = {"owner": self.owner, "until": str(int(self._clock.now) + 3600)}
        about = {"eventType": kind, "connectionId": self.name, "authorizer": told}
        return websocket.handler({"requestContext": about} | more, None)


@pytest.fixture
def client(owner: str, gateway: Gateway, clock: Clock) -> Client:
    return Client(owner, gateway, clock)


@pytest.fixture
def deliver(pusher: Pusher, wakes: WakeUps, clock: Clock) -> Callable[[], None]:
    """Follows the wake-ups that were sent."""

    def follow() -> None:
        sent, wakes.sent[:] = list(wakes.sent), []
        for owner, name in sent:
            assert pusher.push(owner, name, 0, until=clock.now + 1)

    return follow


def test_an_owner_has_so_many_open_and_one_that_leaves_makes_room(
    owner: str, gateway: Gateway, clock: Clock
) -> None:
    opened = [Client(owner, gateway, clock) for _ in range(50)]
    for one in opened:
        assert one.connect()["statusCode"] == 200
    refused = Client(owner, gateway, clock).connect()
    assert refused["statusCode"] == 429
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert int(refused["headers"]["retry-after"]) >= 1
    assert json.loads(refused["body"])["type"] == "urn:recourse:problem:limit-reached"
    assert Client(owner + "-other", gateway, clock).connect()["statusCode"] == 200
    opened[0].leave()
    assert Client(owner, gateway, clock).connect()["statusCode"] == 200


def test_it_hears_what_comes_from_now_on(
    client: Client, feed: Feed, gateway: Gateway, owner: str, deliver: Callable[[], None]
) -> None:
    append(feed, owner, 2)
    client.connect()
    append(feed, owner, 1)  # woke nobody: it was not open yet
    deliver()
    assert gateway.positions(client.name) == [3]


def test_it_hears_what_comes_after_a_cursor(
    client: Client, feed: Feed, gateway: Gateway, owner: str, deliver: Callable[[], None]
) -> None:
    append(feed, owner, 4)
    client.connect(after=cursor_of(owner, 1))
    deliver()
    assert gateway.positions(client.name) == [2, 3, 4]


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("recourse.v1, bearer.abc", {"Sec-WebSocket-Protocol": "recourse.v1"}),
        ("bearer.abc", {}),
        ("", {}),
    ],
)
def test_it_agrees_to_the_subprotocol_where_it_is_offered(
    client: Client, offered: str, agreed: dict[str, str]
) -> None:
    assert client.connect(Sec_WebSocket_Protocol=offered) == {"statusCode": 200, "headers": agreed}


def test_a_cursor_that_is_wrong_is_told_when_it_is_open_and_ends_it(
    owner: str, gateway: Gateway, clock: Clock, deliver: Callable[[], None]
) -> None:
    for cursor, kind in (("x", "bad-cursor"), (cursor_of("somebody", 1), "foreign-cursor")):
        client = Client(owner, gateway, clock)
        assert client.connect(after=cursor)["statusCode"] == 200
        deliver()
        assert gateway.problems(client.name) == [kind]
        assert client.name not in gateway.open


def test_subscribe_chooses_a_saga_and_where_to_begin(
    client: Client, feed: Feed, gateway: Gateway, owner: str, deliver: Callable[[], None]
) -> None:
    for saga in ("a", "b", "a"):
        append(feed, owner, 1, saga)
    client.connect()
    saga, began = f"{owner}-a", cursor_of(owner, 0)
    answer = client.say({"action": "subscribe", "saga_id": saga, "after": began})
    assert answer == {"type": "subscribed", "saga_id": saga, "cursor": began}
    deliver()
    assert gateway.positions(client.name) == [1, 3]
    answer = client.say({"action": "subscribe"})
    assert answer == {"type": "subscribed", "saga_id": None, "cursor": cursor_of(owner, 3)}
    append(feed, owner, 1, "b")
    deliver()
    assert gateway.positions(client.name) == [1, 3, 4]


def test_ping_is_answered(client: Client) -> None:
    client.connect()
    assert client.say({"action": "ping"}) == {"type": "pong"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("", "malformed"),
        ("{", "malformed"),
        ("[]", "malformed"),
        ("null", "malformed"),
        ("[" * 4000, "malformed"),
        ('{"\\ud800": 1}', "malformed"),
        ('{"action": "ping", "\\ud800": 1}', "malformed"),
        ('{"action": "subscribe", "saga_id": "\\udfff"}', "malformed"),
        ('{"action": "ping", "action": "subscribe"}', "malformed"),
        ({}, "malformed"),
        ({"action": "dance"}, "malformed"),
        ({"action": ["subscribe"]}, "malformed"),
        ({"action": "ping", "more": 1}, "malformed"),
        ({"action": "subscribe", "saga": "x"}, "malformed"),
        ({"action": "subscribe", "saga_id": 7}, "malformed"),
        ({"action": "subscribe", "saga_id": ""}, "malformed"),
        ({"action": "subscribe", "after": "x" * 200}, "malformed"),
        ({"action": "subscribe", "after": "x"}, "bad-cursor"),
        ({"action": "subscribe", "after": cursor_of("somebody", 0)}, "foreign-cursor"),
        ({"action": "subscribe", "after": "x" * 5000}, "too-large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_that_is_wrong_is_answered_with_a_problem_and_changes_nothing(
    client: Client, connections: Connections, message: Any, kind: str
) -> None:
    client.connect()
    before = connections.get(client.owner, client.name)
    answer = client.say(message)
    assert answer["type"] == "error"
    assert answer["problem"]["type"] == f"urn:recourse:problem:{kind}"
    after = connections.get(client.owner, client.name)
    assert before and after and (before.position, before.turn) == (after.position, after.turn)


def test_an_expired_cursor_is_told_and_leaves_the_subscription(
    client: Client, feed: Feed, owner: str, dynamodb: Any
) -> None:
    append(feed, owner, 2)
    expire(dynamodb, owner, 1)
    client.connect()
    answer = client.say({"action": "subscribe", "after": cursor_of(owner, 0)})
    assert answer["problem"]["status"] == 410


def test_a_client_that_floods_is_told_and_disconnected(
    client: Client, gateway: Gateway, connections: Connections, clock: Clock
) -> None:
    client.connect()
    for _ in range(MAX_MESSAGES_PER_MINUTE):
        assert client.say({"action": "ping"}) == {"type": "pong"}
    assert client.say({"action": "ping"})["problem"]["type"].endswith(":too-many")
    assert client.name not in gateway.open
    assert connections.get(client.owner, client.name) is None
    assert client._call("MESSAGE", body="{}") == {"statusCode": 200}


def test_what_it_says_is_counted_by_the_minute(client: Client, clock: Clock) -> None:
    client.connect()
    for _ in range(2):
        for _ in range(MAX_MESSAGES_PER_MINUTE):
            assert client.say({"action": "ping"}) == {"type": "pong"}
        clock.now += 60


def test_a_socket_too_many_of_one_owner_is_refused_with_a_problem(
    gateway: Gateway, owner: str, clock: Clock
) -> None:
    opened = [Client(owner, gateway, clock) for _ in range(50)]
    assert {client.connect()["statusCode"] for client in opened} == {200}
    refused = Client(owner, gateway, clock).connect()
    assert refused["statusCode"] == 429
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert int(refused["headers"]["retry-after"]) > 0
    assert json.loads(refused["body"])["type"] == "urn:recourse:problem:limit-reached"
    assert Client(f"{owner}-2", gateway, clock).connect()["statusCode"] == 200
    opened[0].leave()
    assert Client(owner, gateway, clock).connect()["statusCode"] == 200


def test_one_that_leaves_is_forgotten(
    client: Client, connections: Connections, feed: Feed, owner: str, deliver: Callable[[], None]
) -> None:
    client.connect()
    client.leave()
    assert connections.of(owner) == []
    append(feed, owner, 1)
    deliver()
    assert client.heard == []


def test_a_socket_is_open_until_its_token_ends(
    client: Client, connections: Connections, clock: Clock
) -> None:
    client.connect()
    held = connections.get(client.owner, client.name)
    assert held is not None and held.until == int(clock.now) + 3600
