"""The worker: takes the messages of an SQS queue and gives each to a handler, many at a time.

A message is received only when a handler has time for it, so none waits here while another worker
could take it; only in a FIFO queue those behind a message of the same group wait for it, which
nobody else could take either. What is here is kept invisible to others by a heartbeat until it is
deleted, put off or given back. Whatever happens to the worker, a message that was not deleted comes
again: once its visibility has ended, another worker has it.

All changes of visibility are made by one thread, one after another: when a handler fails, its
message leaves the heartbeat before its back-off is queued, so no heartbeat can come after that and
overwrite it.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import words
from recourse.errors import PoisonError, RecourseError, TransientError
from recourse.queues.deadletters import FIFO
from recourse.queues.message import Handler, Message
from recourse.queues.sources import CAP, FIRST, SourceQueue, backoff

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

BATCH = 10
"""How many messages SQS takes and gives in one call."""
POLLS = 4
"""How many receives, and how many deletes, are under way at once where there is enough to do."""
LINGER = 0.01
"""Seconds for which a receive waits for more handlers to have time."""
FLUSH = 0.05
"""Seconds after which what is done is deleted, though fewer than ten."""
UNDELETED = 100
"""How many messages may wait to be deleted before no more are received."""
LAST_FLUSH = 5
"""Seconds that the last deletes may take when the worker ends."""
LONGEST = 12 * 3600
"""Seconds for which SQS keeps a message invisible at the most."""
SLOWEST_POLL = 30
"""Seconds at the most between two receives while SQS answers none."""

logger = logging.getLogger(__name__)


class SettingError(RecourseError, ValueError):
    """A setting is out of its bounds; the message names it."""


class QueueUnavailableError(RecourseError):
    """The queue is not there, or may not be used; the message says which and why."""


class StuckError(RecourseError):
    """Every handler hangs: only a new process can go on. What they had comes again."""


@dataclass
class Counts:
    """What a worker has done.

    Attributes:
        received: Messages received.
        done: Messages that the handler has returned from.
        failed: Messages that the handler has raised for, and that come again.
        set_aside: Messages that went to the dead-letter queue, with their reason.
        given_back: Messages that had not begun, and are there again at once.
        left: Messages whose visibility was not extended any more: the handler took too long, or
            they waited too long.
        deleted: Messages deleted.
    """

    received: int = 0
    done: int = 0
    failed: int = 0
    set_aside: int = 0
    given_back: int = 0
    left: int = 0
    deleted: int = 0


@dataclass(eq=False, slots=True)
class _Held:
    """A message in hand.

    Attributes:
        record: The message as Lambda gets it.
        message: The message as the handler gets it.
        lane: What it has its place in, where the queue is FIFO.
        hidden_until: When others see it again, by our clock.
        state: How far it is.
        begun: When the handler was given it.
    """

    record: Mapping[str, Any]
    message: Message
    lane: str | None
    hidden_until: float
    state: Literal["waiting", "running", "done", "left"] = "waiting"
    begun: float = 0.0

    @property
    def receipt(self) -> str:
        """What SQS knows this receive by."""
        return str(self.record["receiptHandle"])


class Worker:
    """Takes the messages of one queue.

    Args:
        sqs: An SQS client; it has to wait for an answer longer than `wait`.
        queue_url: The queue.
        handler: Takes a message; raises where it is not done with. It runs in threads.
        in_flight: How many messages are in hand at the most, and so how many handlers run at once.
        visibility: Seconds for which a message that is in hand is hidden from others; the heartbeat
            renews it.
        limit: Seconds after which a handler is taken to hang: its message is left to come again.
        first: Seconds, at the most, before a message that has failed comes again; twice as many
            after each further receive, and by chance anything below.
        cap: Seconds that this grows to.
        grace: Seconds that handlers may still take when the worker is told to stop.
        wait: Seconds that a receive waits for messages, 20 at the most.
        interval: Seconds between two lines of counts in the log.

    Raises:
        SettingError: A setting is out of its bounds.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue_url: str,
        handler: Handler,
        *,
        in_flight: int = 16,
        visibility: int = 30,
        limit: float = 300,
        first: float = FIRST,
        cap: float = CAP,
        grace: float = 25,
        wait: int = 20,
        interval: float = 60,
    ) -> None:
        for name, value, least, most in (
            ("in_flight", in_flight, 1, 1000),
            ("visibility", visibility, 1, LONGEST),
            ("limit", limit, 0, LONGEST / 2),
            ("first", first, 0, LONGEST / 2),
            ("cap", cap, 0, LONGEST / 2),
            ("wait", wait, 0, 20),
        ):
            if not least <= value <= most:
                raise SettingError(f"{name} is {value:g}: {least:g} to {most:g} is possible")
        self._sqs = sqs
        self._url = queue_url
        self._handler = handler
        self._in_flight = in_flight
        self._visibility = visibility
        self._limit = limit
        self._first = first
        self._cap = cap
        self._grace = grace
        self._wait = wait
        self._interval = interval
        self._fifo = queue_url.endswith(FIFO)
        self.counts = Counts()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._ended = threading.Condition(self._lock)
        self._changed = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._over = False
        self._given_up = threading.Event()
        self._noise = random.Random()
        self._held: set[_Held] = set()
        self._lanes: dict[str, deque[_Held]] = {}
        self._ready: SimpleQueue[_Held | None] = SimpleQueue()
        self._done: deque[_Held] = deque()
        self._changes: list[tuple[_Held, int]] = []
        self._taken = 0
        self._asked = 0
        self._hung = 0
        self._flowing = False

    def run(self, stop: threading.Event) -> Counts:
        """Take messages until told to stop, finish what has begun and give back the rest.

        A worker runs once. Whatever SQS answers meanwhile, it goes on trying.

        Args:
            stop: Tells it to stop.

        Returns:
            What it has done.

        Raises:
            QueueUnavailableError: There is no such queue, or it may not be used.
            StuckError: Every handler hangs.
        """
        self._arn, self._receives = self._described()
        self._source = SourceQueue(lambda: self._sqs, self._arn)
        polls = min(POLLS, -(-self._in_flight // BATCH))
        handlers = [self._thread("handler", self._handle_each) for _ in range(self._in_flight)]
        savers = [self._thread("deletes", self._delete_each) for _ in range(polls)]
        savers.append(self._thread("visibility", self._keep))
        for number in range(polls):
            self._thread("receives", partial(self._receive_each, first=number == 0))
        logger.info("started", extra={"queue": self._url, "in_flight": self._in_flight})
        told = time.monotonic()
        try:
            while not (stuck := self._is_stuck) and not stop.wait(min(1, self._interval)):
                if time.monotonic() - told >= self._interval:
                    self._report("working")
                    told = time.monotonic()
            self._drain()
        finally:
            with self._lock:
                self._stopping.set()
                self._over = True
                for condition in (self._room, self._ended, self._changed):
                    condition.notify_all()
            for _ in handlers:
                self._ready.put(None)
            until = time.monotonic() + LAST_FLUSH
            for saver in savers:
                saver.join(max(0.0, until - time.monotonic()))
            self._given_up.set()
            for saver in savers:
                saver.join(max(0.0, until + 1 - time.monotonic()))
            self._report("ended")
        if stuck:
            raise StuckError(f"all of {self._in_flight} handlers hang, for {self._limit:g} s now")
        return self.counts

    def _described(self) -> tuple[str, int | None]:
        """The queue's ARN, and how often it delivers a message before it sets it aside."""
        try:
            found = self._sqs.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn", "RedrivePolicy"]
            )["Attributes"]
        except (ClientError, BotoCoreError) as problem:
            raise QueueUnavailableError(f"{self._url}: {problem}") from problem
        policy = json.loads(found.get("RedrivePolicy") or "{}")
        receives = policy.get("maxReceiveCount")
        return found["QueueArn"], int(receives) if receives else None

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        """A thread that a hanging handler cannot make the process wait for."""
        made = threading.Thread(target=run, name=f"worker {name}", daemon=True)
        made.start()
        return made

    # Receiving.

    def _receive_each(self, *, first: bool) -> None:
        failures = 0
        while room := self._reserve(first=first):
            got: list[_Held] = []
            try:
                got = self._receive(room)
                failures = 0
            except Exception as problem:
                failures += 1
                logger.warning("nothing was received: %s", words(problem))
            self._take(room, got)
            if failures:
                most = min(SLOWEST_POLL, 0.1 * 2 ** min(failures, 10))
                self._stopping.wait(self._noise.uniform(most / 2, most))

    def _reserve(self, *, first: bool) -> int:
        """Wait until handlers have time; for how many messages. None when the worker stops.

        An idle queue is asked by the first receiver alone.
        """

        def free() -> int:
            if len(self._held) >= self._in_flight + UNDELETED:
                return 0
            return max(0, self._in_flight - self._taken - self._asked)

        def may() -> bool:
            return self._stopping.is_set() or (free() > 0 and (first or self._flowing))

        def full() -> bool:
            return self._stopping.is_set() or free() >= min(BATCH, self._in_flight)

        with self._room:
            room = 0
            while not room:
                self._room.wait_for(may)
                if self._taken and not full():
                    self._room.wait_for(full, timeout=LINGER)
                if self._stopping.is_set():
                    return 0
                room = min(BATCH, free())
            self._asked += room
        return room

    def _receive(self, room: int) -> list[_Held]:
        got = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=room,
            VisibilityTimeout=self._visibility,
            WaitTimeSeconds=self._wait,
            AttributeNames=["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp"],
            MessageAttributeNames=["All"],
        )
        hidden_until = time.monotonic() + self._visibility
        held = []
        for one in got.get("Messages", []):
            record = {
                "messageId": one["MessageId"],
                "receiptHandle": one["ReceiptHandle"],
                "body": one["Body"],
                "attributes": one["Attributes"],
                "messageAttributes": {
                    name: {"stringValue": given["StringValue"], "dataType": given["DataType"]}
                    for name, given in one.get("MessageAttributes", {}).items()
                    if "StringValue" in given
                },
            }
            message = Message.of(record)
            held.append(_Held(record, message, message.group if self._fifo else None, hidden_until))
        return held

    def _take(self, room: int, got: Sequence[_Held]) -> None:
        """Take in what was received, each message at the end of its lane."""
        with self._lock:
            self._asked -= room
            self._flowing = bool(got)
            self.counts.received += len(got)
            self._taken += len(got)
            for held in got:
                self._held.add(held)
                if held.lane is None:
                    self._ready.put(held)
                elif held.lane in self._lanes:
                    self._lanes[held.lane].append(held)
                else:
                    self._lanes[held.lane] = deque()
                    self._ready.put(held)
            self._room.notify_all()
            self._quiet.notify_all()

    # Handling.

    def _handle_each(self) -> None:
        while held := self._ready.get():
            if not self._begin(held):
                continue
            problem: BaseException | None = None
            try:
                self._handler(held.message)
            except BaseException as raised:
                problem = raised
            if problem is None:
                self._finish(held, "done")
            elif held.state != "left" and self._set_aside(held, problem):
                self._finish(held, "set_aside")
            else:
                self._fail(held, problem)

    def _begin(self, held: _Held) -> bool:
        with self._lock:
            if self._stopping.is_set():
                self._give_back(held)
                self._go_on(held.lane, after_failure=True)
                return False
            now = time.monotonic()
            # A sixth is what the heartbeat needs to be in time.
            if now > held.hidden_until - self._visibility / 6:
                self._let_go(held)
                self.counts.left += 1
                self._go_on(held.lane, after_failure=True)
                logger.warning("waited too long, and comes again", extra=_about(held))
                return False
            held.state, held.begun = "running", now
        return True

    def _finish(self, held: _Held, outcome: Literal["done", "set_aside"]) -> None:
        """What is done with is deleted, though it may have been left before."""
        with self._lock:
            was_left = held.state == "left"
            self._free(held)
            held.state = "done"
            self._done.append(held)
            self._ended.notify()
            if outcome == "done":
                self.counts.done += 1
            else:
                self.counts.set_aside += 1
            if not was_left:
                self._go_on(held.lane)

    def _fail(self, held: _Held, problem: BaseException) -> None:
        """Put a message off, and give back what waits behind it."""
        pause = backoff(held.message.receives, self._first, self._cap)
        logger.warning(
            "failed: %s", words(problem), extra=_about(held) | {"pause": pause}, exc_info=problem
        )
        with self._lock:
            was_left = held.state == "left"
            self._free(held)
            if was_left:
                return  # somebody else may have it by now
            self.counts.failed += 1
            self._held.discard(held)
            self._change(held, pause)
            self._go_on(held.lane, after_failure=True)

    def _set_aside(self, held: _Held, problem: BaseException) -> bool:
        """Set aside what is poison, or fails for the last time; whether it was."""
        is_last = self._receives is not None and held.message.receives >= self._receives
        if self._receives is None or not (is_last or isinstance(problem, PoisonError)):
            return False
        try:
            self._source.set_aside(held.record, words(problem))
        except TransientError as another:
            logger.warning(str(another), extra=_about(held))
            return False
        logger.error("set aside: %s", words(problem), extra=_about(held), exc_info=problem)
        return True

    def _go_on(self, lane: str | None, *, after_failure: bool = False) -> None:
        """Let the next of a lane begin, or give back what waits in it."""
        if lane is None or lane not in self._lanes:
            return
        waiting = self._lanes[lane]
        if after_failure:
            for held in waiting:
                self._give_back(held)
            del self._lanes[lane]
        elif waiting:
            self._ready.put(waiting.popleft())
        else:
            del self._lanes[lane]

    def _give_back(self, held: _Held) -> None:
        self._let_go(held)
        self.counts.given_back += 1
        self._change(held, 0)

    def _let_go(self, held: _Held) -> None:
        self._held.discard(held)
        self._free(held)

    def _free(self, held: _Held) -> None:
        """Make room for another."""
        self._taken -= 1
        self._hung -= held.state == "left"
        self._room.notify_all()
        self._quiet.notify_all()

    # Visibility.

    def _change(self, held: _Held, seconds: int) -> None:
        self._changes.append((held, seconds))
        self._changed.notify()

    def _keep(self) -> None:
        """Make every change of visibility, one after another, the heartbeat's among them."""
        every = self._visibility / 6
        beat = time.monotonic() + every
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._changes or self._over, timeout=max(0.0, beat - time.monotonic())
                )
                changes, self._changes = self._changes, []
                if not changes and self._over:
                    return
                if time.monotonic() >= beat:
                    changes += self._beats()
                    beat = time.monotonic() + every
            for batch in _batches(changes):
                self._make(batch)

    def _beats(self) -> Iterator[tuple[_Held, int]]:
        """What has to be hidden for longer; what hangs is not."""
        now = time.monotonic()
        for held in list(self._held):
            if held.state == "running" and now - held.begun >= self._limit:
                self._leave(held, f"took more than {self._limit:g} s, and comes again")
            elif held.hidden_until - now < self._visibility * 2 / 3:
                yield held, self._visibility

    def _leave(self, held: _Held, why: str) -> None:
        """Leave a message to come again while its handler still runs."""
        held.state = "left"
        self._held.discard(held)
        self._hung += 1
        self.counts.left += 1
        self._go_on(held.lane, after_failure=True)
        self._quiet.notify_all()
        logger.error(why, extra=_about(held))

    @property
    def _is_stuck(self) -> bool:
        return self._hung >= self._in_flight

    def _make(self, changes: Sequence[tuple[_Held, int]]) -> None:
        now = time.monotonic()
        try:
            answer = self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": held.receipt,
                        "VisibilityTimeout": seconds,
                    }
                    for index, (held, seconds) in enumerate(changes)
                ],
            )
        except Exception as problem:
            logger.warning("visibility was not changed: %s", words(problem))
            return
        failed = {one["Id"]: one for one in answer.get("Failed", [])}
        for index, (held, seconds) in enumerate(changes):
            if refused := failed.get(str(index)):
                # What has been deleted meanwhile has no visibility.
                if held.state != "done":
                    logger.warning("visibility was not changed: %s", refused, extra=_about(held))
            else:
                held.hidden_until = now + seconds

    # Deleting.

    def _delete_each(self) -> None:
        failures = 0
        while not self._given_up.is_set() and (batch := self._to_delete()):
            failed = self._delete(batch)
            failures = failures + 1 if failed else 0
            if failed:
                self._given_up.wait(self._noise.uniform(0, min(1, 0.05 * 2 ** min(failures, 10))))
                with self._lock:
                    self._done.extend(failed)

    def _to_delete(self) -> list[_Held]:
        """Wait for ten, or for a moment; nothing when the worker is over."""
        with self._ended:
            while True:
                self._ended.wait_for(lambda: self._done or self._over)
                self._ended.wait_for(lambda: len(self._done) >= BATCH or self._over, timeout=FLUSH)
                batch = [self._done.popleft() for _ in range(min(BATCH, len(self._done)))]
                if batch or self._over:
                    return batch

    def _delete(self, batch: Sequence[_Held]) -> list[_Held]:
        """Delete messages; those for which it has to be tried again."""
        refused: dict[str, Any] = {}
        try:
            answer = self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": held.receipt}
                    for index, held in enumerate(batch)
                ],
            )
            refused = {one["Id"]: one for one in answer.get("Failed", [])}
        except Exception as problem:
            refused = {str(index): {"Message": words(problem)} for index in range(len(batch))}
        again = []
        with self._lock:
            for index, held in enumerate(batch):
                why = refused.get(str(index))
                if why is None:
                    self.counts.deleted += 1
                elif not why.get("SenderFault") and time.monotonic() < held.hidden_until:
                    again.append(held)
                    continue
                else:
                    logger.warning("not deleted, and comes again: %s", why, extra=_about(held))
                self._held.discard(held)
            self._room.notify_all()
        return again

    # Ending, and telling.

    def _drain(self) -> None:
        """Receive no more, let what has begun come to its end, give back what has not."""
        with self._lock:
            self._stopping.set()
            for lane in list(self._lanes):
                self._lanes[lane], waiting = deque(), self._lanes[lane]
                for held in waiting:
                    self._give_back(held)
            self._room.notify_all()
            logger.info("stopping", extra={"in_flight": self._taken})
            self._quiet.wait_for(
                lambda: not self._asked and self._taken == self._hung, timeout=self._grace
            )
            for held in [one for one in self._held if one.state == "running"]:
                self._leave(held, f"takes more than {self._grace:g} s to end, and comes again")

    def _report(self, what: str) -> None:
        with self._lock:
            sent = [int(one.record["attributes"].get("SentTimestamp", 0)) for one in self._held]
            told = asdict(self.counts) | {"in_flight": self._taken}
        age = time.time() - min(sent) / 1000 if sent else 0.0
        logger.info(what, extra=told | {"age": round(age, 1)})


def _about(held: _Held) -> dict[str, Any]:
    """What the log says of a message."""
    group = {"group": held.message.group} if held.message.group else {}
    return {"message_id": held.message.id, "receives": held.message.receives} | group


def _batches(changes: Sequence[tuple[_Held, int]]) -> Iterator[Sequence[tuple[_Held, int]]]:
    for first in range(0, len(changes), BATCH):
        yield changes[first : first + BATCH]
