"""Each gap of moto: there as it is shipped, closed by our file of that name.

Where the first half of a test fails, moto has closed the gap: delete our file and the test.
"""

from __future__ import annotations

import copy
import gc
import io
import json
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from types import CodeType, FrameType
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.awslambda.models import LambdaBackend
from moto.core import utils as moto_utils
from moto.core.request import Request
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.s3.models import s3_backends
from moto.sqs import models as sqs_models
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel.branch_worker import (
    BranchWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.state_task import StateTask
from moto.stepfunctions.parser.asl.component.state.exec.state_task.state_task_lambda import (
    StateTaskLambda,
)
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.utils import TMP_THREADS

from recourse.store.aws import client
from recourse.testing import (
    attributes,
    backwards,
    clock,
    comparing,
    directly,
    drawing,
    handlers,
    keeping,
    measuring,
    naming,
    objects,
    parsing,
    stopping,
    streams,
    transactions,
    waiting,
    wording,
)
from recourse.testing.ground import ENVIRONMENT
from recourse.testing.patching import replaced
from tests.patience import PATIENCE

ROLE = f"arn:aws:iam::{handlers.ACCOUNT}:role/any"
TASK = {"Type": "Task", "Resource": handlers.arn("f")}
"""Seconds to wait for what is there at once, so that a test ends where it is not."""


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Moto as it is shipped."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    config: Any = {
        "stepfunctions": {"execute_state_machine": True},
        "lambda": {"use_docker": False},
    }
    client.cache_clear()
    with mock_aws(config=config):
        yield
    client.cache_clear()


# DynamoDB.


def create_table(*, stream: bool = False) -> Any:
    """A table of things, and its client."""
    dynamodb = client("dynamodb")
    options: dict[str, Any] = {}
    if stream:
        options["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    dynamodb.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **options,
    )
    return dynamodb


def put(name: str) -> dict[str, Any]:
    return {"Put": {"TableName": "things", "Item": {"pk": {"S": name}}}}


def take_one() -> dict[str, Any]:
    """Take one of what is left, if anything is."""
    return {
        "Update": {
            "TableName": "things",
            "Key": {"pk": {"S": "stock"}},
            "UpdateExpression": "ADD amount :less",
            "ConditionExpression": "amount >= :one",
            "ExpressionAttributeValues": {":less": {"N": "-1"}, ":one": {"N": "1"}},
        }
    }


@contextmanager
def calls_counted(of: Callable[[CodeType], bool]) -> Iterator[Callable[[], int]]:
    """How many calls of such functions this thread made in the block.

    Nothing is collected meanwhile: on Python 3.11.2 a collection in another thread may end the
    process while this one is observed (gh-101975).
    """
    calls = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and of(frame.f_code)

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)
        gc.enable()


def calls_for_an_attribute() -> float:
    """How many of moto's functions a read calls for each attribute more that a row has."""

    def calls_for(attributes: int) -> int:
        row = {f"a{n}": {"S": "x"} for n in range(attributes)}
        dynamodb.put_item(TableName="things", Item={"pk": {"S": "row"}} | row)
        with calls_counted(lambda code: "moto" in code.co_filename) as calls:
            dynamodb.get_item(TableName="things", Key={"pk": {"S": "row"}})
        return calls()

    dynamodb = create_table()
    calls_for(1)  # what is done once
    return (calls_for(30) - calls_for(10)) / 20


def test_an_attribute_is_looked_up_as_what_it_is() -> None:
    assert calls_for_an_attribute() > 200
    client("dynamodb").delete_table(TableName="things")
    with attributes.plain():
        assert calls_for_an_attribute() < 100


def taken_by_threads(stock: int) -> int:
    """How many of so many are taken by threads that want twice as many."""
    dynamodb = client("dynamodb")
    dynamodb.put_item(TableName="things", Item={"pk": {"S": "stock"}, "amount": {"N": str(stock)}})

    def take(_: int) -> bool:
        try:
            dynamodb.update_item(**take_one()["Update"])
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(take, range(2 * stock)))


def test_conditional_updates_are_exact_under_threads() -> None:
    create_table()
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads meet wherever they can
    try:
        assert any(taken_by_threads(20) > 20 for _ in range(20))
        with transactions.true():
            assert [taken_by_threads(20) for _ in range(3)] == [20, 20, 20]
    finally:
        sys.setswitchinterval(switching)


def copies_of_the_table_in_a_transaction() -> int:
    copies = []

    class Probe:
        def __deepcopy__(self, _: Any) -> Probe:
            copies.append(self)
            return self

    table: Any = dynamodb_backends[handlers.ACCOUNT]["us-east-1"].tables["things"]
    table.probe = Probe()
    client("dynamodb").transact_write_items(TransactItems=[put("a"), put("b"), put("c")])
    return len(copies)


def test_a_transaction_copies_no_table() -> None:
    create_table()
    assert copies_of_the_table_in_a_transaction() == 3
    with transactions.true():
        assert copies_of_the_table_in_a_transaction() == 0


def writes_of_a_transaction_that_fails() -> list[str]:
    """What a transaction whose last condition fails has put before it is rolled back."""
    puts = []
    put_item = DynamoDBBackend.put_item

    def spy(backend: Any, table: str, item: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        puts.append(item["pk"]["S"])
        return put_item(backend, table, item, *args, **kwargs)

    dynamodb = client("dynamodb")
    with (
        replaced(DynamoDBBackend, "put_item", spy),
        pytest.raises(dynamodb.exceptions.TransactionCanceledException),
    ):
        dynamodb.transact_write_items(TransactItems=[put("a"), put("b"), take_one()])
    return puts


def test_a_transaction_that_fails_has_written_nothing() -> None:
    create_table()
    assert writes_of_a_transaction_that_fails() == ["a", "b"]
    with transactions.true():
        assert writes_of_a_transaction_that_fails() == []


# Functions, and streams to them.


def create_function() -> None:
    """A function that answers what it is asked."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("echo.py", "def handler(event, context):\n    return {'heard': event}\n")
    client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")
    client("lambda").create_function(
        FunctionName="f",
        Runtime="python3.13",
        Handler="echo.handler",
        Role=ROLE,
        Code={"ZipFile": archive.getvalue()},
    )


def test_a_stream_has_what_is_committed_and_wanted() -> None:
    dynamodb = create_table(stream=True)
    create_function()
    client("lambda").create_event_source_mapping(
        FunctionName="f",
        EventSourceArn=dynamodb.describe_table(TableName="things")["Table"]["LatestStreamArn"],
        StartingPosition="TRIM_HORIZON",
        FilterCriteria={"Filters": [{"Pattern": '{"eventName": ["REMOVE"]}'}]},
    )
    handed: list[str] = []

    def send(_: Any, function: str, items: list[Any], source: str) -> str:
        handed.extend(item.to_json()["dynamodb"]["Keys"]["pk"]["S"] for item in items)
        return "taken"

    def fail() -> None:
        with pytest.raises(ClientError, match="TransactionCanceled"):
            dynamodb.transact_write_items(TransactItems=[put("never"), take_one()])

    with replaced(LambdaBackend, "send_dynamodb_items", send):
        fail()
        assert handed == ["never"], "what was never committed, and passes no filter"
        handed.clear()
        with transactions.true(), streams.collected() as stream:
            fail()
            assert stream.fetch() == []
            dynamodb.transact_write_items(TransactItems=[put("a")])
            (record,) = stream.fetch()
            assert record["dynamodb"]["NewImage"]["pk"] == {"S": "a"}
            assert stream.fetch() == []
        assert handed == []


# Step Functions.


@dataclass
class Run:
    """A state machine, and an execution of it."""

    machine: str
    name: str = "one"
    heard: list[Any] = field(default_factory=list)

    @property
    def arn(self) -> str:
        return f"{self.machine.replace(':stateMachine:', ':execution:')}:{self.name}"

    def start(self) -> Run:
        client("stepfunctions").start_execution(
            stateMachineArn=self.machine, name=self.name, input='{"asked": 7}'
        )
        return self

    def now(self) -> dict[str, Any]:
        found: dict[str, Any] = client("stepfunctions").describe_execution(executionArn=self.arn)
        return found

    def end(self) -> dict[str, Any]:
        """How it ended; moto tells nobody, so it is looked at until then."""
        pause, until = threading.Event(), time.monotonic() + PATIENCE
        while (found := self.now())["status"] == "RUNNING" and time.monotonic() < until:
            pause.wait(0.005)
        return found


def machine(states: dict[str, Any]) -> str:
    """A state machine that starts with the first of these states."""
    definition = {"StartAt": next(iter(states)), "States": states}
    made: str = client("stepfunctions").create_state_machine(
        name=f"machine-{time.monotonic_ns()}", definition=json.dumps(definition), roleArn=ROLE
    )["stateMachineArn"]
    return made


def test_a_task_calls_the_code_of_its_function() -> None:
    create_function()
    made = machine({"task": TASK | {"End": True}})
    output = json.loads(Run(made).start().end()["output"])
    assert output != {"heard": {"asked": 7}}
    with handlers.registered({"f": lambda event: {"heard": event}}):
        output = json.loads(Run(made, "two").start().end()["output"])
    assert output == {"heard": {"asked": 7}}


@pytest.mark.parametrize(
    ("problem", "error"),
    [(KeyError("x"), "KeyError"), (handlers.Killed(), "Runtime.ExitError")],
)
def test_an_exception_in_the_code_of_a_function_is_its_error(
    problem: BaseException, error: str
) -> None:
    create_function()
    made = machine({"task": TASK | {"End": True}})
    assert Run(made).start().end()["status"] == "SUCCEEDED", "it knows no code that could fail"

    def fail(_: Any) -> None:
        raise problem

    with handlers.registered({"f": fail}):
        end = Run(made, "two").start().end()
    assert (end["status"], end["error"]) == ("FAILED", error)


def parses_of_two_executions(*, once: bool) -> int:
    """How often a definition is parsed when it is run, after it was parsed to be checked."""
    parses = []
    parse = AmazonStateLanguageParser.parse

    def count(definition: str) -> Any:
        parses.append(definition)
        return parse(definition)

    with replaced(AmazonStateLanguageParser, "parse", staticmethod(count)), ExitStack() as stack:
        if once:
            stack.enter_context(parsing.once())
        made = machine({"pass": {"Type": "Pass", "End": True}})
        before = len(parses)
        for name in ("one", "two"):
            assert Run(made, name).start().end()["status"] == "SUCCEEDED"
        return len(parses) - before


def test_a_definition_is_parsed_once() -> None:
    assert parses_of_two_executions(once=False) == 2
    assert parses_of_two_executions(once=True) == 0


@contextmanager
def stopped_while_branches_start() -> Iterator[tuple[Run, threading.Event]]:
    """An execution that is stopped between the start of its branches, and what a thread died of."""
    stopped, died = threading.Event(), threading.Event()

    def stop(_: Any) -> None:
        client("stepfunctions").stop_execution(executionArn=run.arn)
        stopped.set()

    start: Callable[[Any], None] = BranchWorker.start

    def start_in_turn(worker: Any) -> None:
        start(worker)
        assert stopped.wait(PATIENCE)

    branches: list[dict[str, Any]] = [
        {"StartAt": "task", "States": {"task": TASK | {"End": True}}},
        {"StartAt": "pass", "States": {"pass": {"Type": "Pass", "End": True}}},
    ]
    run = Run(machine({"both": {"Type": "Parallel", "Branches": branches, "End": True}}))
    with (
        handlers.registered({"f": stop}),
        replaced(BranchWorker, "start", start_in_turn),
        replaced(threading, "excepthook", lambda _: died.set()),
    ):
        yield run.start(), died


def test_an_execution_that_is_stopped_while_its_branches_start_ends() -> None:
    with stopped_while_branches_start() as (run, died):
        assert died.wait(PATIENCE)
        assert run.now()["status"] == "RUNNING", "it waits for a branch that ended unheard"
    with stopping.quietly(), stopped_while_branches_start() as (run, died):
        assert run.end()["status"] == "ABORTED"
        assert not died.is_set()


def history_of_one_stopped_before_its_timeout_is_read(name: str) -> list[str]:
    called: list[Any] = []
    states = {"task": TASK | {"TimeoutSeconds": 9, "Parameters": {"asked.$": "$"}, "End": True}}
    branches = [{"StartAt": "task", "States": states}]
    run = Run(machine({"one": {"Type": "Parallel", "Branches": branches, "End": True}}), name)
    find = StateTaskLambda._eval_state_credentials

    def stop_and_find(state: Any, env: Any) -> Any:
        client("stepfunctions").stop_execution(executionArn=run.arn)
        return find(state, env)

    with (
        handlers.registered({"f": called.append}),
        replaced(StateTask, "_eval_state_credentials", stop_and_find),
    ):
        run.start().end()
    history = client("stepfunctions").get_execution_history(executionArn=run.arn)["events"]
    assert not called
    return [event["type"] for event in history]


def test_a_task_that_is_stopped_before_its_timeout_is_read_ends_there() -> None:
    with pytest.raises(TypeError, match="not 'dict'"):
        history_of_one_stopped_before_its_timeout_is_read("shipped")
    with waiting.for_nothing(), stopping.quietly():
        told = history_of_one_stopped_before_its_timeout_is_read("quiet")
    assert told[:2] == ["ExecutionStarted", "ParallelStateEntered"]
    assert "LambdaFunctionScheduled" not in told


def waits_of_a_retry(run: Run) -> tuple[list[float], int, bool]:
    """What one retry sleeps, in how many threads its two tries run, and whether any is kept."""
    sleeps: list[float] = []
    threads: set[threading.Thread] = set()

    def fail(_: Any) -> None:
        threads.add(threading.current_thread())
        raise KeyError

    kept = len(TMP_THREADS)
    with handlers.registered({"f": fail}), replaced(time, "sleep", sleeps.append):
        end = run.start().end()
    assert (end["status"], end["error"]) == ("FAILED", "KeyError")
    return sleeps, len(threads), len(TMP_THREADS) > kept


def test_a_retry_waits_for_nothing_and_a_task_has_no_thread_of_its_own() -> None:
    retry = {"ErrorEquals": ["KeyError"], "IntervalSeconds": 3, "MaxAttempts": 1}
    made = machine({"task": TASK | {"Retry": [retry], "End": True}})
    assert waits_of_a_retry(Run(made)) == ([3], 2, True)
    with waiting.for_nothing() as naps, keeping.nothing():
        assert waits_of_a_retry(Run(made, "two")) == ([], 1, False)
    assert naps == [3]


def letters_looked_at() -> int:
    """How many letters moto looks at for two calls of one name."""
    looked: list[str] = []

    class Letter(str):
        def istitle(self) -> bool:
            looked.append(self)
            return str.istitle(self)

    class Name(str):
        def __iter__(self) -> Iterator[str]:
            return map(Letter, str.__iter__(self))

    for _ in range(2):
        assert moto_utils.camelcase_to_underscores(Name("GetItem")) == "get_item"
    return len(looked)


def test_a_name_is_worked_out_at_each_call() -> None:
    twice = letters_looked_at()
    with naming.once():
        assert letters_looked_at() == twice / 2


def letters_drawn(queue: str) -> int:
    """How many letters are drawn, each by itself, for a message that is sent and received."""
    drawn: list[str] = []
    choice = Random.choice

    def draw(self: Random, letters: str) -> str:
        drawn.append(choice(self, letters))
        return drawn[-1]

    sqs = client("sqs")
    with replaced(Random, "choice", draw):
        sqs.send_message(QueueUrl=queue, MessageBody="b")
        (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert re.fullmatch("[a-z]{185}", message["ReceiptHandle"])
    assert sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return len(drawn)


def put_back_after(hours: float, move: Callable[[float], None]) -> None:
    """Receive a message so many hours after it was sent, and put it back."""
    sqs = client("sqs")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="b")
    move(hours * 3600)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )
    assert sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_the_hours_that_a_message_may_be_hidden_are_counted_from_when_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead = [0.0]
    monkeypatch.setattr(sqs_models, "unix_time_millis", lambda: (time.time() + ahead[0]) * 1000)
    with pytest.raises(ClientError, match="beyond the limit"):
        put_back_after(13, lambda seconds: ahead.append(ahead.pop() + seconds))
    with clock.virtual() as moved:
        put_back_after(13, moved.sleep)


def test_an_id_is_drawn_letter_by_letter() -> None:
    queue = client("sqs").create_queue(QueueName="q")["QueueUrl"]
    assert letters_drawn(queue) > 185
    with drawing.at_once():
        assert letters_drawn(queue) == 0


def test_a_history_is_told_from_its_beginning_though_its_end_was_asked_for() -> None:
    run = Run(machine({"pass": {"Type": "Pass", "End": True}})).start()
    run.end()

    def ids() -> list[int]:
        sfn = client("stepfunctions")
        asked = sfn.get_execution_history(executionArn=run.arn, reverseOrder=True)
        return [event["id"] for event in asked["events"]]

    forwards = ids()
    assert forwards == sorted(forwards) != []
    with backwards.told():
        assert ids() == forwards[::-1]


def requests_of(call: Callable[[], Any]) -> list[str]:
    """What is made of HTTP for a call: what botocore signs, and what moto reads."""
    made: list[str] = []
    shipped = Request.from_primitives

    def read(*given: Any, **more: Any) -> Any:
        made.append("read")
        return shipped(*given, **more)

    with (
        replaced(SigV4Auth, "add_auth", lambda _, request: made.append("signed")),
        replaced(Request, "from_primitives", read),
    ):
        call()
    return made


def answers() -> list[Any]:
    """What each service answers, and what it refuses, but for what is drawn by lot."""
    dynamodb, sqs, sns, sfn = map(client, ("dynamodb", "sqs", "sns", "stepfunctions"))
    told: Any = {"kind": {"DataType": "String", "StringValue": "ä & b=c%"}}
    found: list[Any] = []

    def ask(call: Callable[..., Any], **asked: Any) -> Any:
        try:
            answer = call(**asked)
        except ClientError as error:
            answer = error.response
        about = answer.pop("ResponseMetadata")
        found.append((about["HTTPStatusCode"], sorted(about["HTTPHeaders"]), answer))
        return answer

    with suppress(dynamodb.exceptions.ResourceInUseException):
        create_table()
    ask(dynamodb.put_item, TableName="things", Item={"pk": {"S": "ä"}, "n": {"N": "1"}})
    ask(dynamodb.get_item, TableName="things", Key={"pk": {"S": "ä"}}, ConsistentRead=True)
    ask(dynamodb.transact_write_items, TransactItems=[take_one()])
    ask(dynamodb.scan, TableName="none")
    ask(sqs.create_queue, QueueName="queue", Attributes={"DelaySeconds": "3"})
    url = ask(sqs.get_queue_url, QueueName="queue")["QueueUrl"]
    sent = ask(sqs.send_message, QueueUrl=url, MessageBody="ä", MessageAttributes=told)
    sent.pop("MessageId", None)
    ask(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["DelaySeconds"])
    ask(sqs.get_queue_url, QueueName="none")
    topic = ask(sns.create_topic, Name="topic")["TopicArn"]
    entries: Any = [{"Id": "1", "Message": "ä & b=c%", "MessageAttributes": told}]
    published = ask(sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=entries)
    assert published["Successful"].pop().pop("Id") == "1"
    ask(sns.publish, TopicArn=f"{topic}-none", Message="none")
    ask(sfn.describe_execution, executionArn=f"{topic}:none")
    return found


def test_a_call_is_written_as_http_and_signed_and_read_from_it_again() -> None:
    dynamodb = client("dynamodb")
    assert requests_of(dynamodb.list_tables) == ["signed", "read"]
    by_http = answers()
    with directly.passed():
        assert requests_of(dynamodb.list_tables) == []
        assert answers() == by_http
        assert requests_of(client("s3").list_buckets) == ["signed", "read"]
    assert requests_of(dynamodb.list_tables) == ["signed", "read"]


def test_where_a_call_goes_is_found_out_once() -> None:
    dynamodb = client("dynamodb")

    def calls_of_another() -> int:
        dynamodb.list_tables()
        found_out = ("to_string", "_get_provider_params")
        with calls_counted(lambda code: code.co_name in found_out) as calls:
            dynamodb.list_tables()
        return calls()

    assert calls_of_another() > 10
    with wording.once():
        assert calls_of_another() == 0


def test_every_model_that_was_made_is_kept() -> None:
    tracked: Any = Item
    kept = len(tracked.instances_tracked)
    Item(DynamoType({"S": "a"}), None, {})
    assert len(tracked.instances_tracked) == kept + 1
    with keeping.nothing():
        Item(DynamoType({"S": "a"}), None, {})
    assert len(tracked.instances_tracked) == kept + 1


def test_an_object_that_is_deleted_while_it_is_copied_is_copied_whole() -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="bucket")

    def deleted_meanwhile() -> str:
        s3.put_object(Bucket="bucket", Key="from", Body=b"body")
        (found,) = s3_backends[handlers.ACCOUNT]["aws"].get_bucket("bucket").keys.values()
        s3.delete_object(Bucket="bucket", Key="from")
        return bytes(found.value).decode()

    with pytest.raises(ValueError, match="closed file"):
        deleted_meanwhile()
    with objects.whole():
        assert deleted_meanwhile() == "body"


def test_an_execution_has_ended_when_it_has_been_started() -> None:
    answer = threading.Event()
    slow = machine({"task": TASK | {"End": True}})
    with handlers.registered({"f": lambda _: answer.wait(PATIENCE)}):
        run = Run(slow).start()
        assert run.now()["status"] == "RUNNING"
        answer.set()
        run.end()
    with waiting.for_nothing(), handlers.registered({"f": lambda _: None}):
        assert Run(slow, "two").start().now()["status"] == "SUCCEEDED"


def attributes_measured(number: int) -> int:
    measured: list[DynamoType] = []
    size = DynamoType.size

    def noted(one: DynamoType) -> int:
        measured.append(one)
        return size(one)

    with replaced(DynamoType, "size", noted):
        Item(DynamoType({"S": "a"}), None, {f"n{at}": {"N": "1"} for at in range(number)})
    return len(measured)


def test_false_is_no_number() -> None:
    with mock_aws():
        dynamodb = create_table()
        dynamodb.put_item(TableName="things", Item={"pk": {"S": "a"}, "vip": {"BOOL": False}})

        def holds(condition: str) -> bool:
            try:
                dynamodb.update_item(
                    TableName="things",
                    Key={"pk": {"S": "a"}},
                    UpdateExpression="SET vip = vip",
                    ConditionExpression=condition,
                    ExpressionAttributeValues={":none": {"N": "0"}},
                )
            except dynamodb.exceptions.ConditionalCheckFailedException:
                return False
            return True

        assert holds("vip = :none") and not holds("vip <> :none")
        with comparing.by_type():
            assert not holds("vip = :none") and holds("vip <> :none")


def test_a_row_is_measured_anew_for_each_of_its_attributes() -> None:
    assert attributes_measured(10) == 10 + sum(range(10))
    with measuring.once():
        assert attributes_measured(10) == 10


def test_a_text_is_worked_out_whenever_it_is_compared() -> None:
    worked_out: list[str] = []
    shipped = DynamoType.__dict__["cast_value"]

    def noted(one: DynamoType) -> Any:
        worked_out.append(one.value)
        return shipped.fget(one)

    one, other = DynamoType({"S": "a"}), DynamoType({"S": "b"})
    with replaced(DynamoType, "cast_value", property(noted)):
        assert one < other and one != other
        assert worked_out
        worked_out.clear()
        with measuring.once():
            assert one < other and one != other and hash(one) == hash(DynamoType({"S": "a"}))
            assert DynamoType({"N": "10"}) == DynamoType({"N": "10.0"})
        assert worked_out == ["10", "10.0"]


def test_a_row_is_read_whole_for_each_attribute_that_is_shown() -> None:
    attrs: dict[str, Any] = {name: {"S": name} for name in "abcdef"}
    attrs["list"] = {"L": [{"N": "1"}, {"B": b"2"}]}
    attrs["of[map"] = {"M": {"one": {"SS": ["x", "y"]}, "other": {"NULL": True}}}
    row = Item(DynamoType({"S": "a"}), None, attrs)
    paths = [["a"], ["b"], ["none"], ["list[1]"], ["of[map", "one"], ["of[map", "other"]]
    read: list[DynamoType] = []
    shipped = DynamoType.to_regular_json

    def noted(one: DynamoType) -> Any:
        read.append(one)
        return shipped(one)

    with replaced(DynamoType, "to_regular_json", noted):
        shown = row.project(paths)
        assert sum(one is row.attrs["c"] for one in read) == len(paths)
        read.clear()
        with measuring.once():
            assert row.project(paths) == shown
        assert not any(one is row.attrs["c"] for one in read)


def test_what_is_read_of_a_row_is_copied_once_for_each_map_and_list_that_it_is_in() -> None:
    deep: dict[str, Any] = {"L": [{"M": {"a": {"L": [{"N": "1"}, {"SS": ["x", "y"]}]}}}]}
    attrs: dict[str, Any] = {"deep": deep, "b": {"B": "YQ=="}, "null": {"NULL": True}}
    row = Item(DynamoType({"S": "ä"}), DynamoType({"N": "1"}), attrs)

    def read_and_copied() -> Any:
        other = copy.deepcopy(row)
        assert other == row and other.range_key == row.range_key
        read = row.attrs["deep"].to_regular_json(), row.attrs["b"].to_regular_json()
        other.attrs["deep"].value[0].value["a"].value[1].value.append("z")
        read[0]["L"][0]["M"]["a"]["L"][1]["SS"].append("z")
        assert row.to_json() == {"Attributes": attrs}
        return read

    with calls_counted(lambda code: code is copy.deepcopy.__code__) as copies:
        shipped = read_and_copied()
    assert copies() > 20
    with measuring.once(), calls_counted(lambda code: code is copy.deepcopy.__code__) as copies:
        assert read_and_copied() == shipped
    assert copies() == 1


@pytest.mark.parametrize("kind", ["S", "N"])
def test_each_key_of_a_table_is_looked_at_for_every_other_one(kind: str) -> None:
    client("dynamodb").create_table(
        TableName="sorted",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": kind},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    create_table()
    for number in Random(1).sample(range(100), 40):
        key: dict[str, Any] = {"pk": {"S": str(number % 7)}}
        row = key | {"sk": {kind: str(number)}}
        client("dynamodb").put_item(TableName="sorted", Item=row)
        client("dynamodb").put_item(TableName="things", Item={"pk": {"S": str(number)}})
    for name in ("sorted", "things"):
        table = dynamodb_backends[handlers.ACCOUNT]["us-east-1"].get_table(name)
        with calls_counted(lambda code: code.co_name == "cast_value") as looks:
            shipped = table.all_items()
        assert looks() > 4 * len(shipped)
        with measuring.once(), calls_counted(lambda code: code.co_name == "cast_value") as looks:
            assert table.all_items() == shipped
        assert looks() <= 2 * len(shipped)


@pytest.mark.parametrize("kind", ["S", "N"])
def test_a_query_sorts_and_looks_through_all_of_its_table(kind: str) -> None:
    made, names = client("dynamodb"), {"pk": "S", "sk": kind, "owner": kind, "at": "S"}
    made.create_table(
        TableName="owned",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": of} for name, of in names.items()
        ],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-owner",
                "KeySchema": [
                    {"AttributeName": "owner", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    for number in Random(1).sample(range(100), 60):
        row = {"pk": {"S": str(number % 7)}, "sk": {kind: str(number)}}
        if number % 4:
            row |= {"owner": {kind: str(number % 5)}, "at": {"S": str(number % 3)}}
        made.put_item(TableName="owned", Item=row)

    def pages(forward: bool, name: str, value: Any, index: Mapping[str, Any]) -> list[Any]:
        """What a query finds, page by page."""
        found: list[Any] = []
        more: dict[str, Any] = {}
        while True:
            page = made.query(
                TableName="owned",
                KeyConditionExpression="#key = :key",
                ExpressionAttributeNames={"#key": name},
                ExpressionAttributeValues={":key": value},
                ScanIndexForward=forward,
                Limit=4,
                **index,
                **more,
            )
            found.append(page["Items"])
            if "LastEvaluatedKey" not in page:
                return found
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    by_owner = {"IndexName": "by-owner"}
    asked: list[tuple[str, Any, Mapping[str, Any]]] = [
        ("pk", {"S": "1"}, {}),
        ("pk", {"S": "none"}, {}),
        ("owner", {kind: "3"}, by_owner),
        ("owner", {kind: "3.0"}, by_owner),
    ]

    def every() -> list[Any]:
        return [
            pages(forward, name, value, index)
            for forward in (True, False)
            for name, value, index in asked
        ]

    with calls_counted(lambda code: code.co_name == "cast_value") as looks:
        shipped = every()
    assert looks() > 10_000 and len(shipped[0]) > 1 and len(shipped[2]) > 1
    with measuring.once(), calls_counted(lambda code: code.co_name == "cast_value") as looks:
        assert every() == shipped
        assert len(dynamodb_backends[handlers.ACCOUNT]["us-east-1"].get_table("owned").all_items())
    assert looks() < 10_000


def test_a_row_has_a_largest_size_and_what_is_replaced_or_removed_does_not_count() -> None:
    with measuring.once():
        row = Item(DynamoType({"S": "a"}), None, {"a": {"S": "x" * 300_000}, "b": {"S": "b"}}).attrs
        row["a"] = DynamoType({"S": "y" * 300_000})
        with pytest.raises(ItemSizeTooLarge):
            row["b"] = DynamoType({"S": "x" * 110_000})
        del row["a"]
        row["b"] = DynamoType({"S": "x" * 110_000})
