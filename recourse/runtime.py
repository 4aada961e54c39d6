"""The step runtime: what happens between a task that asks for a step and the one write it makes.

A task is what the state machine passes to a step's function (see `recourse.asl`), with the phase
that it asks for:

- `action`: act, once;
- `undo`: take the effect back, once, or leave a tombstone where there is none;
- `give_up` (a choreography, when an action has failed for good): leave a tombstone and tell of the
  failure, unless it has acted after all;
- `settle` (the pivot, when its task has failed): its result if it acted, else it never will;
- `cancel` (the pivot, for a caller or a deadline): whether it was still possible;
- `confirm`: make a booking of a hold.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recourse import chaos, events, limits
from recourse.barrier import Barrier, MarkerFound
from recourse.failures import own_failure, understand
from recourse.saga import Role
from recourse.step import (
    Call,
    Decision,
    Deed,
    Document,
    Item,
    Put,
    Refusal,
    StepCancelledError,
    StepCrashedError,
    StepTimedOutError,
    TransientError,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

BUDGET = 0.6
"""The part of a step's timeout for which conflicts are retried within one attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One request to a step, as the state machine words it.

    Attributes:
        saga: Of the run: `id`, `name`, `owner`, `business_key`, `started_at`, `chaos` (faults by
            target), `recover` (0, or which recovery this is), `forward` (of a
            recovery: whether the pivot had acted), `skips` (reasons by step or
            `step.undo`), `attempts` (tries in earlier runs, by the same).
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
    def left_out(self) -> bool:
        """Whether the request leaves the step out."""
        return bool(self.request) and all(value is None for value in self.request.values())

    @property
    def call(self) -> Call:
        """What the step's author is given."""
        return Call(
            saga_id=self.saga["id"],
            saga=self.saga["name"],
            step=self.step,
            owner=self.saga["owner"],
            business_key=self.saga["business_key"],
            started_at=self.saga["started_at"],
            request=self.request,
            results=self.results,
        )


def refusal(kind: str, message: str) -> Refusal:
    """A refusal of this class name, as it was recorded; what the state machine sees is the name."""
    made: Refusal = type(kind, (Refusal,), {})(message)
    return made


class StepRunner:
    """Runs one step of a service: its action, and what takes it back.

    Args:
        dynamodb: A DynamoDB client.
        table: The service's table.
        action: What the step does.
        undo: What takes it back, before the pivot.
        confirm: What makes a booking of its hold.
        store: Stores a document; needed only where the action has documents.
        faults: Whether faults on demand are switched on here.
        timescale: What multiplies time-outs.
        sleep: How to wait.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        action: Deed,
        undo: Deed | None = None,
        confirm: Deed | None = None,
        *,
        store: Callable[[Document], None] | None = None,
        faults: bool = False,
        timescale: float = 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._action = action
        self._undo = undo
        self._confirm = confirm
        self._store = store
        self._faults = faults
        self._timescale = timescale
        self._sleep = sleep

    def run(self, payload: Mapping[str, Any]) -> Any:
        """Do what a task asks for.

        Args:
            payload: A `Task`, as JSON.

        Returns:
            For an action, its result; for an undo, `{"outcome": …}`; for `settle`, the pivot's
            result; for `cancel`, `{"cancelled": true or false}`.

        Raises:
            Refusal: The business says no.
            StepCancelledError: The step was undone or cancelled first.
            TransientError: It did not work now and may work later.
        """
        task = Task(**payload)
        phases: dict[str, Callable[[Task], Any]] = {
            "action": self._act,
            "undo": self._take_back,
            "give_up": self._take_back,
            "settle": self._settle,
            "cancel": self._cancel,
            "confirm": self._book,
        }
        phase = phases[task.phase]
        if task.left_out:
            return None
        if self._faults and self._may_fail(task):
            return self._under_fault(task, phase)
        return phase(task)

    # Each phase.

    def _act(self, task: Task) -> Any:
        barrier = self._barrier(task)
        if task.saga.get("recover"):
            if task.role == "compensable":
                if not task.saga.get("forward", True):
                    return None
                key = barrier.key("action")
                return barrier.until_settled(lambda: barrier.read([key])[0] or {}).get("result")
            if task.role == "pivot":
                return self._settle(task)
        try:
            marker = barrier.until_settled(lambda: self._try_action(task, barrier))
        except MarkerFound as found:
            marker = found.marker
        return _answer(marker)

    def _try_action(self, task: Task, barrier: Barrier) -> Item:
        call = task.call
        try:
            if task.target in task.saga.get("skips", {}):
                return self._tell(task, barrier, "done", outcome="skipped")
            call = replace(call, items=barrier.read(self._action.reads(call)))
            decision = _measured(task, self._action.decide(call))
            for document in decision.documents:
                self._keep(document)
            return self._tell(task, barrier, "done", decision=decision)
        except Refusal as no:
            if task.role == "retriable":
                raise
            why = events.error(type(no).__name__, str(no))
            return self._tell(task, barrier, "failed", outcome="refused", error=why)

    def _take_back(self, task: Task) -> dict[str, Any]:
        barrier = self._barrier(task)
        try:
            marker = barrier.until_settled(lambda: self._try_undo(task, barrier))
        except MarkerFound as found:
            marker = found.marker
        if self._faults and chaos.fault(task.saga.get("chaos", {}), task.step, 1) == "late":
            self._arrive_late(task)
        return {"outcome": marker["outcome"]}

    def _try_undo(self, task: Task, barrier: Barrier) -> Item:
        if self._undo is None:
            raise TypeError(f"step {task.step!r} has no undo")
        failed = self._own_failure(task)
        call = task.call
        acted, *items = barrier.read([barrier.key("action"), *self._undo.reads(call)])
        done = acted is not None and acted["outcome"] == "done"
        if acted is not None and done and task.phase == "give_up":
            return acted
        outbox = []
        if failed and not (acted and acted["outcome"] == "refused"):
            told = self._event(task, "failed", error=failed)
            told["data"] |= {"attempts": self._tries(task), "entered_at": None}
            outbox.append(told)
        if task.target in task.saga.get("skips", {}):
            reason = task.saga["skips"][task.target]
            outcome, decision = "skipped", Decision(result={"reason": reason})
        elif acted is not None and done:
            given = replace(call, items=items, result=acted["result"])
            outcome, decision = "done", _measured(task, self._undo.decide(given))
        else:
            outcome, decision = "empty", Decision()
        told = self._event(task, "undone", outcome=None if outcome == "done" else outcome)
        told["data"]["follows"] = [
            *(["done"] if done else []),
            *(["failed"] if outbox or (acted and acted["outcome"] == "refused") else []),
        ]
        return barrier.commit(
            "undo",
            {"outcome": outcome, "at": told["time"], "result": decision.result},
            decision,
            outbox=[events.outbox_row(row) for row in (*outbox, told)],
            requires_action=done,
            tombstone=acted is None,
        )

    def _settle(self, task: Task) -> Any:
        caught = self._own_failure(task)
        marker = self._claim(task, caught or events.error(*_CANCELLED), early=caught is None)
        if self._faults and chaos.fault(task.saga.get("chaos", {}), task.step, 1) == "late":
            self._arrive_late(task)
        if marker["outcome"] in ("done", "skipped"):
            return marker["result"]
        raise StepCancelledError("the step had not acted, and now it never will")

    def _cancel(self, task: Task) -> dict[str, bool]:
        marker = self._claim(task, events.error(*_CANCELLED), early=True)
        return {"cancelled": marker["outcome"] not in ("done", "skipped")}

    def _claim(self, task: Task, error: Mapping[str, str], *, early: bool) -> Item:
        """Put the pivot's marker as a tombstone; what it holds then, its own or another's."""
        barrier = self._barrier(task)
        told = self._event(task, "failed", error=error, early=early or None)
        tries = self._tries(task) if task.phase == "settle" else 0
        told["data"] |= {"attempts": tries, "entered_at": None}
        marker = {"outcome": "cancelled", "at": told["time"], "error": error}
        rows = [events.outbox_row(told)]
        try:
            return barrier.until_settled(
                lambda: barrier.commit("action", marker, Decision(), outbox=rows)
            )
        except MarkerFound as found:
            return found.marker

    def _book(self, task: Task) -> dict[str, Any]:
        confirm = self._confirm
        if confirm is None:
            raise TypeError(f"step {task.step!r} has nothing to confirm")
        barrier = self._barrier(task)

        def attempt() -> Item:
            held, *items = barrier.read([barrier.key("action"), *confirm.reads(task.call)])
            if held is None or held["outcome"] != "done":
                return {"outcome": "empty"}
            decision = _measured(task, confirm.decide(replace(task.call, items=items)))
            return barrier.commit("confirm", {"outcome": "done", "at": events.now()}, decision)

        try:
            marker = barrier.until_settled(attempt)
        except MarkerFound as found:
            marker = found.marker
        return {"outcome": marker["outcome"]}

    # What they share.

    def _barrier(self, task: Task) -> Barrier:
        return Barrier(
            self._dynamodb,
            self._table,
            task.saga["id"],
            task.step,
            budget=task.timeout * self._timescale * BUDGET,
            sleep=self._sleep,
        )

    def _keep(self, document: Document) -> None:
        if self._store is None:
            raise TypeError(f"{self._action.ref} stores documents and does not say so")
        self._store(document)

    def _event(self, task: Task, what: str, **data: Any) -> dict[str, Any]:
        data = {key: value for key, value in data.items() if value is not None}
        if task.carried:
            # Its own result is in the event as it is, so whoever hears it adds that.
            results = task.carried["results"] if what == "done" else {}
            request = task.carried["request"]
            data["carried"] = {"saga": task.saga, "request": request, "results": results}
        return events.event(
            task.saga["id"],
            task.saga["name"],
            what,
            step=task.step,
            attempts=task.number,
            entered_at=task.entered_at,
            run=task.saga.get("recover", 0),
            **data,
        )

    def _tell(
        self,
        task: Task,
        barrier: Barrier,
        what: str,
        *,
        outcome: str = "done",
        decision: Decision | None = None,
        error: Mapping[str, str] | None = None,
    ) -> Item:
        """Commit an action's marker with what it decided and what is told of it."""
        decision = decision or Decision()
        content: dict[str, Any] = {"error": error} if error else {"result": decision.result}
        told = self._event(task, what, outcome=outcome if outcome == "skipped" else None, **content)
        marker: Item = {"outcome": outcome, "at": told["time"]} | content
        return barrier.commit("action", marker, decision, outbox=[events.outbox_row(told)])

    def _own_failure(self, task: Task) -> dict[str, str] | None:
        caught = own_failure(task.step, task.failure or {})
        return understand(caught, task.timeout * self._timescale) if caught else None

    def _tries(self, task: Task) -> int:
        """How often the action of a failing step was tried, over all runs."""
        return task.tries + int(task.saga.get("attempts", {}).get(task.step, 0))

    # Faults on demand.

    @staticmethod
    def _may_fail(task: Task) -> bool:
        """Whether faults reach this task: what acts or undoes, not what looks or is skipped."""
        if task.target in task.saga.get("skips", {}):
            return False
        looks = task.saga.get("recover") and task.phase == "action" and task.role != "retriable"
        return task.phase in ("action", "undo") and not looks

    def _under_fault(self, task: Task, phase: Callable[[Task], Any]) -> Any:
        fault = chaos.fault(task.saga.get("chaos", {}), task.target, task.number)
        match fault:
            case "error":
                raise TransientError("a fault was asked for: error, before any effect")
            case "late":
                raise StepTimedOutError("a fault was asked for: late, no effect so far")
            case "reject":
                return self._reject(task)
            case "duplicate":
                return self._twice(task, phase)
        answer = phase(task)
        if fault == "crash":
            raise StepCrashedError("a fault was asked for: crash, after the effect")
        if fault == "timeout":
            self._sleep(math.ceil(task.timeout * self._timescale) + 1)
        return answer

    def _reject(self, task: Task) -> Any:
        """Refuse as the business would, with the first refusal that the step declares."""
        kinds = self._action.refuses if task.phase == "action" else ()
        kind = kinds[0] if kinds else RejectedError
        no = kind("a fault was asked for: reject")
        if task.phase != "action" or task.role == "retriable":
            raise no

        def refuse(call: Call) -> Decision:
            raise no

        refusing = Deed(refuse, lambda call: (), self._action.refuses)
        runner = StepRunner(
            self._dynamodb, self._table, refusing, timescale=self._timescale, sleep=self._sleep
        )
        return runner._act(task)

    def _twice(self, task: Task, phase: Callable[[Task], Any]) -> Any:
        """Two deliveries at the same time; they must agree, so the first one's answer is given."""
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(phase, task), pool.submit(phase, task)
        problem = second.exception()
        if isinstance(problem, TransientError):
            raise problem
        return first.result()

    def _arrive_late(self, task: Task) -> None:
        """Deliver the first attempt of the action, now that its step is undone or settled."""
        with suppress(StepCancelledError, Refusal):
            self._act(replace(task, phase="action", saga={**task.saga, "recover": 0}))


class RejectedError(Refusal):
    """The refusal that a fault asks for where the step declares none of its own."""


_CANCELLED = (StepCancelledError.__name__, "the saga was cancelled before this step")


def _measured(task: Task, decision: Decision) -> Decision:
    """What a step has decided, where it fits into its event, the saga's state and its rows.

    Raises:
        ResultTooLargeError: It does not; nothing is committed.
    """
    limits.check_result(task.step, decision.result, task.result_bytes)
    limits.check_rows(task.step, (one.item for one in decision.writes if isinstance(one, Put)))
    return decision


def _answer(marker: Item) -> Any:
    """What an action's marker means to whoever asks for the action."""
    match marker["outcome"]:
        case "refused":
            why = marker["error"]
            raise refusal(why["type"], why["message"])
        case "cancelled":
            raise StepCancelledError("the step was undone or cancelled before it acted")
    return marker["result"]
