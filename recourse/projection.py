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
from dataclasses import dataclass
from typing import Any, Literal

from recourse import events
from recourse.saga import Saga, Step

Status = Literal["RUNNING", "COMPENSATING", "SUCCEEDED", "COMPENSATED", "COMPENSATION_FAILED"]
STATUSES: tuple[Status, ...] = (
    "RUNNING",
    "COMPENSATING",
    "SUCCEEDED",
    "COMPENSATED",
    "COMPENSATION_FAILED",
)
AT_REST = ("SUCCEEDED", "COMPENSATED")

Told = Mapping[str, Any]
"""A CloudEvent, with `sequence` once it has entered and is not hidden."""


def is_hidden(told: Told) -> bool:
    """Whether an event only moves the ledger: an undo without an effect."""
    return _what(told) == "undone" and "outcome" in told["data"]


def enter(
    saga: Saga,
    saga_id: str,
    request: Mapping[str, Any],
    entered: Sequence[Told],
    arrived: Iterable[Told],
) -> tuple[list[Told], list[Told]]:
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
    story = Story(saga, request, entered)
    known = {told["id"] for told in entered}
    waiting: dict[str, Told] = {told["id"]: told for told in arrived if told["id"] not in known}
    story.end(saga_id)
    moved = True
    while moved and not story.is_over:
        moved = False
        # What is parked comes last: what was done after all is then no trouble any more.
        for told in sorted(waiting.values(), key=_is_parked):
            if story.is_over or not (story.may_enter(told) or story.has_overtaken(told)):
                continue
            del waiting[told["id"]]
            moved = True
            if not story.has_overtaken(told):
                story.add(told)
                story.end(saga_id)
    return story.entered, [] if story.is_over else list(waiting.values())


class Story:
    """What the events that have entered say of a saga.

    Args:
        saga: The declaration.
        request: The saga's request.
        entered: The events, in the order in which they entered.
    """

    def __init__(self, saga: Saga, request: Mapping[str, Any], entered: Iterable[Told]) -> None:
        self._saga = saga
        self._plays = [step for step in saga.all if not saga.left_out(step, request)]
        self._by_step: dict[str, dict[str, Told]] = {step.name: {} for step in saga.all}
        self._of_saga: dict[str, Told] = {}
        self._sequence = 0
        self._failures: list[Told] = []
        self.entered: list[Told] = []
        for told in entered:
            self.add(told)

    def add(self, told: Told) -> None:
        """Let an event enter: it gets its sequence, unless it is hidden."""
        if not is_hidden(told):
            self._sequence += 1
            told = {**told, "sequence": self._sequence}
        self.entered.append(told)
        what, name = _what(told), told["data"].get("step")
        if name is None:
            self._of_saga[what] = told
            return
        self._by_step[name][what] = told
        if what == "failed" and not _is_parked(told) and self._saga.role(name) != "retriable":
            self._failures.append(told)

    @property
    def is_over(self) -> bool:
        """Whether its last event has entered."""
        return "succeeded" in self._of_saga or "compensated" in self._of_saga

    def may_enter(self, told: Told) -> bool:
        """Whether everything that caused an event has entered."""
        what, name = _what(told), told["data"].get("step")
        if name is None:
            return not self.entered
        if not self.entered:
            return False
        rank = self._saga.rank(name)
        if what in ("done", "failed"):
            early = told["data"].get("early", False)
            return early or all(self._is_done(s) for s in self._plays if self._rank(s) < rank)
        follows = told["data"].get("follows", [])
        return (
            bool(self._failures)
            and all(kind in self._by_step[name] for kind in follows)
            and all(
                self._is_settled(s) for s in self._plays if rank < self._rank(s) <= self._turned
            )
        )

    def has_overtaken(self, told: Told) -> bool:
        """Whether an event that says that a step is stuck is no news any more."""
        if not _is_parked(told):
            return False
        what, seen = _what(told), self._by_step[told["data"]["step"]]
        if "undone" in seen or (what == "failed" and "done" in seen):
            return True
        known = seen.get(what)
        return known is not None and (
            not _is_parked(known) or known["data"]["run"] >= told["data"]["run"]
        )

    def end(self, saga_id: str) -> None:
        """Let the event enter that says how the saga has ended, where it has."""
        if ending := self._ending():
            what, occasion = ending
            told = events.event(saga_id, self._saga.name, what, occasion=occasion)
            if told["id"] not in {old["id"] for old in self.entered}:
                self.add(told)

    def _ending(self) -> tuple[str, str] | None:
        """What is due of `succeeded`, `compensated` and `compensation_failed`; its occasion."""
        if all(self._is_done(step) for step in self._plays):
            return "succeeded", ""
        back = [step for step in self._plays if self._rank(step) <= self._turned]
        if not self._failures or not all(self._is_settled(step) for step in back):
            return None
        runs = {told["data"]["run"] for step in back if (told := self._lost(step))}
        if not runs:
            return "compensated", ""
        # A recovery tries every failed undo again: while some are of an older run, it is not done.
        return ("compensation_failed", str(*runs)) if len(runs) == 1 else None

    def status(self, run: int) -> Status:
        """The saga's status, by what has entered.

        Args:
            run: The recovery that is under way, or was last; 0 is the first run.
        """
        if "succeeded" in self._of_saga:
            return "SUCCEEDED"
        if "compensated" in self._of_saga:
            return "COMPENSATED"
        lost = [told for step in self._plays if (told := self._lost(step))]
        resting = bool(lost) and all(t["data"]["run"] >= run for t in lost)
        if resting and "compensation_failed" in self._of_saga:
            return "COMPENSATION_FAILED"
        return "COMPENSATING" if self._failures else "RUNNING"

    @property
    def failure(self) -> Told | None:
        """The first failure, the reason why the saga is undone; or what it is parked for.

        That a recovery claimed the pivot is the reason only where nothing had failed before: what
        had is told by its undo, and so after the claim.
        """
        if self._failures:
            own = (t for t in self._failures if not (t["data"].get("early") and t["data"]["run"]))
            return next(own, self._failures[0])
        parked = (self._by_step[step.name].get("failed") for step in self._plays)
        return next((t for t in parked if t and not self._later_done(t)), None)

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
                (t["data"].get("attempts", 0) for t in (done, failed) if t),
                default=1 if status == "RUNNING" else 0,
            ),
            "undo_attempts": undone["data"].get("attempts", 0) if undone else 0,
            "result": done["data"].get("result") if done else None,
            "error": error["type"] if error else None,
            "message": error["message"] if error else None,
            "started_at": (acted["data"].get("entered_at") if acted else None) or begun,
            "ended_at": ended["time"] if ended and status not in ("RUNNING", "UNDOING") else None,
        }

    def _error(self, seen: Mapping[str, Told]) -> dict[str, str] | None:
        lost = seen.get("undo_failed") if "undone" not in seen else None
        failed = seen.get("failed")
        if failed and self._later_done(failed):
            failed = None
        told = lost or failed
        return told["data"]["error"] if told else None

    def _step_status(self, step: Step, run: int) -> str:
        seen = self._by_step[step.name]
        if step not in self._plays:
            return "SKIPPED"
        if undone := seen.get("undone"):
            match undone["data"].get("outcome"):
                case None:
                    return "UNDONE"
                case "empty" if "failed" in seen:
                    return "FAILED"
            return "SKIPPED"
        if lost := seen.get("undo_failed"):
            return "UNDO_FAILED" if lost["data"]["run"] >= run else "UNDOING"
        failed = seen.get("failed")
        if failed and not self._later_done(failed):
            if _is_parked(failed) and failed["data"]["run"] < run:
                return "RUNNING"
            return "FAILED"
        if done := seen.get("done"):
            if done["data"].get("outcome") == "skipped":
                return "SKIPPED"
            return "UNDOING" if self._failures and self._undo_reached(step) else "DONE"
        if self._failures and not self._is_running_on(step):
            return "PENDING"
        ready = all(self._is_done(s) for s in self._plays if self._rank(s) < self._rank(step))
        return "RUNNING" if ready else "PENDING"

    def _is_running_on(self, step: Step) -> bool:
        """Whether a step may still act although the saga is lost: beside or before the failure."""
        return self._rank(step) <= self._turned and step.name != self._saga.pivot.name

    def _undo_reached(self, step: Step) -> bool:
        if self._saga.role(step.name) != "compensable" or self._rank(step) > self._turned:
            return False
        later = (s for s in self._plays if self._rank(step) < self._rank(s) <= self._turned)
        return all(self._is_settled(s) for s in later)

    def _ready_since(self, step: Step) -> str | None:
        before = [
            told["time"]
            for s in self._plays
            if self._rank(s) < self._rank(step) and (told := self._by_step[s.name].get("done"))
        ]
        return max([*before, *(told["time"] for told in self.entered[:1])], default=None)

    def _later_done(self, failed: Told) -> bool:
        """Whether a parked step was done after all."""
        return _is_parked(failed) and "done" in self._by_step[failed["data"]["step"]]

    def _rank(self, step: Step) -> int:
        return self._saga.rank(step.name)

    @property
    def _turned(self) -> int:
        """The rank of the group from which the saga is undone.

        A step that failed by itself turns the saga there. One that was cancelled before its turn
        (a claimed pivot) turns it only when the run reaches it.
        """
        reached = [t["data"]["step"] for t in self._failures if not t["data"].get("early")]
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

    def _lost(self, step: Step) -> Told | None:
        seen = self._by_step[step.name]
        return seen.get("undo_failed") if "undone" not in seen else None


def _what(told: Told) -> str:
    return str(told["type"].rpartition(".")[2])


def _is_parked(told: Told) -> bool:
    return bool(told["data"].get("outcome") == "parked")


@dataclass(frozen=True)
class Trouble:
    """What an operator can resolve: the step, and whether its action or its undo is stuck."""

    step: str
    undo: bool

    @property
    def target(self) -> str:
        """What faults, skips and attempts are kept under."""
        return f"{self.step}.undo" if self.undo else self.step


def trouble(step: Mapping[str, Any], status: Status) -> Trouble | None:
    """What there is to resolve of a step, by its view and the saga's status."""
    if step["status"] == "UNDO_FAILED" and status == "COMPENSATION_FAILED":
        return Trouble(step["name"], undo=True)
    if step["status"] == "FAILED" and status == "RUNNING":
        return Trouble(step["name"], undo=False)
    return None
