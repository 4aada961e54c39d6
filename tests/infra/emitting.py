"""Calls functions that count, each in a process of its own, and says what metrics they print.

A program: it reads a list of calls, `{"module", "environment", "cases"}`, from stdin as JSON, and
writes for each the lines that the function printed: metrics in the embedded metric format. What a
function reads and writes is replaced; what it counts, and how, is its own. A case is what the
replaced part answers; `CALLS` says which modules there are.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import aws_lambda_powertools.metrics  # noqa: F401

from tests.infra.apart import apart

Case = Mapping[str, Any]


def step(module: Any, case: Case) -> None:
    """A task of a saga's step, that is done or fails."""
    saga = {"id": "0" * 32, "name": case["saga"]}
    task = {"saga": saga, "step": case["step"], "phase": case["phase"]}
    runner = mock.Mock(run=mock.Mock(side_effect=OSError("as asked") if case["fails"] else None))
    # The error is raised again, as a class of its own that has the name alone.
    fails = suppress(Exception) if case["fails"] else nullcontext()
    with mock.patch.object(module, "runner", lambda: runner), fails:
        module.handler(task, mock.Mock(get_remaining_time_in_millis=lambda: 30_000))


def step_queue(module: Any, case: Case) -> None:
    """A batch of a message, with its result."""
    result = mock.Mock(outcome=case["outcome"], about={}, error=None, hangs=False, message_id="1")
    listener = mock.Mock(handle_batch=lambda _: [result])
    with mock.patch.object(module, "listener", lambda: listener):
        module.handler({"Records": []}, None)


def park(module: Any, case: Case) -> None:
    """A run with one step that waits for an operator."""
    saga = {"id": "0" * 32, "name": case["saga"], "recover": 0}
    with (
        mock.patch.object(module, "park", lambda *_: [f"recourse.{case['saga']}.a.failed"]),
        mock.patch.object(module, "client", mock.Mock()),
        mock.patch.object(module.kit, "shapes", mock.Mock()),
    ):
        module.handler({"saga": saga}, None)


def sweeper(module: Any, case: Case) -> None:
    """A round that finds one saga to heal."""
    found = mock.Mock(sweep=lambda: {"0" * 32: "started"})
    with mock.patch.object(module.kit, "sweeper", lambda *_: found):
        module.handler({}, None)


CALLS: Mapping[str, Callable[[Any, Case], None]] = {
    "recourse.functions.park": park,
    "recourse.functions.step": step,
    "recourse.functions.step_queue": step_queue,
    "recourse.functions.sweeper": sweeper,
}


def printed(module: str, environment: dict[str, str], cases: list[Case]) -> list[Any]:
    """The lines with metrics that a function prints, in its own environment."""
    os.environ.update(environment)
    found, out = import_module(module), io.StringIO()
    found.logger.setLevel("CRITICAL")
    with redirect_stdout(out):
        for case in cases:
            CALLS[module](found, case)
    return [json.loads(line) for line in out.getvalue().splitlines()]


if __name__ == "__main__":
    json.dump([apart(partial(printed, **one)) for one in json.load(sys.stdin)], sys.stdout)
