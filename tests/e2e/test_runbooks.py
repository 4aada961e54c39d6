"""Each kind of alarm is raised by its cause and ends by the words of its runbook.

The local cloud judges every alarm by what its metric counts (`recourse/local/gaps/alarms.py`). So
that nobody waits for minutes, a drill divides its alarm's threshold by a hundred, five minutes
being three seconds then, and makes its period a few seconds.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus

from recourse.cli import main
from recourse.cli import valet as valet_command
from recourse.cli.api import Api, ApiError
from recourse.local.cloud import LocalCloud
from tests import ROOT
from tests.decisions import Refusal
from tests.e2e.conftest import Trip, machine_of_trips
from tests.e2e.test_live import socket
from tests.e2e.test_mishaps import wait_for_step
from tests.e2e.test_rights import function_of, role_of
from tests.e2e.test_trips import must_be_booked, must_be_untouched
from tests.e2e.test_valet import PDF, Caller
from tests.patience import PATIENCE, until
from tests.rights import taken

Kind = tuple[str, str]
"""A section of the runbooks in lower case, and the metric: `Late` looks at either of two."""
PERIOD = 5
"""Seconds of an alarm's period in a drill."""
SHARE = 100
"""Thresholds are divided by it."""
MANY = 11
"""Messages that are more than the 1,000 of an alarm's threshold then."""
SETTINGS = (
    *("AlarmName", "AlarmDescription", "AlarmActions", "ActionsEnabled", "MetricName"),
    *("Namespace", "Statistic", "Dimensions", "Period", "EvaluationPeriods", "Threshold"),
    *("ComparisonOperator", "TreatMissingData"),
)


@dataclass
class Drill:
    """What a drill may use.

    Attributes:
        cloud: The local cloud.
        trip: A trip for things of its own.
        caller: Somebody with a document.
        live: Where the live channels are.
        expected: The refusals that it provokes.
        section: The text of the runbook.
    """

    cloud: LocalCloud
    trip: Trip
    caller: Caller
    live: dict[str, str]
    expected: list[Refusal]
    section: str

    @contextmanager
    def without(self, function: str, action: str) -> Iterator[None]:
        """Take an action from a function's role; at the end it is given back."""
        role = role_of(self.cloud, function)
        self.expected.append(Refusal(role, action))
        with taken(self.cloud, role, action):
            yield

    def run(self, command: str, **given: str) -> str:
        """Run a command as the runbook spells it, with what it leaves open filled in.

        Of AWS's own tools the call is made that the command stands for.
        """
        assert command in self.section, f"the runbook has no {command!r}"
        words = [re.sub("<([a-z]+)>", lambda m: given[m[1]], one) for one in shlex.split(command)]
        if words[0] == "aws":
            return self._call(words[1], words[2], words[3:])
        operator = ("--api", self.cloud.api_url, "--token", self.cloud.token("olga", "operator"))
        result = CliRunner().invoke(main.app, [*words[1:], *operator])
        assert result.exit_code == 0, result.output
        return result.output

    def _call(self, service: str, operation: str, options: Sequence[str]) -> str:
        client, method = self.cloud.client(service), operation.replace("-", "_")
        model = client.meta.service_model
        called = model.operation_model(client.meta.method_to_api_mapping[method])
        known = {name.lower(): name for name in called.input_shape.members}
        arguments: dict[str, Any] = {}
        for name, value in zip(options[::2], options[1::2], strict=True):
            key = known[name.replace("-", "")]
            arguments[key] = int(value) if value.isdecimal() else value
        return json.dumps(getattr(client, method)(**arguments), default=str)

    def function(self, name: str) -> str:
        """The name of a deployed function."""
        return function_of(self.cloud, name)["FunctionName"]

    def queue(self, name: str) -> str:
        """The URL of a queue, by the name that operators use."""
        urls = self.cloud.client("sqs").list_queues()["QueueUrls"]
        (found,) = [one for one in urls if one.endswith(f"-{name}")]
        return str(found)

    def sweep(self) -> dict[str, Any]:
        """Call the sweeper, as its schedule does once a minute."""
        call = self.cloud.client("lambda").invoke
        answer: dict[str, Any] = call(FunctionName=self.function("Sweeper"), Payload=b"{}")
        return answer


@contextmanager
def parked(drill: Drill) -> Iterator[None]:
    trip = drill.trip
    with drill.without("InvoicesIssue", "dynamodb:PutItem"):
        saga = trip.start()
        yield
        notice = until(lambda: notices(drill, saga), "a notice to operators")
        assert "AccessDenied" in notice
        assert "not authorized to perform: dynamodb:PutItem" in notice
        assert saga not in drill.run("recourse list --status COMPENSATION_FAILED")
        assert saga in drill.run("recourse list --status RUNNING")
        assert "FAILED" in drill.run("recourse show <saga>", saga=saga)
        assert "ClientError" in drill.run("recourse trace <saga>", saga=saga)
    drill.run("recourse resolve <saga> <step> --action retry", saga=saga, step="invoice")
    trip.ended(saga, "SUCCEEDED")
    must_be_booked(trip)
    drill.sweep()


@contextmanager
def import_interrupted(drill: Drill) -> Iterator[None]:
    api = drill.trip.api
    name = f"{drill.trip.name}.jsonl"
    uploaded(api, drill.cloud.api_url, name, json.dumps(drill.trip.request))
    asked = {"saga": "travel-booking", "object": name}
    with drill.without("ImportFiles", "dynamodb:UpdateItem"):
        begun = api.ask("POST", "/imports", json=asked, headers={"Idempotency-Key": name})
        path = f"/imports/{begun['import_id']}"
        until(lambda: api.get(path)["status"] == "INTERRUPTED", "an import that is interrupted")
        yield
        failed = "aws stepfunctions list-executions --state-machine-arn <machine>"
        machine = drill.cloud.outputs["ImportMachineArn"]
        told = drill.run(f"{failed} --status-filter FAILED", machine=machine)
        assert begun["import_id"] in told
    api.ask("POST", f"{path}/resume")
    until(lambda: api.get(path)["status"] == "COMPLETED", "an import that goes on")
    assert api.get(path)["started"] == 1


def uploaded(api: Api, url: str, name: str, text: str) -> None:
    """Upload a file by a valet key."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text)
        valet_command.uploaded(api, url, file, name)


def notices(drill: Drill, saga: str) -> str:
    """What operators are told of a saga, by the queue that the alarm looks at."""
    found = drill.cloud.client("sqs").receive_message(
        QueueUrl=drill.cloud.outputs["ParkedQueueUrl"], MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return "".join(one["Body"] for one in found.get("Messages", ()) if saga in one["Body"])


@contextmanager
def dead_letters(drill: Drill) -> Iterator[None]:
    """One message is no event, and what are events the ledger may not write."""
    sqs, queue = drill.cloud.client("sqs"), drill.queue("Ledger")
    visible = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    with drill.without("Ledger", "dynamodb:PutItem"):
        sqs.send_message(QueueUrl=queue, MessageBody="{not json")
        saga = drill.trip.start()
        yield
        shown = until(
            lambda: drill.run("recourse redrive --dry-run"),
            "the events of the trip among the dead letters",
            lambda shown: saga in shown,
        )
        assert "UnreadableError" in shown and "AccessDenied" in shown
    sqs.set_queue_attributes(QueueUrl=queue, Attributes=visible["Attributes"])
    lost = drill.queue("Ledger-deadletters")

    def redriven() -> list[str]:
        drill.run("recourse redrive <name>", name="Ledger")
        found = sqs.receive_message(QueueUrl=lost, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [one["Body"] for one in found.get("Messages", ())]

    until(redriven, "nothing but what is no event", lambda bodies: bodies == ["{not json"])
    drill.trip.ended(saga, "SUCCEEDED")
    must_be_booked(drill.trip)
    drill.run("aws sqs purge-queue --queue-url <queue>", queue=lost)


@contextmanager
def throttled(drill: Drill, function: str) -> Iterator[None]:
    """A function without any concurrency; at the end it has what others have again."""
    name = drill.function(function)
    drill.run(
        "aws lambda put-function-concurrency --function-name <function> "
        "--reserved-concurrent-executions 0",
        function=name,
    )
    yield
    drill.run("aws lambda delete-function-concurrency --function-name <function>", function=name)


@contextmanager
def late(drill: Drill) -> Iterator[None]:
    with throttled(drill, "Ledger"):
        saga = drill.trip.start()
        yield
    drill.trip.ended(saga, "SUCCEEDED")


@contextmanager
def many_lanes(drill: Drill) -> Iterator[None]:
    """Many to the lowered threshold; they are lanes of a webhook that is gone."""
    sqs, queue = drill.cloud.client("sqs"), drill.queue("WebhookLanes")
    with throttled(drill, "WebhookDeliver"):
        for lane in range(MANY):
            body = json.dumps({"webhook_id": "gone", "lane": str(lane)})
            sqs.send_message(QueueUrl=queue, MessageBody=body)
        yield


def behind(function: str, action: str) -> Callable[[Drill], Any]:
    @contextmanager
    def drilled(drill: Drill) -> Iterator[None]:
        with drill.without(function, action):
            saga = drill.trip.start()
            yield
        drill.trip.ended(saga, "SUCCEEDED")

    return drilled


@contextmanager
def sweeper(drill: Drill) -> Iterator[None]:
    with drill.without("Sweeper", "dynamodb:Query"):
        assert "FunctionError" in drill.sweep()
        yield
    assert "FunctionError" not in drill.sweep()


@contextmanager
def aborted(drill: Drill) -> Iterator[None]:
    saga = drill.trip.start("payment=timeout:3")
    wait_for_step(drill.trip, saga, "payment")
    run = machine_of_trips(drill.cloud).replace(":stateMachine:", ":execution:") + f":{saga}"
    drill.cloud.client("stepfunctions").stop_execution(executionArn=run)
    yield
    drill.trip.ended(saga, "COMPENSATED")
    assert "COMPENSATED" in drill.run("recourse show <saga>", saga=saga)
    must_be_untouched(drill.trip)


@contextmanager
def timed_out(drill: Drill) -> Iterator[None]:
    """Played: neither our machines nor those of the local cloud have a time-out as a whole."""
    of = [{"Name": "StateMachineArn", "Value": machine_of_trips(drill.cloud)}]
    data = {"MetricName": "ExecutionsTimedOut", "Dimensions": of, "Value": 1}
    drill.cloud.client("cloudwatch").put_metric_data(Namespace="AWS/States", MetricData=[data])
    yield


@contextmanager
def failing_api(drill: Drill) -> Iterator[None]:
    api = drill.trip.api
    with drill.without("Api", "dynamodb:Query"):
        with pytest.raises(ApiError) as failed:
            api.get("/sagas")
        assert failed.value.status == 500
        assert api.get("/health")
        yield
    api.get("/sagas")


@contextmanager
def failing_sockets(drill: Drill) -> Iterator[None]:
    url, token = drill.live["ws"], str(drill.trip.api.token)
    with drill.without("WebSocket", "dynamodb:PutItem"):
        with pytest.raises(InvalidStatus), socket(url, token):
            pass
        yield
    with socket(url, token):
        pass


@contextmanager
def refused_streams(drill: Drill) -> Iterator[None]:
    """What refuses is a reservation of none: the local cloud does not run this function."""
    function, functions = drill.function("Stream"), drill.cloud.client("lambda")
    functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        functions.invoke(FunctionName=function)
    yield
    functions.delete_function_concurrency(FunctionName=function)


@contextmanager
def redeemer(drill: Drill) -> Iterator[None]:
    """A release whose function cannot start, and the release before."""
    caller, functions = drill.caller, drill.cloud.client("lambda")
    caller.complete(caller.put())
    key = caller.issue("download")
    function = drill.function("Redeem")
    right = functions.get_function_configuration(FunctionName=function)["Handler"]

    def deploy(handler: str) -> None:
        functions.update_function_configuration(FunctionName=function, Handler=handler)

    deploy("recourse.functions.nothing.handler")
    try:
        assert caller.redeem(key["token"]).status_code >= 500
        yield
    finally:
        deploy(right)
    assert caller.api.get(f"/valet-keys/{key['key_id']}")["uses"] == 0
    assert caller.use(caller.redeem(key["token"]).json()).content == PDF


@contextmanager
def commit(drill: Drill) -> Iterator[None]:
    with drill.without("ValetCommit", "dynamodb:BatchGetItem"):
        key = drill.caller.put()
        yield
    assert drill.caller.complete(key)["sha256"]


DRILLS: dict[Kind, tuple[str, Callable[[Drill], Any]]] = {
    ("parkedalarm", "ApproximateNumberOfMessagesVisible"): ("-Parked", parked),
    ("waiting", "ApproximateNumberOfMessagesVisible"): ("-Ledger-deadletters", dead_letters),
    ("late", "ApproximateAgeOfOldestMessage"): ("-Ledger", late),
    ("late", "ApproximateNumberOfMessagesVisible"): ("-WebhookLanes", many_lanes),
    ("relaylate", "IteratorAge"): ("-Relay", behind("Relay", "sns:Publish")),
    ("feederlate", "IteratorAge"): ("-Feeder", behind("Feeder", "dynamodb:PutItem")),
    ("feedrelaylate", "IteratorAge"): ("-FeedRelay", behind("FeedRelay", "sns:Publish")),
    ("sweepererrors", "Errors"): ("-Sweeper", sweeper),
    ("aborted", "ExecutionsAborted"): ("-TravelBookingMachine", aborted),
    ("timedout", "ExecutionsTimedOut"): ("-TravelBookingMachine", timed_out),
    ("failing", "5xx"): ("", failing_api),
    ("failing", "IntegrationError"): ("", failing_sockets),
    ("streamsrefused", "Throttles"): ("-Stream", refused_streams),
    ("redeemerrors", "Errors"): ("-Redeem", redeemer),
    ("valetcommiterrors", "Errors"): ("-ValetCommit", commit),
    ("importinterrupted", "ExecutionsFailed"): ("", import_interrupted),
}
"""By kind of alarm, the name of what one of them looks at, where there are several; and the drill.

Up to its `yield` a drill causes the alarm, and from there it does what the runbook says.
"""


@dataclass
class Alarms:
    """The alarms of the local cloud.

    Attributes:
        cloud: The local cloud.
        pager: The URL of a queue of those who are on call.
    """

    cloud: LocalCloud
    pager: str

    @cached_property
    def all(self) -> dict[str, dict[str, Any]]:
        """As they are deployed, by name."""
        pages = self.cloud.client("cloudwatch").get_paginator("describe_alarms").paginate()
        return {one["AlarmName"]: one for page in pages for one in page["MetricAlarms"]}

    def of(self, kind: Kind) -> dict[str, Any]:
        """The alarm of a kind that its drill is about."""
        name = re.compile(f"{DRILLS[kind][0]}([0-9A-F]{{8}}.*)?$")
        (found,) = [
            one
            for one in self.all.values()
            if kind_of(one) == kind and any(name.search(of["Value"]) for of in one["Dimensions"])
        ]
        return found

    def put(self, alarm: dict[str, Any], **other: float) -> None:
        settings = {name: alarm[name] for name in SETTINGS}
        self.cloud.client("cloudwatch").put_metric_alarm(**settings | other)

    def until_ended(self, alarm: dict[str, Any]) -> None:
        describe, names = self.cloud.client("cloudwatch").describe_alarms, [alarm["AlarmName"]]
        until(
            lambda: describe(AlarmNames=names)["MetricAlarms"][0],
            f"the end of {names[0]}",
            lambda seen: seen["StateValue"] == "OK",
        )

    def until_paged(self, alarm: dict[str, Any]) -> None:
        """Wait until those who are on call have the alarm, and where its runbook is."""
        sqs, asked = self.cloud.client("sqs"), {"QueueUrl": self.pager, "MaxNumberOfMessages": 10}

        def came() -> bool:
            messages = sqs.receive_message(**asked, WaitTimeSeconds=1).get("Messages", ())
            told = [json.loads(json.loads(one["Body"])["Message"]) for one in messages]
            return any(
                (one["AlarmName"], one["AlarmDescription"], one["NewStateValue"])
                == (alarm["AlarmName"], alarm["AlarmDescription"], "ALARM")
                for one in told
            )

        until(came, f"a message of {alarm['AlarmName']}")


def kind_of(alarm: dict[str, Any]) -> Kind:
    return alarm["AlarmDescription"].partition("#")[2], alarm["MetricName"]


@pytest.fixture
def alarms(cloud: LocalCloud) -> Iterator[Alarms]:
    """The alarms, with somebody on call."""
    sqs, topic = cloud.client("sqs"), cloud.outputs["AlarmsTopicArn"]
    pager = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=pager, AttributeNames=["QueueArn"])["Attributes"]
    may = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn["QueueArn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    sqs.set_queue_attributes(QueueUrl=pager, Attributes={"Policy": policy})
    sns = cloud.client("sns")
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"], ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    yield Alarms(cloud, pager)
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=pager)


def test_each_kind_of_alarm_has_a_drill(alarms: Alarms) -> None:
    assert {kind_of(one) for one in alarms.all.values()} == set(DRILLS)


@pytest.mark.parametrize("kind", DRILLS, ids="-".join)
def test_an_alarm_is_raised_by_its_cause_and_ends_by_its_runbook(
    kind: Kind,
    alarms: Alarms,
    orchestrated: Trip,
    api: Api,
    url: str,
    expected: list[Refusal],
) -> None:
    with httpx.Client(timeout=PATIENCE, trust_env=False) as http:
        drill = Drill(
            cloud=alarms.cloud,
            trip=orchestrated,
            caller=Caller(api, url, http),
            live=api.get("/health")["events"],
            expected=expected,
            section=runbook(kind[0]),
        )
        alarm = alarms.of(kind)
        settings = {"Period": PERIOD, "Threshold": alarm["Threshold"] / SHARE}
        alarms.put(alarm, **settings)
        alarms.until_ended(alarm)
        with DRILLS[kind][1](drill):
            alarms.until_paged(alarm)
        alarms.put(alarm, **settings | {"Period": 1})
        alarms.until_ended(alarm)
        alarms.put(alarm)


def test_the_alarm_of_what_only_a_user_pool_calls(alarms: Alarms, request: Any) -> None:
    """The local cloud has no user pool: the function is made here, and called as Cognito does."""
    aws_lambda = alarms.cloud.client("lambda")
    like = function_of(alarms.cloud, "ValetCommit")
    told = {"Variables": {"SCOPE_PREFIX": "recourse/", "OWN_SCOPES": ""}}
    name = aws_lambda.create_function(
        FunctionName="PreToken",
        Runtime=like["Runtime"],
        Role=like["Role"],
        Handler="recourse.functions.pre_token.handler",
        Code={"ZipFile": zipped(ROOT / "recourse" / "cdk" / "runtime")},
        Environment=told,
    )["FunctionName"]
    request.addfinalizer(lambda: aws_lambda.delete_function(FunctionName=name))
    asked = {"scopes": ["recourse/operator"], "groupConfiguration": {"groupsToOverride": []}}

    def sign_in() -> dict[str, Any]:
        payload = json.dumps({"version": "2", "request": asked, "response": {}})
        answer = aws_lambda.invoke(FunctionName=name, Payload=payload)
        return {"failed": "FunctionError" in answer, "said": json.loads(answer["Payload"].read())}

    alarm = alarms.of(("valetcommiterrors", "Errors")) | {
        "AlarmName": "PreTokenErrors",
        "AlarmDescription": "docs/runbooks.md#pretokenerrors",
        "Dimensions": [{"Name": "FunctionName", "Value": name}],
        "Period": PERIOD,
        "Threshold": 0,
    }
    assert "--environment 'Variables={}'" in runbook("pretokenerrors")
    aws_lambda.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
    alarms.put(alarm)
    assert sign_in()["failed"]
    alarms.until_paged(alarm)
    # "Deploy the release before": what was told to the function is told to it again.
    aws_lambda.update_function_configuration(FunctionName=name, Environment=told)
    said = sign_in()
    assert not said["failed"], said
    assert "recourse/operator" in json.dumps(said["said"]["response"])
    alarms.put(alarm, Period=1)
    alarms.until_ended(alarm)
    alarms.cloud.client("cloudwatch").delete_alarms(AlarmNames=[alarm["AlarmName"]])


def zipped(folder: Path) -> bytes:
    """The files of a folder, with their modes."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return found.getvalue()


def runbook(section: str) -> str:
    """A section of the runbooks, with the one that it refers to as a whole."""
    text = (ROOT / "docs/runbooks.md").read_text()
    sections = {one.partition("\n")[0].lower(): one for one in re.split("^## ", text, flags=re.M)}
    found = sections[section]
    other = re.search(r"As \[[^\]]*\]\(#([a-z]+)\)", found)
    return found + (sections[other[1]] if other else "")
