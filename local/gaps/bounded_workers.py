"""ministack has as many workers as it ever had calls at once, and of each function one for ever.

A laptop has a few cores and little memory. So no more workers start at a time than there are
cores; all together are no more than memory allows; a call beyond that waits, as it would for a cold
start, and takes the first worker of its function that turns idle. Those that nobody needs end.

A function may wait for another, which then needs a worker too: the caller must not hold the last
one. So there is always room for a function's first worker, and where nothing moves, for one more.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local.forkserver import PACKAGES

STARTS = max(2, os.cpu_count() or 2)
"""Workers that start at a time."""
WORKER = 24 * 2**20
"""Bytes that a worker takes, what it shares with others left out."""
SHARE = 8
"""What part of the memory all workers may take: this is what it is divided by."""
FEWEST, MOST = 16, 26
"""Workers in all, however small or large the memory is."""
IDLE = float(os.environ.get("LAMBDA_WARM_TTL_SECONDS", "60"))
"""Seconds after which a worker that is idle ends."""
SHORT = 0.1
"""Seconds that a call waits for a worker of its function, where there is one, before one more is
started: most calls take less, and a start does not."""
UNUSED = 5.0
"""Seconds that a worker has been idle before one more of another function takes its place."""
STANDSTILL = 2.0
"""Seconds without a worker that starts or turns idle, after which one more than allowed starts."""
LOOK = 1.0
"""Seconds between two looks at what is idle, and at the checkout."""

Config = dict[str, Any]
Files = dict[str, tuple[int, int]]


@dataclass(eq=False)
class Call:
    """An invocation that waits for a worker: for one that is idle, or for its turn to start one."""

    key: str
    worker: Any = None
    since: float = field(default_factory=time.monotonic)


class Pool:
    """ministack's workers, bounded.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._workers: dict[str, list[Any]] = lambda_runtime._workers
        self._changed = threading.Condition(lambda_runtime._lock)
        self._calls: list[Call] = []
        self._starting = 0
        self._to_come: list[str] = []
        self._moved = time.monotonic()
        self._outdated: set[Any] = set()

    def acquire(
        self, name: str, config: Config, code: bytes, qualifier: str = "$LATEST", **options: Any
    ) -> tuple[Any, str]:
        """A worker for a call: ministack's ``acquire_worker``, which waits."""
        call = Call(lambda_runtime._worker_key(name, config, qualifier))
        with self._changed:
            self._calls.append(call)
            self._grant()
            while call in self._calls:
                self._changed.wait(SHORT)
                self._grant()
        if call.worker:
            return call.worker, "reused"
        try:
            try:
                worker, reason = acquire(name, config, code, qualifier, **options)
            finally:
                with self._changed:
                    self._to_come.remove(call.key)
            # If it fails, the invocation starts it again and reports what is wrong with it.
            with suppress(Exception):
                lambda_runtime.ensure_spawned(worker)
            return worker, reason
        finally:
            with self._changed:
                self._starting -= 1
                self._moved = time.monotonic()
                self._grant()

    def release(self, worker: Any) -> None:
        """Take back a worker: ministack's ``release_worker``."""
        if worker is None:  # it is gone already
            return
        with self._changed:
            worker.in_use = False
            worker.last_used = time.time()
            self._moved = time.monotonic()
            if worker in self._outdated:
                self._drop([worker])
            self._grant()

    def drop_idle(self, *, since: float) -> None:
        """End the workers that were last used before this moment."""
        with self._changed:
            self._drop([one for one in self._idle() if one.last_used <= since])

    def outdate(self) -> None:
        """End every worker: those in use when their calls are done."""
        with self._changed:
            self._drop(list(self._idle()))
            self._outdated = {one for some in self._workers.values() for one in some}

    def _grant(self) -> None:
        """Let calls go on for which there is a worker, or room for one; the oldest comes first."""
        for call in list(self._calls):
            worker = next((one for one in self._workers.get(call.key, ()) if not one.in_use), None)
            if worker:
                worker.in_use, worker.last_used = True, time.time()
                call.worker = worker
            elif self._may_start(call):
                self._starting += 1
                self._to_come.append(call.key)
                self._moved = time.monotonic()
            else:
                continue
            self._calls.remove(call)
            self._changed.notify_all()

    def _may_start(self, call: Call) -> bool:
        now = time.monotonic()
        is_standstill = now - self._moved >= STANDSTILL
        is_first = not self._workers.get(call.key) and call.key not in self._to_come
        if not is_standstill and (
            self._starting >= STARTS or (not is_first and now - call.since < SHORT)
        ):
            return False
        if sum(map(len, self._workers.values())) + len(self._to_come) < self._most:
            return True
        unused = [one for one in self._idle() if is_first or one.last_used < time.time() - UNUSED]
        if unused:
            self._drop([min(unused, key=lambda worker: worker.last_used)])
        return bool(unused) or is_first or is_standstill

    def _idle(self) -> Iterator[Any]:
        return (one for some in self._workers.values() for one in some if not one.in_use)

    def _drop(self, workers: list[Any]) -> None:
        """End workers; not now, for that takes a while and the pool is locked."""
        for key, some in list(self._workers.items()):
            some[:] = [one for one in some if one not in workers]
            if not some:
                del self._workers[key]
        self._outdated.difference_update(workers)
        if workers:
            kill = lambda_runtime.kill_workers
            threading.Thread(target=kill, args=[workers], daemon=True).start()


acquire = lambda_runtime.acquire_worker
_to_tell: list[Callable[[], object]] = []


def on_change(tell: Callable[[], object]) -> None:
    """Have this called when the code of the functions has changed."""
    _to_tell.append(tell)


def _code() -> Files:
    """The files that functions run, as they are now."""
    found = {}
    for package in (*PACKAGES, "lambdas"):
        for folder, _, names in os.walk(Path(os.environ["RECOURSE_CHECKOUT"], package)):
            for name in names:
                if name.endswith((".py", ".json")):
                    with suppress(FileNotFoundError):
                        state = os.stat(path := os.path.join(folder, name))
                        found[path] = state.st_mtime_ns, state.st_size
    return found


def _watch(pool: Pool, code: Files) -> None:
    while True:
        time.sleep(LOOK)
        pool.drop_idle(since=time.time() - IDLE)
        if (now := _code()) != code:
            code = now
            for tell in _to_tell:
                tell()
            pool.outdate()


def close() -> None:
    """Bound the workers, end those that nobody needs, and those whose code is no longer there."""
    fit = lambda_svc._memory_budget_bytes() // SHARE // WORKER
    pool = Pool(int(os.environ.get("RECOURSE_WORKERS") or max(FEWEST, min(MOST, fit))))
    for module in (lambda_runtime, lambda_svc):
        module.acquire_worker, module.release_worker = pool.acquire, pool.release
    # As they are now, before anything has been loaded of them.
    threading.Thread(target=_watch, args=[pool, _code()], daemon=True, name="workers").start()
