"""Gap: moto keeps every thread of every execution, and every model that was ever made, for good.

Its memory grows by that with every saga. Here nothing is kept but what its backends hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from moto.core.common_models import BaseModel
from moto.stepfunctions.parser.asl.component.program import program
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel import branch_worker
from moto.stepfunctions.parser.backend import execution_worker

from recourse.testing.patching import replaced


class _Nothing:
    """A list that keeps nothing: moto never empties its own."""

    def append(self, _: object) -> None:
        return


def _untracked(cls: Any, *_: Any, **__: Any) -> Any:
    return object.__new__(cls)


@contextmanager
def nothing() -> Iterator[None]:
    """Keep no thread that has ended, and no list of models."""
    with ExitStack() as stack:
        for module in (branch_worker, execute_state, execution_worker, program):
            stack.enter_context(replaced(module, "TMP_THREADS", _Nothing()))
        stack.enter_context(replaced(BaseModel, "__new__", staticmethod(_untracked)))
        yield
