"""From a saga's events to what it looks like: the order they enter in, and every step's status.

Pure functions over the declaration and the events, so that the ledger is right whatever order,
and however often, its events arrive. An event enters only after those that caused it:

- `done` and `failed` after every step of the groups before is done;
- `undone` and `undo_failed` after the failure, after the step's own `done` or `failed`, and after
  every later step that ran has come to the end of its undo;
- the terminal event when nothing is left to come, so it is the last: what arrives later is dropped,
  whatever it is.

What has been overtaken is dropped as well: a parked action or undo that was done after all, or that
has been parked again since.

An undo that found nothing, or was skipped, enters too, for others wait for it; it is `hidden`: it
has no sequence and nobody is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recourse.declare.declaration import Step
from recourse.declare.saga import Saga
from recourse.events import Event
from recourse.events.event import Ending

Status = Literal["RUNNING", "COMPENSATING", "SUCCEEDED", "COMPENSATED", "COMPENSATION_FAILED"]
STATUSES: tuple[Status, ...] = (
    "RUNNING",
    "COMPENSATING",
    "SUCCEEDED",
    "COMPENSATED",
    "COMPENSATION_FAILED",
)
AT_REST = ("SUCCEEDED", "COMPENSATED")


def enter(
    saga: Saga,
    saga_id: str,
    request: Mapping[str, Any],
    entered: Sequence[Event],
    arrived: Iterable[Event],
) -> tuple[list[Event], list[Event]]:
    """Let events enter as far as their causes allow.

    Args:
        saga: The declaration.
        saga_id: The saga's id.
        request: Its request, for the steps that it leaves out.
        entered: What has entered, in order.
        arrived: What has not, in any order, duplicates among it.

    Returns:
        What has entered now, in order, terminal events included; and what still waits.
    """
    history = SagaHistory(saga, request, entered)
    known = {event.id for event in entered}
    waiting = {event.id: event for event in arrived if event.id not in known}
    history.end(saga_id)
    moved = True
    while moved and not history.is_over:
        moved = False
        # What is parked comes last: what was done after all is not stuck any more then.
        for event in sorted(waiting.values(), key=lambda event: event.is_parked):
            if history.is_over or not (history.may_enter(event) or history.has_overtaken(event)):
                continue
            del waiting[event.id]
            moved = True
            if not history.has_overtaken(event):
                history.add(event)
                history.end(saga_id)
    return history.entered, [] if history.is_over else list(waiting.values())


class SagaHistory:
    """What the events that have entered say of a saga.

    Args:
        saga: The declaration.
        request: The saga's request.
        entered: The events, in the order in which they entered.
    """

    def __init__(self, saga: Saga, request: Mapping[str, Any], entered: Iterable[Event]) -> None:
        self._saga = saga
        self._plays = [step for step in saga.all if not saga.left_out(step, request)]
        self._by_step: dict[str, dict[str, Event]] = {step.name: {} for step in saga.all}
        self._of_saga: dict[str, Event] = {}
        self._sequence = 0
        self._failures: list[Event] = []
        self.entered: list[Event] = []
        for event in entered:
            self.add(event)

    def add(self, event: Event) -> None:
        """Let an event enter: it gets its sequence, unless it is hidden."""
        if not event.is_hidden:
            self._sequence += 1
            if event.sequence != self._sequence:
                event = replace(event, sequence=self._sequence)
        self.entered.append(event)
        kind, name = event.kind, event.step
        if name is None:
            self._of_saga[kind] = event
            return
        self._by_step[name][kind] = event
        if kind == "failed" and not event.is_parked and self._saga.role(name) != "retriable":
            self._failures.append(event)

    @property
    def is_over(self) -> bool:
        """Whether its last event has entered."""
        return "succeeded" in self._of_saga or "compensated" in self._of_saga

    def may_enter(self, event: Event) -> bool:
        """Whether everything that caused an event has entered."""
        name = event.step
        if name is None:
            return not self.entered
        if not self.entered:
            return False
        rank = self._saga.rank(name)
        if event.kind in ("done", "failed"):
            before = (step for step in self._plays if self._rank(step) < rank)
            return event.claimed or all(self._is_done(step) for step in before)
        return (
            bool(self._failures)
            and all(kind in self._by_step[name] for kind in event.follows)
            and all(
                self._is_settled(s) for s in self._plays if rank < self._rank(s) <= self._turn_rank
            )
        )

    def has_overtaken(self, event: Event) -> bool:
        """Whether an event that says that a step is stuck is no news any more."""
        if not event.is_parked or event.step is None:
            return False
        seen = self._by_step[event.step]
        if "undone" in seen or (event.kind == "failed" and "done" in seen):
            return True
        known = seen.get(event.kind)
        return known is not None and (not known.is_parked or known.run >= event.run)

    def end(self, saga_id: str) -> None:
        """Let the event enter that says how the saga has ended, where it has."""
        if ending := self._ending():
            kind, run = ending
            event = Event.ended(saga_id, self._saga.name, kind, run=run)
            if event.id not in {old.id for old in self.entered}:
                self.add(event)

    def _ending(self) -> tuple[Ending, int | None] | None:
        """How the saga has ended, and in which run where an undo failed."""
        if all(self._is_done(step) for step in self._plays):
            return "succeeded", None
        back = [step for step in self._plays if self._rank(step) <= self._turn_rank]
        if not self._failures or not all(self._is_settled(step) for step in back):
            return None
        runs = {lost.run for step in back if (lost := self._failed_undo(step))}
        if not runs:
            return "compensated", None
        # A recovery tries every failed undo again: while some are of an older run, it is not done.
        return ("compensation_failed", runs.pop()) if len(runs) == 1 else None

    def status(self, run: int) -> Status:
        """The saga's status, by what has entered.

        Args:
            run: The recovery that is under way, or was last; 0 is the first run.
        """
        if "succeeded" in self._of_saga:
            return "SUCCEEDED"
        if "compensated" in self._of_saga:
            return "COMPENSATED"
        lost = [event for step in self._plays if (event := self._failed_undo(step))]
        resting = bool(lost) and all(event.run >= run for event in lost)
        if resting and "compensation_failed" in self._of_saga:
            return "COMPENSATION_FAILED"
        return "COMPENSATING" if self._failures else "RUNNING"

    @property
    def failure(self) -> Event | None:
        """The first failure, the reason why the saga is undone; or what it is parked for.

        That a recovery claimed the pivot is the reason only where nothing had failed before: what
        had is told by its undo, and so after the claim.
        """
        if self._failures:
            own = (event for event in self._failures if not (event.claimed and event.run))
            return next(own, self._failures[0])
        parked = (self._by_step[step.name].get("failed") for step in self._plays)
        return next((event for event in parked if event and not self._was_done_later(event)), None)

    def steps(self, run: int) -> list[dict[str, Any]]:
        """Every step as the API shows it.

        Args:
            run: The recovery that is under way, or was last; 0 is the first run.
        """
        return [self._step(step, run) for step in self._saga.all]

    def _step(self, step: Step, run: int) -> dict[str, Any]:
        seen = self._by_step[step.name]
        done, failed = seen.get("done"), seen.get("failed")
        undone = seen.get("undone") or seen.get("undo_failed")
        acted = done or failed
        ended = undone or failed or done
        status = self._step_status(step, run)
        error = self._error(seen)
        begun = None if status in ("PENDING", "SKIPPED") else self._ready_since(step)
        return {
            "name": step.name,
            "status": status,
            "attempts": max(
                (event.attempts for event in (done, failed) if event),
                default=1 if status == "RUNNING" else 0,
            ),
            "undo_attempts": undone.attempts if undone else 0,
            "result": done.result if done else None,
            "error": error["type"] if error else None,
            "message": error["message"] if error else None,
            "started_at": (acted.entered_at if acted else None) or begun,
            "ended_at": ended.time if ended and status not in ("RUNNING", "UNDOING") else None,
        }

    def _error(self, seen: Mapping[str, Event]) -> Mapping[str, str] | None:
        lost = seen.get("undo_failed") if "undone" not in seen else None
        failed = seen.get("failed")
        if failed and self._was_done_later(failed):
            failed = None
        event = lost or failed
        return event.error if event else None

    def _step_status(self, step: Step, run: int) -> str:
        seen = self._by_step[step.name]
        if step not in self._plays:
            return "SKIPPED"
        if undone := seen.get("undone"):
            match undone.outcome:
                case None:
                    return "UNDONE"
                case "empty" if "failed" in seen:
                    return "FAILED"
            return "SKIPPED"
        if lost := seen.get("undo_failed"):
            return "UNDO_FAILED" if lost.run >= run else "UNDOING"
        failed = seen.get("failed")
        if failed and not self._was_done_later(failed):
            if failed.is_parked and failed.run < run:
                return "RUNNING"
            return "FAILED"
        if done := seen.get("done"):
            if done.outcome == "skipped":
                return "SKIPPED"
            return "UNDOING" if self._failures and self._undo_reached(step) else "DONE"
        if self._failures and not self._is_running_on(step):
            return "PENDING"
        ready = all(self._is_done(s) for s in self._plays if self._rank(s) < self._rank(step))
        return "RUNNING" if ready else "PENDING"

    def _is_running_on(self, step: Step) -> bool:
        """Whether a step may still act although the saga is lost: beside or before the failure."""
        return self._rank(step) <= self._turn_rank and step.name != self._saga.pivot.name

    def _undo_reached(self, step: Step) -> bool:
        if self._saga.role(step.name) != "compensable" or self._rank(step) > self._turn_rank:
            return False
        later = (s for s in self._plays if self._rank(step) < self._rank(s) <= self._turn_rank)
        return all(self._is_settled(s) for s in later)

    def _ready_since(self, step: Step) -> str | None:
        before = [
            done.time
            for s in self._plays
            if self._rank(s) < self._rank(step) and (done := self._by_step[s.name].get("done"))
        ]
        return max([*before, *(event.time for event in self.entered[:1])], default=None)

    def _was_done_later(self, failed: Event) -> bool:
        """Whether a parked step was done after all."""
        step = failed.step
        return step is not None and failed.is_parked and "done" in self._by_step[step]

    def _rank(self, step: Step) -> int:
        return self._saga.rank(step.name)

    @property
    def _turn_rank(self) -> int:
        """The rank of the group from which the saga is undone.

        A step that failed by itself turns the saga there. One that was cancelled before its turn
        (a claimed pivot) turns it only when the run reaches it.
        """
        reached = [event.step for event in self._failures if event.step and not event.claimed]
        names = reached or [self._saga.pivot.name]
        return min(self._saga.rank(name) for name in names)

    def _is_done(self, step: Step) -> bool:
        return "done" in self._by_step[step.name]

    def _is_settled(self, step: Step) -> bool:
        """Whether nothing more comes of a step's undo by itself; the pivot has none."""
        seen = self._by_step[step.name]
        return (
            self._saga.role(step.name) != "compensable" or "undone" in seen or "undo_failed" in seen
        )

    def _failed_undo(self, step: Step) -> Event | None:
        seen = self._by_step[step.name]
        return seen.get("undo_failed") if "undone" not in seen else None


@dataclass(frozen=True)
class StuckStep:
    """What an operator can resolve: the step, and whether its action or its undo is stuck."""

    step: str
    undo: bool

    @property
    def target(self) -> str:
        """What faults, skips and attempts are kept under."""
        return f"{self.step}.undo" if self.undo else self.step


def stuck_step(step: Mapping[str, Any], status: Status) -> StuckStep | None:
    """What there is to resolve of a step, by its view and the saga's status."""
    if step["status"] == "UNDO_FAILED" and status == "COMPENSATION_FAILED":
        return StuckStep(step["name"], undo=True)
    if step["status"] == "FAILED" and status == "RUNNING":
        return StuckStep(step["name"], undo=False)
    return None
