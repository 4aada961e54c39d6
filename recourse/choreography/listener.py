"""The queue entry of the step runtime: a step of a choreography hears events and acts on them.

A batch is taken at once, a thread a message, each with the time that the step has. What works is
done with; what fails in a way that may pass comes again, by its visibility, after a back-off with
full jitter; what has failed as often as its declaration allows is given up:

- an action before the pivot leaves a tombstone, unless it has acted after all, and tells of both;
- the pivot is settled, by the claim on its marker;
- an undo, or an action after the pivot, is parked for an operator.

So an action fails only where it never acted, and the steps before it may undo at once. A message
that is no event, or that cannot even be given up, is set aside in the dead-letter queue, with its
reason. No thread outlives its batch: where one hangs when its time is up, the others are answered
for, and the process ends.

A try is one that ran and failed: it is counted in the step's inbox when it fails, and once more
when a message that was delivered before begins, for its process may have died. A delivery that was
throttled on its way, or that nobody took, is none.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recourse.choreography.routing import Trigger, trigger
from recourse.declare.declaration import Step
from recourse.declare.limits import cut, words
from recourse.declare.saga import Saga
from recourse.errors import (
    RecourseError,
    Refusal,
    StepCancelledError,
    TransientError,
    UnreadableError,
)
from recourse.events import Event, expiry, moment
from recourse.events.event import saga_id_of
from recourse.queues.sources import SourceQueue, backoff
from recourse.run.failures import may_pass
from recourse.run.parking import park
from recourse.run.task import TaskRunner
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

GRACE = 4
"""How often giving up is tried again before the message is set aside."""
RECEIVES = 100
"""How often a step's queue delivers a message at the least: most of them may never arrive."""


@dataclass(frozen=True)
class MessageResult:
    """How it went with one message.

    Attributes:
        message_id: The message.
        outcome: `done`, `again` (it will be delivered again), `given up` or `set aside`.
        saga_id: The saga, where it is an event of one.
        error: Why it was not done, by class name and text.
        hangs: Whether its thread is still at work: the process has to end.
    """

    message_id: str
    outcome: str
    saga_id: str | None = None
    error: str | None = None
    hangs: bool = False


class Listener:
    """Hears for the steps that one function serves.

    Args:
        function: The function's name, `Step.function`.
        runner: Runs its steps.
        sagas: Every declaration, by name.
        dynamodb: A DynamoDB client.
        table: The service's table, where the inbox is.
        queue: Finds the queue that messages come from, by its ARN.
        timescale: What multiplies time-outs and back-offs.
    """

    def __init__(
        self,
        function: str,
        runner: TaskRunner,
        sagas: Mapping[str, Saga],
        dynamodb: DynamoDBClient,
        table: str,
        queue: Callable[[str], SourceQueue],
        *,
        timescale: float = 1,
    ) -> None:
        self._function = function
        self._runner = runner
        self._sagas = sagas
        self._dynamodb = dynamodb
        self._table = table
        self._queue = queue
        self._timescale = timescale
        own = [(saga, s) for saga in sagas.values() for s in saga.all if s.function == function]
        self._budget = max(step.timeout for _, step in own) * timescale

    def take(self, records: Sequence[Mapping[str, Any]]) -> list[MessageResult]:
        """Take a batch.

        Args:
            records: SQS records, as Lambda gets them.

        Returns:
            How each message went; those that are to come `again` must not be deleted. Where one
            `hangs`, what is done with is deleted already: the caller has to end its process, which
            then answers for nothing.
        """
        pool = ThreadPoolExecutor(len(records))
        begun = time.monotonic()
        tries = [(record, pool.submit(self._hear, record)) for record in records]
        results = [self._outcome(record, result, begun) for record, result in tries]
        pool.shutdown(wait=False)
        hanging = {record["messageId"] for record, result in tries if not result.done()}
        if not hanging:
            return results
        for record, one in zip(records, results, strict=True):
            # What could not be deleted comes again, and is answered as before.
            if one.outcome != "again":
                with suppress(TransientError):
                    self._queue(record["eventSourceARN"]).delete(record)
        return [replace(one, hangs=one.message_id in hanging) for one in results]

    # One message.

    def _hear(self, record: Mapping[str, Any]) -> MessageResult:
        event = self._event(record)
        outcomes = [self._move(record, event, *moved) for moved in list(self._moves(event))]
        given_up = next((why for why in outcomes if why), None)
        outcome = "given up" if given_up else "done"
        return MessageResult(record["messageId"], outcome, event.saga_id, given_up)

    def _event(self, record: Mapping[str, Any]) -> Event:
        """The event that a message is.

        Raises:
            UnreadableError: It is no event of a choreography.
        """
        event = Event.parse(record["body"], self._sagas)
        if not event.carried:
            raise UnreadableError("this is no event of a choreography: it has nothing carried")
        return event

    def _moves(self, event: Event) -> Iterator[tuple[Saga, Step, Trigger]]:
        """The steps here that an event moves; only one, but where a saga uses a function twice."""
        saga, request = self._sagas[event.saga], event.carried["request"]
        for step in saga.all:
            if step.function == self._function and (moved := trigger(saga, step, event, request)):
                yield saga, step, moved

    def _move(
        self, record: Mapping[str, Any], event: Event, saga: Saga, step: Step, trigger: Trigger
    ) -> str | None:
        """Do what an event asks of a step; why it was given up, if it was.

        Raises:
            TransientError: It is to be tried again.
        """
        results = self._joined(step, event, trigger)
        if results is None:
            return None
        # What was delivered before may have begun; what is delivered at first is counted if it
        # fails, so that what works costs nothing more.
        again = _receives(record) > 1
        before = self._count(event, step, trigger) - 1 if again else 0
        most = _most(saga, step, trigger)
        task = self._task(record, saga, step, event, trigger, results, min(before, most - 1))
        try:
            if before < most:
                self._runner.run(task)
                return None
            # Every try had its turn, and the last one ended without a word.
            problem: Exception = TimeoutError()
        except StepCancelledError:
            return None
        except Exception as caught:
            problem = caught
            if not again:
                self._count(event, step, trigger)
            if before + 1 < _tries(saga, step, trigger, problem):
                raise AgainError(_backoff(saga, step, before), problem) from problem
        try:
            if isinstance(problem, Refusal) and not _forgiving(saga, step, trigger):
                return self._refused(task, problem)
            return self._give_up(saga, step, task, _caught(problem))
        except Exception as another:
            if before + 1 >= most + GRACE:
                raise HopelessError(words(another)) from another
            raise AgainError(min(2.0**before, 60), another) from another

    def _count(self, event: Event, step: Step, trigger: Trigger) -> int:
        """Count a try that has begun or failed; how many that makes."""
        gone = {"expires_at": expiry()}
        row = self._note(event, step, trigger, set=gone, add={"tries": 1})
        return int(row["tries"])

    def _joined(self, step: Step, event: Event, trigger: Trigger) -> Mapping[str, Any] | None:
        """The results of all the steps that a step waits for; None while one is not heard of.

        What has been heard is kept in the step's inbox, one row a side, so that it may come in any
        order and any number of times.
        """
        results = dict(event.carried["results"])
        if event.step and event.kind == "done":
            results[event.step] = event.result
        if len(trigger.sources) < 2:
            return results
        # Results that several bring are the same, so the row holds each of them once.
        brought = {f"result#{name}": result for name, result in results.items()}
        heard = {f"from#{event.step}": True, "expires_at": expiry()}
        row = self._note(event, step, trigger, set=heard | brought)
        if any(f"from#{source}" not in row for source in trigger.sources):
            return None
        kept = ((name.partition("#"), value) for name, value in sorted(row.items()))
        return {name: value for (kind, _, name), value in kept if kind == "result"}

    def _note(self, event: Event, step: Step, trigger: Trigger, **change: Any) -> Mapping[str, Any]:
        """Change the row in which a step keeps what it has heard of a saga; the row then."""
        key = f"inbox#{event.saga_id}#{step.name}#{trigger.side}"
        return Table(self._dynamodb, self._table).update(key, **change)

    def _task(
        self,
        record: Mapping[str, Any],
        saga: Saga,
        step: Step,
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
            "role": saga.role(step.name),
            "request": {name: carried["request"].get(name) for name in step.takes},
            "results": {name: results.get(name) for name in step.after},
            "attempt": before,
            "entered_at": moment(datetime.fromtimestamp(first, UTC)),
            "timeout": step.timeout,
            "result_bytes": saga.shares[step.name],
            "carried": {**carried, "results": results},
        }

    # What does not work.

    def _refused(self, task: Mapping[str, Any], no: Refusal) -> str:
        """The refusal is told of; what is left is to tell that there is nothing to undo."""
        if task["role"] == "compensable":
            self._runner.run({**task, "phase": "give_up"})
        return words(no)

    def _give_up(
        self, saga: Saga, step: Step, task: Mapping[str, Any], caught: Mapping[str, str]
    ) -> str:
        failure = {step.name: caught}
        if task["phase"] == "undo" or task["role"] == "retriable":
            parked = {**task, "parked": failure, "failure": {}}
            park(self._dynamodb, self._table, saga, parked, self._timescale)
        else:
            phase = "settle" if task["role"] == "pivot" else "give_up"
            tries = task["attempt"] + 1
            with suppress(StepCancelledError):
                self._runner.run({**task, "phase": phase, "failure": failure, "tries": tries})
        return cut(f"{caught['Error']}: {caught['Cause']}")

    def _outcome(
        self, record: Mapping[str, Any], result: Future[MessageResult], begun: float
    ) -> MessageResult:
        """Wait for a message's thread, as long as its step may take, and see to what failed."""
        try:
            budget = self._budget - (time.monotonic() - begun)
            return result.result(timeout=max(0.0, budget))
        except UnreadableError as problem:
            return self._set_aside(record, words(problem))
        except HopelessError as problem:
            return self._set_aside(record, str(problem))
        except AgainError as again:
            return self._again(record, again.seconds, words(again.problem))
        except TimeoutError as problem:
            return self._late(record, problem)
        except Exception as problem:
            # The inbox did not work.
            return self._again(record, backoff(_receives(record), cap=60), words(problem))

    def _late(self, record: Mapping[str, Any], problem: TimeoutError) -> MessageResult:
        """A try that is still under way when its time is up has failed."""
        try:
            if _receives(record) == 1:
                event = self._event(record)
                for _, step, moved in self._moves(event):
                    self._count(event, step, moved)
        except Exception as another:
            return self._again(record, 0, words(another))
        return self._again(record, 0, words(problem))

    def _again(self, record: Mapping[str, Any], seconds: float, why: str) -> MessageResult:
        """Let a message come again; what its queue would not deliver again is set aside."""
        queue = self._queue(record["eventSourceARN"])
        # Where that does not work, it comes again when its visibility ends.
        with suppress(TransientError):
            if queue.is_last(record):
                return self._set_aside(record, why)
            queue.later(record, round(seconds * self._timescale))
        return MessageResult(record["messageId"], "again", saga_id_of(record["body"]), why)

    def _set_aside(self, record: Mapping[str, Any], why: str) -> MessageResult:
        outcome = "set aside"
        try:
            self._queue(record["eventSourceARN"]).set_aside(record, why)
        except TransientError as another:
            outcome, why = "again", words(another)
        return MessageResult(record["messageId"], outcome, saga_id_of(record["body"]), why)


class HopelessError(RecourseError):
    """A message that could not even be given up, as often as that is tried."""


class AgainError(RecourseError):
    """A try failed in a way that may pass."""

    def __init__(self, seconds: float, problem: Exception) -> None:
        super().__init__(str(problem))
        self.seconds = seconds
        self.problem = problem


def _receives(record: Mapping[str, Any]) -> int:
    """How often a message has been delivered, whether or not it reached a function."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def _forgiving(saga: Saga, step: Step, trigger: Trigger) -> bool:
    """Whether nothing is left but to try again, or to ask an operator."""
    return trigger.side == "undo" or saga.role(step.name) == "retriable"


def _most(saga: Saga, step: Step, trigger: Trigger) -> int:
    """How often a step is tried at the most."""
    return (saga.patience(step) if _forgiving(saga, step, trigger) else saga.retry(step)).attempts


def _tries(saga: Saga, step: Step, trigger: Trigger, problem: Exception) -> int:
    """How often a step is tried that fails so."""
    if may_pass(problem):
        return _most(saga, step, trigger)
    return saga.retry(step).attempts if _forgiving(saga, step, trigger) else 1


def _backoff(saga: Saga, step: Step, attempt: int) -> float:
    """Seconds until the next try: exponential with a cap and full jitter."""
    retry = saga.retry(step)
    return random.uniform(0, min(retry.cap, retry.interval * 2**attempt))


def _caught(problem: BaseException) -> dict[str, str]:
    """A failure as a state machine would have caught it."""
    kind = "States.Timeout" if isinstance(problem, TimeoutError) else type(problem).__name__
    return {"Error": kind, "Cause": json.dumps({"errorMessage": str(problem)})}
