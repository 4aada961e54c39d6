"""The queue entry of the step runtime: a step of a choreography hears events and acts on them.

A batch is taken at once, a thread a message, each with the time that the step has. What works is
done with; what fails in a way that may pass comes again, by its visibility, after a back-off with
full jitter; what has failed as often as its declaration allows is given up:

- an action before the pivot leaves a tombstone, unless it has acted after all, and tells of both;
- the pivot is settled, by the claim on its marker;
- an undo, or an action after the pivot, is parked for an operator.

So an action fails only where it never acted, and the steps before it may undo at once. A message
that is no event, or that cannot even be given up, is set aside in the dead-letter queue, with its
reason. The tries are the message's receives: a process that dies has had its try.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recourse import events
from recourse.choreography import Cue, cue
from recourse.events import UnreadableError
from recourse.items import decode_item, encode
from recourse.park import park
from recourse.queues import SourceQueue, words
from recourse.runtime import StepRunner
from recourse.saga import Saga, Step
from recourse.step import Refusal, StepCancelledError, TransientError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

GRACE = 4
"""How often giving up is tried again before the message is set aside."""


@dataclass(frozen=True)
class Heard:
    """How it went with one message.

    Attributes:
        message_id: The message.
        outcome: `done`, `again` (it will be delivered again), `given up` or `set aside`.
        saga_id: The saga, where it is an event of one.
        error: Why it was not done, by class name and text.
    """

    message_id: str
    outcome: str
    saga_id: str | None = None
    error: str | None = None


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
        runner: StepRunner,
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
        self._last = max(saga.retry(step).attempts for saga, step in own) + GRACE

    def take(self, records: Sequence[Mapping[str, Any]]) -> list[Heard]:
        """Take a batch.

        Args:
            records: SQS records, as Lambda gets them.

        Returns:
            How each message went; those that are to come `again` must not be deleted.
        """
        pool = ThreadPoolExecutor(len(records))
        begun = time.monotonic()
        tries = [(record, pool.submit(self._hear, record)) for record in records]
        heard = [self._outcome(record, result, begun) for record, result in tries]
        # A thread that hangs is left behind: the barrier makes what it may still do harmless.
        pool.shutdown(wait=False)
        return heard

    # One message.

    def _hear(self, record: Mapping[str, Any]) -> Heard:
        moves = list(self._moves(record))
        outcomes = [self._move(record, *move) for move in moves]
        given_up = next((why for why in outcomes if why), None)
        outcome = "given up" if given_up else "done"
        return Heard(record["messageId"], outcome, _saga_id(record), given_up)

    def _moves(
        self, record: Mapping[str, Any]
    ) -> Iterator[tuple[Saga, Step, Mapping[str, Any], Cue]]:
        """The steps here that an event moves; only one, but where a saga uses a function twice.

        Raises:
            UnreadableError: It is no event of a choreography.
        """
        try:
            told = json.loads(record["body"])
            saga = self._sagas[told["type"].split(".")[1]]
            request = told["data"]["carried"]["request"]
            found = [
                (saga, step, told, moved)
                for step in saga.all
                if step.function == self._function and (moved := cue(saga, step, told, request))
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
            raise UnreadableError(f"this is no event of a choreography: {problem!r}") from problem
        yield from found

    def _move(
        self, record: Mapping[str, Any], saga: Saga, step: Step, told: Mapping[str, Any], cue: Cue
    ) -> str | None:
        """Do what an event asks of a step; why it was given up, if it was.

        Raises:
            TransientError: It is to be tried again.
        """
        results = self._joined(step, told, cue)
        if results is None:
            return None
        task = self._task(record, saga, step, told, cue, results)
        tries = saga.retry(step).attempts
        if task["attempt"] >= tries:
            # Every try had its turn, and the last one died before it could give up.
            return self._give_up(saga, step, task, _caught(TimeoutError()))
        try:
            self._runner.run(task)
        except StepCancelledError:
            return None
        except Exception as problem:
            role = saga.role(step.name)
            forgiving = cue.side == "undo" or role == "retriable"
            if isinstance(problem, Refusal) and not forgiving:
                return self._refused(task, problem)
            may_pass = forgiving or isinstance(problem, TransientError | TimeoutError)
            if may_pass and task["attempt"] + 1 < tries:
                raise AgainError(_backoff(saga, step, task["attempt"]), problem) from problem
            return self._give_up(saga, step, task, _caught(problem))
        return None

    def _joined(self, step: Step, told: Mapping[str, Any], cue: Cue) -> Mapping[str, Any] | None:
        """The results of all the steps that a step waits for; None while one is not heard of.

        What has been heard is kept in the step's inbox, one row a side, so that it may come in any
        order and any number of times.
        """
        data = told["data"]
        results = dict(data["carried"]["results"])
        if told["type"].endswith(".done"):
            results[data["step"]] = data.get("result")
        if len(cue.sources) < 2:
            return results
        # Results that several bring are the same, so the row holds each of them once.
        named = {"#source": f"from#{data['step']}", "#expires_at": "expires_at"}
        values = {":source": True, ":expires_at": events.expiry()}
        for number, (name, result) in enumerate(results.items()):
            named[f"#{number}"], values[f":{number}"] = f"result#{name}", result
        row = self._note(
            told,
            step,
            cue,
            UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in named),
            ExpressionAttributeNames=named,
            ExpressionAttributeValues={name: encode(value) for name, value in values.items()},
        )
        if any(f"from#{source}" not in row for source in cue.sources):
            return None
        brought = ((name.partition("#"), value) for name, value in sorted(row.items()))
        return {name: value for (kind, _, name), value in brought if kind == "result"}

    def _note(
        self, told: Mapping[str, Any], step: Step, cue: Cue, **change: Any
    ) -> Mapping[str, Any]:
        """Change the row in which a step keeps what it has heard of a saga; the row then."""
        noted = self._dynamodb.update_item(
            TableName=self._table,
            Key={"pk": {"S": f"inbox#{told['subject']}#{step.name}#{cue.side}"}},
            ReturnValues="ALL_NEW",
            **change,
        )
        return decode_item(noted["Attributes"])

    def _task(
        self,
        record: Mapping[str, Any],
        saga: Saga,
        step: Step,
        told: Mapping[str, Any],
        cue: Cue,
        results: Mapping[str, Any],
    ) -> dict[str, Any]:
        carried = told["data"]["carried"]
        attributes = record["attributes"]
        first = int(attributes["ApproximateFirstReceiveTimestamp"]) / 1000
        return {
            "saga": carried["saga"],
            "step": step.name,
            "phase": cue.side,
            "role": saga.role(step.name),
            "request": {name: carried["request"].get(name) for name in step.takes},
            "results": {name: results.get(name) for name in step.after},
            "attempt": int(attributes["ApproximateReceiveCount"]) - 1,
            "entered_at": events.moment(datetime.fromtimestamp(first, UTC)),
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
            tries = min(task["attempt"] + 1, saga.retry(step).attempts)
            with suppress(StepCancelledError):
                self._runner.run({**task, "phase": phase, "failure": failure, "tries": tries})
        return f"{caught['Error']}: {caught['Cause']}"

    def _outcome(self, record: Mapping[str, Any], result: Future[Heard], begun: float) -> Heard:
        """Wait for a message's thread, as long as its step may take, and see to what failed."""
        try:
            budget = self._budget - (time.monotonic() - begun)
            return result.result(timeout=max(0.0, budget))
        except UnreadableError as problem:
            return self._set_aside(record, problem)
        except AgainError as again:
            return self._again(record, again.seconds, again.problem)
        except TimeoutError as problem:
            return self._late(record, problem)
        except Exception as problem:
            return self._unforeseen(record, problem)

    def _late(self, record: Mapping[str, Any], problem: TimeoutError) -> Heard:
        """A try that is still under way when its time is up; the last one is given up here."""
        given_up = None
        try:
            for saga, step, told, moved in self._moves(record):
                task = self._task(record, saga, step, told, moved, {})
                if task["attempt"] + 1 >= saga.retry(step).attempts:
                    given_up = self._give_up(saga, step, task, _caught(problem))
        except Exception as another:
            return self._unforeseen(record, another)
        if given_up:
            return Heard(record["messageId"], "given up", _saga_id(record), given_up)
        return self._again(record, 0, problem)

    def _unforeseen(self, record: Mapping[str, Any], problem: Exception) -> Heard:
        """The inbox, or giving up, did not work: try again, and in the end set it aside."""
        received = int(record["attributes"]["ApproximateReceiveCount"])
        if received >= self._last:
            return self._set_aside(record, problem)
        return self._again(record, min(2.0**received, 60), problem)

    def _again(self, record: Mapping[str, Any], seconds: float, problem: BaseException) -> Heard:
        pause = round(seconds * self._timescale)
        # Where even that does not work, it comes again when its visibility ends.
        with suppress(TransientError):
            self._queue(record["eventSourceARN"]).later(record, pause)
        return Heard(record["messageId"], "again", _saga_id(record), words(problem))

    def _set_aside(self, record: Mapping[str, Any], problem: Exception) -> Heard:
        try:
            self._queue(record["eventSourceARN"]).set_aside(record, words(problem))
        except TransientError as another:
            return Heard(record["messageId"], "again", _saga_id(record), words(another))
        return Heard(record["messageId"], "set aside", _saga_id(record), words(problem))


class AgainError(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, seconds: float, problem: Exception) -> None:
        super().__init__(str(problem))
        self.seconds = seconds
        self.problem = problem


def _saga_id(record: Mapping[str, Any]) -> str | None:
    """The saga that a message is about, where it says so."""
    with suppress(ValueError, TypeError, LookupError, RecursionError):
        return str(json.loads(record["body"])["subject"])
    return None


def _backoff(saga: Saga, step: Step, attempt: int) -> float:
    """Seconds until the next try: exponential with a cap and full jitter."""
    retry = saga.retry(step)
    return random.uniform(0, min(retry.cap, retry.interval * 2**attempt))


def _caught(problem: BaseException) -> dict[str, str]:
    """A failure as a state machine would have caught it."""
    kind = "States.Timeout" if isinstance(problem, TimeoutError) else type(problem).__name__
    return {"Error": kind, "Cause": json.dumps({"errorMessage": str(problem)})}
