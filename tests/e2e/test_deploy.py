"""The genuine CDK CLI creates, updates and destroys the app; the local cloud keeps its state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests.e2e.conftest import Trip, machine_of_trips, must_be_judged
from tests.e2e.test_trips import must_be_booked
from tests.e2e.visits import Visit
from tests.starting import local_cloud


def timeouts(cloud: LocalCloud) -> set[int]:
    """The time-outs of the state machine of trips."""
    sfn = cloud.client("stepfunctions")
    machine = machine_of_trips(cloud)
    found = sfn.describe_state_machine(stateMachineArn=machine)
    states = json.loads(found["definition"])["States"].values()
    return {state["TimeoutSeconds"] for state in states if "TimeoutSeconds" in state}


def stacks(cloud: LocalCloud) -> set[str]:
    """The app's stacks that there are."""
    found = cloud.client("cloudformation").describe_stacks()["Stacks"]
    return {stack["StackName"] for stack in found} - {"CDKToolkit"}


def documents(cloud: LocalCloud) -> list[str]:
    """What the buckets hold, in any version."""
    s3 = cloud.client("s3")
    return [
        version["Key"]
        for bucket in s3.list_buckets()["Buckets"]
        if "cdk-" not in bucket["Name"]
        for version in s3.list_object_versions(Bucket=bucket["Name"]).get("Versions", [])
    ]


def test_the_app_is_created_updated_and_destroyed(tmp_path: Path) -> None:
    said: list[str] = []
    with local_cloud(
        port=0, aws_port=0, state_dir=tmp_path, timescale=1, seed_file=None, say=said.append
    ) as cloud:
        synthesised = list((tmp_path / "cdk.out").glob("*.template.json"))
        assert stacks(cloud) == {file.name.split(".")[0] for file in synthesised} != set()
        assert max(timeouts(cloud)) == 30
        with Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api:
            trip = Trip(api).stocked()
            trip.ended(trip.start(key="first"), "SUCCEEDED")
            must_be_booked(trip)
            visits = [Visit(api, one).stocked() for one in get_args(Coordination)]
            waiting = [visit.start() for visit in visits]
    assert "nothing changed" not in "".join(said)

    # Started again with a longer timescale it is updated, and knows what it knew: also what waits.
    said.clear()
    with local_cloud(
        port=0, aws_port=0, state_dir=tmp_path, timescale=2, seed_file=None, say=said.append
    ) as cloud:
        assert max(timeouts(cloud)) == 60
        with Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api:
            again = replace(trip, api=api)
            must_be_booked(again)
            again.ended(again.start(key="first"), "SUCCEEDED")
            must_be_booked(again)
            again.ended(again.start(), "SUCCEEDED")
            must_be_booked(again, times=2)
            for visit, saga_id in zip(visits, waiting, strict=True):
                replace(visit, api=api).decide(saga_id, decision="approve")
                again.ended(saga_id, "SUCCEEDED")

    # A third time there is nothing to do.
    said.clear()
    with local_cloud(
        port=0, aws_port=0, state_dir=tmp_path, timescale=2, seed_file=None, say=said.append
    ) as cloud:
        assert "nothing changed" in "".join(said)
        assert documents(cloud)
        cloud.deployment.destroy()
        assert stacks(cloud) == set()
        functions = cloud.client("lambda").list_functions()["Functions"]
        assert [f["FunctionName"] for f in functions if "Hold" in f["FunctionName"]] == []
    must_be_judged(cloud)
