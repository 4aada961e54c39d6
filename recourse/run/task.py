"""A task: what a step is asked for, as a state machine or the step's queue words it.

Its phase is one of

- `action`: act, once;
- `undo`: take the effect back, once, or leave a tombstone where there is none;
- `give_up` (a choreography, when an action has failed for good): leave a tombstone and record
  the failure, unless it has acted after all;
- `settle` (the pivot, when its task has failed): its result if it acted, else it never will;
- `cancel` (the pivot, for a caller or a deadline): whether it was still possible;
- `decide` (a step that waits): take somebody's answer, once;
- `expire` (a step that waits, when its time is up): undo it as failed, unless it was decided;
- `confirm`: make a booking of a hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from recourse.declare import asks, limits
from recourse.declare.ids import SagaId, Traceparent
from recourse.declare.step import Action, Call, Confirm, Decision, Item, Put, Reads, Undo, Write
from recourse.declare.tables import ExistingTable, Row, key_of
from recourse.errors import RecourseError
from recourse.events import Event, outbox_row

if TYPE_CHECKING:
    from recourse.declare.shape import Role
    from recourse.events.event import StepKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One request to a step.

    Attributes:
        saga: Of the run: `id`, `name`, `owner`, `business_key`, `started_at`, `chaos` (faults by
            target), `recover` (0, or which recovery this is), `forward` (of a
            recovery: whether the pivot had acted), `run` (of a run that goes on after a decision:
            its number), `skips` (reasons by step or
            `step.undo`), `attempts` (tries in earlier runs, by the same), `traceparent` (a span
            of its trace) and `shape` (the digest of the shape that it began with); sagas that
            earlier releases began have neither.
        step: The step's name.
        phase: What is asked for.
        role: Whether the step comes before the pivot, is it, or comes after it.
        request: The fields that the step takes.
        results: The results that the step is given.
        attempt: Tries before this one in this run.
        tries: Tries that the action has had in this run, if it failed in a way that passes.
        entered_at: When the run came to this step.
        failure: The errors caught so far, by step or group.
        timeout: Seconds that one attempt may take.
        result_bytes: What the result may have.
        carried: In a choreography, what its events carry on: `saga`, `request`, `results` so far.
        answer: What somebody has decided: the fields of an `Answer`, and an `id` of this try.
        later: When the step is due, where it is not at once: the fields of a `Later`.
        lasts: Seconds after which the process of this try has ended. They are more than `timeout`
            where its function serves steps of another shape too that may take longer.
    """

    saga: Mapping[str, Any]
    step: str
    phase: str
    role: Role
    request: Mapping[str, Any]
    results: Mapping[str, Any]
    attempt: int = 0
    tries: int = 1
    entered_at: str | None = None
    failure: Mapping[str, Any] | None = None
    timeout: float = 30
    result_bytes: int = limits.REQUEST
    carried: Mapping[str, Any] | None = None
    lasts: float = 0
    answer: Mapping[str, Any] | None = None
    later: Mapping[str, Any] | None = None

    @property
    def target(self) -> str:
        """What faults, skips and earlier attempts are kept under."""
        return f"{self.step}.undo" if self.phase == "undo" else self.step

    @property
    def number(self) -> int:
        """The number of this attempt over all runs, from 1."""
        if self.phase == "give_up":
            return 1
        return int(self.attempt) + 1 + int(self.saga.get("attempts", {}).get(self.target, 0))

    @property
    def all_tries(self) -> int:
        """How often the action of a failed step was tried, over all runs."""
        return self.tries + int(self.saga.get("attempts", {}).get(self.step, 0))

    @property
    def skipped(self) -> str | None:
        """Why an operator lets it be skipped; None where it is not."""
        reason: str | None = self.saga.get("skips", {}).get(self.target)
        return reason

    @property
    def recovering(self) -> bool:
        """Whether a recovery asks, and not the run that the saga began with."""
        return bool(self.saga.get("recover"))

    @property
    def left_out(self) -> bool:
        """Whether the request leaves the step out."""
        return bool(self.request) and all(value is None for value in self.request.values())

    @property
    def trace(self) -> Traceparent | None:
        """A span of the saga's trace, if it has one."""
        return Traceparent.sent(self.saga.get("traceparent"))

    def call(
        self, part: Action | Undo | Confirm, deadline: datetime | None = None
    ) -> tuple[Call[Any], Reads]:
        """What the author of a part is given, and the rows to read for it.

        Raises:
            AskError: What is asked cannot be made of the request.
            UndeclaredTableError: It reads a table that it does not declare.
        """
        call = Call(
            saga_id=SagaId(self.saga["id"]),
            saga=self.saga["name"],
            step=self.step,
            owner=self.saga["owner"],
            business_key=self.saga["business_key"],
            started_at=self.saga["started_at"],
            ask=asks.make(part.ask, self.request),
            results=self.results,
            deadline=deadline,
            traceparent=self.trace and self.trace.at(self.saga["id"], self.step, _side(part)),
        )
        reads = part.reads(call)
        check_declared(part, (one.table for one in reads if isinstance(one, Row)))
        return call, reads

    def event(
        self,
        kind: StepKind,
        *,
        outcome: str | None = None,
        result: Any = None,
        question: Mapping[str, Any] | None = None,
        answer: Mapping[str, Any] | None = None,
        error: Mapping[str, str] | None = None,
        claimed: bool = False,
        follows: Sequence[str] | None = None,
        tries: int | None = None,
        due_at: str | None = None,
    ) -> Event:
        """What has happened, as an event.

        Args:
            kind: What has happened.
            outcome: How it ended, where that is not implied: `skipped`, `empty`.
            result: What an action returned.
            question: What somebody is asked.
            answer: What they have decided.
            error: Why it failed.
            claimed: Whether it failed before its turn, as a cancelled pivot does.
            follows: The kinds of the step's events that it comes after.
            tries: How often the action was tried, where its process did not live to record it.
            due_at: Until when the step waits.
        """
        carried = None
        if self.carried:
            # The event has the step's own result as it is: what receives it adds that to these.
            results = self.carried["results"] if kind == "done" else {}
            request = self.carried["request"]
            carried = {"saga": self.saga, "request": request, "results": results}
        return Event.of_step(
            self.saga["id"],
            self.saga["name"],
            self.step,
            kind,
            run=number_of(self.saga),
            attempts=self.number if tries is None else tries,
            entered_at=self.entered_at if tries is None else None,
            outcome=outcome,
            result=result,
            question=question,
            answer=answer,
            error=error,
            claimed=claimed,
            carried=carried,
            follows=follows,
            shape=self.saga.get("shape"),
            due_at=due_at,
            trace=self.trace,
        )

    def outbox_row(self, event: Event) -> Item:
        """The row that takes an event of it to the relay."""
        return outbox_row(event, self.saga["owner"])


def number_of(saga: Mapping[str, Any]) -> int:
    """The number of the run that a task is of: 0 is the first."""
    number: int = saga.get("run", saga.get("recover", 0))
    return number


def _side(part: Action | Undo | Confirm) -> str:
    return (
        "undo" if isinstance(part, Undo) else "confirm" if isinstance(part, Confirm) else "action"
    )


class UndeclaredTableError(RecourseError):
    """A step reads or writes a table that its action, undo or confirmation does not declare."""


def check_declared(part: Action | Undo | Confirm, tables: Iterable[ExistingTable | None]) -> None:
    """Check that a part declares these tables; None is its service's own, which it always may use.

    Raises:
        UndeclaredTableError: One of them is not declared.
    """
    for table in tables:
        if table is not None and table not in part.tables:
            declared = ", ".join(one.name for one in part.tables) or "none"
            raise UndeclaredTableError(
                f"{part.ref} must declare the table {table.name!r} to read or write it, and "
                f"declares {declared}: write it into tables=[...] of its {part.made_by}"
            )


def check_commit(
    task: Task, part: Action | Undo | Confirm, result: Any, writes: Sequence[Write]
) -> None:
    """Check that what a part has decided may be committed.

    Raises:
        ResultTooLargeError: It does not fit into its event, the saga's state or its rows.
        UndeclaredTableError: It writes a table that the part does not declare.
    """
    limits.check_result(task.step, result, task.result_bytes)
    check_declared(part, (write.table for write in writes))
    for write in writes:
        if isinstance(write, Put):
            limits.check_row(task.step, key_of(write.table, write.item), write.item)


def checked(task: Task, part: Action | Undo | Confirm, decision: Decision) -> Decision:
    """A decision, once it is checked that it may be committed; raises as `check_commit`."""
    check_commit(task, part, decision.result, decision.writes)
    return decision


class TaskRunner(Protocol):
    """What runs tasks: `recourse.run.runner.StepRunner`, and what is wrapped round one."""

    def run(self, payload: Mapping[str, Any]) -> Any:
        """Do what a task asks for; see `StepRunner.run`."""
