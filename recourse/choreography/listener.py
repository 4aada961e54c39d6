"""The listener of a step in a choreography: receives events from its queue and runs the step.

The messages of a batch are handled in parallel, one thread each, within the step's timeout. A
message whose step fails in a way that may pass is retried, by its visibility timeout, after a
back-off with full jitter. When its attempts are used up the step is given up:

- an action before the pivot leaves a tombstone, unless it has acted after all, and publishes that
  it failed and that there is nothing to undo;
- the pivot is settled, by the claim on its marker;
- an undo, or an action after the pivot, is parked for an operator.

So an action fails only if it never acted, and the steps before it may undo at once. A message that
is not an event, or that cannot even be given up, is dead-lettered with its reason. No thread
outlives its batch: if one still hangs when its time is up, the other messages are answered for and
the process ends.

Attempts are counted in the step's inbox: at a message's first delivery when it fails, at later ones
when it begins, because the process of the one before may have died. A delivery that was throttled,
or that never reached the function, does not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recourse.choreography import tries
from recourse.choreography.routing import Trigger, trigger
from recourse.declare.limits import cut, words
from recourse.declare.shape import AnyStep, Shape, said_of
from recourse.errors import (
    RecourseError,
    Refusal,
    StepCancelledError,
    TransientError,
    UnreadableError,
    WaitingError,
)
from recourse.events import Event, inbox_expiry, moment
from recourse.ledger.shapes import Shapes
from recourse.queues.sources import SourceQueue, backoff, log_fields
from recourse.run.parking import park
from recourse.run.task import TaskRunner
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

GIVE_UP_RETRIES = 4
"""How often giving up is retried before the message is dead-lettered."""
MIN_RECEIVES = 100
"""The least that a step's queue must deliver a message: throttled deliveries never arrive."""


@dataclass(frozen=True)
class MessageResult:
    """The result of one message.

    Attributes:
        message_id: The message.
        outcome: `done`, `again` (it will be redelivered), `given up` or `set aside`
            (dead-lettered); these are names of metrics and in logs.
        about: What the log has of it: the message, its delivery, the saga, its trace, and the step
            that was to run.
        error: Why it was not done, by class name and text.
        hangs: Whether its thread is still running, so that the process has to end.
    """

    message_id: str
    outcome: str
    about: Mapping[str, Any]
    error: str | None = None
    hangs: bool = False


class Listener:
    """Receives events for the steps that one function serves.

    ::

        listener = Listener("FlightsHold", runner, shapes, dynamodb, "flights", queue)
        results = listener.handle_batch(event["Records"])

    Args:
        function: The function's name, `Step.function`.
        runner: Runs its steps.
        shapes: The shapes that sagas began with.
        dynamodb: A DynamoDB client.
        table: The service's table, where the inbox is.
        queue: Returns the queue of an ARN.
        budget: Seconds that a batch may take: the longest timeout of these steps.
        timescale: Multiplies time-outs and back-offs.
    """

    def __init__(
        self,
        function: str,
        runner: TaskRunner,
        shapes: Shapes,
        dynamodb: DynamoDBClient,
        table: str,
        queue: Callable[[str], SourceQueue],
        *,
        budget: float,
        timescale: float = 1,
    ) -> None:
        self._function = function
        self._runner = runner
        self._shapes = shapes
        self._dynamodb = dynamodb
        self._table = table
        self._queue = queue
        self._timescale = timescale
        self._budget = budget * timescale

    def handle_batch(self, records: Sequence[Mapping[str, Any]]) -> list[MessageResult]:
        """Handle the messages of a batch in parallel.

        Args:
            records: SQS records, as Lambda receives them.

        Returns:
            The result of each message; those whose outcome is `again` must not be deleted. If one
            `hangs`, the messages that are done with are deleted already: the caller has to end its
            process, and Lambda then takes the whole batch for failed.
        """
        pool = ThreadPoolExecutor(len(records))
        begun = time.monotonic()
        running = [(record, pool.submit(self._handle, record)) for record in records]
        results = [self._wait_for(record, result, begun) for record, result in running]
        pool.shutdown(wait=False)
        hanging = {record["messageId"] for record, result in running if not result.done()}
        if not hanging:
            return results
        for record, one in zip(records, results, strict=True):
            # A message that could not be deleted is redelivered, and answered as before.
            if one.outcome != "again":
                with suppress(TransientError):
                    self._queue(record["eventSourceARN"]).delete(record)
        return [replace(one, hangs=one.message_id in hanging) for one in results]

    # One message.

    def _handle(self, record: Mapping[str, Any]) -> MessageResult:
        event = self._event(record)
        outcomes = [self._run_step(record, event, *moved) for moved in list(self._triggered(event))]
        given_up = next((why for why in outcomes if why), None)
        outcome = "given up" if given_up else "done"
        return self._result(record, outcome, given_up, event)

    def _event(self, record: Mapping[str, Any]) -> Event:
        """The event in a message.

        Raises:
            UnreadableError: It is not an event of a choreography.
        """
        event = Event.parse(record["body"], checked=True)
        if not event.carried:
            raise UnreadableError("not an event of a choreography: data.carried is missing")
        self._shapes.of_event(event)
        return event

    def _triggered(self, event: Event) -> Iterator[tuple[Shape[Any], AnyStep, Trigger]]:
        """The steps that an event triggers here: one, unless a saga uses the function twice."""
        shape, request = self._shapes.of_event(event), event.carried["request"]
        for step in shape.all:
            if step.function == self._function and (moved := trigger(shape, step, event, request)):
                yield shape, step, moved

    def _run_step(
        self,
        record: Mapping[str, Any],
        event: Event,
        shape: Shape[Any],
        step: AnyStep,
        trigger: Trigger,
    ) -> str | None:
        """Run a step that an event triggers; returns why it was given up, if it was.

        Raises:
            RetryLaterError: It has to be retried.
            GiveUpFailedError: It cannot be given up either.
        """
        results = self._join(shape, step, event, trigger)
        if results is None:
            return None
        # A redelivered message may have begun before, and its process died: count it now. A first
        # delivery is counted only if it fails, so that a success costs no further write.
        again = _receive_count(record) > 1
        before = self._count(shape, step, event, trigger) - 1 if again else 0
        most = tries.most(shape, step, trigger)
        task = self._task(record, shape, step, event, trigger, results, min(before, most - 1))
        try:
            if before < most:
                self._runner.run(task)
                return None
            # All attempts are used up, and the last one died without counting its failure.
            problem: Exception = TimeoutError()
        except (StepCancelledError, WaitingError):
            return None
        except Exception as caught:
            problem = caught
            if not again:
                self._count(shape, step, event, trigger)
            if before + 1 < tries.most_after(shape, step, trigger, problem):
                raise RetryLaterError(tries.pause(shape, step, before), problem) from problem
        try:
            if isinstance(problem, Refusal) and not tries.must_succeed(shape, step, trigger):
                return self._report_refusal(task, problem)
            return self._give_up(shape, step, task, _caught(problem))
        except Exception as another:
            if before + 1 >= most + GIVE_UP_RETRIES:
                raise GiveUpFailedError(words(another)) from another
            raise RetryLaterError(min(2.0**before, 60), another) from another

    def _count(self, shape: Shape[Any], step: AnyStep, event: Event, trigger: Trigger) -> int:
        """Count an attempt that has begun or failed; returns how many there are now."""
        row = self._update_inbox(shape, step, event, trigger, {}, add={"tries": 1})
        return int(row["tries"])

    def _join(
        self, shape: Shape[Any], step: AnyStep, event: Event, trigger: Trigger
    ) -> Mapping[str, Any] | None:
        """The results of all steps that a step waits for; None while an event is missing.

        The events received so far are in the step's inbox, one row for the action and one for the
        undo, so they may arrive in any order and any number of times.
        """
        results = dict(event.carried["results"])
        if event.step and event.kind == "done":
            results[event.step] = event.result
        if len(trigger.sources) < 2:
            return results
        # Events that carry a result of the same step carry the same result.
        brought = {f"result#{name}": result for name, result in results.items()}
        received = {f"from#{event.step}": True}
        row = self._update_inbox(shape, step, event, trigger, received | brought)
        if any(f"from#{source}" not in row for source in trigger.sources):
            return None
        kept = ((name.partition("#"), value) for name, value in sorted(row.items()))
        return {name: value for (kind, _, name), value in kept if kind == "result"}

    def _update_inbox(
        self,
        shape: Shape[Any],
        step: AnyStep,
        event: Event,
        trigger: Trigger,
        news: Mapping[str, Any],
        **more: Any,
    ) -> Mapping[str, Any]:
        """Change the inbox row of a step and a saga; returns the row as it is then.

        It outlives the wait for each event that it joins: a saga that is silent for longer than its
        deadline goes on by a run, which needs no inbox. What a step has tried before it was delayed
        is not counted once it is due.
        """
        what = "due" if event.kind == "due" else trigger.side
        key = f"inbox#{event.saga_id}#{step.name}#{what}"
        kept = {"expires_at": inbox_expiry(shape.deadline * len(trigger.sources))}
        return Table(self._dynamodb, self._table).update(key, set={**news, **kept}, **more)

    def _task(
        self,
        record: Mapping[str, Any],
        shape: Shape[Any],
        step: AnyStep,
        event: Event,
        trigger: Trigger,
        results: Mapping[str, Any],
        before: int,
    ) -> dict[str, Any]:
        carried = event.carried
        attributes = record["attributes"]
        first = int(attributes["ApproximateFirstReceiveTimestamp"]) / 1000
        return {
            "saga": carried["saga"],
            "step": step.name,
            "phase": trigger.side,
            "role": shape.role(step.name),
            "request": {name: carried["request"].get(name) for name in step.takes},
            "results": {name: results.get(name) for name in step.after},
            "attempt": before,
            "entered_at": moment(datetime.fromtimestamp(first, UTC)),
            "timeout": step.timeout,
            "result_bytes": shape.shares[step.name],
            "carried": {**carried, "results": results},
            "lasts": self._budget,
        } | ({"later": said_of(step.later)} if step.later and trigger.side == "action" else {})

    # Failures.

    def _report_refusal(self, task: Mapping[str, Any], refusal: Refusal) -> str:
        """The runner has published the refusal; publish that there is nothing to undo as well."""
        if task["role"] == "compensable":
            self._runner.run({**task, "phase": "give_up"})
        return words(refusal)

    def _give_up(
        self, shape: Shape[Any], step: AnyStep, task: Mapping[str, Any], caught: Mapping[str, str]
    ) -> str:
        failure = {step.name: caught}
        if task["phase"] == "undo" or task["role"] == "retriable":
            parked = {**task, "parked": failure, "failure": {}}
            park(self._dynamodb, self._table, shape, parked, self._timescale, {})
        else:
            phase = "settle" if task["role"] == "pivot" else "give_up"
            tried = task["attempt"] + 1
            with suppress(StepCancelledError):
                self._runner.run({**task, "phase": phase, "failure": failure, "tries": tried})
        return cut(f"{caught['Error']}: {caught['Cause']}")

    def _wait_for(
        self, record: Mapping[str, Any], result: Future[MessageResult], begun: float
    ) -> MessageResult:
        """Wait for a message's thread, as long as its step may take, and handle its failure."""
        try:
            budget = self._budget - (time.monotonic() - begun)
            return result.result(timeout=max(0.0, budget))
        except UnreadableError as problem:
            return self._dead_letter(record, words(problem))
        except GiveUpFailedError as problem:
            return self._dead_letter(record, str(problem))
        except RetryLaterError as again:
            return self._retry_later(record, again.seconds, words(again.problem))
        except TimeoutError as problem:
            return self._timed_out(record, problem)
        except Exception as problem:
            # The inbox could not be written.
            return self._retry_later(
                record, backoff(_receive_count(record), cap=60), words(problem)
            )

    def _timed_out(self, record: Mapping[str, Any], problem: TimeoutError) -> MessageResult:
        """Count an attempt that is still running when its time is up as failed."""
        try:
            if _receive_count(record) == 1:
                event = self._event(record)
                for shape, step, moved in self._triggered(event):
                    self._count(shape, step, event, moved)
        except Exception as another:
            return self._retry_later(record, 0, words(another))
        return self._retry_later(record, 0, words(problem))

    def _retry_later(self, record: Mapping[str, Any], seconds: float, why: str) -> MessageResult:
        """Have a message redelivered; after its last delivery it is dead-lettered instead."""
        queue = self._queue(record["eventSourceARN"])
        # If that fails, it is redelivered when its visibility timeout ends.
        with suppress(TransientError):
            if queue.is_last_receive(record):
                return self._dead_letter(record, why)
            queue.delay(record, round(seconds * self._timescale))
        return self._result(record, "again", why)

    def _dead_letter(self, record: Mapping[str, Any], why: str) -> MessageResult:
        outcome = "set aside"
        try:
            self._queue(record["eventSourceARN"]).dead_letter(record, why)
        except TransientError as another:
            outcome, why = "again", words(another)
        return self._result(record, outcome, why)

    def _result(
        self, record: Mapping[str, Any], outcome: str, why: str | None, event: Event | None = None
    ) -> MessageResult:
        with suppress(UnreadableError):
            event = event or self._event(record)
        about = log_fields(record, event)
        if event:
            about["step"] = ", ".join(step.name for _, step, _ in self._triggered(event))
        return MessageResult(record["messageId"], outcome, about, why)


class GiveUpFailedError(RecourseError):
    """Giving up failed as often as it is tried: the message has to be dead-lettered."""


class RetryLaterError(RecourseError):
    """An attempt failed in a way that may pass: the message has to be redelivered."""

    def __init__(self, seconds: float, problem: Exception) -> None:
        super().__init__(str(problem))
        self.seconds = seconds
        self.problem = problem


def _receive_count(record: Mapping[str, Any]) -> int:
    """How often a message has been delivered, whether or not it reached the function."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def _caught(problem: BaseException) -> dict[str, str]:
    """An error in the form in which a state machine catches it."""
    kind = "States.Timeout" if isinstance(problem, TimeoutError) else type(problem).__name__
    return {"Error": kind, "Cause": json.dumps({"errorMessage": str(problem)})}
