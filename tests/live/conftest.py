"""The live channels on moto, with the real feed, and a gateway that notes what it is to send."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.events import event

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

from recourse.feed.connections import Connections
from recourse.feed.feed import Feed
from recourse.feed.pusher import Pusher
from recourse.store.aws import client
from recourse.testing import speed, transactions
from recourse.testing.ground import ENVIRONMENT

owners = (f"owner-{number}" for number in count())


class Killed(BaseException):
    """A process dies here."""


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Gateway:
    """API Gateway's management API: what it was told to send, and to whom it is open."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.sent: dict[str, list[Any]] = defaultdict(list)
        self.before: Callable[[str, Any], None] = lambda name, message: None

    def post_to_connection(self, *, ConnectionId: str, Data: bytes) -> None:
        self._must_be_open(ConnectionId, "PostToConnection")
        message = json.loads(Data)
        self.before(ConnectionId, message)
        self.sent[ConnectionId].append(message)

    def delete_connection(self, *, ConnectionId: str) -> None:
        self._must_be_open(ConnectionId, "DeleteConnection")
        self.open.discard(ConnectionId)

    def positions(self, name: str) -> list[int]:
        """The numbers of the events that a connection was sent."""
        return [message["data"]["n"] for message in self.sent[name] if "data" in message]

    def problems(self, name: str) -> list[str]:
        """The kinds of the errors that a connection was sent."""
        return [
            message["problem"]["type"].rpartition(":")[2]
            for message in self.sent[name]
            if message["type"] == "error"
        ]

    def _must_be_open(self, name: str, call: str) -> None:
        if name not in self.open:
            raise failure("GoneException", 410, call)


def failure(code: str, status: int = 500, call: str = "PostToConnection") -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, call)


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, ENVIRONMENT))
        stack.enter_context(mock_aws())
        stack.enter_context(speed.up())
        stack.callback(client.cache_clear)
        client.cache_clear()
        stack.enter_context(transactions.true())
        made = client("dynamodb")
        for table, key, kind in (("feed", "position", "N"), ("connections", "connection", "S")):
            made.create_table(
                TableName=table,
                KeySchema=[
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": key, "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": key, "AttributeType": kind},
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        yield made


@pytest.fixture
def feed(dynamodb: Any) -> Feed:
    return Feed(dynamodb, "feed")


@pytest.fixture
def owner() -> str:
    return next(owners)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def connections(dynamodb: Any, clock: Clock) -> Connections:
    return Connections(dynamodb, "connections", clock, most=50)


@pytest.fixture
def pusher(connections: Connections, feed: Feed, gateway: Gateway) -> Pusher:
    return Pusher(connections, feed, gateway)


def append(feed: Feed, owner: str, how_many: int, saga: str = "saga") -> None:
    """Append events, which are numbered by their place in the owner's feed."""
    head = feed.head(owner)
    feed.append(
        owner,
        [
            event(f"{owner}-{saga}", "order", "started", n=n, sequence=n)
            for n in range(head + 1, head + how_many + 1)
        ],
    )
