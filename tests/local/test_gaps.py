"""Each gap of ministack: there as it is shipped, closed by our file of that name.

Where the first half of a test fails, ministack has closed the gap: delete our file and the test.
"""

import io
import json
import os
import re
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from recourse import tools
from recourse.local.aws import client, root_secret
from recourse.local.callers import PROXY_HEADER, proxy_pass
from recourse.local.emulator import Emulator
from tests import ROOT
from tests.decisions import Refusal, decisions_of
from tests.local.conftest import ROLE, Start, clients_of_user, document
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.xdist_group("emulator")


def run(emulator: Emulator, definition: dict[str, Any]) -> dict[str, Any]:
    """Run a state machine to its end."""
    states = client("stepfunctions", emulator.url)
    machine = states.create_state_machine(
        name=f"machine-{time.monotonic_ns()}", definition=json.dumps(definition), roleArn=ROLE
    )["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]
    while True:
        answer: dict[str, Any] = states.describe_execution(executionArn=execution)
        if answer["status"] != "RUNNING":
            return answer
        time.sleep(0.02)


def name_seen_by_the_slower_branch(emulator: Emulator) -> str:
    slow = {"Type": "Wait", "Seconds": 4, "OutputPath": "$$.State.Name", "End": True}
    quick = {"Type": "Pass", "End": True}
    end = run(
        emulator,
        {
            "StartAt": "both",
            "States": {
                "both": {
                    "Type": "Parallel",
                    "Branches": [
                        {"StartAt": "slow", "States": {"slow": slow}},
                        {"StartAt": "quick", "States": {"quick": quick}},
                    ],
                    "End": True,
                }
            },
        },
    )
    name: str = json.loads(end["output"])[0]
    return name


def test_a_branch_sees_its_own_state(shipped: Emulator, closed: Emulator) -> None:
    assert name_seen_by_the_slower_branch(shipped) == "quick"
    assert name_seen_by_the_slower_branch(closed) == "slow"


def seconds_of_two_retries(emulator: Emulator) -> float:
    retry = {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": 1,
        "BackoffRate": 16,
        "MaxAttempts": 2,
        "MaxDelaySeconds": 2,
    }
    task = {
        "Type": "Task",
        "Resource": "arn:aws:lambda:us-east-1:000000000000:function:none",
        "Retry": [retry],
        "End": True,
    }
    end = run(emulator, {"StartAt": "task", "States": {"task": task}})
    seconds: float = (end["stopDate"] - end["startDate"]).total_seconds()
    return seconds


def test_a_retry_waits_no_longer_than_its_cap(shipped: Emulator, closed: Emulator) -> None:
    # 1 s + 16 s as ministack has it, 1 s + 2 s as AWS does; at a quarter of the time. So far apart,
    # a busy machine cannot make one look like the other.
    assert seconds_of_two_retries(shipped) > 4.2
    assert seconds_of_two_retries(closed) < 4.2


TEMPLATE = {
    "Resources": {
        "Machine": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "RoleArn": ROLE,
                "DefinitionString": '{"StartAt": "s", "States": {"s": {"Type": "Succeed"}}}',
            },
        },
        "Version": {
            "Type": "AWS::StepFunctions::StateMachineVersion",
            "Properties": {
                "StateMachineArn": {"Ref": "Machine"},
                "StateMachineRevisionId": {"Fn::GetAtt": ["Machine", "StateMachineRevisionId"]},
            },
        },
        "Alias": {
            "Type": "AWS::StepFunctions::StateMachineAlias",
            "Properties": {
                "Name": "live",
                "RoutingConfiguration": [
                    {"StateMachineVersionArn": {"Ref": "Version"}, "Weight": 100}
                ],
            },
        },
    },
    "Outputs": {"Alias": {"Value": {"Ref": "Alias"}}},
}


def test_templates_hold_state_machine_versions_and_aliases(
    shipped: Emulator, closed: Emulator
) -> None:
    with pytest.raises(ClientError, match="Unrecognized resource types"):
        client("cloudformation", shipped.url).create_stack(
            StackName="versions", TemplateBody=json.dumps(TEMPLATE)
        )

    cloudformation = client("cloudformation", closed.url)
    states = client("stepfunctions", closed.url)

    def versions_behind_the_alias() -> list[str]:
        stack = cloudformation.describe_stacks(StackName="versions")["Stacks"][0]
        alias = states.describe_state_machine_alias(
            stateMachineAliasArn=stack["Outputs"][0]["OutputValue"]
        )
        return [
            route["stateMachineVersionArn"].rsplit(":")[-1]
            for route in alias["routingConfiguration"]
        ]

    cloudformation.create_stack(StackName="versions", TemplateBody=json.dumps(TEMPLATE))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="versions")
    assert versions_behind_the_alias() == ["1"]

    changed = json.dumps(TEMPLATE).replace('"Succeed\\"', '"Fail\\"')
    assert changed != json.dumps(TEMPLATE)
    cloudformation.update_stack(StackName="versions", TemplateBody=changed)
    cloudformation.get_waiter("stack_update_complete").wait(StackName="versions")
    assert versions_behind_the_alias() == ["2"]

    cloudformation.delete_stack(StackName="versions")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="versions")
    assert states.list_state_machines()["stateMachines"] == []


def test_a_version_is_retained_where_the_template_says_so(closed: Emulator) -> None:
    cloudformation = client("cloudformation", closed.url)
    states = client("stepfunctions", closed.url)
    template = json.loads(json.dumps(TEMPLATE))
    template["Resources"]["Version"] |= {
        "UpdateReplacePolicy": "Retain",
        "DeletionPolicy": "Delete",
    }
    template["Resources"]["Version"]["Properties"]["Description"] = "the first"
    cloudformation.create_stack(StackName="kept", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="kept")
    changed = json.dumps(template).replace('"Succeed\\"', '"Fail\\"').replace("first", "second")
    cloudformation.update_stack(StackName="kept", TemplateBody=changed)
    cloudformation.get_waiter("stack_update_complete").wait(StackName="kept")
    (machine,) = states.list_state_machines()["stateMachines"]
    listed = states.list_state_machine_versions(stateMachineArn=machine["stateMachineArn"])
    described = [
        states.describe_state_machine(stateMachineArn=one["stateMachineVersionArn"])["description"]
        for one in listed["stateMachineVersions"]
    ]
    assert described == ["the second", "the first"]


def ends_by_version(emulator: Emulator) -> list[str]:
    """How runs end of a machine that succeeds in its first version, and since then fails."""
    states = client("stepfunctions", emulator.url)

    def definition(end: str) -> str:
        return json.dumps({"StartAt": "end", "States": {"end": {"Type": end}}})

    arn = states.create_state_machine(name="ends", definition=definition("Succeed"), roleArn=ROLE)[
        "stateMachineArn"
    ]
    first = states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    routes = [{"stateMachineVersionArn": first, "weight": 100}]
    alias = states.create_state_machine_alias(name="old", routingConfiguration=routes)
    states.update_state_machine(stateMachineArn=arn, definition=definition("Fail"))

    def ends(by: str) -> str:
        execution = states.start_execution(stateMachineArn=by)["executionArn"]

        def ended() -> str:
            status: str = states.describe_execution(executionArn=execution)["status"]
            return status if status != "RUNNING" else ""

        return until(ended, "the run has ended")

    return [ends(by) for by in (first, alias["stateMachineAliasArn"], arn)]


def test_a_run_is_of_the_version_that_was_started(shipped: Emulator, closed: Emulator) -> None:
    assert ends_by_version(shipped) == ["FAILED", "FAILED", "FAILED"]
    assert ends_by_version(closed) == ["SUCCEEDED", "SUCCEEDED", "FAILED"]


def records_after_a_restart(emulator: Emulator) -> int:
    dynamodb = client("dynamodb", emulator.url)
    arn = dynamodb.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]["LatestStreamArn"]
    dynamodb.put_item(TableName="things", Item={"pk": {"S": "a"}})
    emulator.stop()
    emulator.start()
    streams = client("dynamodbstreams", emulator.url)
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return len(streams.get_records(ShardIterator=iterator)["Records"])


def test_a_stream_keeps_its_records_over_a_restart(start: Start) -> None:
    assert records_after_a_restart(start()) == 0
    assert records_after_a_restart(start("stream_records", folder="closed")) == 1


READER = """
def handler(event, context):
    return len(event["Records"])
"""


def stream_that_was_read(emulator: Emulator, written: int) -> str:
    dynamodb, functions = client("dynamodb", emulator.url), client("lambda", emulator.url)
    arn: str = dynamodb.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]["LatestStreamArn"]
    create_function(emulator, READER)
    mapping = functions.create_event_source_mapping(
        EventSourceArn=arn, FunctionName="pid", StartingPosition="TRIM_HORIZON", BatchSize=1000
    )["UUID"]
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    puts = [{"PutRequest": {"Item": {"pk": {"S": str(number)}}}} for number in range(written)]
    for first in range(0, written, 25):
        answer = dynamodb.batch_write_item(RequestItems={"things": puts[first : first + 25]})
        assert not answer["UnprocessedItems"]
    assert kept(emulator, arn) == written, "what was not read is kept"
    functions.update_event_source_mapping(UUID=mapping, Enabled=True)
    while not functions.get_event_source_mapping(UUID=mapping)["LastProcessingResult"].startswith(
        "OK"
    ):
        time.sleep(0.1)
    return arn


def kept(emulator: Emulator, stream: str) -> int:
    """How many records a stream still has, from its beginning.

    What trims it may pass between the iterator and the reading, so a reader begins again.
    """
    streams = client("dynamodbstreams", emulator.url)
    for _ in range(9):
        with suppress(streams.exceptions.TrimmedDataAccessException):
            return records_of(streams, stream)
    return records_of(streams, stream)


def records_of(streams: Any, stream: str) -> int:
    shard = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"][0]
    iterator = streams.get_shard_iterator(
        StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found = 0
    while records := (page := streams.get_records(ShardIterator=iterator))["Records"]:
        found += len(records)
        iterator = page["NextShardIterator"]
    return found


def test_a_stream_keeps_of_what_was_read_the_latest_only(
    shipped: Emulator, closed: Emulator
) -> None:
    assert kept(shipped, stream_that_was_read(shipped, 510)) == 510
    stream = stream_that_was_read(closed, 510)
    until = time.monotonic() + 60
    while (left := kept(closed, stream)) != 500 and time.monotonic() < until:
        time.sleep(0.1)
    assert left == 500


MEETING = """
import pathlib, time

def handler(event, context):
    table = event["Records"][0]["eventSourceARN"].split("/")[1]
    folder = pathlib.Path(FOLDER)
    (folder / table).touch()
    until = time.monotonic() + SECONDS
    while not (met := (folder / "second").exists()) and time.monotonic() < until:
        time.sleep(0.01)
    (folder / f"{table}-has-met-the-second-{met}").touch()
"""


def streams_that_are_taken_at_once(emulator: Emulator, folder: Path, seconds: float) -> bool:
    """Whether the function of one stream is called while that of another is at work."""
    folder.mkdir()
    dynamodb, functions = client("dynamodb", emulator.url), client("lambda", emulator.url)
    code = MEETING.replace("FOLDER", repr(str(folder))).replace("SECONDS", str(seconds))
    create_function(emulator, code)
    for table in ("first", "second"):
        arn = dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )["TableDescription"]["LatestStreamArn"]
        functions.create_event_source_mapping(
            EventSourceArn=arn, FunctionName="pid", StartingPosition="TRIM_HORIZON"
        )
    for table in ("first", "second"):
        dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}})
        until((folder / "first").exists, "the function of the first stream", pause=0.01)
    said = "first-has-met-the-second-"
    (met,) = until(lambda: [one.name for one in folder.glob(f"{said}*")], "its answer", pause=0.01)
    return met == f"{said}True"


def test_a_stream_is_taken_while_the_function_of_another_is_at_work(
    shipped: Emulator, closed: Emulator, tmp_path: Path
) -> None:
    assert not streams_that_are_taken_at_once(shipped, tmp_path / "one-by-one", 2)
    assert streams_that_are_taken_at_once(closed, tmp_path / "at-once", 18)


def seconds_to_the_first_state(emulator: Emulator) -> float:
    end = run(emulator, {"StartAt": "end", "States": {"end": {"Type": "Succeed"}}})
    history = client("stepfunctions", emulator.url).get_execution_history(
        executionArn=end["executionArn"]
    )["events"]
    seconds: float = (history[1]["timestamp"] - history[0]["timestamp"]).total_seconds()
    return seconds


def test_an_execution_enters_its_first_state_at_once(shipped: Emulator, closed: Emulator) -> None:
    assert min(seconds_to_the_first_state(shipped) for _ in range(3)) >= 0.15
    assert min(seconds_to_the_first_state(closed) for _ in range(10)) < 0.15


def most_items_at_once(emulator: Emulator) -> int:
    """How many of four items of a Distributed Map, of two seconds each, have run at once."""
    wait = {"StartAt": "wait", "States": {"wait": {"Type": "Wait", "Seconds": 2, "End": True}}}
    each = {
        "Type": "Map",
        "MaxConcurrencyPath": "$.most",
        "ItemsPath": "$.items",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            **wait,
        },
        "End": True,
    }
    given = {"Type": "Pass", "Result": {"most": 2, "items": [1, 2, 3, 4]}, "Next": "each"}
    end = run(emulator, {"StartAt": "given", "States": {"given": given, "each": each}})
    assert end["status"] == "SUCCEEDED", end
    states = client("stepfunctions", emulator.url)
    (maps,) = states.list_map_runs(executionArn=end["executionArn"])["mapRuns"]
    items = states.list_executions(mapRunArn=maps["mapRunArn"])["executions"]
    assert len(items) == 4, items
    most: int = max(
        sum(one["startDate"] <= other["startDate"] < one["stopDate"] for one in items)
        for other in items
    )
    return most


def test_so_many_items_of_a_map_run_at_once_as_its_input_says(
    shipped: Emulator, closed: Emulator
) -> None:
    assert most_items_at_once(shipped) == 4
    assert most_items_at_once(closed) == 2


def log_streams(emulator: Emulator, invocations: int) -> int:
    functions = create_function(emulator)
    for _ in range(invocations):
        functions.invoke(FunctionName="pid", Payload=b"0")
    pages = client("logs", emulator.url).get_paginator("describe_log_streams")
    return sum(len(page["logStreams"]) for page in pages.paginate(logGroupName="/aws/lambda/pid"))


def alarms_of_queues(emulator: Emulator) -> Callable[[], dict[str, str]]:
    """The states of the alarms on messages in two queues, one of which has one."""
    sqs, watch = client("sqs", emulator.url), client("cloudwatch", emulator.url)
    for name in ("crowded", "empty"):
        sqs.create_queue(QueueName=name)
        watch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SQS",
            MetricName="ApproximateNumberOfMessagesVisible",
            Dimensions=[{"Name": "QueueName", "Value": name}],
            Statistic="Maximum",
            Period=300,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
        )
    crowded = sqs.get_queue_url(QueueName="crowded")["QueueUrl"]
    sqs.send_message(QueueUrl=crowded, MessageBody="one")

    def states() -> dict[str, str]:
        found = watch.describe_alarms()["MetricAlarms"]
        return {one["AlarmName"]: one["StateValue"] for one in found}

    return states


def test_an_alarm_is_judged_by_what_its_own_metric_counts(
    shipped: Emulator, closed: Emulator
) -> None:
    right = {"crowded": "ALARM", "empty": "OK"}
    states = alarms_of_queues(closed)
    until(states, "an alarm on a queue with a message in it", lambda seen: seen == right)
    client("sqs", closed.url).purge_queue(
        QueueUrl=client("sqs", closed.url).get_queue_url(QueueName="crowded")["QueueUrl"]
    )
    until(states, "the end of the alarm", lambda seen: seen == dict.fromkeys(right, "OK"))

    states = alarms_of_queues(shipped)
    assert states() == dict.fromkeys(right, "INSUFFICIENT_DATA")
    of = [{"Name": "QueueName", "Value": "crowded"}]
    data = {"MetricName": "ApproximateNumberOfMessagesVisible", "Dimensions": of, "Value": 1}
    client("cloudwatch", shipped.url).put_metric_data(Namespace="AWS/SQS", MetricData=[data])
    assert states() == dict.fromkeys(right, "ALARM"), "whatever the metric's dimensions"


def test_the_latest_log_streams_are_kept(shipped: Emulator, closed: Emulator) -> None:
    assert log_streams(shipped, 105) == 105
    assert log_streams(closed, 105) == 100


def pieces_of_answers(emulator: Emulator, calls: int) -> int:
    """In how many pieces the answers to some calls on one connection come."""
    pieces = 0
    with socket.create_connection(("127.0.0.1", emulator.port)) as connection:
        for _ in range(calls):
            connection.sendall(b"GET /_ministack/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            while not (
                whole := re.search(rb"length: (\d+).*?\r\n\r\n(.*)", answer, re.S | re.I)
            ) or (len(whole[2]) < int(whole[1])):
                answer += connection.recv(65536)
                pieces += 1
    return pieces


def test_an_answer_comes_in_one_piece(shipped: Emulator, closed: Emulator) -> None:
    assert pieces_of_answers(shipped, 50) > 50
    assert pieces_of_answers(closed, 50) == 50


BOOTSTRAP = """#!/bin/sh
cd "$LAMBDA_TASK_ROOT" && exec "$RECOURSE_PYTHON" -m awslambdaric "$_HANDLER"
"""
HANDLER = """
import os, time

def handler(seconds, context):
    print("a line")
    time.sleep(seconds)
    return os.getpid()
"""


def create_function(emulator: Emulator, handler: str = HANDLER, name: str = "pid") -> Any:
    """A function; it logs a line, sleeps and answers with its process's id, or as it is told to."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("bootstrap", BOOTSTRAP)
        package.writestr(f"{name}.py", handler)
    functions = client("lambda", emulator.url)
    functions.create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler=f"{name}.handler",
        Role=ROLE,
        Code={"ZipFile": archive.getvalue()},
        Timeout=20,
    )
    return functions


def processes_of_a_burst(emulator: Emulator, invocations: int, payload: bytes) -> int:
    functions = create_function(emulator)

    def invoke(_: int) -> int:
        answer = functions.invoke(FunctionName="pid", Payload=payload)
        return int(json.load(answer["Payload"]))

    with ThreadPoolExecutor(invocations) as pool:
        return len(set(pool.map(invoke, range(invocations))))


def test_a_burst_does_not_start_a_process_for_every_invocation_at_once(
    shipped: Emulator, closed: Emulator
) -> None:
    burst = 4 + 2 * (os.cpu_count() or 2)
    # None of them is done before the last has begun, or a process would serve two.
    assert processes_of_a_burst(shipped, burst, b"3") == burst
    assert processes_of_a_burst(closed, burst, b"0.01") < burst


def fastest_invocation(emulator: Emulator) -> float:
    functions = create_function(emulator)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        functions.invoke(FunctionName="pid", Payload=b"0")
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_an_invocation_does_not_wait_for_acknowledgements(
    shipped: Emulator, closed: Emulator
) -> None:
    # An acknowledgement is delayed by 40 ms, counted in ticks of 4 ms: it may come a tick earlier.
    assert fastest_invocation(shipped) > 0.036
    assert fastest_invocation(closed) < 0.036


def a_versions_first_bytes(emulator: Emulator) -> tuple[int, str, bytes]:
    s3 = client("s3", emulator.url)
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="versions", Key="k", Body=b"abcdef")["VersionId"]
    got = s3.get_object(
        Bucket="versions",
        Key="k",
        VersionId=version,
        Range="bytes=0-2",
        ResponseContentDisposition="attachment",
    )
    status = got["ResponseMetadata"]["HTTPStatusCode"]
    return status, got.get("ContentDisposition", ""), got["Body"].read()


def test_a_version_is_read_as_the_request_asks(shipped: Emulator, closed: Emulator) -> None:
    assert a_versions_first_bytes(shipped) == (200, "", b"abcdef")
    assert a_versions_first_bytes(closed) == (206, "attachment", b"abc")


AUTHORIZER = """
def authorizer(event, context):
    if event["headers"].get("authorization") != "right":
        raise Exception("Unauthorized")
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}
    return {"principalId": "asha", "policyDocument": {"Statement": [statement]}}

def handler(event, context):
    return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v1"}}
"""


def websocket_api(emulator: Emulator) -> str:
    """The address of a WebSocket API with an authorizer, which agrees to a subprotocol."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("bootstrap", BOOTSTRAP)
        package.writestr("live.py", AUTHORIZER)
    functions, gateway = client("lambda", emulator.url), client("apigatewayv2", emulator.url)
    arns = {
        name: functions.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler=f"live.{name}",
            Role=ROLE,
            Code={"ZipFile": archive.getvalue()},
            Timeout=20,
        )["FunctionArn"]
        for name in ("authorizer", "handler")
    }
    called = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{}/invocations"
    api = gateway.create_api(
        Name="live", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
    )["ApiId"]
    authorizer = gateway.create_authorizer(
        ApiId=api,
        Name="bearer",
        AuthorizerType="REQUEST",
        AuthorizerUri=called.format(arns["authorizer"]),
        IdentitySource=[],
    )["AuthorizerId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=called.format(arns["handler"])
    )["IntegrationId"]
    gateway.create_route(
        ApiId=api,
        RouteKey="$connect",
        AuthorizationType="CUSTOM",
        AuthorizerId=authorizer,
        Target=f"integrations/{integration}",
    )
    gateway.create_stage(ApiId=api, StageName="live", AutoDeploy=True)
    return f"{emulator.url}/_aws/execute-api/{api}/live".replace("http", "ws", 1)


BY_THE_PROXY = {PROXY_HEADER.decode(): proxy_pass(root_secret()).decode()}


def agreed_subprotocol(emulator: Emulator) -> str | None:
    with connect(
        websocket_api(emulator),
        additional_headers=BY_THE_PROXY | {"authorization": "right"},
        subprotocols=[Subprotocol("v1"), Subprotocol("more")],
        proxy=None,
        open_timeout=PATIENCE,
    ) as opened:
        return opened.subprotocol


def test_a_websocket_is_opened_with_the_subprotocol_that_is_agreed_to(
    shipped: Emulator, closed: Emulator
) -> None:
    assert agreed_subprotocol(shipped) is None
    assert agreed_subprotocol(closed) == "v1"


def status_of_a_refusal(emulator: Emulator) -> int:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            websocket_api(emulator),
            additional_headers=BY_THE_PROXY,
            proxy=None,
            open_timeout=PATIENCE,
        ),
    ):
        pytest.fail("it was opened")
    status: int = refused.value.response.status_code
    return status


def test_an_authorizer_that_says_unauthorized_is_a_401(shipped: Emulator, closed: Emulator) -> None:
    assert status_of_a_refusal(shipped) == 500
    assert status_of_a_refusal(closed) == 401


def template(*, exports: str | None = None, imports: bool = False) -> str:
    """A stack of one parameter, whose text is `shared` where it is imported."""
    text: Any = {"Fn::ImportValue": "shared"} if imports else "any"
    made = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": text}}
    output = {"Value": exports, "Export": {"Name": "shared"}}
    outputs = {"Outputs": {"Shared": output}} if exports else {}
    return json.dumps({"Resources": {"Parameter": made}} | outputs)


def cloudformation_of(emulator: Emulator) -> Any:
    """A client, when it is ready: the first call loads every service that it makes resources of.

    On a slow machine that takes longer than a client waits, and a create is not to be made twice.
    """
    made = client("cloudformation", emulator.url)
    made.describe_stacks()
    return made


def settled(cloudformation: Any, stack: str, *, after: str = "") -> str:
    """The status that a stack comes to, after the one that it was in."""
    while True:
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        status: str = found["StackStatus"]
        if status != after and not status.endswith("_IN_PROGRESS"):
            return status
        time.sleep(0.02)


def ends_without_export(emulator: Emulator) -> list[str]:
    """How a stack ends that drops an export, then one that changes it, while it is imported."""
    cloudformation = cloudformation_of(emulator)
    for name, body in (("one", template(exports="1")), ("other", template(imports=True))):
        cloudformation.create_stack(StackName=name, TemplateBody=body)
        assert settled(cloudformation, name) == "CREATE_COMPLETE"
    ends = []
    for body in (template(), template(exports="2")):
        cloudformation.update_stack(StackName="one", TemplateBody=body)
        ends.append(settled(cloudformation, "one"))
    return ends


def test_an_export_that_is_imported_stays_as_it_is(shipped: Emulator, closed: Emulator) -> None:
    assert ends_without_export(shipped) == ["UPDATE_COMPLETE"] * 2
    assert ends_without_export(closed) == ["UPDATE_ROLLBACK_COMPLETE"] * 2
    cloudformation = cloudformation_of(closed)
    for name in ("other", "one"):
        cloudformation.update_stack(StackName=name, TemplateBody=template())
        assert settled(cloudformation, name) == "UPDATE_COMPLETE"


def end_of_a_bucket_with_an_object(emulator: Emulator) -> str:
    cloudformation, s3 = cloudformation_of(emulator), client("s3", emulator.url)
    body = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}}
    stack = cloudformation.create_stack(StackName="one", TemplateBody=json.dumps(body))["StackId"]
    created = settled(cloudformation, stack)
    assert created == "CREATE_COMPLETE"
    (bucket,) = (one["Name"] for one in s3.list_buckets()["Buckets"])
    versioned = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioned)
    s3.put_object(Bucket=bucket, Key="one", Body=b"")
    s3.delete_object(Bucket=bucket, Key="one")
    cloudformation.delete_stack(StackName="one")
    return settled(cloudformation, stack, after=created)


def test_a_bucket_with_anything_in_it_stays(shipped: Emulator, closed: Emulator) -> None:
    assert end_of_a_bucket_with_an_object(shipped) == "DELETE_COMPLETE"
    assert end_of_a_bucket_with_an_object(closed) == "DELETE_FAILED"


def what_anybody_gets(emulator: Emulator) -> list[int]:
    """How a page, an unknown name, a key that is none and an unsigned reset are answered."""
    key = "AWS4-HMAC-SHA256 Credential=test/20261128/us-east-1/sqs/aws4_request"
    signed = {
        "authorization": f"{key}, SignedHeaders=host, Signature=none",
        "x-amz-date": "20261128T000000Z",
    }
    asked = {"Action": "ListQueues"}
    with httpx.Client(base_url=emulator.url, timeout=PATIENCE, trust_env=False) as http:
        return [
            http.post("/", headers=signed | more, data=asked).status_code
            for more in ({"origin": "http://127.0.0.1:1"}, {"host": "evil.example"}, {})
        ] + [http.post("/_ministack/reset").status_code]


def test_only_its_owner_calls_it(start: Start, closed: Emulator) -> None:
    assert what_anybody_gets(start(anybody=True)) == [200] * 4
    assert what_anybody_gets(closed) == [403, 421, 403, 403]


def stored_by_plain_http(emulator: Emulator) -> int:
    """Store into a bucket that denies what does not come by TLS; the status."""
    root = client("s3", emulator.url)
    root.create_bucket(Bucket="tls")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::tls/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    root.put_bucket_policy(Bucket="tls", Policy=document(deny))
    user = clients_of_user(emulator.url, "user", {"Action": "s3:*", "Resource": "*"})
    answer = user("s3").put_object(Bucket="tls", Key="k", Body=b"")
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def test_plain_http_on_loopback_is_judged_as_tls(
    shipped: Emulator, closed: Emulator, expected: list[Refusal]
) -> None:
    expected.append(Refusal("user/user", "s3:PutObject"))
    with pytest.raises(ClientError, match="AccessDenied"):
        stored_by_plain_http(shipped)
    assert stored_by_plain_http(closed) == 200


def batches(emulator: Emulator) -> dict[str, bool]:
    """Which batches somebody may send who has the actions that are in them."""
    sns, sqs = client("sns", emulator.url), client("sqs", emulator.url)
    topic = sns.create_topic(Name="topic")["TopicArn"]
    queue = sqs.create_queue(QueueName="queue")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="any")
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    singles = ["ChangeMessageVisibility", "DeleteMessage", "SendMessage"]
    may = ["sns:Publish", *(f"sqs:{one}" for one in singles)]
    user = clients_of_user(emulator.url, "user", {"Action": may, "Resource": "*"})
    publisher, taker = user("sns"), user("sqs")
    taken = {"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}

    def succeeds(call: Callable[..., Any], **asked: Any) -> bool:
        try:
            return len(call(**asked)["Successful"]) == 1
        except ClientError as error:
            assert "not authorized to perform" in str(error)
            return False

    return {
        "publish": succeeds(
            publisher.publish_batch,
            TopicArn=topic,
            PublishBatchRequestEntries=[{"Id": "a", "Message": "any"}],
        ),
        "send": succeeds(
            taker.send_message_batch,
            QueueUrl=queue,
            Entries=[{"Id": "a", "MessageBody": "any"}],
        ),
        "put off": succeeds(
            taker.change_message_visibility_batch,
            QueueUrl=queue,
            Entries=[taken | {"VisibilityTimeout": 60}],
        ),
        "delete": succeeds(taker.delete_message_batch, QueueUrl=queue, Entries=[taken]),
    }


def test_a_batch_takes_the_right_to_what_is_in_it(
    shipped: Emulator, closed: Emulator, expected: list[Refusal]
) -> None:
    names = ["sns:Publish", "sqs:SendMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"]
    expected += [Refusal("user/user", f"{one}Batch") for one in names]
    assert not any(batches(shipped).values())
    assert all(batches(closed).values())


GROUPED = """
from pathlib import Path

def handler(event, context):
    for record in event["Records"]:
        Path(FOLDER, record["body"]).write_text(record["attributes"].get("MessageGroupId", ""))
"""


def groups_that_a_function_sees(emulator: Emulator, folder: Path) -> dict[str, str]:
    """The message groups of two messages, one published in a batch, as a function has them."""
    folder.mkdir()
    sns, sqs, functions = (client(one, emulator.url) for one in ("sns", "sqs", "lambda"))
    create_function(emulator, GROUPED.replace("FOLDER", repr(str(folder))))
    topic = sns.create_topic(Name="grouped")["TopicArn"]
    url = sqs.create_queue(QueueName="grouped")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    sender = {"Principal": {"Service": "sns.amazonaws.com"}, "Effect": "Allow"}
    allowed = document(sender | {"Action": "sqs:SendMessage", "Resource": "*"})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": allowed})
    raw = {"RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue["QueueArn"], Attributes=raw)
    functions.create_event_source_mapping(
        EventSourceArn=queue["QueueArn"], FunctionName="pid", BatchSize=10
    )
    sns.publish(TopicArn=topic, Message="alone", MessageGroupId="asha")
    batch = [{"Id": "0", "Message": "batched", "MessageGroupId": "ravi"}]
    assert not sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=batch).get("Failed")
    until(lambda: len(list(folder.iterdir())) == 2, "both messages")
    return {one.name: one.read_text() for one in folder.iterdir()}


def test_a_message_group_comes_from_a_batch_to_a_function(
    shipped: Emulator, closed: Emulator, tmp_path: Path
) -> None:
    expected = {"alone": "asha", "batched": "ravi"}
    assert groups_that_a_function_sees(shipped, tmp_path / "s") == expected | {"batched": ""}
    assert groups_that_a_function_sees(closed, tmp_path / "c") == expected


def starts_by(emulator: Emulator) -> dict[str, bool]:
    """By what a user may start a machine who may start it by its alias `live`."""
    states = client("stepfunctions", emulator.url)
    definition = json.dumps({"StartAt": "end", "States": {"end": {"Type": "Succeed"}}})
    machine = states.create_state_machine(name="machine", definition=definition, roleArn=ROLE)
    arn = machine["stateMachineArn"]
    version = states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    routes = [{"stateMachineVersionArn": version, "weight": 100}]
    for alias in ("live", "other"):
        states.create_state_machine_alias(name=alias, routingConfiguration=routes)
    by_alias = {"StringEquals": {"states:StateMachineQualifier": "live"}}
    may = {"Action": "states:StartExecution", "Resource": arn, "Condition": by_alias}
    user = clients_of_user(emulator.url, "user", may)("stepfunctions")

    def starts(by: str) -> bool:
        try:
            user.start_execution(stateMachineArn=by)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDeniedException"
            return False
        return True

    return {
        by.removeprefix(arn): starts(by) for by in (arn, version, f"{arn}:live", f"{arn}:other")
    }


def describes_versions(emulator: Emulator) -> bool:
    """Whether a user may describe a version who may describe its machine."""
    states = client("stepfunctions", emulator.url)
    (machine,) = states.list_state_machines()["stateMachines"]
    arn = machine["stateMachineArn"]
    may = {"Action": "states:DescribeStateMachine", "Resource": arn}
    user = clients_of_user(emulator.url, "reader", may)("stepfunctions")
    try:
        user.describe_state_machine(stateMachineArn=f"{arn}:1")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException"
        return False
    return True


def test_a_start_by_an_alias_is_judged_by_its_machine(
    shipped: Emulator, closed: Emulator, expected: list[Refusal]
) -> None:
    expected.append(Refusal("user/user", "states:StartExecution"))
    expected.append(Refusal("user/reader", "states:DescribeStateMachine"))
    assert not any(starts_by(shipped).values())
    assert not describes_versions(shipped)
    by_alias = {"": False, ":1": False, ":live": True, ":other": False}
    assert starts_by(closed) == by_alias
    assert describes_versions(closed)


FRESH = (
    {"StringNotEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}},
    {"NumericGreaterThan": {"s3:signatureAge": "15000"}},
)


def reads_of_a_bucket_for_fresh_signatures(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """With what status an object is read and copied, by how the request is signed."""
    root = client("s3", emulator.url)
    root.create_bucket(Bucket="fresh")
    root.put_object(Bucket="fresh", Key="k", Body=b"")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::fresh/*",
    }
    policy = document(*({**deny, "Condition": one} for one in FRESH))
    root.put_bucket_policy(Bucket="fresh", Policy=policy)
    make = clients_of_user(emulator.url, "user", {"Action": "s3:*", "Resource": "*"})

    def called(version: str) -> int:
        try:
            made = make("s3", config=Config(signature_version=version))
            got = made.get_object(Bucket="fresh", Key="k")
        except ClientError as error:
            got = error.response
        return int(got["ResponseMetadata"]["HTTPStatusCode"])

    def presigned(version: str) -> str:
        made = make("s3", config=Config(signature_version=version))
        url: str = made.generate_presigned_url("get_object", {"Bucket": "fresh", "Key": "k"})
        return url

    def got(url: str) -> int:
        return httpx.get(url, trust_env=False).status_code

    found = {f"header {version}": called(version) for version in ("s3v4", "s3")}
    found |= {f"presigned {one}": got(presigned(one)) for one in ("s3v4", "s3-query")}
    with monkeypatch.context() as patch:
        past = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=17)
        patch.setattr("botocore.auth.get_current_datetime", lambda: past)
        found["presigned long ago"] = got(presigned("s3v4"))
    try:
        # Who copies reads the source too.
        make("s3").copy_object(Bucket="fresh", Key="copy", CopySource="fresh/k")
        found["copied"] = 200
    except ClientError as error:
        found["copied"] = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return found


def test_policies_are_told_how_and_when_a_request_was_signed(
    shipped: Emulator, closed: Emulator, expected: list[Refusal], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected += [Refusal("user/user", f"s3:{one}Object") for one in ("Get", "Put")]
    as_shipped = reads_of_a_bucket_for_fresh_signatures(shipped, monkeypatch)
    assert set(as_shipped.values()) == {403}
    assert reads_of_a_bucket_for_fresh_signatures(closed, monkeypatch) == {
        "header s3v4": 200,
        "header s3": 403,
        "presigned s3v4": 200,
        "presigned s3-query": 403,
        "presigned long ago": 403,
        "copied": 200,
    }


def test_each_decision_is_kept_with_who_asked_and_why_not(
    start: Start, expected: list[Refusal]
) -> None:
    expected += [Refusal("user/user", "s3:CreateBucket"), Refusal("user/user", "s3:PutObject")]
    emulator = start()
    client("s3", emulator.url).create_bucket(Bucket="any")
    deny = {"Sid": "NoK", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
    policy = document(deny | {"Resource": "arn:aws:s3:::any/k"})
    client("s3", emulator.url).put_bucket_policy(Bucket="any", Policy=policy)
    user = clients_of_user(emulator.url, "user", {"Action": "s3:PutObject", "Resource": "*"})("s3")
    user.put_object(Bucket="any", Key="a", Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        user.put_object(Bucket="any", Key="k", Body=b"")
    with pytest.raises(ClientError, match="AccessDenied"):
        user.create_bucket(Bucket="other")
    emulator.stop()
    who = "arn:aws:iam::000000000000:user/user"
    told = [
        {k: one.get(k) for k in ("who", "action", "resource", "decision", "by", "statement")}
        for one in decisions_of(emulator.decisions)
    ]
    assert told == [
        dict(zip(told[0], (who, *rest), strict=True))
        for rest in (
            ("s3:PutObject", "arn:aws:s3:::any/a", "Allow", ["s3:PutObject", "*"], None),
            ("s3:PutObject", "arn:aws:s3:::any/k", "Deny", None, "NoK"),
            ("s3:CreateBucket", "arn:aws:s3:::other", "ImplicitDeny", None, ""),
        )
    ], "and none of the root key's"


ASKS = """
import json
from types import SimpleNamespace
from ministack import app
from ministack.core import iam_evaluator
from ministack.services import iam, sts

asked = dict(policies=0, principals=0, decisions=0)

def counted(name, call):
    def counting(*arguments, **named):
        asked[name] += 1
        return call(*arguments, **named)
    return counting

loads = counted("policies", json.loads)
iam_evaluator.json = SimpleNamespace(loads=loads, JSONDecodeError=json.JSONDecodeError)
iam_evaluator.resolve_principal = counted("principals", iam_evaluator.resolve_principal)
iam_evaluator.evaluate = counted("decisions", iam_evaluator.evaluate)
{close}
policy = {{"Statement": {{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}}}}
iam._roles["role"] = {{"InlinePolicies": {{"any": json.dumps(policy)}}}}
arn = "arn:aws:sts::000000000000:assumed-role/role/session"
sts._sessions["KEY"] = {{"Arn": arn, "SecretAccessKey": "s", "SessionToken": "t"}}
for call in range(2):
    app.pin_signed_request("POST", "/", {{}}, [])
    iam_evaluator._anonymous.set(False)  # as if it were signed
    for action in ("sqs:SendMessage", "sqs:SendMessage", "sqs:DeleteMessage"):
        assert iam_evaluator.enforce("KEY", action, "sqs", "us-east-1") is None
print(json.dumps(asked))
"""


def asked_about_two_calls(close: str) -> dict[str, int]:
    """What is found out where each call raises three questions, two of them the same."""
    run = subprocess.run(
        [tools.EMULATOR, "-c", ASKS.format(close=close)],
        cwd=ROOT,
        env=os.environ | {"AUTH": "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    asked: dict[str, int] = json.loads(run.stdout)
    return asked


def test_who_calls_and_whether_they_may_is_asked_once_a_call(
    closed: Emulator, expected: list[Refusal]
) -> None:
    as_shipped = asked_about_two_calls("")
    assert as_shipped == {"policies": 6, "principals": 6, "decisions": 6}
    once = asked_about_two_calls("from recourse.local.gaps import judged_once; judged_once.close()")
    assert once == {"policies": 1, "principals": 2, "decisions": 4}
    # A policy that is changed counts at once.
    user = clients_of_user(closed.url, "user", {"Action": "s3:*", "Resource": "*"})("s3")
    user.create_bucket(Bucket="before")
    expected.append(Refusal("user/user", "s3:CreateBucket"))
    nothing = document({"Effect": "Deny", "Action": "*", "Resource": "*"})
    client("iam", closed.url).put_user_policy(
        UserName="user", PolicyName="may", PolicyDocument=nothing
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        user.create_bucket(Bucket="after")


def test_the_latest_decisions_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    script = (
        "from recourse.local.gaps import decisions\n"
        "decisions.LARGEST = 100\n"
        f"log = decisions.Log({str(file)!r})\n"
        "for number in range(12):\n"
        "    log.append({'who': 'x' * 20, 'number': number})\n"
        "    log.write()\n"
    )
    subprocess.run(
        [tools.EMULATOR, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    numbers = [one["number"] for one in decisions_of(file)]
    assert numbers == list(range(12))[-len(numbers) :] and 2 <= len(numbers) <= 4
