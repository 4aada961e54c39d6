"""The compiler: from a declaration to the Amazon States Language of its orchestration.

The machine has one state for each step and one for each undo, and no bookkeeping on the happy
path::

    [flight | hotel | car] → payment → capture* → invoice → Succeeded
             ↓ caught          ↓         ↓           ↓
        …undo ← car.undo ← payment.undo ← capture.settle    Park → Parked
          ↓
       Undone? → Compensated (or Park, where an undo has failed)

- every task catches States.ALL and has its own timeout; the machine has none;
- a step that failed is undone first, before the others of its group, because it may have acted;
- transient errors are retried: for minutes after the pivot, and for half an hour if a function
  could not be invoked; each kind of error has its own count of attempts;
- if an undo fails, the other undos run, then the saga is parked: the run ends as `Parked`, and an
  operator's decision starts a recovery (below);
- a pivot that failed is settled by claiming its marker: forward if it had acted, else back.

A run that comes to a step that asks somebody, or is not due, ends as `Waiting`: nothing runs while
a saga waits. The decision, or the time, starts another run of the same machine, in which the steps
before answer what they have done, and go on from there.

A recovery is the same machine run again with `recover` in its input: the steps before the pivot
only look up what they had done, the pivot is settled, and the run goes forward or undoes. No second
machine is needed, because the barrier makes every repetition harmless. A recovery in which a
look-up failed must not undo anything, because the pivot may have acted: it ends as `LookupFailed`,
and the sweeper starts another one in its next round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from recourse.declare.shape import (
    FORWARD,
    PASSING,
    THROTTLED,
    AnyStep,
    Retry,
    Shape,
    digest,
    record,
    said_of,
)
from recourse.errors import WaitingError
from recourse.run.failures import THROTTLES, TRANSIENT

COMPENSATED = "Compensated"
PARKED = "Parked"
WAITING = "Waiting"
LOOKUP_FAILED = "LookupFailed"
ENDS = (COMPENSATED, PARKED, WAITING)
"""The errors with which a run has ended as designed; any other error needs a recovery."""

_ALL = ["States.ALL"]


def compile_saga(shape: Shape[Any], timescale: float = 1.0) -> dict[str, Any]:
    """The state machine of a saga.

    Args:
        shape: The declaration, or another shape of the saga.
        timescale: Multiplies time-outs and back-offs, which are rounded up to whole seconds.

    Returns:
        A state machine definition whose tasks name functions as `${FlightsHold}`, to be substituted
        by their ARNs; `${Park}` is the function that parks a saga.
    """
    return _Compiler(shape, timescale).machine()


class _Compiler:
    def __init__(self, shape: Shape[Any], timescale: float) -> None:
        self._shape = shape
        self._timescale = timescale
        self._states: dict[str, Any] = {}

    def machine(self) -> dict[str, Any]:
        shape = self._shape
        names = [_group_name(group) for group in shape.groups]
        for rank, group in enumerate(shape.groups):
            follower = names[rank + 1] if rank + 1 < len(names) else "Succeeded"
            if len(group) == 1:
                self._states[names[rank]] = self._alone(group[0], follower)
            else:
                self._states[names[rank]] = self._together(rank, group, follower)
        self._settle(names)
        compensable = [s for s in shape.all if shape.role(s.name) == "compensable"]
        followers = ["Undone?", *(_undo_name(step) for step in compensable)]
        for step, follower in [*zip(compensable, followers, strict=False)][::-1]:
            self._undo(step, follower)
        self._ends(looks_up=bool(compensable))
        return {
            "Comment": f"{shape.name} {digest(record(shape))}: compiled, not edited by hand",
            "StartAt": names[0],
            "States": self._states,
        }

    def _alone(self, step: AnyStep, follower: str) -> dict[str, Any]:
        saved = "parked" if self._shape.role(step.name) == "retriable" else "failure"
        asked = {"ErrorEquals": [WaitingError.__name__], "ResultPath": None, "Next": WAITING}
        return self._action(step) | {
            "ResultPath": self._result(step),
            "Catch": [
                *([asked] if step.waits or step.later else []),
                _catch(f"$.{saved}.{step.name}", self._on_failure(step)),
            ],
            "Next": follower,
        }

    def _together(self, rank: int, group: tuple[AnyStep, ...], follower: str) -> dict[str, Any]:
        saved = "parked" if self._shape.role(group[0].name) == "retriable" else "failure"
        return {
            "Type": "Parallel",
            "Branches": [self._branch(step) for step in group],
            "ResultSelector": {f"{step.name}.$": f"$[{at}]" for at, step in enumerate(group)},
            "ResultPath": f"$.results.{_together_name(rank)}",
            "Catch": [_catch(f"$.{saved}.{_together_name(rank)}", self._on_failure(group[-1]))],
            "Next": follower,
        }

    def _result(self, step: AnyStep) -> str:
        """The path of a step's result; those of a group are under one key."""
        rank = self._shape.rank(step.name)
        if len(self._shape.groups[rank]) == 1:
            return f"$.results.{step.name}"
        return f"$.results.{_together_name(rank)}.{step.name}"

    def _branch(self, step: AnyStep) -> dict[str, Any]:
        """A step of a group: the branch's output is the step's own result alone.

        Its failure leaves the branch as an error of the step's name, by which `_caught` knows it.
        """
        failed = f"{step.name}.failed"
        return {
            "StartAt": step.name,
            "States": {
                step.name: self._action(step)
                | {
                    "Catch": [_catch("$.failure", failed)],
                    "End": True,
                },
                failed: {
                    "Type": "Fail",
                    "Error": step.name,
                    "CausePath": "States.JsonToString($.failure)",
                },
            },
        }

    def _on_failure(self, step: AnyStep) -> str:
        match self._shape.role(step.name):
            case "compensable":
                return self._caught(step)
            case "pivot":
                return _settle_name(step)
        return "Park"

    def _caught(self, step: AnyStep) -> str:
        """A choice: from a step that failed to its undo; from a failed look-up to the end.

        In a group, the step that failed is undone first, then the whole group in reverse order: an
        undo that is repeated answers as before. If the first try of that undo fails, the outcome of
        the second one counts.
        """
        name = f"{step.name}.caught"
        recovering = {"Variable": "$.saga.recover", "NumericGreaterThan": 0, "Next": LOOKUP_FAILED}
        rank = self._shape.rank(step.name)
        choices = [recovering]
        for member in self._shape.groups[rank][:-1]:
            first = f"{_undo_name(member)}.first"
            choices.append(
                {
                    "Variable": f"$.failure.{_together_name(rank)}.Error",
                    "StringEquals": member.name,
                    "Next": first,
                }
            )
            self._states[first] = self._undoing(member) | {
                "Catch": [_catch(None, _undo_name(step))],
                "Next": _undo_name(step),
            }
        self._states[name] = {"Type": "Choice", "Choices": choices, "Default": _undo_name(step)}
        return name

    def _action(self, step: AnyStep) -> dict[str, Any]:
        retry = self._shape.retry(step)
        forward = self._shape.role(step.name) == "retriable"
        extra = {"results": {f"{n}.$": self._result(self._shape.by_name[n]) for n in step.after}}
        if step.later:
            extra["later"] = said_of(step.later)
        task = self._task(
            step,
            "action",
            passing=self._shape.patience(step) if forward else retry,
            others=retry if forward else None,
            extra=extra,
        )
        if step.later and forward:
            task["Retry"].insert(0, {"ErrorEquals": [WaitingError.__name__], "MaxAttempts": 0})
        return task

    def _undo(self, step: AnyStep, follower: str) -> None:
        self._states[_undo_name(step)] = self._undoing(step) | {
            "Catch": [_catch(f"$.parked.{step.name}", follower)],
            "Next": follower,
        }

    def _undoing(self, step: AnyStep) -> dict[str, Any]:
        task = self._task(
            step,
            "undo",
            passing=self._shape.patience(step),
            others=self._shape.retry(step),
            extra=self._failed(step),
        )
        return task | {"ResultPath": None}

    def _settle(self, names: list[str]) -> None:
        shape, pivot = self._shape, self._shape.pivot
        rank = shape.rank(pivot.name)
        back = _undo_name(shape.groups[rank - 1][-1]) if rank else "Undone?"
        state = self._task(
            pivot,
            "settle",
            passing=self._shape.patience(pivot),
            others=FORWARD,
            extra=self._failed(pivot),
        ) | {
            "ResultPath": self._result(pivot),
            "Catch": [
                {"ErrorEquals": ["StepCancelledError"], "ResultPath": None, "Next": back},
                _catch(f"$.parked.{pivot.name}", "Park"),
            ],
            "Next": names[rank + 1] if rank + 1 < len(names) else "Succeeded",
        }
        state["Retry"].insert(0, {"ErrorEquals": ["StepCancelledError"], "MaxAttempts": 0})
        self._states[_settle_name(pivot)] = state

    def _failed(self, step: AnyStep) -> dict[str, Any]:
        return {
            "results": {},
            "failure.$": "$.failure",
            "tries": self._shape.retry(step).attempts,
        }

    def _task(
        self,
        step: AnyStep,
        phase: str,
        *,
        passing: Retry,
        others: Retry | None,
        extra: dict[str, Any],
    ) -> dict[str, Any]:
        """A task, with one retrier for each kind of error, because each has its own count.

        Args:
            step: The step.
            phase: `action`, `undo` or `settle`.
            passing: How it is retried after a transient error.
            others: How it is retried after any other error; None for not at all.
            extra: Further parameters.
        """
        return {
            "Type": "Task",
            "Resource": f"${{{step.function}}}",
            "Parameters": {
                "saga.$": "$.saga",
                "step": step.name,
                "phase": phase,
                "role": self._shape.role(step.name),
                "request": {f"{name}.$": f"$.request.{name}" for name in step.takes},
                "attempt.$": "$$.State.RetryCount",
                "entered_at.$": "$$.State.EnteredTime",
                "timeout": step.timeout,
                "result_bytes": self._shape.shares[step.name],
            }
            | extra,
            "TimeoutSeconds": self._seconds(step.timeout),
            "Retry": [
                self._retry(THROTTLES, THROTTLED),
                self._retry(TRANSIENT, passing),
                *([self._retry(_ALL, others)] if others else []),
            ],
        }

    def _ends(self, *, looks_up: bool) -> None:
        self._states |= {
            "Undone?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.parked", "IsPresent": True, "Next": "Park"}],
                "Default": COMPENSATED,
            },
            "Park": {
                "Type": "Task",
                "Resource": "${Park}",
                "Parameters": {
                    "saga.$": "$.saga",
                    "parked.$": "$.parked",
                    "failure.$": "$.failure",
                },
                "ResultPath": None,
                "TimeoutSeconds": self._seconds(20),
                "Retry": [self._retry(THROTTLES, THROTTLED), self._retry(_ALL, PASSING)],
                "Next": PARKED,
            },
            "Succeeded": {"Type": "Succeed"},
            COMPENSATED: {
                "Type": "Fail",
                "Error": COMPENSATED,
                "Cause": "every effect was undone",
            },
            PARKED: {
                "Type": "Fail",
                "Error": PARKED,
                "Cause": "a step needs an operator: see the ledger",
            },
        }
        if self._shape.rests:
            self._states[WAITING] = {
                "Type": "Fail",
                "Error": WAITING,
                "Cause": "somebody has to decide: the decision starts another run"
                if self._shape.waiting
                else "a step is not due: another run does it when it is",
            }
        if looks_up:
            self._states[LOOKUP_FAILED] = {
                "Type": "Fail",
                "Error": LOOKUP_FAILED,
                "Cause": "the recovery could not look up what had been done; another one follows",
            }

    def _retry(self, errors: Sequence[str], retry: Retry) -> dict[str, Any]:
        interval = self._seconds(retry.interval)
        return {
            "ErrorEquals": list(errors),
            "IntervalSeconds": interval,
            "MaxAttempts": retry.attempts - 1,
            "BackoffRate": 2,
            "MaxDelaySeconds": max(interval + 1, self._seconds(retry.cap)),
            "JitterStrategy": "FULL",
        }

    def _seconds(self, seconds: float) -> int:
        return max(1, math.ceil(seconds * self._timescale))


def _catch(path: str | None, follower: str) -> dict[str, Any]:
    return {"ErrorEquals": _ALL, "ResultPath": path, "Next": follower}


def _group_name(group: tuple[AnyStep, ...]) -> str:
    return " | ".join(step.name for step in group)


def _together_name(rank: int) -> str:
    """The key of a group's results, and of what is caught of it."""
    return f"Together{rank}"  # no step has this name: theirs are in lower case


def _undo_name(step: AnyStep) -> str:
    return f"{step.name}.undo"


def _settle_name(step: AnyStep) -> str:
    return f"{step.name}.settle"
