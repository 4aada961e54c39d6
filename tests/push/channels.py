"""The channels as the conformance suite drives them, each with what it promises.

Each adapter lets the project's own code of its channel run, and plays what stands around it: the
service that calls it, or the client that a user writes.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, Protocol

from botocore.exceptions import ClientError, EndpointConnectionError

import lambdas.api
import recourse.functions.push
import recourse.queues.worker
import recourse.queues.worker.worker
from recourse.errors import TransientError
from recourse.events import message_group
from recourse.feed.connections import Connections
from recourse.feed.feed import cursor_of, position_of
from recourse.feed.pusher import Pusher
from recourse.feed.wake_ups import WakeUpQueue
from recourse.feed.watch import Watch
from recourse.functions import kit, sse, webhook_deliver, webhook_dispatch
from recourse.functions.batch import handle_each
from recourse.functions.caller import Caller
from recourse.queues.message import Message
from recourse.queues.worker.worker import Worker
from recourse.store.slots import Slots
from recourse.store.table import Table
from recourse.testing.handlers import Killed
from recourse.testing.patching import replaced
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.dispatch import Dispatcher
from recourse.webhooks.sending import Answer
from recourse.webhooks.webhooks import Webhooks
from tests.push.bed import OWNER, RECEIVES, Application, Bed, FailedError

FAILURES = (FailedError, Killed)
IN_TIME: Any = SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)
"""The context of a function that has all of its time."""
AGAIN = 5
"""How often the client of a feed tries an event before it dead-letters it."""


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a channel promises; docs/push-and-pull.md has the same as a table.

    Attributes:
        order: Who keeps a saga's events in order: the channel itself, or its consumer by their
            `sequence`.
        attempts: How often an event is tried at the most.
        bounded_by: Who bounds that, and dead-letters what has failed for good.
        blocks: What waits behind an event that fails.
        outlasts: Seconds for which the consumer may be away with nothing lost or dead-lettered.
    """

    order: Literal["channel", "sequence"]
    attempts: int
    bounded_by: Literal["channel", "consumer"]
    blocks: Literal["nothing", "saga", "feed"]
    outlasts: float


class Channel(Protocol):
    """One channel, between a bed and an application."""

    promises: Promises

    def deliver(self) -> bool:
        """Let come what can come now; whether anything did."""

    def next(self) -> list[float]:
        """When something comes by itself, besides what waits in queues."""

    def dead_lettered(self) -> list[str]:
        """The ids of the events that were dead-lettered, for somebody to see."""


class Make(Protocol):
    """Makes a channel, and says what it promises."""

    promises: Promises

    def __call__(self, bed: Bed, app: Application) -> Channel: ...


DAY = 86_400.0


class Client:
    """The documented client of a cursor: it stores how far it has come after each event."""

    def __init__(self, bed: Bed, app: Application) -> None:
        self.bed, self.app = bed, app
        self.cursor = cursor_of(OWNER, 0)
        self.failures = 0
        self._dead_lettered: list[str] = []

    def follow(self, events: Iterator[tuple[Mapping[str, Any], str]]) -> bool:
        """Take events, each with the cursor after it, until one fails; whether there were any."""
        came = False
        for told, cursor in events:
            came = True
            try:
                self.app.take(told)
            except FAILURES as problem:
                self.failures += isinstance(problem, FailedError)
                if self.failures < AGAIN:
                    return True
                self._dead_lettered.append(told["id"])
            self.failures = 0
            if not self.bed.duplicates or self.app.tries[told["id"]] > 1:
                self.cursor = cursor  # else it forgets, once, how far it had come
            else:
                return True
        return came

    def next(self) -> list[float]:
        return []

    def dead_lettered(self) -> list[str]:
        return self._dead_lettered


class Pull(Client):
    """`GET /events` with a cursor."""

    promises = Promises(
        order="channel", attempts=AGAIN, bounded_by="consumer", blocks="feed", outlasts=14 * DAY
    )

    def deliver(self) -> bool:
        if self.bed.is_down:
            return False
        page = call("GET", "/events", {"after": self.cursor, "limit": "1"})
        return self.follow((told, page["cursor"]) for told in page["items"])


class Sse(Client):
    """Server-sent events, resumed by `Last-Event-ID`."""

    promises = Pull.promises

    def __init__(self, bed: Bed, app: Application) -> None:
        super().__init__(bed, app)
        watch = Watch(bed.feed, min_interval=0, max_interval=0)
        bed.table("connections", "pk", "connection")
        table = Table(bed.dynamodb, "connections", ("pk", "connection"))
        slots = Slots(table, "streams", most=1, seconds=60, sort="slots")
        bearers: Any = _Bearers(bed)
        self._stream = sse.Stream(watch, bearers, slots, seconds=0, clock=lambda: bed.now)

    def deliver(self) -> bool:
        return not self.bed.is_down and self.follow(self._frames())

    def _frames(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        """What a connection brings; it ends at once, as if it were cut off."""
        headers = [(b"authorization", b"Bearer x"), (b"last-event-id", self.cursor.encode())]
        scope = {"type": "http", "method": "GET", "path": "/events/stream", "query_string": b""}
        for frame in asyncio.run(_get(self._stream, scope | {"headers": headers})).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line)
            if "data" in fields:
                yield json.loads(fields["data"]), fields["id"]


class WebSocket(Client):
    """The WebSocket and its pusher; a client that has failed connects again with its cursor."""

    promises = Pull.promises

    def __init__(self, bed: Bed, app: Application) -> None:
        super().__init__(bed, app)
        bed.table("connections", "pk", "connection")
        self._queue = bed.queue("wakes")
        self._wakes = WakeUpQueue(bed.sqs, self._queue)
        self._connections = Connections(bed.dynamodb, "connections", lambda: bed.now, most=50)
        self._pusher = Pusher(self._connections, bed.feed, self)
        self._name, self._opened = "", 0

    def deliver(self) -> bool:
        if not self._name and not self.bed.is_down:
            self._open()
        records = self.bed.batch(self._queue)
        answer = recourse.functions.push.handle_batch(
            self._pusher, self._wakes, records, self.bed.source
        )
        self.bed.settle(self._queue, records, answer)
        return bool(records)

    def post_to_connection(self, *, ConnectionId: str, Data: bytes) -> None:
        """Bring a message to the client, as API Gateway does."""
        if self.bed.is_down:
            self._name = ""
        if ConnectionId != self._name:
            raise ClientError({"Error": {"Code": "GoneException"}}, "PostToConnection")
        told = json.loads(Data)
        before = self.cursor
        deaths = self.app.deaths
        self.follow(iter([(told, told["cursor"])]))
        if self.cursor == before:
            self._name = ""
            if self.app.deaths == deaths:  # it said goodbye; a dead one is found by its 410
                self._connections.close(OWNER, ConnectionId)

    def _open(self) -> None:
        self._opened += 1
        self._name = f"connection-{self._opened}"
        position = position_of(OWNER, self.cursor)
        until = int(self.bed.now + DAY)
        self._connections.open(OWNER, self._name, position, until=until)
        self._wakes.send(OWNER, self._name, delay=1)


class SqsToLambda:
    """SQS to a function, in batches with partial failure."""

    promises = Promises(
        order="sequence",
        attempts=RECEIVES,
        bounded_by="channel",
        blocks="nothing",
        outlasts=14 * DAY,
    )

    def __init__(self, bed: Bed, app: Application) -> None:
        self.bed, self.app = bed, app
        self.url = bed.queue("events")

    def deliver(self) -> bool:
        if self.bed.is_down or not (records := self.bed.batch(self.url)):
            return False
        try:
            answer = handle_each(self._handle, records, self.bed.source, IN_TIME)
        except Killed:
            return True  # nothing was answered: all of it comes again
        self.bed.settle(self.url, records, answer)
        return True

    def _handle(self, message: Message) -> None:
        self.app.take(json.loads(message.body))

    def next(self) -> list[float]:
        return []

    def dead_lettered(self) -> list[str]:
        return [json.loads(body)["id"] for body in self.bed.dead(self.url)]


class SqsToWorker(SqsToLambda):
    """SQS to `recourse worker`; one that dies is followed by a fresh one."""

    def deliver(self) -> bool:
        if self.bed.is_down or not self.bed.visible(self.url):
            return False
        stop, severed = threading.Event(), _Severed(self.bed.sqs)
        one_at_a_time = threading.Lock()

        def handle(message: Message) -> None:
            with one_at_a_time:
                try:
                    self.app.take(json.loads(message.body))
                except Killed:
                    severed.is_dead = True
                    raise FailedError("the process is no more") from None

        def idle() -> None:
            if severed.is_dead or not self.bed.visible(self.url):
                stop.set()

        severed.after_each = idle
        worker = Worker(
            severed,  # type: ignore[arg-type]
            self.url,
            handle,
            max_in_flight=4,
            receive_wait_time=0,
            shutdown_graceful_timeout=1,
        )
        # A dead process waits for nothing.
        with replaced(recourse.queues.worker.worker, "FINAL_DELETE_TIMEOUT", 0.05):
            worker.run(stop)
        return True


class Webhook:
    """A webhook: sorted into a lane a saga, delivered and tried again by the project's schedule."""

    promises = Promises(
        order="channel", attempts=12, bounded_by="channel", blocks="saga", outlasts=3 * DAY
    )

    def __init__(self, bed: Bed, app: Application) -> None:
        self.bed, self.app = bed, app
        bed.listed_table("webhooks", "by-webhook", "webhook_id")
        self._owners = bed.queue("owners")
        self._lanes = bed.queue("lanes", subscribed=False, receives=1000)
        self._webhooks = Webhooks(bed.dynamodb, "webhooks", lambda: bed.now, lambda _: None)
        self._registered = self._webhooks.registrations.register(
            OWNER, "https://hooks.example/in", ["recourse.*"], 0
        )
        wake, again = kit.wake(self._lanes), kit.wake(self._owners)
        self._dispatcher = Dispatcher(bed.feed, self._webhooks, wake)
        self._deliverer = Deliverer(
            self._webhooks,
            bed.feed,
            self,  # type: ignore[arg-type]
            lambda owner: again(message_group(owner), owner=owner),
            noise=random.Random(7),
        )

    def deliver(self) -> bool:
        woken = self.bed.batch(self._owners)
        later = kit.wake(self._owners)
        answer = webhook_dispatch.handle_batch(self._dispatcher, woken, later, self.bed.source)
        self.bed.settle(self._owners, woken, answer)
        lanes = self.bed.batch(self._lanes)
        wake = kit.wake(self._lanes)
        answer = webhook_deliver.handle_batch(self._deliverer, lanes, self.bed.source, wake)
        self.bed.settle(self._lanes, lanes, answer)
        return bool(woken or lanes)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer as the endpoint."""
        told = json.loads(body)
        if self.bed.is_down:
            return Answer(None, "refused")
        try:
            self.app.take(told)
        except FailedError:
            return Answer(500)
        except Killed:
            return Answer(None, "reset")
        is_heard = not self.bed.duplicates or self.app.tries[told["id"]] > 1
        return Answer(204) if is_heard else Answer(None, "its answer was lost")

    def next(self) -> list[float]:
        return []

    def dead_lettered(self) -> list[str]:
        attempts, _ = self._webhooks.log.page(self._registered.webhook_id, cursor=None, limit=500)
        return [one.event_id for one in attempts if one.outcome == "given-up"]


class SnsToLambda:
    """SNS to a function: what AWS does about its failures is played as AWS documents it."""

    promises = Promises(
        order="sequence",
        attempts=3,
        bounded_by="channel",
        blocks="nothing",
        outlasts=6 * 3600,
    )
    again = (60, 120)
    """Seconds before Lambda tries an event again that failed; then it is dead-lettered."""

    def __init__(self, bed: Bed, app: Application) -> None:
        self.bed, self.app = bed, app
        self._url = bed.queue("pushes", raw=False)
        self._waiting: list[tuple[float, int, str]] = []
        self._dead_lettered: list[str] = []

    def deliver(self) -> bool:
        pushed = self.bed.batch(self._url)
        self.bed.settle(self._url, pushed, {"batchItemFailures": []})
        self._waiting += [(self.bed.now, 0, record["body"]) for record in pushed]
        if self.bed.is_down:
            return bool(pushed)  # throttled: kept for hours, and not counted as tries
        due = [one for one in self._waiting if one[0] <= self.bed.now]
        self._waiting = [one for one in self._waiting if one[0] > self.bed.now]
        for _, tries, envelope in due:
            try:
                self._function({"Records": [{"Sns": json.loads(envelope)}]})
            except (FailedError, TransientError, Killed):
                self._failed(tries, envelope)
        return bool(pushed or due)

    def _function(self, event: dict[str, Any]) -> None:
        for record in event["Records"]:
            self.app.take(json.loads(record["Sns"]["Message"]))

    def _failed(self, tries: int, envelope: str) -> None:
        if tries == len(self.again):
            self._dead_lettered.append(json.loads(json.loads(envelope)["Message"])["id"])
        else:
            self._waiting.append((self.bed.now + self.again[tries], tries + 1, envelope))

    def next(self) -> list[float]:
        return [when for when, *_ in self._waiting]

    def dead_lettered(self) -> list[str]:
        return self._dead_lettered


class _Severed:
    """An SQS client that is cut off once its process has died."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self.is_dead = False
        self.after_each: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            if self.is_dead:
                self.after_each()
                raise EndpointConnectionError(endpoint_url="sqs")
            answer = getattr(self._sqs, name)(**given)
            if name == "receive_message" and not answer.get("Messages"):
                self.after_each()
            return answer

        return call


class _Bearers:
    """Every bearer is the owner."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    def verify(self, token: str, scope: str) -> Caller:
        return Caller(OWNER, frozenset({scope}), until=int(self._bed.now + DAY))


async def _get(app: Any, scope: MutableMapping[str, Any]) -> str:
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(sent).decode()


def call(method: str, path: str, query: Mapping[str, str]) -> Any:
    """A call of the owner's through the gateway."""
    asked = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "queryStringParameters": dict(query),
        "headers": {},
        "requestContext": {
            "stage": "$default",
            "requestId": "r",
            "http": {"method": method, "path": path, "sourceIp": "192.0.2.7"},
            "authorizer": {"jwt": {"claims": {"sub": OWNER, "scope": "sagas:read"}}},
        },
        "isBase64Encoded": False,
    }
    answer = lambdas.api.handler(asked, None)
    assert answer["statusCode"] == 200, answer
    return json.loads(answer["body"])


CHANNELS: dict[str, Make] = {
    "feed": Pull,
    "SSE": Sse,
    "WebSocket": WebSocket,
    "webhook": Webhook,
    "SNS to Lambda": SnsToLambda,
    "SQS to Lambda": SqsToLambda,
    "SQS to worker": SqsToWorker,
}
