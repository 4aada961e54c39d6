"""An app of many sagas: what lists them in one place stays within what AWS takes."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from recourse.errors import DeclarationError
from tests.infra import test_quotas as quotas
from tests.infra.assembly import Assembly
from tests.infra.many import STEPS, many_sagas, synthesise_many

pytestmark = pytest.mark.xdist_group("infra")

MANY = many_sagas(20, 10, shared=2)
FUNCTIONS = {step.function: step for saga in MANY.values() for step in saga.all}
HALF = [f"department{number:02}" for number in range(5, 10)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """Twenty sagas and fifty steps of ten services, whose steps are in two sets of stacks."""
    return synthesise_many(tmp_path_factory.mktemp("many"), MANY, {"More": HALF})


@pytest.mark.parametrize(
    "within",
    [one for name, one in vars(quotas).items() if name.startswith("test_")],
    ids=lambda one: one.__name__,
)
def test_it_is_within_every_quota(
    many: Assembly, within: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room to grow: what does not fit into a policy any more goes into another one."""
    monkeypatch.setattr(quotas, "ROOM", 1)
    assert inspect.isfunction(within)
    within(many)


def test_no_environment_grows_with_the_sagas(many: Assembly) -> None:
    for function in many.every("AWS::Lambda::Function"):
        told = json.dumps(many.environment(function))
        assert not [name for name in MANY if name in told], function.name


def test_each_policy_names_what_the_one_before_it_had_no_room_for(many: Assembly) -> None:
    """Every queue of a step may be redriven and cleared, in whichever policy that is said."""
    prefix = "arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:Many-dev-"
    policies = {one.name for one in many.every("AWS::IAM::ManagedPolicy")}
    assert {"Api/Redrive", "Api/Redrive2", "Sagas/Clear", "Sagas/Watch"} <= policies
    api, sweeper = (
        many.rights(one)
        for end in ("Api", "Sweeper")
        for one in many.every("AWS::Lambda::Function")
        if one.name.rpartition("/")[2] == end
    )
    for name in FUNCTIONS:
        assert "sqs:SendMessage" in api[f"{prefix}{name}"]
        for rights in (api, sweeper):
            assert "sqs:ReceiveMessage" in rights[f"{prefix}{name}-deadletters"]


def test_every_run_that_goes_wrong_is_heard_of(many: Assembly) -> None:
    machines = {f"<{one.name}>" for one in many.every("AWS::StepFunctions::StateMachine")}
    assert len(machines) == len(MANY)
    heard = [
        arn
        for rule in many.every("AWS::Events::Rule")
        if "EventPattern" in rule.properties
        for arn in many.plain(rule.stack, rule.properties["EventPattern"])["detail"][
            "stateMachineArn"
        ]
    ]
    assert sorted(heard) == sorted(machines)


def test_a_services_steps_run_and_listen_in_its_home(many: Assembly) -> None:
    where = {
        one.properties["QueueName"].removeprefix("Many-dev-"): one.stack
        for one in many.every("AWS::SQS::Queue")
    }
    runs = {one.name: one.stack for one in many.every("AWS::Lambda::Function")}
    for name, step in FUNCTIONS.items():
        assert where[name] == ("More" if step.service in HALF else "Choreography")
        assert name in runs if step.service in HALF else runs[f"Services/{name}"] == "Services"


def test_a_step_has_as_many_resources_as_the_refusal_says(many: Assembly) -> None:
    from recourse.cdk import choreography, services

    listening = [step for step in FUNCTIONS.values() if step.service in HALF]
    (more,) = [one for name, one in many.templates.items() if name.endswith("More")]
    here = [one for one in more["Resources"].values() if one["Type"] != "AWS::CDK::Metadata"]
    alarms = 2  # of a queue, which a stage of development has not
    has = choreography.RESOURCES - alarms + services.RESOURCES
    assert len(here) == has * len(listening)
    kinds = [one.type for one in many.resources if one.stack == "Services"]
    per_step = [kinds.count(f"AWS::{kind}") for kind in ("Lambda::Function", "Logs::LogGroup")]
    per_step += [kinds.count(f"AWS::IAM::{kind}") for kind in ("Role", "Policy")]
    assert per_step == [len(FUNCTIONS) - len(listening)] * services.RESOURCES


def test_more_steps_than_a_stack_takes_are_refused_with_what_to_do(tmp_path: Path) -> None:
    sagas = many_sagas(9, 5)
    said = r"'Many-dev-Choreography': 45 steps .* at most 500 resources, got 540.*homes="
    assert len(sagas) * len(STEPS) == 45
    with pytest.raises(DeclarationError, match=said):
        synthesise_many(tmp_path, sagas, {})


def test_a_home_of_a_service_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="homes: sales must be among the sagas' services"):
        synthesise_many(tmp_path, many_sagas(1, 1), {"More": ["sales"]})
