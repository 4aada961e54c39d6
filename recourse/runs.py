"""Runs of sagas on Step Functions: start, look at, recover; and the claim on a pivot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from recourse.ledger import Record
from recourse.saga import Saga
from recourse.step import TransientError

if TYPE_CHECKING:
    from types_boto3_lambda import LambdaClient
    from types_boto3_stepfunctions import SFNClient

State = Literal[
    "ABSENT", "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"
]


def run_name(saga_id: str, run: int) -> str:
    """The execution's name: the saga id, and for a recovery its number."""
    return f"{saga_id}-r{run}" if run else saga_id


def parse_name(name: str) -> tuple[str, int]:
    """The saga id and the run that an execution's name stands for."""
    saga_id, _, run = name.partition("-r")
    return saga_id, int(run or 0)


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

        The first run of a choreography has no execution: its `started` event begins it.

        Raises:
            TransientError: Step Functions did not take it.
        """
        if record.is_choreographed:
            return
        try:
            self.sfn.start_execution(
                stateMachineArn=self.machines[record.saga],
                name=run_name(record.saga_id, record.run),
                input=json.dumps(record.input(self.sagas[record.saga])),
            )
        except self.sfn.exceptions.ExecutionAlreadyExists:
            return
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the run could not be started: {problem}") from problem

    def state(self, record: Record) -> tuple[State, str | None]:
        """The state of the run that the record is at, and the error with which it failed."""
        machine = self.machines[record.saga].split(":")
        arn = ":".join([*machine[:5], "execution", machine[6]])
        try:
            found = self.sfn.describe_execution(
                executionArn=f"{arn}:{run_name(record.saga_id, record.run)}"
            )
        except self.sfn.exceptions.ExecutionDoesNotExist:
            return "ABSENT", None
        return found["status"], found.get("error")

    def cancel(self, record: Record) -> bool:
        """Claim the pivot's marker.

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
        if record.is_choreographed:
            task["carried"] = given
        try:
            answer = self.functions.invoke(
                FunctionName=self.pivots[record.saga], Payload=json.dumps(task)
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the pivot could not be claimed: {problem}") from problem
        said = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise TransientError(f"the pivot could not be claimed: {said}")
        return bool(said["cancelled"])
