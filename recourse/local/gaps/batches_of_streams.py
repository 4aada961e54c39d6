"""ministack handles the batches of all stream mappings one after another, in the polling thread.

While one function runs, no other stream is read and no queue is polled. And it polls as soon as
anything is written, so that a batch holds one record where ten are written within a moment. On AWS
every shard has its own poller, which hands over one batch at a time and polls four times a second,
and queues have their own pollers.
"""

import threading
import time
from contextvars import ContextVar
from typing import Any

from ministack.core.concurrency import esm_wake, spawn_background
from ministack.core.responses import request_scope
from ministack.services import dynamodb, lambda_svc

Mapping = tuple[str, str, dict[str, Any]]

PAUSE = 0.05
"""Seconds between two polls that find records: what is written meanwhile is one batch."""
COUNTED = threading.Lock()
"""Held while positions are compared with records, and while records are dropped."""
_own: ContextVar[Mapping | None] = ContextVar("own", default=None)
_at_work: set[str] = set()
_lock = threading.Lock()


def _is_due(mapping: Mapping) -> bool:
    """Whether it has records to handle, and is not backing off after a failure."""
    account, region, esm = mapping
    stream, name = esm.get("EventSourceArn", ""), esm["UUID"]
    if ":dynamodb:" not in stream:
        return False
    with request_scope(account, region), COUNTED:
        table = stream.split("/")[1]
        held = lambda_svc._esm_backoff_until.get(name, 0) > time.time()
        position = lambda_svc._dynamodb_stream_positions.get(name, -1)
        first, end = dynamodb.stream_start_position(table), dynamodb.stream_end_position(table)
        return not held and max(position, first) < end


def close() -> None:
    """Give every stream mapping that has records a thread until it has handled them."""
    every, poll = lambda_svc._iter_all_esms, lambda_svc._poll_dynamodb_streams
    read = dynamodb.stream_records_since

    def those_to_poll() -> Any:
        own = _own.get()
        return every() if own is None else iter([own])

    def handle(mapping: Mapping) -> None:
        _own.set(mapping)
        try:
            while poll():
                time.sleep(PAUSE)
        finally:
            with _lock:
                _at_work.discard(mapping[2]["UUID"])
            # For records written after the last poll.
            esm_wake.set()

    def poll_each() -> bool:
        found = False
        for mapping in every():
            name = mapping[2]["UUID"]
            # Only this thread adds, so that none is added twice.
            if name not in _at_work and _is_due(mapping):
                with _lock:
                    _at_work.add(name)
                spawn_background(handle, mapping, thread_name="ministack-esm")
                found = True
        time.sleep(PAUSE)
        return found

    def read_whole(*args: Any, **named: Any) -> Any:
        with COUNTED:
            return read(*args, **named)

    lambda_svc._iter_all_esms = those_to_poll
    lambda_svc._poll_dynamodb_streams = poll_each
    # This thread pauses in any case.
    lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS = 0
    dynamodb.stream_records_since = read_whole
