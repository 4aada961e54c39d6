"""The step runner: from a task that asks for a step to the one write that it makes.

    runner = StepRunner(dynamodb, "flights", flights.hold, flights.release)
    runner.run(task)    # what the action answers; the same when the task is delivered again

What a task is, and what its phases are, is in `recourse.run.task`.

It is longer than other modules: what a delivery finds, and does then, is one matter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from recourse import events
from recourse.declare.step import Action, Confirm, Decision, Document, Item, Reads, Undo
from recourse.declare.tables import ExistingTable
from recourse.declare.wait import Question
from recourse.errors import RecourseError, Refusal, StepCancelledError, WaitingError
from recourse.run.asking import Asking, kept_of
from recourse.run.barrier import LATER, Barrier, MarkerFound, is_open, millis
from recourse.run.delaying import delayed, is_early
from recourse.run.failures import own_failure, understand
from recourse.run.task import Task, checked

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from recourse.events.event import StepKind

BUDGET = 0.6
"""The part of a step's timeout for which conflicts are retried within one attempt."""
_CANCELLED = (StepCancelledError.__name__, "the saga was cancelled before this step")


@dataclass(frozen=True, eq=False)
class StepRunner:
    """Runs one step of a service: its action, its undo and its confirmation.

    Attributes:
        dynamodb: A DynamoDB client.
        table: The service's table.
        action: What the step does.
        undo: What undoes it, before the pivot.
        confirm: What turns its hold into a booking.
        store: Stores a document; needed only where the action has documents.
        table_name: The physical name of a table that exists already.
        timescale: What time-outs are multiplied by.
        sleep: Waits so many seconds.
        clock: Seconds of the epoch.
    """

    dynamodb: DynamoDBClient
    table: str
    action: Action
    undo: Undo | None = None
    confirm: Confirm | None = None
    _: KW_ONLY
    store: Callable[[Document], None] | None = None
    table_name: Callable[[ExistingTable], str] = attrgetter("name")
    timescale: float = 1
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time

    def run(self, payload: Mapping[str, Any]) -> Any:
        """Do what a task asks for.

        Args:
            payload: A `Task`, as JSON.

        Returns:
            For an action, its result; for an undo, `{"outcome": …}`; for `settle`, the pivot's
            result; for `cancel`, `{"cancelled": true or false}`; for `decide`, as `Asking.decide`.

        Raises:
            WaitingError: Somebody is asked, and has not decided; or the step is not due.
            Refusal: The business says no.
            StepCancelledError: The step was undone or cancelled first.
            TransientError: It did not work now and may work later.
        """
        task = Task(**payload)
        phases: dict[str, Callable[[Task], Any]] = {
            "action": self._act,
            "undo": self._undo,
            "give_up": self._undo,
            "settle": self._settle,
            "cancel": self._cancel,
            "confirm": self._confirm,
            "decide": lambda task: self._asking(task, self._barrier(task)).decide(),
            "expire": self._undo,
        }
        phase = phases[task.phase]
        return None if task.left_out else phase(task)

    # Each phase.

    def _act(self, task: Task) -> Any:
        barrier = self._barrier(task)
        if task.recovering:
            if task.role == "compensable":
                if not task.saga.get("forward", True):
                    return None
                key = barrier.key("action")
                return barrier.until_settled(lambda: barrier.read([key])[0] or {}).get("result")
            if task.role == "pivot":
                return self._settle(task)
        deadline = self._deadline(task) if self.action.external else None
        # An author who calls after the deadline does so in a process that ends by then.
        until = max(deadline.timestamp(), self.clock() + task.lasts) if deadline else 0
        return _answer(
            barrier.put_or_find(lambda: self._try_action(task, barrier, deadline, until))
        )

    def _try_action(
        self, task: Task, barrier: Barrier, deadline: datetime | None, until: float
    ) -> Item:
        if task.skipped is not None:
            acted = barrier.read([barrier.key("action")])[0]
            open_ones = ("begun", "later")
            begun = (
                {"outcome": acted["outcome"]} if acted and acted["outcome"] in open_ones else None
            )
            return self._commit_action(task, barrier, "done", outcome="skipped", replaces=begun)
        replaces: dict[str, Any] | None = None
        alone = True
        try:
            call, keys = barrier.unless_found("action", lambda: task.call(self.action, deadline))
            acted, *items = barrier.read([barrier.key("action"), *keys])
            if acted and acted["outcome"] not in ("begun", "later"):
                raise MarkerFound(acted)
            if early := delayed(task, barrier, acted, self._now, self.timescale):
                return early
            alone = acted is None or acted["outcome"] == "later"
            if deadline:
                alone = barrier.begin(until) and alone
            if deadline or acted:
                replaces = {"outcome": "begun" if deadline or not acted else acted["outcome"]}
            given = replace(call, items=items)
            decided = barrier.unless_found("action", lambda: self.action.decide(given))
            if isinstance(decided, Question):
                return self._asking(task, barrier).ask(decided)
            decision = checked(task, self.action, decided)
        except Refusal as no:
            if deadline and replaces:
                replaces["until"] = millis(until)
            if task.role != "retriable" and alone:
                with suppress(_BegunError):
                    return self._refuse(task, barrier, no, replaces)
            # Where another try has begun, only the undo, or `find`, can find out what it did.
            barrier.raise_if_found("action")
            raise
        for document in decision.documents:
            self._store_document(document)
        try:
            return self._commit_action(task, barrier, "done", decision=decision, replaces=replaces)
        except MarkerFound as found:
            if deadline and found.marker["outcome"] == "cancelled":
                self._undo_own_effect(task, barrier, decision)
            raise

    def _refuse(
        self, task: Task, barrier: Barrier, no: Refusal, replaces: Mapping[str, Any] | None
    ) -> Item:
        why = events.error(type(no).__name__, str(no))
        try:
            return self._commit_action(
                task, barrier, "failed", outcome="refused", error=why, replaces=replaces
            )
        except MarkerFound as found:
            if found.marker["outcome"] == "begun":
                raise _BegunError from None
            raise

    def _undo_own_effect(self, task: Task, barrier: Barrier, decision: Decision) -> None:
        """Undo what a provider did for an action that was undone meanwhile.

        What the undo decides is not written, for the table has nothing of this action. A pivot has
        no undo: settling it finds what the provider did.
        """
        undo = self.undo
        if undo is not None:
            call, keys = task.call(undo)
            items = barrier.read(keys)
            undo.decide(replace(call, items=items, result=decision.result))

    def _undo(self, task: Task) -> dict[str, Any]:
        barrier = self._barrier(task)
        marker = barrier.put_or_find(lambda: self._try_undo(task, barrier))
        return {"outcome": marker["outcome"]}

    def _try_undo(self, task: Task, barrier: Barrier) -> Item:
        undo = self.undo
        if undo is None:
            raise TypeError(f"step {task.step!r} has no undo")
        failed = self._own_failure(task)
        skipped = task.skipped is not None
        keys: Reads = ()
        if not skipped:  # else its ask is not needed, and need not fit
            call, keys = barrier.unless_found("undo", lambda: task.call(undo))
        found, acted, *items = barrier.read([barrier.key("undo"), barrier.key("action"), *keys])
        if found:
            raise MarkerFound(found)
        done = acted is not None and acted["outcome"] == "done"
        asked = acted is not None and acted["outcome"] == "asked"
        kept = kept_of(acted) if acted and acted["outcome"] in ("asked", "later") else None
        if task.phase == "expire" and not asked:
            return acted or {"outcome": None}
        early = acted is not None and is_early(acted, self._now)
        if acted is not None and task.phase == "give_up" and (done or asked or early):
            return acted
        waited = ["asked"] if asked else []
        outbox = []
        if failed and not (acted and acted["outcome"] == "refused"):
            outbox.append(
                task.event("failed", error=failed, tries=task.all_tries, follows=waited or None)
            )
        begun = acted is not None and "until" in acted and not done
        if acted is not None and begun and acted["outcome"] == "begun":
            acted = barrier.put_tombstone(acted)
        if skipped:
            outcome, decision = "skipped", Decision(result={"reason": task.skipped})
        elif acted is not None and (done or begun or asked):
            if begun:
                barrier.wait(acted["until"])
            deadline = self._deadline(task) if undo.external else None
            given = replace(call, items=items, result=acted.get("result"), deadline=deadline)
            decided = barrier.unless_found("undo", lambda: undo.decide(given))
            outcome, decision = "done", checked(task, undo, decided)
        else:
            outcome, decision = "empty", Decision()
        follows = [
            *waited,
            *(["done"] if done else []),
            *(["failed"] if outbox or (acted and acted["outcome"] == "refused") else []),
        ]
        event = task.event(
            "undone", outcome=None if outcome == "done" else outcome, follows=follows
        )
        return barrier.commit(
            "undo",
            {"outcome": outcome, "at": event.time, "result": decision.result},
            decision,
            outbox=[task.outbox_row(one) for one in (*outbox, event)],
            requires_action=done,
            tombstone={} if acted is None else kept,
        )

    def _settle(self, task: Task) -> Any:
        caught = self._own_failure(task)
        error, claimed = caught or events.error(*_CANCELLED), caught is None
        marker = self._claim(task, error, claimed=claimed)
        if is_open(marker):
            barrier = self._barrier(task)
            marker = barrier.put_or_find(
                lambda: self._find_out(task, barrier, error, claimed=claimed)
            )
        if marker["outcome"] in ("done", "skipped"):
            return marker["result"]
        raise StepCancelledError("the step had not acted, and now it never will")

    def _find_out(
        self, task: Task, barrier: Barrier, error: Mapping[str, str], *, claimed: bool
    ) -> Item:
        """Ask the provider what a pivot that had begun has done, once no try can call it."""
        find = self.action.find
        if find is None:
            raise TypeError(f"step {task.step!r} had begun and has no `find`")
        call, keys = barrier.unless_found("action", lambda: task.call(self.action))
        acted, *items = barrier.read([barrier.key("action"), *keys])
        assert acted is not None, "the claim put it"
        if not is_open(acted):
            raise MarkerFound(acted)
        if acted["outcome"] == "begun":
            acted = barrier.put_tombstone(acted)
        barrier.wait(acted["until"])
        call = replace(call, items=items, deadline=self._deadline(task))
        found = barrier.unless_found("action", lambda: find(call))
        replaces = {name: acted[name] for name in ("outcome", "until")}
        if found is not None:
            acting = replace(task, attempt=task.tries - 1)
            decision = checked(task, self.action, found)
            return self._commit_action(
                acting, barrier, "done", decision=decision, replaces=replaces
            )
        marker, rows = self._tombstone(task, error, claimed=claimed)
        return barrier.commit("action", marker, Decision(), outbox=rows, replaces=replaces)

    def _cancel(self, task: Task) -> dict[str, bool]:
        marker = self._claim(task, events.error(*_CANCELLED), claimed=True)
        acted = marker["outcome"] in ("done", "skipped") or is_open(marker)
        return {"cancelled": not acted}

    def _claim(self, task: Task, error: Mapping[str, str], *, claimed: bool) -> Item:
        """Put a tombstone as the pivot's marker; the marker that is there then, new or not."""
        barrier = self._barrier(task)
        marker, rows = self._tombstone(task, error, claimed=claimed)

        def claim() -> Item:
            try:
                return barrier.commit("action", marker, Decision(), outbox=rows)
            except MarkerFound as found:
                if found.marker["outcome"] != "later":
                    raise
                return barrier.commit("action", marker, Decision(), outbox=rows, replaces=LATER)

        return barrier.put_or_find(claim)

    def _tombstone(
        self, task: Task, error: Mapping[str, str], *, claimed: bool
    ) -> tuple[Item, list[Item]]:
        """The marker of a pivot that never acts, and the row of its event."""
        tries = task.all_tries if task.phase == "settle" else 0
        event = task.event("failed", error=error, claimed=claimed, tries=tries)
        marker = {"outcome": "cancelled", "at": event.time, "error": error}
        return marker, [task.outbox_row(event)]

    def _confirm(self, task: Task) -> dict[str, Any]:
        confirm = self.confirm
        if confirm is None:
            raise TypeError(f"step {task.step!r} has nothing to confirm")
        barrier = self._barrier(task)

        def attempt() -> Item:
            call, keys = barrier.unless_found("confirm", lambda: task.call(confirm))
            sides = barrier.key("confirm"), barrier.key("action")
            found, held, *items = barrier.read([*sides, *keys])
            if found:
                raise MarkerFound(found)
            if held is None or held["outcome"] != "done":
                return {"outcome": "empty"}
            given = replace(call, items=items)
            decided = barrier.unless_found("confirm", lambda: confirm.decide(given))
            decision = checked(task, confirm, decided)
            return barrier.commit("confirm", {"outcome": "done", "at": events.now()}, decision)

        return {"outcome": barrier.put_or_find(attempt)["outcome"]}

    # What the phases share.

    def _deadline(self, task: Task) -> datetime:
        """The moment after which a try that starts now must not call a provider."""
        seconds = max(1, math.ceil(task.timeout * self.timescale))
        return datetime.fromtimestamp(self.clock() + seconds, UTC)

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _asking(self, task: Task, barrier: Barrier) -> Asking:
        return Asking(task, self.action, barrier, self.timescale, self.clock)

    def _barrier(self, task: Task) -> Barrier:
        return Barrier(
            self.dynamodb,
            self.table,
            task.saga["id"],
            task.step,
            table_name=self.table_name,
            budget=task.timeout * self.timescale * BUDGET,
            sleep=self.sleep,
            clock=self.clock,
        )

    def _store_document(self, document: Document) -> None:
        if self.store is None:
            raise TypeError(
                f"{self.action.ref} must declare documents=True, for it stores documents"
            )
        self.store(document)

    def _commit_action(
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
        """Commit an action's marker with what it decided and the event of it."""
        decision = decision or Decision()
        event = task.event(
            kind,
            outcome=outcome if outcome == "skipped" else None,
            result=decision.result,
            error=error,
        )
        content: dict[str, Any] = {"error": error} if error else {"result": decision.result}
        marker: Item = {"outcome": outcome, "at": event.time} | content
        rows = [task.outbox_row(event)]
        return barrier.commit("action", marker, decision, outbox=rows, replaces=replaces)

    def _own_failure(self, task: Task) -> dict[str, str] | None:
        caught = own_failure(task.step, task.failure or {})
        return understand(caught, task.timeout * self.timescale) if caught else None


class _BegunError(RecourseError):
    """Another try of an external action has begun meanwhile, so a refusal does not settle it."""


def _answer(marker: Item) -> Any:
    """What an action's marker answers to a task that asks for the action."""
    match marker["outcome"]:
        case "refused":
            why = marker["error"]
            # A state machine sees the class's name alone, so the class is made anew by its name.
            raise type(why["type"], (Refusal,), {})(why["message"])
        case "cancelled":
            raise StepCancelledError("the step was undone or cancelled before it acted")
        case "asked":
            raise WaitingError(f"it waits for a decision: {marker['question']['name']}")
        case "later":
            raise WaitingError(f"it waits until {marker['due_at']}")
    return marker["result"]
