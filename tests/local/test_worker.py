"""`recourse worker` as a process: killed, told to stop, and told twice."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from recourse.local.aws import client, write_config
from recourse.local.emulator import Emulator
from recourse.queues.message import Message
from recourse.queues.worker.worker import Worker
from tests import ROOT
from tests.patience import PATIENCE
from tests.worker import handlers

pytestmark = pytest.mark.xdist_group("emulator")

Process = subprocess.Popen[str]


@pytest.fixture
def url(closed: Emulator) -> str:
    """The address of an emulator with a table for effects."""
    client("dynamodb", closed.url).create_table(
        TableName=handlers.TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return closed.url


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a worker on a queue, which stays with one message."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    file = tmp_path / "aws.config"
    write_config(file, url)
    ours |= {
        "AWS_CONFIG_FILE": str(file),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,  # whatever the user has
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as ends:

        def start(queue: str, *, hold: str) -> Process:
            options = (
                *("--queue", queue, "--handler", "tests.worker.handlers:count", "--json"),
                *("--in-flight", "8", "--visibility", "2"),
            )
            process = subprocess.Popen(
                [sys.executable, "-m", "recourse", "worker", *options],
                cwd=ROOT,
                env=ours | {"HOLD": hold},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield start


def made(url: str, name: str, **attributes: str) -> tuple[Any, str]:
    """A client, and the address of a new queue."""
    sqs = client("sqs", url)
    return sqs, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def effects(url: str) -> dict[str, int]:
    rows = client("dynamodb", url).scan(TableName=handlers.TABLE)["Items"]
    return {
        row["pk"]["S"].removeprefix("effect#"): int(row["times"]["N"])
        for row in rows
        if "times" in row
    }


def line(process: Process, words: str) -> dict[str, Any]:
    """Wait for the line of a process's log that says so."""
    assert process.stderr
    for text in process.stderr:
        told: dict[str, Any] = json.loads(text)
        if told["message"] == words:
            return told
    raise AssertionError(f"it has never said {words}")


def test_a_worker_that_is_killed_loses_nothing_and_does_nothing_twice(
    url: str, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs, queue = made(url, "killed")
    bodies = [f"k{number}" for number in range(30)]
    for body in [*bodies, *bodies[:5]]:
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    process = start("killed", hold="k20")
    assert process.stdout and process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    done = effects(url)
    assert done["k20"] == 1, "it has taken effect, and its message is still there"
    # Another comes after it.
    stop = threading.Event()
    monkeypatch.setattr(handlers, "client", lambda service: client(service, url))
    handlers.inbox.cache_clear()
    seen: list[str] = []

    def count(message: Message) -> None:
        handlers.count(message)
        seen.append(message.body)
        if seen.count("k20") and effects(url).keys() >= set(bodies):
            stop.set()

    late = threading.Timer(PATIENCE, stop.set)
    late.start()
    Worker(sqs, queue, count, max_in_flight=8, receive_wait_time=1).run(stop)
    late.cancel()
    handlers.inbox.cache_clear()
    assert "k20" in seen, "it came again"
    assert effects(url) == dict.fromkeys(bodies, 1)


def test_a_worker_that_is_told_to_stop_ends_in_order(
    url: str, start: Callable[..., Process]
) -> None:
    sqs, queue = made(url, "stopped.fifo", FifoQueue="true")
    for body in ("s1", "s2"):
        sqs.send_message(
            QueueUrl=queue, MessageBody=body, MessageGroupId="a", MessageDeduplicationId=body
        )
    process = start("stopped.fifo", hold="s1")
    assert process.stdout and process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGTERM)
    line(process, "stopping")
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.close()
    ended = line(process, "ended")
    assert process.wait(PATIENCE) == 0
    # The receive that was under way may have brought it again.
    assert (ended["done"], ended["deleted"]) == (1, 1) and ended["given_back"] >= 1
    (left,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert left["Body"] == "s2", "it is there at once"


def test_a_worker_that_is_told_twice_ends_at_once(url: str, start: Callable[..., Process]) -> None:
    sqs, queue = made(url, "twice")
    sqs.send_message(QueueUrl=queue, MessageBody="t1")
    process = start("twice", hold="t1")
    assert process.stdout and process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGTERM)
    line(process, "stopping")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == -signal.SIGTERM


@pytest.fixture
def restored_log() -> Iterator[None]:
    """The command sets the log up for its process, to an output that ends with the command."""
    logger = logging.getLogger("recourse")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.mark.usefixtures("restored_log")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--queue", "nowhere", "--handler", "os:getcwd"], "--queue nowhere: "),
        (["--queue", "any", "--handler", "os"], "package.module:function"),
        (["--queue", "any", "--handler", "nowhere:f"], "ModuleNotFoundError"),
        (["--queue", "any", "--handler", "os:nothing"], "AttributeError"),
        (["--queue", "any", "--handler", "os:sep"], "not a function"),
        (
            ["--queue", "any", "--handler", "os:getcwd", "--in-flight", "0"],
            "--in-flight must be 1 to 1000, got 0",
        ),
    ],
)
def test_what_cannot_work_is_said_in_a_line(
    url: str, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    from typer.testing import CliRunner

    from recourse.cli import worker as command
    from recourse.cli.exits import Exit
    from recourse.cli.main import app

    made(url, "any")
    monkeypatch.setattr(command, "client", lambda service, **_: client(service, url))
    answer = CliRunner().invoke(app, ["worker", *options])
    assert answer.exit_code == (Exit.FAILED if "nowhere: " in said else Exit.USAGE)
    assert said in " ".join(answer.stderr.split()) and "Traceback" not in answer.stderr
