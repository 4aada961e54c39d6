"""`recourse worker`: takes the messages of a queue until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from botocore.exceptions import BotoCoreError, ClientError

from cli.command import UsageError, tells
from recourse.queues.message import Handler
from recourse.queues.worker.worker import QueueUnavailableError, SettingError, StuckError, Worker
from recourse.store.aws import client

POLL = 20
"""Seconds that a receive waits for messages."""
CONFIGURED = "AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the credentials are the environment's"
OPTIONS = {
    "max_in_flight": "--in-flight",
    "visibility_timeout": "--visibility",
    "handler_timeout": "--limit",
    "retry_backoff_initial": "--backoff",
    "retry_backoff_cap": "--cap",
}
"""What sets the worker's settings, of those that have bounds."""


@tells
def worker(
    queue: Annotated[str, typer.Option(help="The queue: its address, or its name.")],
    handler: Annotated[
        str, typer.Option(help="What takes a message: package.module:function. Also found here.")
    ],
    in_flight: Annotated[int, typer.Option(help="How many messages are taken at once.")] = 16,
    visibility: Annotated[
        int,
        typer.Option(help="Seconds that a message is hidden from others; renewed while needed."),
    ] = 30,
    limit: Annotated[
        int, typer.Option(help="Seconds after which a handler hangs: its message comes again.")
    ] = 300,
    backoff: Annotated[
        float,
        typer.Option(help="Seconds, at most, before a failed message comes again; doubles."),
    ] = 1,
    cap: Annotated[float, typer.Option(help="Seconds that this grows to.")] = 300,
    grace: Annotated[
        float, typer.Option(help="Seconds that handlers may still take when it has to stop.")
    ] = 25,
    interval: Annotated[float, typer.Option(help="Seconds between two lines of counts.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON, a line each.")] = False,
) -> None:
    """Take the messages of an SQS queue with a handler, until Ctrl-C or SIGTERM.

    The handler is a function that takes a recourse.queues.message.Message. Where it
    returns, the message is deleted. Where it raises, the message comes again
    after a back-off, as often as its queue allows, and is then dead-lettered with
    the reason. A message may come twice. In a FIFO queue each group is taken
    in order.

    Where AWS is, and as whom to ask it, the environment says, as for AWS's own
    tools: AWS_CONFIG_FILE=.local/cloud/aws.config is the local cloud.

    Told to stop, it receives no more, lets what has begun come to its end and
    gives back the rest. Told again, it ends at once; what it had comes again.

    For instance: recourse worker --queue jobs --handler mine.jobs:handle
    """
    _log(as_json)
    taking = load(handler)
    stop = threading.Event()
    try:
        sqs = client("sqs", read_timeout=POLL + 5)
        made = Worker(
            sqs,
            _url(sqs, queue),
            taking,
            max_in_flight=in_flight,
            visibility_timeout=visibility,
            handler_timeout=limit,
            retry_backoff_initial=backoff,
            retry_backoff_cap=cap,
            shutdown_graceful_timeout=grace,
            receive_wait_time=POLL,
            log_interval=interval,
        )
        _stop_by_signal(stop)
        made.run(stop)
    except SettingError as problem:
        raise UsageError(f"{OPTIONS[problem.setting]} {problem.problem}") from problem
    except (QueueUnavailableError, StuckError) as problem:
        raise UsageError(str(problem)) from problem
    except (ClientError, BotoCoreError) as problem:
        raise UsageError(f"--queue {queue}: {problem} ({CONFIGURED})") from problem


def load(named: str) -> Handler:
    """The handler that is named `package.module:function`; modules are also found here.

    Raises:
        UsageError: There is none; the message says why.
    """
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise UsageError(f"--handler {named}: name it as package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(import_module(module), name)
    except Exception as problem:
        why = f"{type(problem).__name__}: {problem}"
        raise UsageError(f"--handler {named} cannot be imported: {why}") from problem
    if not callable(found):
        raise UsageError(f"--handler {named} is no function")
    handler: Handler = found
    return handler


def _url(sqs: Any, queue: str) -> str:
    if queue.startswith(("http://", "https://")):
        return queue
    return str(sqs.get_queue_url(QueueName=queue)["QueueUrl"])


def _stop_by_signal(stop: threading.Event) -> None:
    """Stop in order at the first signal; the second does what it always does, at once."""

    def told(number: int, _: FrameType | None) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        stop.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, told)


def _log(as_json: bool) -> None:
    """Log to stderr: for a person, or JSON with every field."""
    handler = logging.StreamHandler()
    handler.setFormatter(LambdaPowertoolsFormatter() if as_json else _Plain())
    logger = logging.getLogger("recourse")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Plain(logging.Formatter):
    """A line with what it is about behind it."""

    usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        about = {k: v for k, v in vars(record).items() if k not in self.usual}
        words = [f"{name}={value}" for name, value in about.items()]
        time = self.formatTime(record, "%H:%M:%S")
        line = " ".join([time, record.levelname.lower(), record.getMessage(), *words])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
