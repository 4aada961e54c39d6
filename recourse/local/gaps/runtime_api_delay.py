"""ministack's Lambda Runtime API delays an invocation by 40 ms, and by 50 ms more without logs.

It answers in two small writes, the second of which waits until the first is acknowledged
(Nagle's algorithm against delayed acknowledgements), and then waits for lines that never come.
"""

import queue
from typing import Any

from ministack.core import lambda_runtime


def close() -> None:
    """Disable Nagle's algorithm, and wait for a first log line no longer than for the next."""
    build = lambda_runtime.ProvidedWorker._build_handler_class

    def build_prompt(worker: Any, generation: int, pending: queue.Queue[Any]) -> Any:
        handler = build(worker, generation, pending)
        handler.disable_nagle_algorithm = True
        return handler

    lambda_runtime.ProvidedWorker._build_handler_class = build_prompt
    lambda_runtime.Worker._drain_stderr_bounded.__defaults__ = (0.005, 0.005, 0.250)
