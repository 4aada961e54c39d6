"""Gap: moto really sleeps between retries, and gives every task a thread to time it by.

Here a retry waits for nothing, and what it would have waited is kept; a task runs in its caller's
thread, and times out by raising TimeoutError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.backend import execution_worker

from recourse.testing.patching import replaced


class _Here:
    """A thread that runs where it is started."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target = target

    def start(self) -> None:
        self._target()


class _Clock:
    """A clock whose sleep takes no time."""

    def __init__(self, naps: list[float]) -> None:
        self.sleep = naps.append


@contextmanager
def for_nothing() -> Iterator[list[float]]:
    """Wait for nothing; yields the seconds that would have been waited.

    An execution ends before `start_execution` returns.
    """
    naps: list[float] = []
    with (
        replaced(retrier_decl, "time", _Clock(naps)),
        replaced(execute_state, "Thread", _Here),
        replaced(execution_worker, "Thread", _Here),
    ):
        yield naps
