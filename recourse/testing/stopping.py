"""Gap: moto fails or hangs where an execution is stopped while a state of it is at work.

It refuses to note the next state of an execution that no longer runs, by an exception that fails
the execution, or ends a parallel branch unheard; and what was cut off in the middle of a state may
fail it as well. Here the state ends, and the execution with it, as stopped. It goes on with a task
whose timeout it no longer reads, takes the task's input for it, and then cannot tell the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import Timeout
from moto.stepfunctions.parser.asl.eval.environment import Environment

from recourse.testing.patching import replaced


class _CutOffError(Exception):
    """The execution was stopped while a state of it was at work."""


@contextmanager
def quietly() -> Iterator[None]:
    """Let an execution that is stopped end where it is."""
    shipped: Any = Environment.__dict__["next_state_name"]

    def note(env: Environment, name: str) -> None:
        if env.program_state() is None or env.is_running():
            shipped.fset(env, name)

    fail = Environment.set_error

    def set_error(env: Environment, error: Any) -> None:
        if env.is_running():
            fail(env, error)

    read = Timeout.eval

    def read_or_end(timeout: Timeout, env: Environment) -> None:
        before = len(env.stack)
        read(timeout, env)
        if len(env.stack) == before:
            raise _CutOffError

    with (
        mock.patch.object(Timeout, "eval", read_or_end),
        replaced(Environment, "next_state_name", property(shipped.fget, note)),
        replaced(Environment, "set_error", set_error),
    ):
        yield
