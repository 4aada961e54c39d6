"""ministack delays the first state of every execution by 150 ms."""

import threading
import time
from types import SimpleNamespace

from ministack.services import stepfunctions

_here = threading.local()


def close() -> None:
    """Skip the first wait of the thread that runs an execution."""
    run = stepfunctions._run_execution

    def run_at_once(execution: str) -> None:
        _here.is_new = True
        run(execution)

    def sleep(seconds: float) -> None:
        is_new, _here.is_new = getattr(_here, "is_new", False), False
        if not is_new:
            time.sleep(seconds)

    stepfunctions._run_execution = run_at_once
    stepfunctions.time = SimpleNamespace(**(vars(time) | {"sleep": sleep}))
