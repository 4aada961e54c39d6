"""Runs of sagas on Step Functions: start, describe, recover; and what the API asks of steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import cut
from recourse.declare.shape import AnyStep, Shape, digest
from recourse.declare.shape import record as recorded
from recourse.errors import NoAnswerError, NoVersionError, StepCancelledError, TransientError
from recourse.ledger.record import Record
from recourse.ledger.shapes import Shapes
from recourse.orchestration.compiler import ENDS
from recourse.store.aws import is_transient
from recourse.store.parameters import Named

if TYPE_CHECKING:
    from types_boto3_lambda import LambdaClient
    from types_boto3_stepfunctions import SFNClient

State = Literal[
    "ABSENT", "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"
]

HISTORY_EVENTS = 100
"""How many of a run's last events are searched for its failure; a group has several a step."""


def _xray(record: Record) -> dict[str, Any]:
    """The saga's trace as X-Ray writes it, so that what it records of the run has the same id."""
    if record.trace is None:
        return {}
    at = record.trace.at(record.saga_id)
    root = f"Root=1-{at.trace_id[:8]}-{at.trace_id[8:]}"
    return {"traceHeader": f"{root};Parent={at.span_id}"}


def run_name(saga_id: str, run: int) -> str:
    """The name of an execution: the saga id; `<saga id>-r<number>` for a later run."""
    return f"{saga_id}-r{run}" if run else saga_id


def parse_name(name: str) -> tuple[str, int]:
    """The saga id and the run of an execution's name; a foreign name gives an unknown saga id."""
    saga_id, _, run = name.partition("-r")
    return saga_id, int(run) if run.isdecimal() else 0


@dataclass(frozen=True)
class Run:
    """A run as Step Functions describes it.

    Attributes:
        state: Its state; ABSENT if there is no execution of that name.
        error: The error with which it failed.
        ended_at: When it ended.
    """

    state: State
    error: str | None = None
    ended_at: datetime | None = None

    @property
    def ended_well(self) -> bool:
        """Whether it has ended as designed, so that it needs no recovery."""
        return self.state == "SUCCEEDED" or (self.state == "FAILED" and self.error in ENDS)

    def __str__(self) -> str:
        return f"{self.state} ({self.error})" if self.error else self.state


@dataclass(frozen=True)
class Versions:
    """Finds the version of a saga's machine that was compiled from a shape, by its description.

    The newest one is known without a look: it is what the deployment says of the saga.

    ::

        Versions(sfn, machines)(shape)   # "arn:aws:states:…:stateMachine:Order…:7"

    Attributes:
        sfn: A Step Functions client.
        machines: The newest version of each saga's state machine, by name: its ARN, a space, and
            the digest of its shape.
    """

    sfn: SFNClient
    machines: Named
    _found: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, shape: Shape[Any]) -> str:
        """The ARN of the version.

        Raises:
            NoVersionError: There is none.
            TransientError: Step Functions could not be asked.
        """
        wanted = digest(recorded(shape))
        newest, _, known = self.machines[shape.name].partition(" ")
        if known == wanted:
            return newest
        if wanted not in self._found:
            try:
                self._found.update(self._described(shape.name, until=wanted))
            except (ClientError, BotoCoreError) as problem:
                raise TransientError(f"the versions could not be read: {problem}") from problem
        try:
            return self._found[wanted]
        except KeyError:
            raise NoVersionError(
                f"the machine of {shape.name!r} has no version for the shape {wanted}: it was "
                "deleted, or never deployed here; deploy the release that began the saga once more"
            ) from None

    def _described(self, saga: str, *, until: str) -> dict[str, str]:
        machine = ":".join(self.machines[saga].split(":")[:7])
        found: dict[str, str] = {}
        asked: dict[str, Any] = {"stateMachineArn": machine}
        while until not in found:
            page = self.sfn.list_state_machine_versions(**asked)
            for version in page["stateMachineVersions"]:
                arn = version["stateMachineVersionArn"]
                about = self.sfn.describe_state_machine(stateMachineArn=arn)
                found.setdefault(about.get("description", ""), arn)
            if "nextToken" not in page:
                break
            asked["nextToken"] = page["nextToken"]
        return found


@dataclass(frozen=True)
class Runs:
    """Runs of all sagas.

    ::

        runs.start(record)                # run 0, or the later run that the record is at
        runs.describe(record).state       # "RUNNING"
        runs.cancel(record)               # True: the pivot will never act

    Attributes:
        sfn: A Step Functions client.
        functions: A Lambda client.
        shapes: The shapes that sagas began with.
        machines: The ARN of each saga's state machine, or of a version of it, by name.
        called: The function of each pivot, and of each step that waits for somebody's decision, by
            the name that `Step.function` has.
        version: The ARN of a saga's machine at the version that was compiled from a shape.
    """

    sfn: SFNClient
    functions: LambdaClient
    shapes: Shapes
    machines: Named
    called: Named
    version: Callable[[Shape[Any]], str]

    def start(self, record: Record) -> None:
        """Start the run that the record is at; if it was started before, nothing happens.

        The first run of a choreography has no execution: its `started` event begins it. Before a
        recovery the pivot is settled: only if it had acted do the steps look up and carry results.
        Each run is of the version that was compiled from the shape of its saga: during a deploy the
        newest may be another one.

        Raises:
            TransientError: Step Functions did not accept it, or the pivot could not be settled.
        """
        if record.is_choreographed:
            return
        shape = self.shapes.of(record.saga, record.shape)
        given = record.input(shape)
        if record.run and not record.resumes:
            given["saga"]["forward"] = self._settle(shape, given)
        try:
            self.sfn.start_execution(
                stateMachineArn=self.version(shape),
                name=run_name(record.saga_id, record.run),
                input=json.dumps(given, ensure_ascii=False),
                **_xray(record),
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
        """The failure that a run had caught when it was interrupted, by step or group.

        It is the undo of a step that publishes why the step failed. If the run ended between the
        two, the failure is only in the input of the state that it was at. If that cannot be read
        either, the saga is undone all the same, with the claim on its pivot as the reason.

        Raises:
            TransientError: Step Functions throttled the request.
        """
        try:
            history = self.sfn.get_execution_history(
                executionArn=self._execution(record), reverseOrder=True, maxResults=HISTORY_EVENTS
            )
        except BotoCoreError as problem:
            raise TransientError(f"the run could not be read: {problem}") from problem
        except ClientError as problem:
            if is_transient(problem):
                raise TransientError(f"the run could not be read: {problem}") from problem
            return {}
        for event in history["events"]:
            entered = event.get("stateEnteredEventDetails", {})
            try:
                failure = json.loads(entered["input"])["failure"]
            except (KeyError, ValueError, TypeError):
                continue
            # Within a branch of a group, `failure` is the error itself, of the branch's one step.
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
            undo_by_events: Publish the claim to the steps before the pivot, as in a choreography,
                so that they undo what they did: there is no run that would call them.

        Returns:
            True if the pivot will never act; False if it has acted.

        Raises:
            TransientError: The pivot's function could not be called, or failed.
        """
        shape = self.shapes.of(record.saga, record.shape)
        pivot, given = shape.pivot, record.input(shape)
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
        answer, failed = self._invoke(pivot, task)
        if failed:
            raise TransientError(f"the pivot could not be claimed: {cut(str(answer))}")
        return bool(answer["cancelled"])

    def decide(self, record: Record, step: AnyStep, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a step that waits somebody's answer: what `StepRunner` says of the phase `decide`.

        Raises:
            TransientError: The step's function could not be called, or failed.
        """
        return self._ask(record, step, {"phase": "decide", "answer": dict(answer)})

    def withdraw(self, record: Record, step: AnyStep) -> None:
        """Undo a step of a cancelled saga that waits for somebody, so that nobody can decide it.

        Raises:
            TransientError: The step's function could not be called, or failed.
        """
        self._ask(record, step, {"phase": "undo", "failure": {}})

    def expire(self, record: Record, step: AnyStep) -> None:
        """Have a step that waits fail, and undo it, unless it was decided.

        Raises:
            TransientError: The step's function could not be called, or failed.
        """
        cause = {"errorMessage": "nobody has decided in time"}
        failure = {step.name: {"Error": NoAnswerError.__name__, "Cause": json.dumps(cause)}}
        self._ask(record, step, {"phase": "expire", "failure": failure})

    def _ask(self, record: Record, step: AnyStep, more: Mapping[str, Any]) -> Mapping[str, Any]:
        shape = self.shapes.of(record.saga, record.shape)
        given, results = record.input(shape), record.results(shape)
        task: dict[str, Any] = {
            "saga": given["saga"],
            "step": step.name,
            "role": shape.role(step.name),
            "request": {name: given["request"].get(name) for name in step.takes},
            "results": {name: results.get(name) for name in step.after},
            "timeout": step.timeout,
            "result_bytes": shape.shares[step.name],
            **more,
        }
        if record.is_choreographed:
            task["carried"] = {**given, "results": results}
        answer, failed = self._invoke(step, task)
        if failed:
            raise TransientError(f"{step.name!r} could not be asked: {cut(str(answer))}")
        found: Mapping[str, Any] = answer
        return found

    def _settle(self, shape: Shape[Any], given: Mapping[str, Any]) -> bool:
        """Whether the pivot had acted; if not, it never will.

        Raises:
            TransientError: The pivot's function could not be called, or failed.
        """
        pivot = shape.pivot
        answer, failed = self._invoke(
            pivot,
            {
                "saga": given["saga"],
                "step": pivot.name,
                "phase": "settle",
                "role": "pivot",
                "request": {name: given["request"].get(name) for name in pivot.takes},
                "results": {},
                "failure": {},
                "timeout": pivot.timeout,
            },
        )
        if failed and answer.get("errorType") != StepCancelledError.__name__:
            raise TransientError(f"the pivot could not be settled: {cut(str(answer))}")
        return not failed

    def _invoke(self, step: AnyStep, task: Mapping[str, Any]) -> tuple[Any, bool]:
        """The answer of a step's function to a task, and whether it is an error.

        Raises:
            TransientError: It could not be called.
        """
        try:
            answer = self.functions.invoke(
                FunctionName=self.called[step.function], Payload=json.dumps(task)
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"{step.name!r} could not be called: {problem}") from problem
        return json.loads(answer["Payload"].read()), "FunctionError" in answer
