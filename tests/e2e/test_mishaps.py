"""What happens to the local cloud from outside: killed workers, aborted executions, restarts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from local.cloud import LocalCloud
from tests.e2e.conftest import Trip, machine_of_trips
from tests.e2e.test_trips import must_be_booked, must_be_untouched
from tests.patience import until


def workers(cloud: LocalCloud, function: str) -> Iterator[int]:
    """The worker processes of a function of this very cloud."""
    wanted = f"AWS_ENDPOINT_URL={cloud.aws_endpoint}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue
        names = [v for v in environment if v.startswith(b"AWS_LAMBDA_FUNCTION_NAME=")]
        if wanted in environment and any(function.encode() in name for name in names):
            yield int(folder.name)


def wait_for_step(trip: Trip, saga_id: str, step: str) -> None:
    """Wait until a step that never answers has acted."""

    def has_acted() -> bool:
        steps = trip.api.get(f"/sagas/{saga_id}")["steps"]
        return bool(next(one for one in steps if one["name"] == step)["status"] == "DONE")

    until(has_acted, f"that {step} acts")


def test_a_worker_that_is_killed_midway_changes_nothing(trip: Trip, cloud: LocalCloud) -> None:
    saga_id = trip.start("payment=timeout:1")
    wait_for_step(trip, saga_id, "payment")

    def killed() -> int:
        found = list(workers(cloud, "PaymentsAuthorise"))
        for process in found:
            os.kill(process, signal.SIGKILL)
        return len(found)

    until(killed, "a worker to kill", pause=0.02)
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
