"""Runs ministack with its gaps closed, in its own environment (``recourse.local.emulator``).

The arguments name the gaps to close; without any it is ministack as shipped.
"""

import importlib
import os
import signal
import sys
import threading
import time

GAPS = (
    "alarms",
    "batch_actions",
    "batch_groups",
    "batches_of_streams",
    "bounded_memory",
    "bounded_workers",
    "branch_context",
    "bucket_removal",
    "decisions",
    "execution_starts",
    "exports_in_use",
    "http_answers",
    "judged_once",
    "map_concurrency",
    "own_callers",
    "retry_delays",
    "runtime_api_delay",
    "secure_transport",
    "signatures",
    "start_by_alias",
    "state_machine_versions",
    "stream_records",
    "version_definitions",
    "versioned_reads",
    "warm_workers",
    "websocket_subprotocol",
    "websocket_unauthorized",
)


def _end_with(parent: int) -> None:
    """Shut down when the parent process has ended, however it ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Close the gaps, then run ministack."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    gaps, sys.argv[1:] = sys.argv[1:], []
    for gap in gaps:
        importlib.import_module(gap if "." in gap else f"recourse.local.gaps.{gap}").close()
    from ministack import app

    app.main()


if __name__ == "__main__":
    main()
