"""Workers on Fargate: only where they are asked for, with no more than they need."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lambdas.consumers import consumers
from recourse.queues.worker.worker import FINAL_DELETE_TIMEOUT
from tests.infra.assembly import ROOT, Assembly, Resource
from tests.infra.test_functions import ASKS, pins, reads
from tests.infra.test_rights import PUT, TAKE, functions, said

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]
CONSUMERS = {one.name: module for module, one in consumers().items()}
each_consumer = pytest.mark.parametrize("name", CONSUMERS)
GRACE = 25
"""What `recourse worker` gives its handlers, where it is told nothing else."""
FUNCTIONS = "AWS::Lambda::Function"
TASK, SERVICE = "AWS::ECS::TaskDefinition", "AWS::ECS::Service"


def container(assembly: Assembly, name: str) -> tuple[Resource, dict[str, Any]]:
    task = assembly.one(TASK, f"{name}/Task")
    (found,) = task.properties["ContainerDefinitions"]
    return task, assembly.plain(task.stack, found)


def test_without_the_switch_there_is_no_network_and_no_worker(each: Assembly) -> None:
    kinds = {one.type.split("::")[1] for one in each.resources}
    assert not kinds & {"ECS", "EC2", "ECR", "ApplicationAutoScaling"}


def test_every_consumer_has_a_worker_and_nobody_else_has(fargate: Assembly) -> None:
    assert {task.name for task in fargate.every(TASK)} == {f"{one}/Task" for one in CONSUMERS}


@each_consumer
def test_a_worker_takes_the_queue_that_its_function_would(
    fargate: Assembly, dev: Assembly, name: str
) -> None:
    assert name in functions(dev) and name not in functions(fargate)
    queue = fargate.one("AWS::SQS::Queue", f"{name}Events/Queue").properties
    mine = dev.one("AWS::SQS::Queue", f"{name}Events/Queue").properties
    assert (queue["QueueName"], queue["RedrivePolicy"]["maxReceiveCount"]) == (
        mine["QueueName"],
        mine["RedrivePolicy"]["maxReceiveCount"],
    )
    _, made = container(fargate, name)
    command = dict(zip(made["Command"][::2], made["Command"][1::2], strict=False))
    assert command["--queue"] == f"<{name}Events/Queue>"
    module, _, function = command["--handler"].partition(":")
    assert callable(getattr(import_module(module), function))


@each_consumer
def test_a_worker_is_told_what_its_handler_reads(fargate: Assembly, name: str) -> None:
    _, made = container(fargate, name)
    told = {one["Name"]: one["Value"] for one in made["Environment"]}
    assert told.pop("AWS_DEFAULT_REGION") == "<AWS::Region>"
    assert told.pop("POWERTOOLS_SERVICE_NAME") == name
    assert told.pop("POWERTOOLS_METRICS_NAMESPACE") == "Recourse/Recourse-dev"
    assert set(told) == reads(CONSUMERS[name]) | {"RECOURSE_SAGAS"} and ASKS


@each_consumer
def test_a_worker_has_the_time_to_end_in_order(fargate: Assembly, name: str) -> None:
    _, made = container(fargate, name)
    assert made["StopTimeout"] >= GRACE + FINAL_DELETE_TIMEOUT + 20, (
        "and a receive that is under way"
    )


@each_consumer
def test_a_worker_may_do_what_its_function_may(fargate: Assembly, dev: Assembly, name: str) -> None:
    task, _ = container(fargate, name)
    found: dict[str, set[str]] = {}
    for action, resource in fargate._allowed(
        fargate.plain(task.stack, task.properties["TaskRoleArn"])
    ):
        if not action.startswith("kms:"):
            found.setdefault(resource, set()).add(action)
    declared = next(one for one in consumers().values() if one.name == name)
    assert found == said(declared) | {
        f"<{name}Events/Queue.Arn>": TAKE,
        f"<{name}Events/Deadletters.Arn>": PUT,
    }
    given = dev.rights(functions(dev)[name])
    assert {one: {a for a in given[one] if "kms:" not in a} for one in found} == found


def test_nothing_comes_in_and_there_is_no_gateway_to_pay_for(fargate: Assembly) -> None:
    kinds = {one.type for one in fargate.resources}
    assert "AWS::EC2::NatGateway" not in kinds
    assert "AWS::EC2::SecurityGroupIngress" not in kinds
    (group,) = fargate.every("AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group.properties
    for service in fargate.every(SERVICE):
        network = service.properties["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "ENABLED"
        groups = fargate.plain(service.stack, network["SecurityGroups"])
        assert groups == [f"<{group.name}.GroupId>"]


def test_workers_grow_with_what_waits_and_never_vanish(fargate: Assembly) -> None:
    steps = {name: Counter[int]() for name in CONSUMERS}
    for target in fargate.every("AWS::ApplicationAutoScaling::ScalableTarget"):
        assert (target.properties["MinCapacity"], target.properties["MaxCapacity"]) == (1, 10)
    for policy in fargate.every("AWS::ApplicationAutoScaling::ScalingPolicy"):
        name = policy.name.partition("/")[0]
        scaling = policy.properties["StepScalingPolicyConfiguration"]["StepAdjustments"]
        steps[name] = steps[name] + Counter(step["ScalingAdjustment"] for step in scaling)
    assert steps == {name: Counter([-1, 1, 3]) for name in CONSUMERS}
    watched = {
        (alarm.properties["MetricName"], fargate.plain(alarm.stack, one["Value"]))
        for alarm in fargate.every("AWS::CloudWatch::Alarm")
        for one in alarm.properties["Dimensions"]
        if "Scaling" in str(alarm.properties.get("AlarmActions")) or "Backlog" in alarm.name
    }
    assert watched == {
        ("ApproximateNumberOfMessagesVisible", f"<{name}Events/Queue.QueueName>")
        for name in CONSUMERS
    }


@each_consumer
def test_what_a_worker_logs_is_kept_as_long_as_what_a_function_logs(
    fargate: Assembly, dev: Assembly, name: str
) -> None:
    logs = fargate.one("AWS::Logs::LogGroup", f"{name}/Logs").properties
    mine = dev.one("AWS::Logs::LogGroup", f"{name}Logs").properties
    assert logs["RetentionInDays"] == mine["RetentionInDays"]


def test_cdk_nag_finds_nothing_in_workers(fargate: Assembly) -> None:
    assert fargate.findings() == []


def test_the_image_has_what_a_worker_imports_and_nothing_else(fargate: Assembly) -> None:
    (folder,) = [one for one in fargate.folder.glob("asset.*") if (one / "infra").exists()]
    carried = {one.name for one in folder.iterdir()}
    assert carried == {"recourse", "services", "statemachines", "lambdas", "infra"}
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
