"""What an error is called, from the function that raised it to every surface that shows it.

A state machine knows an error by the name of its class alone, and by no class above it. So a
function raises an error that passes under a name that every machine retries (`reported`), with its
own name within; every surface that shows it later shows its own (`understand`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse import events
from recourse.declare import limits
from recourse.errors import StepCrashedError, StepTimedOutError, TransientError
from recourse.store.aws import is_transient

CRASHES = {"Lambda.Unknown", "Runtime.ExitError", "Runtime.ExitedError", "Runtime.Unknown"}
TIMEOUTS = {"States.Timeout", "Sandbox.Timedout", "Lambda.ClientExecutionTimeoutException"}
THROTTLES = (
    "Lambda.TooManyRequestsException",
    "Lambda.EC2ThrottledException",
    "Lambda.ENILimitReachedException",
    "Lambda.ResourceNotReadyException",
)
"""The errors of a task whose function never ran: there was no room for it."""
TRANSIENT = (
    TransientError.__name__,
    StepTimedOutError.__name__,
    StepCrashedError.__name__,
    *sorted(CRASHES),
    *sorted(TIMEOUTS),
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
)
"""The errors of a task that may pass by themselves; a retry in the state machine names them all."""
_WRAPPED = '{"error": '
"""How the text of an error begins that is raised under another name than its own."""
_MOST_NAME = 128


def may_pass(problem: BaseException) -> bool:
    """Whether an error may pass without a change: it says so, or AWS was busy or unreachable."""
    if isinstance(problem, ClientError):
        return is_transient(problem)
    return isinstance(problem, TransientError | TimeoutError | BotoCoreError)


def reported(problem: Exception) -> Exception:
    """An error as a function raises it: of bounded size, under a name that every machine retries.

    Args:
        problem: The error. Raise the answer `from None`: its own traceback is for the log.
    """
    kind, text = type(problem).__name__[:_MOST_NAME], limits.cut(str(problem))
    if may_pass(problem) and (kind not in TRANSIENT or text.startswith(_WRAPPED)):
        return TransientError(json.dumps({"error": kind, "message": text}, ensure_ascii=False))
    made: Exception = type(kind, (Exception,), {})(text)
    return made


def own_failure(step: str, failure: Mapping[str, Any]) -> Mapping[str, str] | None:
    """What a state machine caught of this very step's action, `Error` and `Cause`, if anything.

    A step's own catch files it under the step. That of a group files the failing branch's, whose
    `Error` is the step's name and whose `Cause` is the error itself.
    """
    if step in failure:
        own: Mapping[str, str] = failure[step]
        return own
    for caught in failure.values():
        if caught.get("Error") == step:
            cause = caught.get("Cause") or ""
            return {
                "Error": _field(cause, "Error") or TransientError.__name__,
                "Cause": _field(cause, "Cause") or "",
            }
    return None


def passes(failure: Mapping[str, str]) -> bool:
    """Whether an error that a state machine caught may pass without a change."""
    return failure.get("Error", TransientError.__name__) in (*TRANSIENT, *THROTTLES)


def understand(failure: Mapping[str, str], timeout: float) -> dict[str, str]:
    """The error of a failed task as every surface shows it.

    Args:
        failure: `Error` and `Cause` as the state machine caught them.
        timeout: Seconds that the step had.
    """
    kind = failure.get("Error", TransientError.__name__)
    cause = failure.get("Cause") or ""
    if kind in TIMEOUTS:
        return events.error(StepTimedOutError.__name__, f"no answer within {timeout:g} seconds")
    if kind in CRASHES:
        return events.error(StepCrashedError.__name__, "the process ended without an answer")
    said = _field(cause, "errorMessage")
    text = cause if said is None else said
    if kind == TransientError.__name__ and text.startswith(_WRAPPED):
        return events.error(_field(text, "error") or kind, _field(text, "message") or "")
    return events.error(kind, text)


def _field(text: str, name: str) -> str | None:
    """A text in a JSON object, which Step Functions may have cut off anywhere."""
    try:
        return str(json.loads(text)[name])
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    # Whole escapes only: one may be cut off at the end, or half of a surrogate pair.
    found = re.search(rf'"{name}"\s*:\s*"((?:[^"\\]|\\u[0-9a-fA-F]{{4}}|\\[^u])*)', text)
    if found is None:
        return None
    return str(json.loads(f'"{found[1]}"', strict=False)).encode(errors="ignore").decode()
