"""ministack never ends a worker, and has as many as there ever were concurrent calls.

A laptop has a few cores and little memory. So no more workers start at a time than there are cores,
and there are no more in all than memory allows. A call beyond that waits, as for a cold start, and
gets the first worker of its function that becomes idle. Idle workers end after a while.

A function may wait for another, which then needs a worker too: a caller that holds the last one
would deadlock. So a function's first worker may always start, and when no worker has started or
become idle for a while, one more than the bound may start.

It also kills a worker in the middle of a call when its function is deployed anew. On AWS the call
goes on, and only later ones get the new code: here the worker ends when its call is done.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

STARTS = max(2, os.cpu_count() or 2)
"""Workers that start at a time."""
WORKER = 24 * 2**20
"""Bytes of memory of a worker, without what it shares with others."""
SHARE = 8
"""All workers together may take 1/SHARE of the memory."""
FEWEST, MOST = 16, 26
"""Bounds of the number of workers, whatever the memory."""
IDLE = float(os.environ.get("LAMBDA_WARM_TTL_SECONDS", "60"))
"""Seconds after which an idle worker ends."""
SHORT = 0.1
"""Seconds that a call waits for its function's existing workers before one more starts: most calls
take less than that, a start takes more."""
UNUSED = 5.0
"""Seconds that a worker must be idle before another function's additional worker replaces it."""
STANDSTILL = 2.0
"""Seconds without a start or an idle worker after which one worker above the bound may start."""
LOOK = 1.0
"""Seconds between two checks for idle workers and changed code."""

Config = dict[str, Any]
Files = dict[str, tuple[int, int]]


@dataclass(eq=False)
class Call:
    """An invocation that waits for an idle worker or for permission to start one."""

    key: str
    worker: Any = None
    since: float = field(default_factory=time.monotonic)


class Pool:
    """ministack's workers, bounded.

    Args:
        most: The most workers.
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
            # If this fails, the invocation tries it again and reports the error.
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
        if worker is None:  # it has ended already
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

    def outdate(self, function: str | None = None) -> None:
        """End every worker, or those of a function: those in use when their calls are done."""
        with self._changed:
            # A key is account, region, function and qualifier.
            keys = [k for k in self._workers if function in (None, k.split(":")[-2])]
            outdated = {one for key in keys for one in self._workers[key]}
            self._drop([one for one in outdated if not one.in_use])
            self._outdated |= {one for one in outdated if one.in_use}

    def _grant(self) -> None:
        """Release the calls for which there is a worker, or room for one; oldest first."""
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
        """End workers in a thread: it takes a while, and the pool is locked."""
        for key, some in list(self._workers.items()):
            some[:] = [one for one in some if one not in workers]
            if not some:
                del self._workers[key]
        self._outdated.difference_update(workers)
        if workers:
            kill = lambda_runtime.kill_workers
            threading.Thread(target=kill, args=[workers], daemon=True).start()


acquire = lambda_runtime.acquire_worker
_on_change: list[Callable[[], object]] = []


def on_change(callback: Callable[[], object]) -> None:
    """Call this when the code of the functions has changed."""
    _on_change.append(callback)


def _spare_calls(pool: Pool) -> None:
    """Let the calls of a function go on while it is updated."""
    kill = lambda_svc.invalidate_worker
    here = threading.local()

    def invalidate(name: str, *given: Any, **options: Any) -> None:
        if getattr(here, "updates", False):
            pool.outdate(name)
        else:
            kill(name, *given, **options)

    def sparing(update: Callable[..., Any]) -> Callable[..., Any]:
        def updated(*given: Any) -> Any:
            here.updates = True
            try:
                return update(*given)
            finally:
                here.updates = False

        return updated

    lambda_svc.invalidate_worker = invalidate
    for name in ("_update_code", "_update_config"):
        setattr(lambda_svc, name, sparing(getattr(lambda_svc, name)))


def _code() -> Files:
    """The state of the files that functions run."""
    found = {}
    for package in os.environ["RECOURSE_WATCHED"].split(os.pathsep):
        for folder, _, names in os.walk(package):
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
            for callback in _on_change:
                callback()
            pool.outdate()


def close() -> None:
    """Bound the workers, and end those that are idle or run code that has changed."""
    fit = lambda_svc._memory_budget_bytes() // SHARE // WORKER
    pool = Pool(int(os.environ.get("RECOURSE_WORKERS") or max(FEWEST, min(MOST, fit))))
    for module in (lambda_runtime, lambda_svc):
        module.acquire_worker, module.release_worker = pool.acquire, pool.release
    _spare_calls(pool)
    # The state of the code now, before any of it is loaded.
    threading.Thread(target=_watch, args=[pool, _code()], daemon=True, name="workers").start()
