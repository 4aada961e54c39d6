"""State machines: what the declarations compile to, started by an alias, watched over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from recourse.declare.saga import Saga
from recourse.declare.shape import digest, record
from recourse.orchestration.compiler import compile_saga
from recourse.queues.called import operators_queues
from statemachines import SAGAS
from tests.infra.assembly import Assembly

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

every_saga = pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)


def named(saga: Saga) -> str:
    return saga.name.title().replace("-", "")


def tasks(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for state in machine["States"].values():
        if state["Type"] == "Task":
            yield state
        for branch in state.get("Branches", []):
            yield from tasks(branch)


@every_saga
@pytest.mark.parametrize(("which", "timescale"), [("dev", 1.0), ("local", 0.1)])
def test_a_machine_is_what_its_declaration_compiles_to(
    saga: Saga, which: str, timescale: float, request: pytest.FixtureRequest
) -> None:
    assembly: Assembly = request.getfixturevalue(which)
    machine = assembly.one("AWS::StepFunctions::StateMachine", f"{named(saga)}/Machine")
    compiled = compile_saga(saga, timescale)
    assert json.loads(machine.properties["DefinitionString"]) == compiled


@every_saga
def test_every_task_calls_a_function_that_is_there_and_does_not_outlive_it(
    each: Assembly, saga: Saga
) -> None:
    machine = each.one("AWS::StepFunctions::StateMachine", f"{named(saga)}/Machine")
    arns = each.plain("Sagas", machine.properties["DefinitionSubstitutions"])
    functions = {f"<{one.name}.Arn>": one for one in each.every("AWS::Lambda::Function")}
    called = set()
    for task in tasks(json.loads(machine.properties["DefinitionString"])):
        name = task["Resource"].removeprefix("${").removesuffix("}")
        called.add(name)
        function = functions[arns[name]]
        assert function.name == name
        assert function.properties["Timeout"] <= task["TimeoutSeconds"]
    assert called == set(arns) == {s.function for s in saga.all} | {"Park"}


@every_saga
def test_runs_are_started_by_the_newest_version_which_has_an_alias(
    each: Assembly, saga: Saga
) -> None:
    alias = each.one("AWS::StepFunctions::StateMachineAlias", f"{named(saga)}/Alias")
    assert each.plain("Sagas", alias.properties) == {
        "Name": "live",
        "RoutingConfiguration": [
            {"StateMachineVersionArn": f"<{named(saga)}/Version.Arn>", "Weight": 100}
        ],
    }
    version = each.one("AWS::StepFunctions::StateMachineVersion", f"{named(saga)}/Version")
    revision = each.plain("Sagas", version.properties["StateMachineRevisionId"])
    assert revision == f"<{named(saga)}/Machine.StateMachineRevisionId>"
    newest = f"<{named(saga)}/Version.Arn> {digest(record(saga))}"
    assert version.properties["Description"] == digest(record(saga))
    assert each.parameters[f"machines/{saga.name}"] == newest
    assert each.parameters[f"called/{saga.pivot.function}"] == f"<{saga.pivot.function}>"


def test_what_starts_runs_is_made_after_what_it_reads_and_anew_when_that_changes(
    each: Assembly,
) -> None:
    """A process keeps what it has read: another description of its function ends it."""
    sweeper, api = (each.one("AWS::Lambda::Function", name) for name in ("Sweeper", "Api"))
    (path,) = {each.environment(one)["PARAMETERS"] for one in (sweeper, api)}
    for one in each.every("AWS::SSM::Parameter"):
        assert re.fullmatch(rf"{path}/(machines|called|tables)/[\w-]+", one.properties["Name"])
    assert sweeper.properties["Description"] == api.properties["Description"]
    logical = {
        name
        for template in each.templates.values()
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::SSM::Parameter"
    }
    assert logical <= set(sweeper.body["DependsOn"])


def test_machines_are_traced_and_logged_without_what_requests_hold(each: Assembly) -> None:
    for machine in each.every("AWS::StepFunctions::StateMachine"):
        assert machine.properties["TracingConfiguration"] == {"Enabled": True}
        logged = machine.properties["LoggingConfiguration"]
        assert (logged["Level"], logged["IncludeExecutionData"]) == ("ALL", False)
    for log in each.every("AWS::Logs::LogGroup"):
        if log.stack == "Sagas" and log.name.endswith("/Logs"):
            # Elsewhere a log policy per group would soon be full.
            name = each.plain(log.stack, log.properties["LogGroupName"])
            assert name.startswith("/aws/vendedlogs/states/")


@every_saga
def test_a_run_that_ends_in_no_end_of_its_own_raises_an_alarm(
    alarmed: Assembly, saga: Saga
) -> None:
    metrics = {
        alarm.properties["MetricName"]
        for alarm in alarmed.every("AWS::CloudWatch::Alarm")
        for one in alarm.properties["Dimensions"]
        if alarmed.plain(alarm.stack, one["Value"]) == f"<{named(saga)}/Machine>"
    }
    assert metrics == {"ExecutionsAborted", "ExecutionsTimedOut"}


def test_the_sweeper_comes_every_minute_and_when_one_of_our_runs_went_wrong(
    each: Assembly,
) -> None:
    rules = {
        rule.name: rule.properties
        for rule in each.every("AWS::Events::Rule")
        if rule.stack == "Sagas"
    }
    assert set(rules) == {"EveryMinute", "WentWrong"}
    assert rules["EveryMinute"]["ScheduleExpression"] == "rate(1 minute)"
    pattern = each.plain("Sagas", rules["WentWrong"]["EventPattern"])
    # Those of earlier shapes come first, and a pattern has no order.
    pattern["detail"]["stateMachineArn"].sort()
    assert pattern == {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {
            "status": ["FAILED", "TIMED_OUT", "ABORTED"],
            "stateMachineArn": sorted(f"<{named(saga)}/Machine>" for saga in SAGAS.values()),
        },
    }
    for rule in rules.values():
        (target,) = rule["Targets"]
        assert each.plain("Sagas", target["Arn"]) == "<Sweeper.Arn>"


def test_the_sweeper_clears_the_queues_that_ask_for_an_operator_and_no_others(
    each: Assembly,
) -> None:
    told = each.environment(each.one("AWS::Lambda::Function", "Sweeper"))
    assert told["CHOREOGRAPHY"] == "on"
    prefix = told["QUEUE_PREFIX"]
    cleared = {prefix + name for name in operators_queues(SAGAS.values(), choreography=True)}
    there = {one.properties["QueueName"] for one in each.every("AWS::SQS::Queue")}
    assert cleared <= there
    steps = {step.function for saga in SAGAS.values() for step in saga.all}
    lost = {f"{name}-deadletters" for name in {*steps, "Ledger", "Parked", "Sweeper"}}
    # What confirms holds, counts and notifies acts on a saga's end: that is still to be done.
    assert {name.removeprefix(prefix) for name in cleared} == {"Parked", *lost}


def test_the_sweeper_knows_every_services_table_and_the_topic_of_alarms(each: Assembly) -> None:
    told = each.environment(each.one("AWS::Lambda::Function", "Sweeper"))
    services = {step.service for saga in SAGAS.values() for step in saga.all}
    tables = {name: where for name, where in each.parameters.items() if name.startswith("tables")}
    assert tables == {f"tables/{name}": f"<{name.title()}Table>" for name in services}
    assert told["ALARMS_TOPIC_ARN"] == "<Alarms>"


def test_a_sweeper_that_fails_raises_an_alarm(each: Assembly) -> None:
    alarm = each.one("AWS::CloudWatch::Alarm", "SweeperErrors").properties
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/Lambda", "Errors")
    assert each.plain("Sagas", alarm["Dimensions"]) == [
        {"Name": "FunctionName", "Value": "<Sweeper>"}
    ]
