"""A consumer in a process of its own: it takes events off one channel and commits each.

It is run by the benchmark, `python -m bench.push_pull.consumer '<JSON>'`, prints `ready` once it
listens, and may be killed at any moment: what it needs to go on is its cursor's file. Each function
here is all that a consumer of its channel has to do, so its length is a figure of the report.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from lambdas.probe import Effects, ProbeError
from recourse.events import Event
from recourse.queues.message import Message
from recourse.queues.worker.worker import Worker
from recourse.store.aws import client

AGAIN = 0.2
"""Seconds before a consumer connects again whose connection or commit has failed."""
POLL = 1.0
"""Seconds between two polls."""
WAIT = 20
"""Seconds that a long poll waits at the most."""

HIDDEN = 10
"""Seconds after which a message comes again whose worker has died."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a consumer is told.

    Attributes:
        kind: One of `CONSUMERS`.
        url: The channel's address.
        token: The bearer token of the owner whose events it takes.
        cursor: The file of its cursor.
        table: The probe's table.
    """

    kind: str
    url: str
    token: str = ""
    cursor: str = ""
    table: str = ""

    @property
    def text(self) -> str:
        """The same as an argument."""
        return json.dumps(asdict(self))


class Consumer:
    """What every kind of consumer has at hand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bearer = {"authorization": f"Bearer {settings.token}"}
        self._effects = Effects(client("dynamodb"), settings.table)

    def ready(self) -> None:
        """Say, once, that it listens."""
        print("ready", flush=True)

    def commit(self, told: dict[str, Any], call: str = "") -> None:
        """Commit the effect of an event, which a call has brought, maybe together with others."""
        self._effects.commit(Event.from_dict(told), call)

    @property
    def cursor(self) -> str:
        """Where it has come to."""
        return Path(self.settings.cursor).read_text()

    @cursor.setter
    def cursor(self, value: str) -> None:
        Path(self.settings.cursor).write_text(value)


def webhook(consumer: Consumer) -> None:
    """Take what is posted to an endpoint; an error is a 500, and the sender tries again."""

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            try:
                if "run" in told["data"]:
                    consumer.commit(told)
                self.send_response(204)
            except ProbeError:
                self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    address = httpx.URL(consumer.settings.url)
    server = ThreadingHTTPServer((address.host, address.port or 0), Receiver)
    consumer.ready()
    server.serve_forever()


def worker(consumer: Consumer) -> None:
    """Take the messages of a queue, by the project's own worker."""

    def handle(message: Message) -> None:
        consumer.commit(json.loads(message.body))

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    consumer.ready()
    sqs = client("sqs", read_timeout=WAIT + 5)
    Worker(sqs, consumer.settings.url, handle, visibility_timeout=HIDDEN).run(stop)


def sse(consumer: Consumer) -> None:
    """Take a stream of server-sent events; go on after the last one where it breaks."""
    with httpx.Client(timeout=httpx.Timeout(10, read=60), trust_env=False) as http:

        def read() -> None:
            headers = consumer.bearer | {"last-event-id": consumer.cursor}
            with http.stream("GET", consumer.settings.url, headers=headers) as stream:
                stream.raise_for_status()
                consumer.ready()
                cursor, data = "", ""
                for line in stream.iter_lines():
                    if line.startswith("id:"):
                        cursor = line[3:].strip()
                    elif line.startswith("data:"):
                        data += line[5:].strip()
                    elif not line and data:
                        consumer.commit(json.loads(data))
                        consumer.cursor, data = cursor, ""

        _over_and_over(read)


def websocket(consumer: Consumer) -> None:
    """Take what a WebSocket sends; go on after the last one where it breaks."""

    def read() -> None:
        asked = {"after": consumer.cursor}
        address = str(httpx.URL(consumer.settings.url).copy_merge_params(asked))
        # API Gateway compresses nothing.
        with connect(
            address, additional_headers=consumer.bearer, compression=None, proxy=None
        ) as socket:
            consumer.ready()
            for message in socket:
                told = json.loads(message)
                if "cursor" in told:
                    consumer.commit(told)
                    consumer.cursor = told["cursor"]

    _over_and_over(read)


def long_poll(consumer: Consumer) -> None:
    """Pull the feed, and let each call wait for news."""
    _pull(consumer, wait=WAIT, pause=0)


def poll(consumer: Consumer) -> None:
    """Pull the feed once a second."""
    _pull(consumer, wait=0, pause=POLL)


def _pull(consumer: Consumer, *, wait: int, pause: float) -> None:
    with httpx.Client(timeout=httpx.Timeout(10, read=60), trust_env=False) as http:

        def read() -> None:
            consumer.ready()
            while True:
                asked = {"after": consumer.cursor, "limit": "100", "wait": str(wait)}
                answer = http.get(consumer.settings.url, params=asked, headers=consumer.bearer)
                answer.raise_for_status()
                page = answer.json()
                call = uuid.uuid4().hex
                for told in page["items"]:
                    consumer.commit(told, call)
                consumer.cursor = page["cursor"]
                time.sleep(pause)

        _over_and_over(read)


def _over_and_over(work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except (httpx.HTTPError, WebSocketException, OSError, ProbeError) as problem:
            print(f"again: {problem!r}", file=sys.stderr, flush=True)
        time.sleep(AGAIN)


CONSUMERS: dict[str, Callable[[Consumer], None]] = {
    "webhook": webhook,
    "worker": worker,
    "sse": sse,
    "websocket": websocket,
    "long-poll": long_poll,
    "poll": poll,
}


def main() -> None:
    """Run the consumer that the argument describes."""
    settings = Settings(**json.loads(sys.argv[1]))
    CONSUMERS[settings.kind](Consumer(settings))


if __name__ == "__main__":
    main()
