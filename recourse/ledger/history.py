"""A saga's history: the order of its events, its status, and the status of every step.

Pure functions of the shape and the events, so the ledger is right whatever the order of
delivery and however often an event is delivered. An event enters only after those that caused it:

- `asked`, `done` and `failed` after every step of the groups before is done; where somebody was
  asked, `done` and `failed` after `asked`;
- `undone` and `undo_failed` after the failure, after the step's own `done` or `failed`, and after
  every later step that ran has finished its undo, or failed it;
- the terminal event when no other event can follow, so it is always the last: any event that
  arrives later is dropped.

An overtaken event is dropped as well: a parked action or undo that has succeeded since, or that has
been parked again since; and that a step is to be done `later` once it has acted, or was undone.

An undo that found nothing to undo, or was skipped, enters too, because other events wait for it; it
is `hidden`: it has no sequence and is not published.

It is longer than other modules: what follows from a saga's events is one matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from recourse.declare.shape import AnyStep, Shape
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
    shape: Shape[Any],
    saga_id: str,
    request: Mapping[str, Any],
    entered: Sequence[Event],
    arrived: Iterable[Event],
) -> tuple[list[Event], list[Event]]:
    """Let events enter as far as their causes allow.

    Args:
        shape: The shape that the saga began with.
        saga_id: The saga's id.
        request: Its request, which decides the steps that are left out.
        entered: The events that have entered, in order.
        arrived: Further events, in any order; duplicates are ignored.

    Returns:
        All events that have entered now, in order, the terminal event included; and those that
        still wait for their causes.
    """
    history = SagaHistory(shape, request, entered)
    known = {event.id for event in entered}
    waiting = {event.id: event for event in arrived if event.id not in known}
    history.end(saga_id)
    moved = True
    while moved and not history.is_over:
        moved = False
        # Parked events come last: if the step has succeeded since, they are overtaken by then.
        for event in sorted(waiting.values(), key=_turn):
            if history.is_over or not (history.may_enter(event) or history.has_overtaken(event)):
                continue
            del waiting[event.id]
            moved = True
            if not history.has_overtaken(event):
                history.add(event)
                history.end(saga_id)
    return history.entered, [] if history.is_over else list(waiting.values())


class SagaHistory:
    """A saga's status and steps, computed from the events that have entered.

    ::

        history = SagaHistory(shape, record.request, record.entered)
        history.status(record.run)   # "COMPENSATING"
        history.steps(record.run)    # each step as the API shows it
        history.failure              # the event that says why it is being undone

    Args:
        shape: The shape that the saga began with.
        request: The saga's request.
        entered: The events, in the order in which they entered.
    """

    def __init__(
        self, shape: Shape[Any], request: Mapping[str, Any], entered: Iterable[Event]
    ) -> None:
        self._shape = shape
        self._plays = [step for step in shape.all if not shape.left_out(step, request)]
        self._by_step: dict[str, dict[str, Event]] = {step.name: {} for step in shape.all}
        self._of_saga: dict[str, Event] = {}
        self._sequence = 0
        self._failures: list[Event] = []
        self.entered: list[Event] = []
        for event in entered:
            self.add(event)

    def add(self, event: Event) -> None:
        """Append an event; it gets the next sequence, unless it is hidden."""
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
        if kind == "failed" and not event.is_parked and self._shape.role(name) != "retriable":
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
            # Nothing precedes `started`: a step's event may be delivered before it.
            return False
        rank = self._shape.rank(name)
        # `follows` names the events of its own step that precede it: of an undo, or of an answer.
        if not all(kind in self._by_step[name] for kind in event.follows):
            return False
        if event.kind not in ("undone", "undo_failed"):
            before = (step for step in self._plays if self._rank(step) < rank)
            # A claim comes from outside the run (a cancellation, a recovery, the sweeper), so it
            # does not wait for the step's turn.
            return event.claimed or all(self._is_done(step) for step in before)
        # The steps after an undo are undone first, but none beyond the rank at which the saga
        # turned: those never ran.
        return bool(self._failures) and all(
            self._is_settled(s) for s in self._plays if rank < self._rank(s) <= self._turn_rank
        )

    def has_overtaken(self, event: Event) -> bool:
        """Whether an event that parks or delays a step was overtaken by another of that step."""
        if event.step is None:
            return False
        seen = self._by_step[event.step]
        if event.kind == "later":
            return self._was_due(seen)
        if not event.is_parked:
            return False
        if "undone" in seen or (event.kind == "failed" and "done" in seen):
            return True
        known = seen.get(event.kind)
        return known is not None and (not known.is_parked or known.run >= event.run)

    def end(self, saga_id: str) -> None:
        """Append the terminal event, if the saga has ended."""
        if ending := self._ending():
            kind, run = ending
            trace = self.entered[0].traceparent
            event = Event.ended(saga_id, self._shape.name, kind, run=run, trace=trace)
            if event.id not in {old.id for old in self.entered}:
                self.add(event)

    def _ending(self) -> tuple[Ending, int | None] | None:
        """How the saga has ended, and in which run if an undo failed."""
        if all(self._is_done(step) for step in self._plays):
            return "succeeded", None
        back = [step for step in self._plays if self._rank(step) <= self._turn_rank]
        if not self._failures or not all(self._is_settled(step) for step in back):
            return None
        runs = {lost.run for step in back if (lost := self._failed_undo(step))}
        if not runs:
            return "compensated", None
        # A recovery retries every failed undo: while some failures are of an older run, it is
        # still under way.
        return ("compensation_failed", runs.pop()) if len(runs) == 1 else None

    def status(self, run: int) -> Status:
        """The saga's status, by the events that have entered.

        Args:
            run: The current or last recovery; 0 is the first run.
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
        """The first failure, which is why the saga is undone; or else the step it is parked at.

        A recovery's claim on the pivot is the reason only if no step had failed before: such a
        failure is published by the step's undo, so its event comes after that of the claim.
        """
        if self._failures:
            own = (event for event in self._failures if not (event.claimed and event.run))
            return next(own, self._failures[0])
        parked = (self._by_step[step.name].get("failed") for step in self._plays)
        return next((event for event in parked if event and not self._was_done_later(event)), None)

    @property
    def question(self) -> Event | None:
        """The question that the saga waits with, as far as the events say; None if with none."""
        if self._failures:
            return None
        asked = (self._open_question(self._by_step[step.name]) for step in self._plays)
        return next((event for event in asked if event), None)

    @property
    def later(self) -> Event | None:
        """What says until when the saga waits for a time, as far as the events say; None if not."""
        if self._failures:
            return None
        found = (self._delayed(self._by_step[step.name]) for step in self._plays)
        return next((event for event in found if event), None)

    def told(self, step: str) -> Mapping[str, Event]:
        """What the events say of a step, by kind."""
        return self._by_step[step]

    @property
    def is_reminded(self) -> bool:
        """Whether its question was told once more."""
        asked = self.question
        return asked is not None and "reminded" in self._by_step[str(asked.step)]

    def steps(self, run: int, *, has_begun: bool = True) -> list[dict[str, Any]]:
        """Every step as the API shows it.

        Args:
            run: The current or last recovery; 0 is the first run.
            has_begun: Whether the saga has: until then no step runs.
        """
        return [self._step(step, run, has_begun) for step in self._shape.all]

    def _step(self, step: AnyStep, run: int, has_begun: bool) -> dict[str, Any]:
        seen = self._by_step[step.name]
        done, failed = seen.get("done"), seen.get("failed")
        undone = seen.get("undone") or seen.get("undo_failed")
        acted = done or failed
        ended = undone or failed or done
        status = self._step_status(step, run)
        if status == "RUNNING" and not has_begun:
            status = "PENDING"
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
        } | self._rests(seen)

    def _rests(self, seen: Mapping[str, Event]) -> dict[str, Any]:
        """What a step waits for: somebody's decision, or a time."""
        if asked := self._open_question(seen):
            return {"question": asked.question}
        return {"begins_at": delayed.due_at} if (delayed := self._delayed(seen)) else {}

    def _open_question(self, seen: Mapping[str, Event]) -> Event | None:
        return None if {"done", "failed", "undone"} & seen.keys() else seen.get("asked")

    def _delayed(self, seen: Mapping[str, Event]) -> Event | None:
        return None if self._was_due(seen) else seen.get("later")

    def _was_due(self, seen: Mapping[str, Event]) -> bool:
        """Whether a step waits for no time any more; one that was parked before may, once again."""
        failed = seen.get("failed")
        over = not seen.keys().isdisjoint(("due", "done", "undone"))
        return over or (failed is not None and not failed.is_parked)

    def _error(self, seen: Mapping[str, Event]) -> Mapping[str, str] | None:
        lost = seen.get("undo_failed") if "undone" not in seen else None
        failed = seen.get("failed")
        if failed and self._was_done_later(failed):
            failed = None
        event = lost or failed
        return event.error if event else None

    def _step_status(self, step: AnyStep, run: int) -> str:
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
        if self._delayed(seen) or (self._failures and not self._is_running_on(step)):
            return "PENDING"
        ready = all(self._is_done(s) for s in self._plays if self._rank(s) < self._rank(step))
        return "RUNNING" if ready else "PENDING"

    def _is_running_on(self, step: AnyStep) -> bool:
        """Whether a step may still act although the saga has failed: beside or before it."""
        return self._rank(step) <= self._turn_rank and step.name != self._shape.pivot.name

    def _undo_reached(self, step: AnyStep) -> bool:
        if self._shape.role(step.name) != "compensable" or self._rank(step) > self._turn_rank:
            return False
        later = (s for s in self._plays if self._rank(step) < self._rank(s) <= self._turn_rank)
        return all(self._is_settled(s) for s in later)

    def _ready_since(self, step: AnyStep) -> str | None:
        before = [
            done.time
            for s in self._plays
            if self._rank(s) < self._rank(step) and (done := self._by_step[s.name].get("done"))
        ]
        return max([*before, *(event.time for event in self.entered[:1])], default=None)

    def _was_done_later(self, failed: Event) -> bool:
        """Whether a step that was parked has succeeded since."""
        step = failed.step
        return step is not None and failed.is_parked and "done" in self._by_step[step]

    def _rank(self, step: AnyStep) -> int:
        return self._shape.rank(step.name)

    @property
    def _turn_rank(self) -> int:
        """The rank of the group at which the saga turns from acting to undoing.

        A step that failed by itself turns it there. A pivot that was claimed before its turn has
        not run, so the steps before it may still act: it turns the saga only once they have.
        """
        reached = [event.step for event in self._failures if event.step and not event.claimed]
        names = reached or [self._shape.pivot.name]
        return min(self._shape.rank(name) for name in names)

    def _is_done(self, step: AnyStep) -> bool:
        return "done" in self._by_step[step.name]

    def _is_settled(self, step: AnyStep) -> bool:
        """Whether a step's undo has succeeded or failed; the pivot has no undo."""
        seen = self._by_step[step.name]
        return (
            self._shape.role(step.name) != "compensable"
            or "undone" in seen
            or "undo_failed" in seen
        )

    def _failed_undo(self, step: AnyStep) -> Event | None:
        seen = self._by_step[step.name]
        return seen.get("undo_failed") if "undone" not in seen else None


def _turn(event: Event) -> int:
    """When an event is looked at among those that have arrived: before what may overtake it."""
    return 0 if event.kind == "later" else 2 if event.is_parked else 1


class StuckStep(NamedTuple):
    """A step that an operator has to resolve.

    Attributes:
        step: Its name.
        undo: Whether its undo is stuck; else its action.
    """

    step: str
    undo: bool

    @property
    def target(self) -> str:
        """The key of its faults, skips and attempts: `flight`, or `flight.undo`."""
        return f"{self.step}.undo" if self.undo else self.step


def stuck_step(step: Mapping[str, Any], status: Status) -> StuckStep | None:
    """What an operator has to resolve of a step; None if it is not stuck.

    Args:
        step: The step as `SagaHistory.steps` shows it.
        status: The saga's status.
    """
    if step["status"] == "UNDO_FAILED" and status == "COMPENSATION_FAILED":
        return StuckStep(step["name"], undo=True)
    if step["status"] == "FAILED" and status == "RUNNING":
        return StuckStep(step["name"], undo=False)
    return None
