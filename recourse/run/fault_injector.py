"""The runner whose tasks meet the faults that their sagas ask for; `faults` says which there are.

::

    FaultInjector(StepRunner(dynamodb, "hotels", hotels.hold, hotels.release)).run(task)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recourse.declare.step import Action, Call, Decision
from recourse.errors import (
    Refusal,
    StepCancelledError,
    StepCrashedError,
    StepTimedOutError,
    TransientError,
    WaitingError,
)
from recourse.run.faults import fault
from recourse.run.task import Task

if TYPE_CHECKING:
    from recourse.run.runner import StepRunner


class RejectedError(Refusal):
    """The refusal that a fault asks for where the step declares none of its own."""


@dataclass(frozen=True, eq=False)
class FaultInjector:
    """A step's runner whose tasks meet the faults that their sagas ask for.

    Attributes:
        runner: What runs the tasks.
    """

    runner: StepRunner

    def run(self, payload: Mapping[str, Any]) -> Any:
        """Do what a task asks for, under its fault if it has one; see `StepRunner.run`."""
        task = Task(**payload)
        if task.left_out:
            return self.runner.run(payload)
        if not _may_fail(task):
            return self._deliver(task, payload)
        match met := fault(_asked(task), task.target, task.number):
            case "error":
                raise TransientError("a fault was asked for: error, before any effect")
            case "late":
                raise StepTimedOutError("a fault was asked for: late, no effect so far")
            case "reject":
                return self._reject(task, payload)
            case "duplicate":
                return _twice(lambda: self._deliver(task, payload))
        answer, waits = None, None
        try:
            answer = self._deliver(task, payload)
        except WaitingError as asked:  # the question is the effect
            waits = asked
        if met == "crash":
            raise StepCrashedError("a fault was asked for: crash, after the effect")
        if met == "timeout":
            self.runner.sleep(math.ceil(task.timeout * self.runner.timescale) + 1)
        if waits:
            raise waits
        return answer

    def _deliver(self, task: Task, payload: Mapping[str, Any]) -> Any:
        """Run a task; after an undo or a settlement, a late action arrives."""
        try:
            answer = self.runner.run(payload)
        except StepCancelledError:
            self._arrive_late(task, payload)
            raise
        self._arrive_late(task, payload)
        return answer

    def _arrive_late(self, task: Task, payload: Mapping[str, Any]) -> None:
        """Deliver the first attempt of the action, if it is late and its step is at an end now."""
        settles = task.recovering and task.phase == "action" and task.role == "pivot"
        if not settles and task.phase not in ("undo", "give_up", "settle"):
            return
        if fault(_asked(task), task.step, 1) == "late":
            first = {**payload, "phase": "action", "saga": {**task.saga, "recover": 0}}
            with suppress(StepCancelledError, Refusal):
                self.runner.run(first)

    def _reject(self, task: Task, payload: Mapping[str, Any]) -> Any:
        """Refuse as the business would, with the first refusal that the step declares."""
        kinds = self.runner.action.refuses if task.phase == "action" else ()
        no = (kinds[0] if kinds else RejectedError)("a fault was asked for: reject")
        if task.phase != "action" or task.role == "retriable":
            raise no

        def refuse(call: Call) -> Decision:
            raise no

        # Not raised here: the refusal must be recorded, as one of the action's own is.
        action = Action(refuse, refuses=self.runner.action.refuses)
        return replace(self.runner, action=action).run(payload)


def _asked(task: Task) -> Mapping[str, str]:
    """The faults that a task's saga asks for."""
    faults: Mapping[str, str] = task.saga.get("chaos", {})
    return faults


def _may_fail(task: Task) -> bool:
    """Whether a fault meets this task: what acts or undoes, not what looks or is skipped."""
    looks = task.recovering and task.phase == "action" and task.role != "retriable"
    return task.phase in ("action", "undo") and not looks and task.skipped is None


def _twice(deliver: Callable[[], Any]) -> Any:
    """Two deliveries at the same time; they must agree, so the first one's answer is given."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(deliver), pool.submit(deliver)
    problem = second.exception()
    if isinstance(problem, TransientError):
        raise problem
    return first.result()
