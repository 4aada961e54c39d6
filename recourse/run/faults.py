"""Faults on demand: what the header `Recourse-Chaos` may ask for, and the runner that meets it.

`hotel=reject, payment=crash:1, flight.undo=error:2`: a step's action or its undo, the fault, and
after a colon how many attempts it meets; without one it meets every attempt. The header means
something only where the stack is deployed with the context `chaos`: there, and nowhere else, a
step's runner is wrapped::

    FaultInjector(StepRunner(dynamodb, "hotels", hotels.hold, hotels.release)).run(task)

A fault happens where the fault that it stands for would:

| fault | what happens |
|---|---|
| `reject` | the step refuses, with the first refusal that it declares |
| `error` | an error that may pass, before any effect |
| `crash` | the effect, and no answer |
| `timeout` | the effect, and an answer that comes too late |
| `late` | no answer in time; the action arrives once its step has been undone or settled |
| `duplicate` | two deliveries at the same time |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recourse.declare.step import Action, Call, Decision
from recourse.errors import (
    RecourseError,
    Refusal,
    StepCancelledError,
    StepCrashedError,
    StepTimedOutError,
    TransientError,
)
from recourse.run.task import Task

if TYPE_CHECKING:
    from recourse.declare.saga import Saga
    from recourse.run.runner import StepRunner

FAULTS = ("reject", "error", "crash", "timeout", "late", "duplicate")
_ENTRY = re.compile(r"([a-z0-9_]+)(\.undo)?\s*=\s*([a-z]+)(?::([1-9][0-9]{0,3}))?")


class UnknownFaultError(RecourseError, ValueError):
    """The header asks for a fault that does not exist, or that its step cannot have."""


class RejectedError(Refusal):
    """The refusal that a fault asks for where the step declares none of its own."""


def parse(header: str, saga: Saga) -> dict[str, str]:
    """The faults that a header asks for, by `step` or `step.undo`.

    Raises:
        UnknownFaultError: The message says which entry is wrong and what is allowed.
    """
    found: dict[str, str] = {}
    for entry in header.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if not match:
            raise UnknownFaultError(
                f"{entry.strip()!r} is not a valid fault: "
                "write step=fault, step.undo=fault or step=fault:n"
            )
        name, undo, fault, times = match.groups()
        target = name + (undo or "")
        step = saga.by_name.get(name)
        if step is None:
            raise UnknownFaultError(
                f"{name!r} is not a step of {saga.name}: it has {', '.join(saga.by_name)}"
            )
        if fault not in FAULTS:
            raise UnknownFaultError(
                f"{fault!r} is not a valid fault: there are {', '.join(FAULTS)}"
            )
        if undo and step.undo is None:
            raise UnknownFaultError(f"{name!r} has no undo")
        if fault == "late" and (undo or saga.role(name) == "retriable"):
            raise UnknownFaultError(f"{target!r} cannot be late: nothing undoes it")
        if target in found:
            raise UnknownFaultError(f"{target!r} is named twice")
        found[target] = f"{fault}:{times}" if times else fault
    return found


def fault(faults: Mapping[str, str], target: str, attempt: int) -> str | None:
    """The fault that this attempt meets, if any; attempts count from 1."""
    kind, _, times = faults.get(target, "").partition(":")
    return kind if kind and (not times or attempt <= int(times)) else None


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
        answer = self._deliver(task, payload)
        if met == "crash":
            raise StepCrashedError("a fault was asked for: crash, after the effect")
        if met == "timeout":
            self.runner.sleep(math.ceil(task.timeout * self.runner.timescale) + 1)
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
