"""Gap: moto tells the history of an execution from its beginning, whatever order is asked for.

Here it begins with the newest event where that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.core.responses import ActionResult
from moto.stepfunctions.responses import StepFunctionResponse

from recourse.testing.patching import replaced


@contextmanager
def told() -> Iterator[None]:
    """Tell histories from their end where they are asked for so."""
    shipped: Any = StepFunctionResponse.get_execution_history

    def get_execution_history(response: Any) -> Any:
        answer = shipped(response)
        if not response._get_param("reverseOrder"):
            return answer
        history = answer.result
        return ActionResult({**history, "events": list(reversed(history["events"]))})

    with replaced(StepFunctionResponse, "get_execution_history", get_execution_history):
        yield
