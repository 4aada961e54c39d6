"""The step runtime: what happens between a task that asks for a step and the one write it makes.

A task is what the state machine passes to a step's function (`recourse.orchestration.compiler`),
with the phase that it asks for:

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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from recourse import events
from recourse.declare import asks, limits
from recourse.declare.ids import SagaId
from recourse.declare.step import Action, Call, Confirm, Decision, Document, Item, Put, Undo
from recourse.errors import (
    RecourseError,
    Refusal,
    StepCancelledError,
    StepCrashedError,
    StepTimedOutError,
    TransientError,
)
from recourse.events import Event, outbox_row
from recourse.run import faults
from recourse.run.barrier import Barrier, MarkerFound, Side, millis
from recourse.run.failures import own_failure, understand

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from recourse.declare.declaration import Role
    from recourse.events.event import StepKind

T = TypeVar("T")

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

    def call(
        self, part: Action | Undo | Confirm, deadline: datetime | None = None
    ) -> tuple[Call[Any], Sequence[str]]:
        """What the author of a part is given, and the keys of the rows to read for it.

        Raises:
            AskError: What is asked cannot be made of the request.
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
        )
        return call, part.reads(call)


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
        clock: Seconds of the epoch.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        action: Action,
        undo: Undo | None = None,
        confirm: Confirm | None = None,
        *,
        store: Callable[[Document], None] | None = None,
        faults: bool = False,
        timescale: float = 1,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
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
        self._clock = clock

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
        deadline = self._deadline(task) if self._action.external else None
        return _answer(_found(barrier, lambda: self._try_action(task, barrier, deadline)))

    def _try_action(self, task: Task, barrier: Barrier, deadline: datetime | None) -> Item:
        if task.target in task.saga.get("skips", {}):
            acted = barrier.read([barrier.key("action")])[0]
            begun = {"outcome": "begun"} if acted and acted["outcome"] == "begun" else None
            return self._tell(task, barrier, "done", outcome="skipped", replaces=begun)
        replaces: dict[str, Any] | None = None
        alone = True
        try:
            call, keys = self._asked(barrier, "action", lambda: task.call(self._action, deadline))
            acted, *items = barrier.read([barrier.key("action"), *keys])
            if acted and acted["outcome"] != "begun":
                raise MarkerFound(acted)
            alone = acted is None
            if deadline:
                alone = barrier.begin(deadline.timestamp()) and alone
            if deadline or acted:
                replaces = {"outcome": "begun"}
            given = replace(call, items=items)
            decided = self._asked(barrier, "action", lambda: self._action.decide(given))
            decision = _measured(task, decided)
        except Refusal as no:
            if deadline and replaces:
                replaces["until"] = millis(deadline.timestamp())
            if task.role != "retriable" and alone:
                with suppress(_BegunError):
                    return self._refuse(task, barrier, no, replaces)
            # Where another try has begun, only the undo, or `find`, can tell what came of it.
            _answer_if_found(barrier, "action")
            raise
        for document in decision.documents:
            self._keep(document)
        try:
            return self._tell(task, barrier, "done", decision=decision, replaces=replaces)
        except MarkerFound as found:
            if deadline and found.marker["outcome"] == "cancelled":
                self._take_own_effect_back(task, barrier, decision)
            raise

    def _refuse(
        self, task: Task, barrier: Barrier, no: Refusal, replaces: Mapping[str, Any] | None
    ) -> Item:
        why = events.error(type(no).__name__, str(no))
        try:
            return self._tell(
                task, barrier, "failed", outcome="refused", error=why, replaces=replaces
            )
        except MarkerFound as found:
            if found.marker["outcome"] == "begun":
                raise _BegunError from None
            raise

    def _take_own_effect_back(self, task: Task, barrier: Barrier, decision: Decision) -> None:
        """Undo what a provider did for an action that was undone meanwhile.

        What the undo would write is not written: there is nothing of this action in the table. A
        pivot has no undo; who settles it finds what it did.
        """
        undo = self._undo
        if undo is not None:
            call, keys = task.call(undo)
            items = barrier.read(list(keys))
            undo.decide(replace(call, items=items, result=decision.result))

    def _take_back(self, task: Task) -> dict[str, Any]:
        barrier = self._barrier(task)
        marker = _found(barrier, lambda: self._try_undo(task, barrier))
        if self._faults and faults.fault(task.saga.get("chaos", {}), task.step, 1) == "late":
            self._arrive_late(task)
        return {"outcome": marker["outcome"]}

    def _try_undo(self, task: Task, barrier: Barrier) -> Item:
        undo = self._undo
        if undo is None:
            raise TypeError(f"step {task.step!r} has no undo")
        failed = self._own_failure(task)
        skipped = task.target in task.saga.get("skips", {})
        keys: Sequence[str] = ()
        if not skipped:  # else what it is asked is nobody's concern, even if it cannot be made
            call, keys = self._asked(barrier, "undo", lambda: task.call(undo))
        found, acted, *items = barrier.read([barrier.key("undo"), barrier.key("action"), *keys])
        if found:
            raise MarkerFound(found)
        done = acted is not None and acted["outcome"] == "done"
        if acted is not None and done and task.phase == "give_up":
            return acted
        outbox = []
        if failed and not (acted and acted["outcome"] == "refused"):
            outbox.append(self._event(task, "failed", error=failed, tries=self._tries(task)))
        begun = acted is not None and "until" in acted and not done
        if acted is not None and begun and acted["outcome"] == "begun":
            acted = barrier.entomb(acted)
        if skipped:
            reason = task.saga["skips"][task.target]
            outcome, decision = "skipped", Decision(result={"reason": reason})
        elif acted is not None and (done or begun):
            if begun:
                barrier.wait(acted["until"])
            deadline = self._deadline(task) if undo.external else None
            given = replace(call, items=items, result=acted.get("result"), deadline=deadline)
            decided = self._asked(barrier, "undo", lambda: undo.decide(given))
            outcome, decision = "done", _measured(task, decided)
        else:
            outcome, decision = "empty", Decision()
        follows = [
            *(["done"] if done else []),
            *(["failed"] if outbox or (acted and acted["outcome"] == "refused") else []),
        ]
        event = self._event(
            task, "undone", outcome=None if outcome == "done" else outcome, follows=follows
        )
        return barrier.commit(
            "undo",
            {"outcome": outcome, "at": event.time, "result": decision.result},
            decision,
            outbox=[outbox_row(one) for one in (*outbox, event)],
            requires_action=done,
            tombstone=acted is None,
        )

    def _settle(self, task: Task) -> Any:
        caught = self._own_failure(task)
        error, claimed = caught or events.error(*_CANCELLED), caught is None
        marker = self._claim(task, error, claimed=claimed)
        if _is_open(marker):
            barrier = self._barrier(task)
            marker = _found(barrier, lambda: self._find_out(task, barrier, error, claimed=claimed))
        if self._faults and faults.fault(task.saga.get("chaos", {}), task.step, 1) == "late":
            self._arrive_late(task)
        if marker["outcome"] in ("done", "skipped"):
            return marker["result"]
        raise StepCancelledError("the step had not acted, and now it never will")

    def _find_out(
        self, task: Task, barrier: Barrier, error: Mapping[str, str], *, claimed: bool
    ) -> Item:
        """Ask the provider what came of a pivot that had begun, once no try can call it."""
        find = self._action.find
        if find is None:
            raise TypeError(f"step {task.step!r} had begun and has no `find`")
        call, keys = self._asked(barrier, "action", lambda: task.call(self._action))
        acted, *items = barrier.read([barrier.key("action"), *keys])
        assert acted is not None, "the claim put it"
        if not _is_open(acted):
            raise MarkerFound(acted)
        if acted["outcome"] == "begun":
            acted = barrier.entomb(acted)
        barrier.wait(acted["until"])
        call = replace(call, items=items, deadline=self._deadline(task))
        found = self._asked(barrier, "action", lambda: find(call))
        replaces = {name: acted[name] for name in ("outcome", "until")}
        if found is not None:
            acting, decision = replace(task, attempt=task.tries - 1), _measured(task, found)
            return self._tell(acting, barrier, "done", decision=decision, replaces=replaces)
        marker, rows = self._tombstone(task, error, claimed=claimed)
        return barrier.commit("action", marker, Decision(), outbox=rows, replaces=replaces)

    def _cancel(self, task: Task) -> dict[str, bool]:
        marker = self._claim(task, events.error(*_CANCELLED), claimed=True)
        acted = marker["outcome"] in ("done", "skipped") or _is_open(marker)
        return {"cancelled": not acted}

    def _claim(self, task: Task, error: Mapping[str, str], *, claimed: bool) -> Item:
        """Put the pivot's marker as a tombstone; what it holds then, its own or another's."""
        barrier = self._barrier(task)
        marker, rows = self._tombstone(task, error, claimed=claimed)
        return _found(barrier, lambda: barrier.commit("action", marker, Decision(), outbox=rows))

    def _tombstone(
        self, task: Task, error: Mapping[str, str], *, claimed: bool
    ) -> tuple[Item, list[Item]]:
        """The marker of a pivot that never acts, and the row that tells of it."""
        tries = self._tries(task) if task.phase == "settle" else 0
        event = self._event(task, "failed", error=error, claimed=claimed, tries=tries)
        marker = {"outcome": "cancelled", "at": event.time, "error": error}
        return marker, [outbox_row(event)]

    def _book(self, task: Task) -> dict[str, Any]:
        confirm = self._confirm
        if confirm is None:
            raise TypeError(f"step {task.step!r} has nothing to confirm")
        barrier = self._barrier(task)

        def attempt() -> Item:
            call, keys = self._asked(barrier, "confirm", lambda: task.call(confirm))
            sides = barrier.key("confirm"), barrier.key("action")
            booked, held, *items = barrier.read([*sides, *keys])
            if booked:
                raise MarkerFound(booked)
            if held is None or held["outcome"] != "done":
                return {"outcome": "empty"}
            given = replace(call, items=items)
            decided = self._asked(barrier, "confirm", lambda: confirm.decide(given))
            decision = _measured(task, decided)
            return barrier.commit("confirm", {"outcome": "done", "at": events.now()}, decision)

        return {"outcome": _found(barrier, attempt)["outcome"]}

    # What they share.

    @staticmethod
    def _asked(barrier: Barrier, side: Side, ask: Callable[[], T]) -> T:
        """Ask the author's function; where it raises, another delivery may have been first.

        Raises:
            MarkerFound: It was: what its marker holds is the answer.
        """
        try:
            return ask()
        except Exception as problem:
            if side != "action" or not isinstance(problem, Refusal):
                _answer_if_found(barrier, side)
            raise

    def _deadline(self, task: Task) -> datetime:
        """The moment after which a try that starts now may not call a provider any more."""
        seconds = max(1, math.ceil(task.timeout * self._timescale))
        return datetime.fromtimestamp(self._clock() + seconds, UTC)

    def _barrier(self, task: Task) -> Barrier:
        return Barrier(
            self._dynamodb,
            self._table,
            task.saga["id"],
            task.step,
            budget=task.timeout * self._timescale * BUDGET,
            sleep=self._sleep,
            clock=self._clock,
        )

    def _keep(self, document: Document) -> None:
        if self._store is None:
            raise TypeError(f"{self._action.ref} stores documents and does not say so")
        self._store(document)

    def _event(
        self,
        task: Task,
        kind: StepKind,
        *,
        outcome: str | None = None,
        result: Any = None,
        error: Mapping[str, str] | None = None,
        claimed: bool = False,
        follows: Sequence[str] | None = None,
        tries: int | None = None,
    ) -> Event:
        """What has happened in a task; an action that did not live to tell of it has `tries`."""
        carried = None
        if task.carried:
            # Its own result is in the event as it is, so whoever hears it adds that.
            results = task.carried["results"] if kind == "done" else {}
            request = task.carried["request"]
            carried = {"saga": task.saga, "request": request, "results": results}
        return Event.of_step(
            task.saga["id"],
            task.saga["name"],
            task.step,
            kind,
            run=task.saga.get("recover", 0),
            attempts=task.number if tries is None else tries,
            entered_at=task.entered_at if tries is None else None,
            outcome=outcome,
            result=result,
            error=error,
            claimed=claimed,
            carried=carried,
            follows=follows,
        )

    def _tell(
        self,
        task: Task,
        barrier: Barrier,
        kind: StepKind,
        *,
        outcome: str = "done",
        decision: Decision | None = None,
        error: Mapping[str, str] | None = None,
        replaces: Mapping[str, Any] | None = None,
    ) -> Item:
        """Commit an action's marker with what it decided and what is told of it."""
        decision = decision or Decision()
        event = self._event(
            task,
            kind,
            outcome=outcome if outcome == "skipped" else None,
            result=decision.result,
            error=error,
        )
        content: dict[str, Any] = {"error": error} if error else {"result": decision.result}
        marker: Item = {"outcome": outcome, "at": event.time} | content
        rows = [outbox_row(event)]
        return barrier.commit("action", marker, decision, outbox=rows, replaces=replaces)

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
        fault = faults.fault(task.saga.get("chaos", {}), task.target, task.number)
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

        refusing = Action(refuse, refuses=self._action.refuses)
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


class _BegunError(RecourseError):
    """Another try of an external action has begun meanwhile, so a refusal does not settle it."""


def _found(barrier: Barrier, attempt: Callable[[], Item]) -> Item:
    """The marker that an attempt puts, or that it finds."""
    try:
        return barrier.until_settled(attempt)
    except MarkerFound as found:
        return found.marker


def _answer_if_found(barrier: Barrier, side: Side) -> None:
    """Look whether another delivery has put the marker meanwhile.

    Raises:
        MarkerFound: It has.
    """
    marker = barrier.read([barrier.key(side)])[0]
    if marker and not _is_open(marker):
        raise MarkerFound(marker)


def _is_open(marker: Item) -> bool:
    """Whether a provider may have been called, and nobody has found out yet what came of it."""
    return marker["outcome"] in ("begun", "cancelled") and "until" in marker


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
