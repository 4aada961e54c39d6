"""The compiler: from a declaration to the Amazon States Language of its orchestration.

What comes out is one state a step, one an undo, and no bookkeeping on the happy path::

    [flight | hotel | car] → payment → capture* → invoice → Succeeded
             ↓ caught          ↓         ↓           ↓
        …undo ← car.undo ← payment.undo ← capture.settle    Park → Parked
          ↓
       Undone? → Compensated (or Park, where an undo has failed)

- every task catches States.ALL and has its own timeout; the machine has none;
- a failing step goes to its own undo, for it may have acted;
- an undo that fails lets the others run, then the saga is parked: the run ends as `Parked`, and an
  operator's answer starts a recovery (below);
- the pivot's failure is settled by claiming its marker: forward if it had acted, else back.

A recovery is the same machine run again with `recover` in its input: what comes before the pivot
only looks up what it had done, the pivot is settled, and the run goes forward or undoes. It needs
no second machine, because the barrier makes every repetition harmless. A recovery that cannot look
something up must not undo anything, for the pivot may have acted: it ends as `Blind`, and another
one follows when the sweeper next goes round.
"""

from __future__ import annotations

import math
from typing import Any

from recourse.failures import TRANSIENT
from recourse.saga import FORWARD, Retry, Saga, Step

COMPENSATED = "Compensated"
PARKED = "Parked"
BLIND = "Blind"
ENDS = (COMPENSATED, PARKED)
"""The errors with which a run ends for good; any other end needs a recovery."""

_ALL = ["States.ALL"]


def compile_saga(saga: Saga, timescale: float = 1.0) -> dict[str, Any]:
    """The state machine of a saga.

    Args:
        saga: The declaration.
        timescale: What multiplies time-outs and back-offs. Seconds are whole, and at least 1.

    Returns:
        A state machine definition whose tasks name functions as `${FlightsHold}`, to be substituted
        by their ARNs; `${Park}` is the function that parks a saga.
    """
    return _Compiler(saga, timescale).machine()


class _Compiler:
    def __init__(self, saga: Saga, timescale: float) -> None:
        self._saga = saga
        self._timescale = timescale
        self._states: dict[str, Any] = {}

    def machine(self) -> dict[str, Any]:
        saga = self._saga
        names = [_group_name(group) for group in saga.groups]
        for rank, group in enumerate(saga.groups):
            follower = names[rank + 1] if rank + 1 < len(names) else "Succeeded"
            if len(group) == 1:
                self._states[names[rank]] = self._alone(group[0], follower)
            else:
                self._states[names[rank]] = self._together(rank, group, follower)
        self._settle(names)
        compensable = [s for s in saga.all if saga.role(s.name) == "compensable"]
        for step, earlier in zip(reversed(compensable), [*compensable[-2::-1], None], strict=True):
            self._undo(step, _undo_name(earlier) if earlier else "Undone?")
        self._ends(can_be_blind=bool(compensable))
        return {
            "Comment": f"{saga.name}: compiled from its declaration, not edited by hand",
            "StartAt": names[0],
            "States": self._states,
        }

    def _alone(self, step: Step, follower: str) -> dict[str, Any]:
        saved = "parked" if self._saga.role(step.name) == "retriable" else "failure"
        return self._action(step) | {
            "ResultPath": f"$.results.{step.name}",
            "Catch": [_catch(f"$.{saved}.{step.name}", self._on_failure(step))],
            "Next": follower,
        }

    def _together(self, rank: int, group: tuple[Step, ...], follower: str) -> dict[str, Any]:
        saved = "parked" if self._saga.role(group[0].name) == "retriable" else "failure"
        earlier = [step.name for before in self._saga.groups[:rank] for step in before]
        selected = {f"{name}.$": f"$[0].results.{name}" for name in earlier}
        selected |= {
            f"{step.name}.$": f"$[{index}].results.{step.name}" for index, step in enumerate(group)
        }
        return {
            "Type": "Parallel",
            "Branches": [self._branch(step) for step in group],
            "ResultSelector": selected,
            "ResultPath": "$.results",
            "Catch": [_catch(f"$.{saved}._together_{rank}", self._on_failure(group[-1]))],
            "Next": follower,
        }

    def _branch(self, step: Step) -> dict[str, Any]:
        """A step of a group: its failure leaves the branch under the step's name."""
        failed = f"{step.name}.failed"
        return {
            "StartAt": step.name,
            "States": {
                step.name: self._action(step)
                | {
                    "ResultPath": f"$.results.{step.name}",
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

    def _on_failure(self, step: Step) -> str:
        match self._saga.role(step.name):
            case "compensable":
                return self._caught(step)
            case "pivot":
                return _settle_name(step)
        return "Park"

    def _caught(self, step: Step) -> str:
        """A choice: from a step that failed to its undo; from one not looked up, to the end."""
        name = f"{step.name}.caught"
        recovering = {"Variable": "$.saga.recover", "NumericGreaterThan": 0, "Next": BLIND}
        self._states[name] = {
            "Type": "Choice",
            "Choices": [recovering],
            "Default": _undo_name(step),
        }
        return name

    def _action(self, step: Step) -> dict[str, Any]:
        forward = self._saga.role(step.name) == "retriable"
        return self._task(
            step,
            "action",
            errors=_ALL if forward else list(TRANSIENT),
            retry=self._saga.retry(step),
            extra={"results": {f"{name}.$": f"$.results.{name}" for name in step.after}},
        )

    def _undo(self, step: Step, follower: str) -> None:
        self._states[_undo_name(step)] = self._task(
            step, "undo", errors=_ALL, retry=self._saga.retry(step), extra=self._failed(step)
        ) | {
            "ResultPath": None,
            "Catch": [_catch(f"$.parked.{step.name}", follower)],
            "Next": follower,
        }

    def _settle(self, names: list[str]) -> None:
        saga, pivot = self._saga, self._saga.pivot
        rank = saga.rank(pivot.name)
        back = _undo_name(saga.groups[rank - 1][-1]) if rank else "Undone?"
        state = self._task(
            pivot, "settle", errors=_ALL, retry=FORWARD, extra=self._failed(pivot)
        ) | {
            "ResultPath": f"$.results.{pivot.name}",
            "Catch": [
                {"ErrorEquals": ["StepCancelledError"], "ResultPath": None, "Next": back},
                _catch(f"$.parked.{pivot.name}", "Park"),
            ],
            "Next": names[rank + 1] if rank + 1 < len(names) else "Succeeded",
        }
        state["Retry"].insert(0, {"ErrorEquals": ["StepCancelledError"], "MaxAttempts": 0})
        self._states[_settle_name(pivot)] = state

    def _failed(self, step: Step) -> dict[str, Any]:
        return {
            "results": {},
            "failure.$": "$.failure",
            "tries": self._saga.retry(step).attempts,
        }

    def _task(
        self, step: Step, phase: str, *, errors: list[str], retry: Retry, extra: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Resource": f"${{{step.function}}}",
            "Parameters": {
                "saga.$": "$.saga",
                "step": step.name,
                "phase": phase,
                "role": self._saga.role(step.name),
                "request": {f"{name}.$": f"$.request.{name}" for name in step.takes},
                "attempt.$": "$$.State.RetryCount",
                "entered_at.$": "$$.State.EnteredTime",
                "timeout": step.timeout,
                "result_bytes": self._saga.shares[step.name],
            }
            | extra,
            "TimeoutSeconds": self._seconds(step.timeout),
            "Retry": [self._retry(errors, retry)],
        }

    def _ends(self, *, can_be_blind: bool) -> None:
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
                "Retry": [self._retry(_ALL, FORWARD)],
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
        if can_be_blind:
            self._states[BLIND] = {
                "Type": "Fail",
                "Error": BLIND,
                "Cause": "the recovery could not look up what had been done; another one follows",
            }

    def _retry(self, errors: list[str], retry: Retry) -> dict[str, Any]:
        interval = self._seconds(retry.interval)
        return {
            "ErrorEquals": errors,
            "IntervalSeconds": interval,
            "MaxAttempts": retry.attempts - 1,
            "BackoffRate": 2,
            "MaxDelaySeconds": max(interval + 1, self._seconds(retry.cap)),
            "JitterStrategy": "FULL",
        }

    def _seconds(self, seconds: float) -> int:
        return max(1, math.ceil(seconds * self._timescale))


def _catch(path: str, follower: str) -> dict[str, Any]:
    return {"ErrorEquals": _ALL, "ResultPath": path, "Next": follower}


def _group_name(group: tuple[Step, ...]) -> str:
    return " | ".join(step.name for step in group)


def _undo_name(step: Step) -> str:
    return f"{step.name}.undo"


def _settle_name(step: Step) -> str:
    return f"{step.name}.settle"
