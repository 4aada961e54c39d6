"""`recourse worker` beside a plain loop in boto3 on the same queue, and over 100,000 messages.

The queue is ministack's, a process of its own on loopback. The plain loop is the one that everybody
writes: receive ten, handle each, delete each. Both handlers do nothing but count.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from bench import memory
from bench.apart import apart
from bench.figures import Figure, alternated, say
from recourse.local.aws import environment
from recourse.local.emulator import Emulator
from recourse.local.ports import free_port
from recourse.queues.message import Message
from recourse.queues.worker.worker import Worker
from recourse.store.aws import client

ROUNDS, SIZE = 5, 2000
MANY, WINDOW = 100_000, 20_000
DEEP = 2000
"""How many messages wait in the long run at the most."""
BODY = "x" * 400
"""About as long as an event."""


@contextmanager
def _queue() -> Iterator[str]:
    """The address of a new queue."""
    with tempfile.TemporaryDirectory() as folder:
        emulator = Emulator(port=free_port(0), folder=Path(folder), gaps=("own_callers",))
        emulator.start()
        try:
            os.environ |= environment(emulator.url)
            sqs = client("sqs", read_timeout=25)
            yield str(sqs.create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"])
        finally:
            emulator.stop()


def measure() -> list[Figure]:
    """Handle messages with the worker and with a plain loop in turn, then a hundred thousand."""
    return [apart(_rate), apart(_thousands)]


def _rate() -> Figure:
    with _queue() as url:
        ours, plain = alternated(
            [lambda: _by_worker(url), lambda: _by_loop(url)], rounds=ROUNDS, warmups=1
        )
    return Figure(
        what="messages a second by the worker, 16 in flight",
        size=f"{SIZE} messages a round, {ROUNDS} rounds",
        figure=f"{ours:.0f} messages/s",
        alternative=f"receive ten, handle each, delete each, in boto3: {plain:.0f} messages/s",
        ratio=ours / plain,
        least=3,
    )


def _by_worker(url: str) -> float:
    _fill(url, SIZE)
    with _working(url) as worker:
        began = time.perf_counter()
        while worker.counts.deleted < SIZE:
            time.sleep(0.001)
        rate = SIZE / (time.perf_counter() - began)
    assert (worker.counts.done, worker.counts.deleted) == (SIZE, SIZE)
    say(f"worker: {rate:.0f} messages/s")
    return rate


def _by_loop(url: str) -> float:
    _fill(url, SIZE)
    sqs: Any = boto3.client("sqs")
    done = 0
    began = time.perf_counter()
    while done < SIZE:
        got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in got.get("Messages", []):
            done += len(message["Body"]) > 0
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    rate = SIZE / (time.perf_counter() - began)
    say(f"plain loop: {rate:.0f} messages/s")
    return rate


def _thousands() -> Figure:
    sizes: list[float] = []
    with _queue() as url, _working(url) as worker:
        began, sent = time.perf_counter(), 0
        for window in range(MANY // WINDOW):
            held = []
            for _ in range(WINDOW // DEEP):
                _fill(url, DEEP)
                sent += DEEP
                while worker.counts.deleted < sent - DEEP // 2:
                    time.sleep(0.005)
                held.append(memory.own())
            sizes.append(statistics.median(held))
            say(f"to the {(window + 1) * WINDOW:,}th: {sizes[-1]:.1f} MB")
        while worker.counts.deleted < MANY:
            time.sleep(0.005)
        took = time.perf_counter() - began
    assert (worker.counts.received, worker.counts.done) == (MANY, MANY)
    return Figure(
        what="memory of the worker's process, late in a long run",
        size=f"{MANY:,} messages, sent meanwhile by the same process, in {took:.0f} s",
        figure=f"{sizes[-1]:.1f} MB; by {WINDOW:,}: " + ", ".join(f"{one:.1f}" for one in sizes),
        alternative=f"the second {WINDOW:,}: {sizes[1]:.1f} MB",
        ratio=sizes[-1] / sizes[1],
        least=0.9,
        most=1.05,
    )


@contextmanager
def _working(url: str) -> Iterator[Worker]:
    """A worker at work on a queue."""
    stop, seen = threading.Event(), [0]

    def handle(message: Message) -> None:
        seen[0] += len(message.body) > 0

    worker = Worker(client("sqs", read_timeout=25), url, handle, receive_wait_time=1)
    thread = threading.Thread(target=worker.run, args=[stop])
    thread.start()
    yield worker
    stop.set()
    thread.join()


def _fill(url: str, count: int) -> None:
    for _ in range(count // 10):
        client("sqs", read_timeout=25).send_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(number), "MessageBody": BODY} for number in range(10)],
        )
