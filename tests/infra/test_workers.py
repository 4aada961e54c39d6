"""Workers on Fargate: only where they are asked for, with no more than they need."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from recourse.worker.worker import FINAL_DELETE_TIMEOUT
from tests.infra.assembly import ROOT, Assembly, Resource
from tests.infra.test_functions import ASKS, pins, reads
from tests.infra.test_rights import PUT, TAKE, functions

pytestmark = pytest.mark.xdist_group("infra")
GRACE = 25
"""What `recourse worker` gives its handlers, where it is told nothing else."""
FUNCTIONS = "AWS::Lambda::Function"
TASK, SERVICE = "AWS::ECS::TaskDefinition", "AWS::ECS::Service"


def container(assembly: Assembly) -> tuple[Resource, dict[str, Any]]:
    (task,) = assembly.every(TASK)
    (found,) = task.properties["ContainerDefinitions"]
    return task, assembly.plain(task.stack, found)


def test_without_the_switch_there_is_no_network_and_no_worker(each: Assembly) -> None:
    kinds = {one.type.split("::")[1] for one in each.resources}
    assert not kinds & {"ECS", "EC2", "ECR", "ApplicationAutoScaling"}


def test_a_worker_takes_the_queue_that_its_function_would(fargate: Assembly, dev: Assembly) -> None:
    assert "Tally" in functions(dev) and "Tally" not in functions(fargate)
    queue = fargate.one("AWS::SQS::Queue", "TallyEvents/Queue").properties
    mine = dev.one("AWS::SQS::Queue", "TallyEvents/Queue").properties
    assert (queue["QueueName"], queue["RedrivePolicy"]["maxReceiveCount"]) == (
        mine["QueueName"],
        mine["RedrivePolicy"]["maxReceiveCount"],
    )
    _, made = container(fargate)
    command = dict(zip(made["Command"][::2], made["Command"][1::2], strict=False))
    assert command["--queue"] == "<TallyEvents/Queue>"
    module, _, function = command["--handler"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_a_worker_is_told_what_its_handler_reads(fargate: Assembly) -> None:
    _, made = container(fargate)
    told = {one["Name"]: one["Value"] for one in made["Environment"]}
    assert told.pop("AWS_DEFAULT_REGION") == "<AWS::Region>"
    assert told.pop("POWERTOOLS_SERVICE_NAME") == "Tally"
    assert set(told) == reads("lambdas.tally") and ASKS


def test_a_worker_has_the_time_to_end_in_order(fargate: Assembly) -> None:
    _, made = container(fargate)
    assert made["StopTimeout"] >= GRACE + FINAL_DELETE_TIMEOUT + 20, (
        "and a receive that is under way"
    )


def test_a_worker_may_do_what_its_function_may(fargate: Assembly, dev: Assembly) -> None:
    (task,) = fargate.every(TASK)
    found: dict[str, set[str]] = {}
    for action, resource in fargate._allowed(
        fargate.plain(task.stack, task.properties["TaskRoleArn"])
    ):
        if not action.startswith("kms:"):
            found.setdefault(resource, set()).add(action)
    assert found == {
        "<TallyTable.Arn>": {"dynamodb:PutItem", "dynamodb:UpdateItem"},
        "<TallyEvents/Queue.Arn>": TAKE,
        "<TallyEvents/Deadletters.Arn>": PUT,
    }
    given = dev.rights(functions(dev)["Tally"])
    assert {
        name: given[name] - {one for one in given[name] if "kms:" in one} for name in found
    } == found


def test_nothing_comes_in_and_there_is_no_gateway_to_pay_for(fargate: Assembly) -> None:
    kinds = {one.type for one in fargate.resources}
    assert "AWS::EC2::NatGateway" not in kinds
    assert "AWS::EC2::SecurityGroupIngress" not in kinds
    (group,) = fargate.every("AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group.properties
    (service,) = fargate.every(SERVICE)
    network = service.properties["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "ENABLED"
    assert fargate.plain(service.stack, network["SecurityGroups"]) == [f"<{group.name}.GroupId>"]


def test_workers_grow_with_what_waits_and_never_vanish(fargate: Assembly) -> None:
    (target,) = fargate.every("AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target.properties["MinCapacity"], target.properties["MaxCapacity"]) == (1, 10)
    steps = [
        step["ScalingAdjustment"]
        for policy in fargate.every("AWS::ApplicationAutoScaling::ScalingPolicy")
        for step in policy.properties["StepScalingPolicyConfiguration"]["StepAdjustments"]
    ]
    assert sorted(steps) == [-1, 1, 3]
    watched = {
        (alarm.properties["MetricName"], fargate.plain(alarm.stack, one["Value"]))
        for alarm in fargate.every("AWS::CloudWatch::Alarm")
        for one in alarm.properties["Dimensions"]
        if "Scaling" in str(alarm.properties.get("AlarmActions")) or "Backlog" in alarm.name
    }
    assert watched == {("ApproximateNumberOfMessagesVisible", "<TallyEvents/Queue.QueueName>")}


def test_what_a_worker_logs_is_kept_as_long_as_what_a_function_logs(
    fargate: Assembly, dev: Assembly
) -> None:
    logs = fargate.one("AWS::Logs::LogGroup", "Tally/Logs").properties
    mine = dev.one("AWS::Logs::LogGroup", "TallyLogs").properties
    assert logs["RetentionInDays"] == mine["RetentionInDays"]


def test_cdk_nag_finds_nothing_in_workers(fargate: Assembly) -> None:
    assert fargate.findings() == []


def test_the_image_has_what_a_worker_imports_and_nothing_else(fargate: Assembly) -> None:
    (folder,) = [one for one in fargate.folder.glob("asset.*") if (one / "infra").exists()]
    carried = {one.name for one in folder.iterdir()}
    assert carried == {"recourse", "services", "statemachines", "lambdas", "cli", "infra"}
    assert not list(folder.rglob("__pycache__"))
    copied = set(re.findall(r"^COPY (\w+) ", (folder / "infra/image/Dockerfile").read_text(), re.M))
    assert copied == carried - {"infra"}


def test_the_image_is_pinned_by_hash_at_the_versions_that_are_tested() -> None:
    lock = ROOT / "infra/image/requirements.lock"
    deployed, tested = pins(lock), pins(ROOT / "requirements.lock")
    assert deployed.keys() > pins(ROOT / "lambdas/requirements.lock").keys()
    assert {name: tested.get(name) for name in deployed} == deployed
    assert "botocore" in deployed and "aws-cdk-lib" not in deployed
    text = Path(lock).read_text()
    assert text.count("--hash=sha256:") >= len(deployed) and "://" not in text
