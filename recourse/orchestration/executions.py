"""Runs of sagas on Step Functions: start, look at, recover; and the claim on a pivot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import cut
from recourse.declare.saga import Saga
from recourse.errors import StepCancelledError, TransientError
from recourse.ledger.ledger import Record
from recourse.orchestration.compiler import ENDS
from recourse.store.aws import is_transient

if TYPE_CHECKING:
    from types_boto3_lambda import LambdaClient
    from types_boto3_stepfunctions import SFNClient

State = Literal[
    "ABSENT", "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"
]

HISTORY = 100
"""How many of its last events say what a run had caught: a group has some for each of its steps."""


def run_name(saga_id: str, run: int) -> str:
    """The execution's name: the saga id, and for a recovery its number."""
    return f"{saga_id}-r{run}" if run else saga_id


def parse_name(name: str) -> tuple[str, int]:
    """The saga id and the run that an execution's name stands for; one of others is no saga's."""
    saga_id, _, run = name.partition("-r")
    return saga_id, int(run) if run.isdecimal() else 0


@dataclass(frozen=True)
class Run:
    """A run as Step Functions describes it.

    Attributes:
        state: Its state; ABSENT where there is none of that name.
        error: The error with which it failed.
        ended_at: When it ended.
    """

    state: State
    error: str | None = None
    ended_at: datetime | None = None

    @property
    def ended_well(self) -> bool:
        """Whether it has come to an end of its own, which needs no recovery."""
        return self.state == "SUCCEEDED" or (self.state == "FAILED" and self.error in ENDS)

    def __str__(self) -> str:
        return f"{self.state} ({self.error})" if self.error else self.state


@dataclass(frozen=True)
class Runs:
    """Runs of every saga.

    Attributes:
        sfn: A Step Functions client.
        functions: A Lambda client.
        sagas: Every declaration, by name.
        machines: The ARN of each one's state machine, or of its alias.
        pivots: The function that serves each one's pivot.
    """

    sfn: SFNClient
    functions: LambdaClient
    sagas: Mapping[str, Saga]
    machines: Mapping[str, str]
    pivots: Mapping[str, str]

    def start(self, record: Record) -> None:
        """Start the run that the record is at; one that is started already is left alone.

        The first run of a choreography has no execution: its `started` event begins it. A recovery
        first settles the pivot: only where that had acted does it look up results, and carry them.

        Raises:
            TransientError: Step Functions did not take it, or the pivot could not be settled.
        """
        if record.is_choreographed:
            return
        saga = self.sagas[record.saga]
        given = record.input(saga)
        if record.run:
            given["saga"]["forward"] = self._settle(saga, given)
        try:
            self.sfn.start_execution(
                stateMachineArn=self.machines[record.saga],
                name=run_name(record.saga_id, record.run),
                input=json.dumps(given, ensure_ascii=False),
            )
        except self.sfn.exceptions.ExecutionAlreadyExists:
            return
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the run could not be started: {problem}") from problem

    def describe(self, record: Record) -> Run:
        """The run that the record is at."""
        try:
            found = self.sfn.describe_execution(executionArn=self._execution(record))
        except self.sfn.exceptions.ExecutionDoesNotExist:
            return Run("ABSENT")
        return Run(found["status"], found.get("error"), found.get("stopDate"))

    def failure(self, record: Record) -> dict[str, Any]:
        """What the run that the record is at had caught when it was cut off, by step or group.

        The undo of a step tells why the step failed. A run that ends between the two has said it
        nowhere else than in the input of the state that it was at. Where that is not to be had, the
        saga is undone all the same, and its reason is the claim on its pivot.

        Raises:
            TransientError: Step Functions was too busy to say.
        """
        try:
            history = self.sfn.get_execution_history(
                executionArn=self._execution(record), reverseOrder=True, maxResults=HISTORY
            )
        except BotoCoreError as problem:
            raise TransientError(f"the run was not shown: {problem}") from problem
        except ClientError as problem:
            if is_transient(problem):
                raise TransientError(f"the run was not shown: {problem}") from problem
            return {}
        for event in history["events"]:
            entered = event.get("stateEnteredEventDetails", {})
            try:
                failure = json.loads(entered["input"])["failure"]
            except (KeyError, ValueError, TypeError):
                continue
            # Within a branch of a group the failure is its one step's.
            name = entered["name"].removesuffix(".failed")
            return {name: failure} if "Error" in failure else dict(failure)
        return {}

    def _execution(self, record: Record) -> str:
        """The ARN of the run that the record is at."""
        machine = self.machines[record.saga].split(":")
        arn = ":".join([*machine[:5], "execution", machine[6]])
        return f"{arn}:{run_name(record.saga_id, record.run)}"

    def cancel(self, record: Record, *, undo_by_events: bool = False) -> bool:
        """Claim the pivot's marker.

        Args:
            record: The saga.
            undo_by_events: Have the steps before it hear of it as in a choreography, and undo what
                they did, for there is no run that would ask them to.

        Returns:
            True where the pivot now never acts; False where it has acted.

        Raises:
            TransientError: The pivot's function could not say.
        """
        saga = self.sagas[record.saga]
        pivot, given = saga.pivot, record.input(saga)
        task: dict[str, Any] = {
            "saga": given["saga"],
            "step": pivot.name,
            "phase": "cancel",
            "role": "pivot",
            "request": {},
            "results": {},
            "timeout": pivot.timeout,
        }
        if record.is_choreographed or undo_by_events:
            task["carried"] = given
        said, failed = self._ask(task)
        if failed:
            raise TransientError(f"the pivot could not be claimed: {cut(str(said))}")
        return bool(said["cancelled"])

    def _settle(self, saga: Saga, given: Mapping[str, Any]) -> bool:
        """Whether the pivot had acted; if not, it never will."""
        pivot = saga.pivot
        said, failed = self._ask(
            {
                "saga": given["saga"],
                "step": pivot.name,
                "phase": "settle",
                "role": "pivot",
                "request": {name: given["request"].get(name) for name in pivot.takes},
                "results": {},
                "failure": {},
                "timeout": pivot.timeout,
            }
        )
        if failed and said.get("errorType") != StepCancelledError.__name__:
            raise TransientError(f"the pivot could not be settled: {cut(str(said))}")
        return not failed

    def _ask(self, task: Mapping[str, Any]) -> tuple[Any, bool]:
        """What the pivot's function answers to a task, and whether that is an error.

        Raises:
            TransientError: It could not be called.
        """
        try:
            answer = self.functions.invoke(
                FunctionName=self.pivots[task["saga"]["name"]], Payload=json.dumps(task)
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the pivot could not be claimed: {problem}") from problem
        return json.loads(answer["Payload"].read()), "FunctionError" in answer
