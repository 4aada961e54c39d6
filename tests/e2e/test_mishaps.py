"""What happens to the local cloud from outside: killed workers, aborted executions, restarts."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from recourse.local.cloud import LocalCloud
from tests.e2e.conftest import Trip, machine_of_trips
from tests.e2e.test_trips import must_be_booked, must_be_untouched
from tests.patience import until


def kill_workers(cloud: LocalCloud, function: str) -> int:
    """Kill the worker processes of a function of this very cloud; how many there were."""
    started = rf"process (\d+) is a worker of \S*{function}"
    killed = 0
    for process in re.findall(started, cloud.log.read_text()):
        with suppress(FileNotFoundError, ProcessLookupError):
            # Its number may be another process's by now.
            if b"forkserver" in Path("/proc", process, "cmdline").read_bytes():
                os.kill(int(process), signal.SIGKILL)
                killed += 1
    return killed


def wait_for_step(trip: Trip, saga_id: str, step: str) -> None:
    """Wait until a step that never answers has acted."""

    def has_acted() -> bool:
        steps = trip.api.get(f"/sagas/{saga_id}")["steps"]
        return bool(next(one for one in steps if one["name"] == step)["status"] == "DONE")

    until(has_acted, f"that {step} acts")


def test_a_worker_that_is_killed_midway_changes_nothing(trip: Trip, cloud: LocalCloud) -> None:
    saga_id = trip.start("payment=timeout:1")
    wait_for_step(trip, saga_id, "payment")

    until(lambda: kill_workers(cloud, "PaymentsAuthorise"), "a worker to kill", pause=0.02)
    saga = trip.ended(saga_id, "SUCCEEDED")
    assert next(s for s in saga["steps"] if s["name"] == "payment")["attempts"] >= 1
    must_be_booked(trip)


def test_an_execution_that_is_aborted_comes_to_its_end(
    orchestrated: Trip, cloud: LocalCloud
) -> None:
    saga_id = orchestrated.start("payment=timeout:3")
    wait_for_step(orchestrated, saga_id, "payment")
    sfn = cloud.client("stepfunctions")
    machine = machine_of_trips(cloud)
    execution = f"{machine.replace(':stateMachine:', ':execution:')}:{saga_id}"
    sfn.stop_execution(executionArn=execution, error="Stopped", cause="by a test")
    assert sfn.describe_execution(executionArn=execution)["status"] == "ABORTED"
    orchestrated.ended(saga_id, "COMPENSATED")
    must_be_untouched(orchestrated)
