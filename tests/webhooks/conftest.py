"""Webhooks on moto: the real API, dispatcher and deliverer, real queues, and receivers as played.

Time is a test's own: it stands still until a test moves it on, in the table and in the queues.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import pytest
from moto import mock_aws
from moto.sqs import models as sqs_models
from moto.sqs.models import sqs_backends

from tests.events import event

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

import lambdas.api
from recourse.events import message_group
from recourse.feed.feed import Feed
from recourse.functions import kit, webhook_deliver, webhook_dispatch
from recourse.queues.sources import SourceQueue
from recourse.store.aws import client
from recourse.testing import speed, transactions
from recourse.testing.handlers import ACCOUNT
from recourse.testing.patching import replaced
from recourse.webhooks import addresses
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.dispatch import Dispatcher
from recourse.webhooks.sending import Answer
from recourse.webhooks.webhooks import Webhooks
from tests.description import must_be_described
from tests.feeding import TABLE as FEED
from tests.feeding import _make_table as make_feed
from tests.slots import count_slots

TABLE, LANES, OWNERS = "webhooks", "lanes", "owners"
NOW = 1_800_000_000.0
URL = "https://hooks.example/in"
OK = Answer(200, excerpt="ok", latency=7)
DOWN = Answer(500, excerpt="down", latency=9)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "RECOURSE_SAGAS": "statemachines:SAGAS",
    "WEBHOOKS_TABLE": TABLE,
}


@dataclass(frozen=True)
class Reply:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Post:
    """A call that an endpoint got."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def name(self) -> str:
        """The event, short: the saga and the sequence."""
        return f"{self.event['subject']}{self.event['sequence']}"


@dataclass
class Endpoints:
    """Every endpoint there is, as a test plays them.

    Attributes:
        posts: What they got.
        answers: How each answers, by its URL; 200 where nothing is said.
    """

    posts: list[Post] = field(default_factory=list)
    answers: dict[str, Callable[[Post], Answer]] = field(default_factory=dict)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        found = Post(url, headers, body)
        self.posts.append(found)
        return self.answers[url](found) if url in self.answers else OK

    def got(self, url: str = URL) -> list[str]:
        """The events that one got, in order."""
        return [one.name for one in self.posts if one.url == url]

    def say(self, answer: Answer, url: str = URL) -> None:
        """Let one answer so from now on."""
        self.answers[url] = lambda _: answer


@dataclass
class Ground:
    """The server side of webhooks.

    Attributes:
        now: The time, which a test moves on.
        endpoints: Whoever is called.
        ledger: What the ledger has of each saga.
    """

    now: float = NOW
    endpoints: Endpoints = field(default_factory=Endpoints)
    ledger: dict[str, SimpleNamespace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dynamodb, self.sqs = client("dynamodb"), client("sqs")
        make_feed(self.dynamodb)
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("pk", "webhook_id", "started")
            ],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-webhook",
                    "KeySchema": [
                        {"AttributeName": "webhook_id", "KeyType": "HASH"},
                        {"AttributeName": "started", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        self.urls = {
            name: self.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "180"})[
                "QueueUrl"
            ]
            for name in (LANES, OWNERS)
        }
        self.feed = Feed(self.dynamodb, FEED)
        self.webhooks = Webhooks(self.dynamodb, TABLE, lambda: self.now, lambda _: None)
        send = {name: kit.wake(url) for name, url in self.urls.items()}
        self.dispatcher = Dispatcher(self.feed, self.webhooks, send[LANES])
        self.deliverer = Deliverer(
            self.webhooks,
            self.feed,
            self.endpoints,  # type: ignore[arg-type]
            lambda owner: send[OWNERS](message_group(owner), owner=owner),
            noise=random.Random(7),
        )

    # What a caller does.

    def call(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        subject: str | None = "asha",
        scope: str = "sagas:read webhooks:write",
        content_type: str = "application/json",
    ) -> Reply:
        """A call through the gateway."""
        parts = urlsplit(target)
        context: dict[str, Any] = {
            "stage": "$default",
            "requestId": "r",
            "http": {"method": method, "path": parts.path, "sourceIp": "192.0.2.7"},
        }
        if subject is not None:
            context["authorizer"] = {"jwt": {"claims": {"sub": subject, "scope": scope}}}
        asked: dict[str, Any] = {
            "version": "2.0",
            "rawPath": parts.path,
            "rawQueryString": parts.query,
            "headers": {"content-type": content_type},
            "requestContext": context,
            "isBase64Encoded": body is not None,
        }
        if parts.query:
            asked["queryStringParameters"] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            asked["body"] = base64.b64encode(raw).decode()
        answer = lambdas.api.handler(asked, None)
        sent = {name.lower(): value for name, value in answer.get("headers", {}).items()}
        must_be_described(method, parts.path, answer["statusCode"], answer["body"])
        return Reply(answer["statusCode"], sent, answer["body"])

    def register(self, url: str = URL, *kinds: str, subject: str = "asha") -> dict[str, Any]:
        """A webhook that was registered."""
        asked = {"url": url} | ({"events": list(kinds)} if kinds else {})
        answer = self.call("POST", "/webhooks", asked, subject=subject)
        assert answer.status == 201, answer
        made: dict[str, Any] = answer.json
        return made

    def show(self, webhook: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/webhooks/{webhook['webhook_id']}").json
        return found

    def do(self, webhook: Mapping[str, Any], what: str, body: Any = None) -> Reply:
        return self.call("POST", f"/webhooks/{webhook['webhook_id']}/{what}", body)

    def log(self, webhook: Mapping[str, Any], query: str = "?limit=100") -> list[dict[str, Any]]:
        """What was attempted, the oldest first."""
        path = f"/webhooks/{webhook['webhook_id']}/deliveries{query}"
        found: list[dict[str, Any]] = self.call("GET", path).json["items"]
        return found[::-1]

    # What happens.

    def tell(self, saga: str, *sequences: int, what: str = "started", owner: str = "asha") -> None:
        """Let events of a saga come into its owner's feed, and wake whoever listens."""
        told = [
            event(saga, "order", what, id=f"{saga}.{number}", sequence=number)
            for number in sequences
        ]
        self.feed.append(owner, told)
        known = self.ledger.setdefault(saga, SimpleNamespace(owner=owner, entered=[]))
        known.entered += told
        kit.wake(self.urls[OWNERS])(message_group(owner), owner=owner)

    def records(self, queue: str, most: int = 10) -> list[dict[str, Any]]:
        """A batch from a queue, as Lambda gets it."""
        got = self.sqs.receive_message(
            QueueUrl=self.urls[queue],
            MaxNumberOfMessages=most,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [
            {
                "messageId": one["MessageId"],
                "receiptHandle": one["ReceiptHandle"],
                "body": one["Body"],
                "attributes": one["Attributes"],
                "messageAttributes": {
                    name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
                    for name, value in one.get("MessageAttributes", {}).items()
                },
                "eventSourceARN": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}",
            }
            for one in got.get("Messages", [])
        ]

    def take(self, queue: str, records: list[dict[str, Any]], *, lost: bool = False) -> None:
        """Let a function take a batch; what it does not want again is deleted, unless it dies."""
        if queue == OWNERS:
            answer = webhook_dispatch.handle_batch(
                self.dispatcher, records, kit.wake(self.urls[OWNERS]), self._source
            )
        else:
            answer = webhook_deliver.handle_batch(
                self.deliverer, records, self._source, kit.wake(self.urls[LANES])
            )
        again = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in again and not lost:
                self.sqs.delete_message(
                    QueueUrl=self.urls[queue], ReceiptHandle=record["receiptHandle"]
                )

    def _source(self, arn: str) -> SourceQueue:
        return SourceQueue(lambda: self.sqs, arn)

    def run(self) -> None:
        """Let the functions take what there is now, and no more."""
        while True:
            found = [(queue, self.records(queue, 1)) for queue in (OWNERS, LANES)]
            if not any(records for _, records in found):
                return
            for queue, records in found:
                if records:
                    self.take(queue, records)

    def wait(self, seconds: float) -> None:
        """Let time pass, and functions take what comes meanwhile."""
        until = self.now + seconds
        self.run()
        while (coming := self._next()) is not None and coming <= until:
            self.now = max(self.now, coming)
            self.run()
        self.now = until
        self.run()

    def waiting(self, queue: str = LANES) -> int:
        """How many messages a queue has, put off or not."""
        return len(self._queue(queue)._messages)

    def _queue(self, name: str) -> Any:
        return sqs_backends[ACCOUNT]["us-east-1"].queues[name]

    def _next(self) -> float | None:
        queues = (self._queue(name) for name in (LANES, OWNERS))
        moments = [message.visible_at / 1000 for queue in queues for message in queue._messages]
        return min((one + 0.001 for one in moments if one > self.now), default=None)


@contextmanager
def ground() -> Iterator[Ground]:
    """The server side of webhooks, as long as the block lasts."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, ENVIRONMENT))
        stack.enter_context(mock_aws())
        stack.enter_context(speed.up())
        stack.enter_context(transactions.true())
        stack.callback(client.cache_clear)
        client.cache_clear()
        kit.wake.cache_clear()
        made = Ground()
        stack.enter_context(replaced(sqs_models, "unix_time_millis", lambda *_: made.now * 1000))
        stack.enter_context(mock.patch("recourse.feed.feed.time.time", lambda: made.now))
        count_slots(stack.enter_context(pytest.MonkeyPatch.context()), made.dynamodb)
        played = {"webhooks": made.webhooks, "feed": made.feed, "ledger": made.ledger}
        for name, value in played.items():
            stack.enter_context(mock.patch.object(kit, name, lambda value=value: value))
        stack.enter_context(
            mock.patch.dict(
                os.environ,
                {"WEBHOOK_LANES": made.urls[LANES], "WEBHOOK_OWNERS": made.urls[OWNERS]},
            )
        )
        # Names mean nothing here; what they may mean is tested where addresses are.
        stack.enter_context(
            mock.patch.object(addresses, "checked", lambda *_, **__: ["93.184.216.34"])
        )
        yield made


@pytest.fixture
def hooks() -> Iterator[Ground]:
    """A ground of one's own."""
    with ground() as made:
        yield made


def problem(answer: Reply, status: int, kind: str) -> dict[str, Any]:
    """The problem that an answer must be."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json
    assert found["type"] == f"urn:recourse:problem:{kind}"
    return found
