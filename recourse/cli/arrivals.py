"""Receives events over a stream, a WebSocket and a webhook, each in a thread of its own."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from recourse.cli.api import Api
from recourse.events import Event

Receive = Callable[[Event], None]


@dataclass
class Arrivals:
    """The events that have arrived, by channel.

    Attributes:
        received: The events of each channel, each with its time of arrival in epoch seconds.
    """

    received: dict[str, list[tuple[float, Event]]] = field(default_factory=dict)
    _change: threading.Condition = field(default_factory=threading.Condition)

    def channel(self, name: str) -> Receive:
        """What is called with each event of a new channel."""
        self.received[name] = []

        def receive(event: Event) -> None:
            with self._change:
                self.received[name].append((time.time(), event))
                self._change.notify_all()

        return receive

    def wait(self, number: int, seconds: float) -> bool:
        """Wait until every channel has received so many events; False if time ran out."""
        with self._change:
            return self._change.wait_for(
                lambda: all(len(events) >= number for events in self.received.values()), seconds
            )


@contextmanager
def listening(api: Api, token: str) -> Iterator[Arrivals]:
    """Receive the caller's events over every push channel while the block lasts."""
    arrivals = Arrivals()
    live = api.get("/health")["events"]
    with ExitStack() as stack:
        stack.enter_context(_streaming(live["sse"], token, arrivals.channel("SSE")))
        stack.enter_context(_connected(live["ws"], token, arrivals.channel("WebSocket")))
        stack.enter_context(_receiving(api, arrivals.channel("webhook")))
        yield arrivals


@contextmanager
def _streaming(url: str, token: str, receive: Receive) -> Iterator[None]:
    headers = {"authorization": f"Bearer {token}"}
    with httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer:
        answer.raise_for_status()
        lines = answer.iter_lines()
        while next(lines):  # the first frame: from here on the stream is open
            pass

        def read() -> None:
            for line in lines:
                if line.startswith("data: "):
                    receive(Event.parse(line.removeprefix("data: ")))

        with _thread(read, answer.close, httpx.HTTPError, httpx.StreamError):
            yield


@contextmanager
def _connected(url: str, token: str, receive: Receive) -> Iterator[None]:
    headers = {"authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, proxy=None) as socket:

        def read() -> None:
            while True:
                receive(Event.parse(socket.recv(decode=True)))

        with _thread(read, socket.close, ConnectionClosed):
            yield


@contextmanager
def _receiving(api: Api, receive: Receive) -> Iterator[None]:
    """Register a webhook at a local server, which accepts signed calls only."""
    secret = b""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
            made = hmac.new(secret, signed + body, hashlib.sha256).digest()
            is_signed = f"v1,{b64encode(made).decode()}" in self.headers["webhook-signature"]
            if is_signed:
                receive(Event.parse(body.decode()))
            self.send_response(204 if is_signed else 401)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing: it would break up the timeline."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    with server, _thread(server.serve_forever, server.shutdown):
        url = f"http://127.0.0.1:{server.server_port}/"
        made = api.ask("POST", "/webhooks", json={"url": url})
        secret = b64decode(made["secret"].removeprefix("whsec_"))
        try:
            yield
        finally:
            api.call("DELETE", f"/webhooks/{made['webhook_id']}")


@contextmanager
def _thread(
    work: Callable[[], None], stop: Callable[[], None], *ends: type[Exception]
) -> Iterator[None]:
    """Run `work` in a thread until `stop`, which makes it raise one of `ends`."""

    def run() -> None:
        with suppress(*ends):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(5)
