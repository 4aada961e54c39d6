"""ministack starts a process for every invocation that finds none idle, however many those are.

Thirty invocations at once then start thirty Pythons on a laptop's few cores, each start takes ten
times as long, and the tasks that wait for them time out. On AWS a cold start takes what it takes,
whatever else starts. So: no more starts at a time than there are cores, an invocation that waits
takes the first process that turns idle, and one process of each function is started early.
"""

import contextlib
import os
import threading
import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

STARTS = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))

Config = dict[str, Any]


def _has_idle(key: str) -> bool:
    with lambda_runtime._lock:
        return any(not worker.in_use for worker in lambda_runtime._workers.get(key, ()))


def _start(worker: Any) -> None:
    # If it fails, the invocation starts it again and reports what is wrong with it.
    with contextlib.suppress(Exception):
        lambda_runtime.ensure_spawned(worker)


def _warm(function: Config) -> None:
    config = function["config"]
    key = lambda_runtime._worker_key(config["FunctionName"], config, "$LATEST")
    if config["Runtime"].startswith("provided") and not lambda_runtime._workers.get(key):
        worker, _ = lambda_runtime.acquire_worker(
            config["FunctionName"], config, function["code_zip"]
        )
        lambda_runtime.release_worker(worker)


def _keep_warm() -> None:
    while True:
        for function in lambda_svc._functions.all_values():
            lambda_svc._run_with_function_config_scope(function, _warm, function)
        time.sleep(0.5)


def close() -> None:
    """Take turns at starting, and start the first process of each function early."""
    acquire = lambda_runtime.acquire_worker

    def acquire_in_turn(
        name: str, config: Config, code: bytes, qualifier: str = "$LATEST", **options: Any
    ) -> tuple[Any, str]:
        key = lambda_runtime._worker_key(name, config, qualifier)
        has_turn = False
        while not has_turn and not _has_idle(key):
            has_turn = STARTS.acquire(timeout=0.02)
        try:
            worker, reason = acquire(name, config, code, qualifier, **options)
            if has_turn and reason == "spawn":
                _start(worker)
            return worker, reason
        finally:
            if has_turn:
                STARTS.release()

    lambda_runtime.acquire_worker = acquire_in_turn
    lambda_svc.acquire_worker = acquire_in_turn
    threading.Thread(target=_keep_warm, daemon=True, name="keep-warm").start()
