"""The public face of the worker: its settings, its threads, how it starts and ends."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import RecourseError
from recourse.queues.deadletters import FIFO_SUFFIX
from recourse.queues.message import Handler
from recourse.queues.sources import RETRY_BACKOFF_CAP, RETRY_BACKOFF_INITIAL, SourceQueue
from recourse.queues.worker.capacity import Capacity, Counts
from recourse.queues.worker.deleter import Deleter
from recourse.queues.worker.delivery import BATCH
from recourse.queues.worker.lanes import Lanes
from recourse.queues.worker.leases import Heartbeat, Leases
from recourse.queues.worker.receiver import Receiver
from recourse.queues.worker.runner import Runner
from recourse.queues.worker.settlement import Settlement

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

MAX_CALLS = 4
"""How many receives, and how many deletes, are under way at once at the most."""
FINAL_DELETE_TIMEOUT = 5
"""Seconds for which the worker waits for the last deletes when it ends."""
MAX_VISIBILITY_TIMEOUT = 12 * 3600
"""Seconds for which SQS keeps a message invisible at the most: 12 hours."""

logger = logging.getLogger(__name__)


class SettingError(RecourseError, ValueError):
    """A setting is out of its bounds.

    Attributes:
        setting: Its name.
        problem: What it must be, and what it is: `must be 1 to 1000, got 0`.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting} {problem}")
        self.setting = setting
        self.problem = problem


class QueueUnavailableError(RecourseError):
    """The queue does not exist, or access is denied; the message says which and why."""


class StuckError(RecourseError):
    """Every handler hangs: only a new process can continue. Their messages are redelivered."""


class Worker:
    """Receives the messages of one queue, and gives each to a handler.

    For instance, until another thread or a signal sets `stop`::

        stop = threading.Event()
        sqs = boto3.client("sqs", config=Config(read_timeout=25))
        counts = Worker(sqs, queue_url, handle, max_in_flight=32).run(stop)

    Args:
        sqs: An SQS client; its read timeout has to be longer than `receive_wait_time`.
        queue_url: The queue.
        handler: Processes a message; raises where it could not. It runs in threads.
        max_in_flight: How many messages are in flight at the most, and so how many handlers run at
            once: 1 to 1,000.
        visibility_timeout: Seconds for which a received message is invisible to others; the
            heartbeat renews it.
        handler_timeout: Seconds after which a handler counts as hanging: its message is left to be
            redelivered.
        retry_backoff_initial: Seconds before a failed message is retried, at the most: the delay is
            random below a bound that doubles with each further receive.
        retry_backoff_cap: Seconds to which that bound grows.
        shutdown_graceful_timeout: Seconds that handlers may still take once the worker is told to
            stop.
        receive_wait_time: Seconds for which a receive waits for messages, 20 at the most.
        log_interval: Seconds between two lines of counts in the log.

    Attributes:
        counts: What it has done so far.

    Raises:
        SettingError: A setting is out of its bounds.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        handler: Handler,
        *,
        max_in_flight: int = 16,
        visibility_timeout: int = 30,
        handler_timeout: float = 300,
        retry_backoff_initial: float = RETRY_BACKOFF_INITIAL,
        retry_backoff_cap: float = RETRY_BACKOFF_CAP,
        shutdown_graceful_timeout: float = 25,
        receive_wait_time: int = 20,
        log_interval: float = 60,
    ) -> None:
        for name, value, least, most in (
            ("max_in_flight", max_in_flight, 1, 1000),
            ("visibility_timeout", visibility_timeout, 1, MAX_VISIBILITY_TIMEOUT),
            ("handler_timeout", handler_timeout, 0, MAX_VISIBILITY_TIMEOUT / 2),
            ("retry_backoff_initial", retry_backoff_initial, 0, MAX_VISIBILITY_TIMEOUT / 2),
            ("retry_backoff_cap", retry_backoff_cap, 0, MAX_VISIBILITY_TIMEOUT / 2),
            ("receive_wait_time", receive_wait_time, 0, 20),
        ):
            if not least <= value <= most:
                raise SettingError(name, f"must be {least:g} to {most:g}, got {value:g}")
        self._sqs = sqs
        self._url = queue_url
        self._max_in_flight = max_in_flight
        self._handler_timeout = handler_timeout
        self._shutdown_graceful_timeout = shutdown_graceful_timeout
        self._log_interval = log_interval
        self._stopping = threading.Event()
        self._capacity = Capacity(max_in_flight, self._stopping)
        self._lanes = Lanes(self._stopping)
        self._leases = Leases(visibility_timeout, handler_timeout, self._stopping)
        self._deleter = Deleter(sqs, queue_url, self._leases, self._capacity)
        self._settlement = Settlement(self._capacity, self._lanes, self._leases, self._deleter)
        self._heartbeat = Heartbeat(
            sqs, queue_url, self._leases, self._settlement.expire, handler_timeout=handler_timeout
        )
        self._receiver = Receiver(
            sqs,
            queue_url,
            self._capacity,
            self._settlement,
            self._stopping,
            fifo=queue_url.endswith(FIFO_SUFFIX),
            visibility_timeout=visibility_timeout,
            receive_wait_time=receive_wait_time,
        )
        self._make_runner = partial(
            Runner,
            handler,
            self._lanes,
            self._settlement,
            retry_backoff_initial=retry_backoff_initial,
            retry_backoff_cap=retry_backoff_cap,
        )

    @property
    def counts(self) -> Counts:
        """What it has done so far."""
        return self._capacity.counts

    def run(self, stop: threading.Event) -> Counts:
        """Process messages until told to stop, finish what has begun and give back the rest.

        A worker runs once. Errors of SQS do not end it: it retries, with a back-off.

        Args:
            stop: Tells it to stop.

        Returns:
            What it has done.

        Raises:
            QueueUnavailableError: The queue does not exist, or access is denied.
            StuckError: Every handler hangs.
        """
        arn, max_receives = self._described()
        runner = self._make_runner(SourceQueue(lambda: self._sqs, arn), max_receives=max_receives)
        calls = min(MAX_CALLS, -(-self._max_in_flight // BATCH))
        for _ in range(self._max_in_flight):
            _start("handler", runner.run)
        finishing = [_start("deletes", self._deleter.run) for _ in range(calls)]
        finishing.append(_start("visibility", self._heartbeat.run))
        for number in range(calls):
            _start("receives", partial(self._receiver.run, even_idle=number == 0))
        logger.info("started", extra={"queue": self._url, "in_flight": self._max_in_flight})
        try:
            is_stuck = self._watch(stop)
            self._drain()
        finally:
            self._end(finishing)
        if is_stuck:
            raise StuckError(
                f"all of {self._max_in_flight} handlers hang, for {self._handler_timeout:g} s now"
            )
        return self.counts

    def _described(self) -> tuple[str, int | None]:
        """The queue's ARN, and how often it delivers a message before it dead-letters it."""
        try:
            found = self._sqs.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn", "RedrivePolicy"]
            )["Attributes"]
        except (ClientError, BotoCoreError) as problem:
            raise QueueUnavailableError(f"{self._url}: {problem}") from problem
        policy = json.loads(found.get("RedrivePolicy") or "{}")
        receives = policy.get("maxReceiveCount")
        return found["QueueArn"], int(receives) if receives else None

    def _watch(self, stop: threading.Event) -> bool:
        """Log the counts at intervals until told to stop; True if all handlers hang before."""
        reported = time.monotonic()
        while not self._capacity.is_stuck:
            if stop.wait(min(1, self._log_interval)):
                return False
            if time.monotonic() - reported >= self._log_interval:
                self._report("working")
                reported = time.monotonic()
        return True

    def _drain(self) -> None:
        """Receive no more, let what has begun finish, and give back what has not."""
        # Set before anything is drained: see `Lanes.enter` and `Leases.begin`.
        self._stopping.set()
        self._capacity.close()
        self._settlement.give_back(self._lanes.drain())
        logger.info("stopping", extra={"in_flight": self._capacity.in_use})
        timeout = self._shutdown_graceful_timeout
        self._capacity.wait_until_idle(timeout)
        self._settlement.expire(
            self._leases.expire(), f"takes more than {timeout:g} s to end, will be redelivered"
        )

    def _end(self, finishing: list[threading.Thread]) -> None:
        """Let the threads end, those of the deletes and of visibility once all is done."""
        self._stopping.set()
        self._capacity.close()
        self._lanes.end(self._max_in_flight)
        self._leases.close()
        self._deleter.close()
        until = time.monotonic() + FINAL_DELETE_TIMEOUT
        for thread in finishing:
            thread.join(max(0.0, until - time.monotonic()))
        self._deleter.give_up()
        for thread in finishing:
            thread.join(max(0.0, until + 1 - time.monotonic()))
        self._report("ended")

    def _report(self, what: str) -> None:
        sent_at = self._leases.oldest_sent_at
        age = 0.0 if sent_at is None else time.time() - sent_at
        logger.info(what, extra=self._capacity.log_fields | {"age": round(age, 1)})


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    """Start a thread that the process does not wait for: a handler may never return."""
    thread = threading.Thread(target=run, name=f"worker {name}", daemon=True)
    thread.start()
    return thread
