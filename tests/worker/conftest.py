"""Workers on queues in memory, each ended before its test is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest

from recourse.message import Handler
from recourse.worker.worker import Worker
from tests.patience import PATIENCE
from tests.worker.queue import Queue


class Running:
    """A worker at work.

    Attributes:
        worker: The worker.
        problem: What it ended with, if it failed.
    """

    def __init__(self, queue: Queue, handler: Handler, **settings: Any) -> None:
        def told(message: Any) -> None:
            try:
                handler(message)
            finally:
                queue.tell()

        self.worker = Worker(
            cast(Any, queue), queue.url, told, **({"receive_wait_time": 0} | settings)
        )
        self.problem: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run(self._stop)
        except BaseException as problem:
            self.problem = problem

    def tell_to_stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker does not end"

    def end(self) -> None:
        self.tell_to_stop()
        self.join()


@pytest.fixture
def work() -> Iterator[Callable[..., Running]]:
    """Let a worker work on a queue with a handler."""
    with ExitStack() as stack:

        @contextmanager
        def ended(*given: Any, **settings: Any) -> Iterator[Running]:
            running = Running(*given, **settings)
            try:
                yield running
            finally:
                running.end()

        yield lambda *given, **settings: stack.enter_context(ended(*given, **settings))


class Gate:
    """Holds handlers up until it is opened, for a message or for all."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._all = False
        self._moved = threading.Condition()
        self.begun: list[str] = []

    def wait(self, body: str) -> None:
        with self._moved:
            self.begun.append(body)
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: self._all or body in self._open, PATIENCE)

    def until(self, *bodies: str) -> None:
        """Wait until these have begun."""
        with self._moved:
            assert self._moved.wait_for(lambda: set(bodies) <= set(self.begun), PATIENCE)

    def open(self, *bodies: str) -> None:
        with self._moved:
            self._open.update(bodies)
            self._all = self._all or not bodies
            self._moved.notify_all()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open in the end."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def whole_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the most of every back-off, not a part of it by chance."""
    monkeypatch.setattr("recourse.queues.random.uniform", lambda least, most: most)
