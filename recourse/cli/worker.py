"""`recourse worker`: handles the messages of a queue until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from botocore.exceptions import BotoCoreError, ClientError

from recourse.cli.exits import FailedError, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.visible import visible
from recourse.queues.message import Handler
from recourse.queues.worker.worker import QueueUnavailableError, SettingError, StuckError, Worker
from recourse.store.aws import client

POLL = 20
"""Seconds that a receive waits for messages (long polling)."""
CONFIGURED = "check AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the credentials in the environment"
OPTIONS = {
    "max_in_flight": "--in-flight",
    "visibility_timeout": "--visibility",
    "handler_timeout": "--limit",
    "retry_backoff_initial": "--backoff",
    "retry_backoff_cap": "--cap",
}
"""The option of each setting that has bounds."""


def worker(
    queue: Annotated[str, typer.Option(help="URL or name of the queue.")],
    handler: Annotated[
        str, typer.Option(help="package.module:function; the current folder is searched too.")
    ],
    in_flight: Annotated[int, typer.Option(help="Most messages that are handled at a time.")] = 16,
    visibility: Annotated[
        int,
        typer.Option(
            help="Visibility timeout of a message in seconds; renewed while it is handled."
        ),
    ] = 30,
    limit: Annotated[
        int,
        typer.Option(
            help="Seconds after which a handler counts as hung; its message is redelivered."
        ),
    ] = 300,
    backoff: Annotated[
        float,
        typer.Option(help="Most seconds before the first retry of a message; doubles each time."),
    ] = 1,
    cap: Annotated[float, typer.Option(help="Most seconds before any retry.")] = 300,
    grace: Annotated[
        float, typer.Option(help="Seconds that handlers have to finish after a stop signal.")
    ] = 25,
    interval: Annotated[
        float, typer.Option(help="Seconds between two log lines with counts.")
    ] = 60,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Log JSON, one object a line; print the counts at the end."),
    ] = False,
) -> None:
    """Handle the messages of an SQS queue, until Ctrl-C or SIGTERM.

    The handler is a function of one argument, a recourse.Message. If it
    returns, the message is deleted. If it raises, the message is retried with
    back-off as often as its queue allows, and then dead-lettered with the
    reason. A message may be delivered twice. In a FIFO queue each group is
    handled in order.

    Endpoint, region and credentials come from the environment, as for AWS's own
    tools: AWS_CONFIG_FILE=.local/cloud/aws.config is the local cloud.

    After a stop signal it receives no more messages, lets running handlers
    finish and returns the rest to the queue. A second signal ends it at once;
    its messages are redelivered.

    Example: recourse worker --queue jobs --handler mine.jobs:handle
    """
    _log(as_json)
    # With --json all that is on stdout are the counts, whatever the handler prints.
    prints = redirect_stdout(sys.stderr) if as_json else nullcontext()
    handle = load(handler)
    stop = threading.Event()
    try:
        sqs = client("sqs", read_timeout=POLL + 5)
        made = Worker(
            sqs,
            _url(sqs, queue),
            handle,
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
        with prints:
            counts = made.run(stop)
    except SettingError as problem:
        raise UsageError(f"{OPTIONS[problem.setting]} {problem.problem}") from problem
    except (QueueUnavailableError, StuckError) as problem:
        raise FailedError(str(problem)) from problem
    except (ClientError, BotoCoreError) as problem:
        raise FailedError(f"--queue {queue}: {problem} ({CONFIGURED})") from problem
    if as_json:
        print_json(counts.log_fields)


def load(named: str) -> Handler:
    """The handler at `package.module:function`; the current folder is searched too.

    Raises:
        UsageError: It cannot be found; the message says why.
    """
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise UsageError(f"--handler must be package.module:function, got {named!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(import_module(module), name)
    except Exception as problem:
        why = f"{type(problem).__name__}: {problem}"
        raise UsageError(f"--handler {named} cannot be imported: {why}") from problem
    if not callable(found):
        raise UsageError(f"--handler {named} is not a function")
    handler: Handler = found
    return handler


def _url(sqs: Any, queue: str) -> str:
    if queue.startswith(("http://", "https://")):
        return queue
    return str(sqs.get_queue_url(QueueName=queue)["QueueUrl"])


def _stop_by_signal(stop: threading.Event) -> None:
    """Stop gracefully at the first signal; the second has its default effect."""

    def stop_gracefully(number: int, _: FrameType | None) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        stop.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, stop_gracefully)


def _log(as_json: bool) -> None:
    """Log to stderr, as text or as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(LambdaPowertoolsFormatter() if as_json else _Plain())
    logger = logging.getLogger("recourse")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Plain(logging.Formatter):
    """A line of text, followed by the record's extra fields."""

    usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        about = {k: v for k, v in vars(record).items() if k not in self.usual}
        words = [f"{name}={value}" for name, value in about.items()]
        time = self.formatTime(record, "%H:%M:%S")
        lines = [" ".join([time, record.levelname.lower(), record.getMessage(), *words])]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(map(visible, lines))
