"""Signals that stop the local cloud, which may come at any moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[None]:
    """Handle what stops us after the block only.

    A process that is started in it is known to who ends it: an exception within `Popen` would
    leave one that nobody knows. Only the main thread is interrupted, so elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in STOP}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came[:1]:
            signal.raise_signal(number)
