"""The step runtime beside the bare calls that write the same, against the same endpoint.

The endpoint is an HTTP server on loopback in a process of its own, which answers every call with
the row that the step reads. So both sides pay for a real call, and neither for a database.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

from bench.apart import apart
from bench.figures import Figure, alternated, say, seconds

ROUNDS = 150
CALLS = 20
ROW = {
    "pk": "flight#AI-202",
    "total": 1000,
    "available": 1000,
    "held": 0,
    "confirmed": 0,
    "price": {"amount": 480000, "currency": "INR"},
}
TASK: dict[str, Any] = {
    "saga": {
        "id": "0123456789abcdef0123456789abcdef",
        "name": "travel-booking",
        "owner": "asha",
        "business_key": "t-1",
        "started_at": "2026-11-01T00:00:00.000Z",
        "chaos": {},
        "recover": 0,
        "skips": {},
        "attempts": {},
    },
    "step": "flight",
    "phase": "action",
    "role": "compensable",
    "request": {"flight": {"id": "AI-202", "seats": 1}},
    "results": {},
    "attempt": 0,
    "entered_at": "2026-11-01T00:00:00.000Z",
    "timeout": 30,
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_SERVICE_NAME": "FlightsHold",
    "POWERTOOLS_METRICS_NAMESPACE": "Recourse",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "ACTION": "services.flights:hold",
    "UNDO": "services.flights:release",
    "TABLE_NAME": "flights",
}


class _Endpoint(BaseHTTPRequestHandler):
    """Answers a read with the row, and a write with nothing, as DynamoDB does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        from recourse.store.items import encode_item

        self.rfile.read(int(self.headers["Content-Length"]))
        read = self.headers["X-Amz-Target"].endswith(".BatchGetItem")
        rows = {"Responses": {"flights": [encode_item(ROW)]}, "UnprocessedKeys": {}}
        body = json.dumps(rows if read else {}).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.wfile.write(head.encode() + body)


def _serve(listening: socket.socket) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.serve_forever()


@contextlib.contextmanager
def _endpoint() -> Iterator[str]:
    """The endpoint's address, for the length of a block."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=[listening])
        process.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


def measure() -> list[Figure]:
    """Run a step with barrier, marker, outbox, log and metrics, beside the same calls alone."""
    return apart(_measure)


def _measure() -> list[Figure]:
    os.environ.update(ENVIRONMENT)
    with _endpoint() as address, open(os.devnull, "w") as nothing:
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = address
        os.environ["NO_PROXY"] = "127.0.0.1"
        return _compare(nothing)


def _compare(nothing: Any) -> list[Figure]:
    from recourse.functions import step
    from recourse.store.aws import client

    (handler,) = step.logger.handlers
    assert isinstance(handler, logging.StreamHandler) and step.logger.log_level <= logging.INFO
    handler.setStream(nothing)
    runner, lean, plain = step.runner(), client("dynamodb"), boto3.client("dynamodb")
    made = _requests(lean, lambda: runner.run(TASK))
    assert [name for name, _ in made] == ["BatchGetItem", "TransactWriteItems"]
    (_, read), (_, write) = made

    def bare(dynamodb: Any) -> Callable[[], None]:
        def work() -> None:
            dynamodb.batch_get_item(**read)
            dynamodb.transact_write_items(**write)

        return work

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def all_calls() -> float:
            with contextlib.redirect_stdout(nothing):  # where metrics go
                return seconds(lambda: [work() for _ in range(CALLS)]) / CALLS

        return all_calls

    say(f"{ROUNDS} rounds of {CALLS} calls of each side, in turn")
    sides = [lambda: step.run(runner, TASK), bare(plain), bare(lean)]
    ours, shipped, same = alternated([timed(side) for side in sides], rounds=ROUNDS, warmups=1)
    size = f"{ROUNDS} rounds of {CALLS} calls, median"
    return [
        Figure(
            what="a step: one read, one transaction, log and metrics",
            size=size,
            figure=f"{ours * 1000:.2f} ms",
            alternative=f"the same calls by a boto3 client as it comes: {shipped * 1000:.2f} ms",
            ratio=ours / shipped,
            most=1.3,
        ),
        Figure(
            what="the same",
            size=size,
            figure=f"{ours * 1000:.2f} ms",
            alternative=f"the same calls by our own client: {same * 1000:.2f} ms",
            ratio=ours / same,
            most=1.3,
        ),
    ]


def _requests(dynamodb: Any, work: Callable[[], object]) -> list[tuple[str, dict[str, Any]]]:
    """The calls that a piece of work makes by a client: their names and parameters."""
    made: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        made.append((model.name, params))

    dynamodb.meta.events.register("provide-client-params.dynamodb", note)
    try:
        work()
    finally:
        dynamodb.meta.events.unregister("provide-client-params.dynamodb", note)
    return made
