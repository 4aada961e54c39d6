"""The ground: every saga on moto, with the real declarations, machines, steps and consumers.

An execution runs to its end in the thread that starts it. What it tells waits in the outboxes
until `settle` relays it, so a test decides when and how often anything is delivered.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any
from unittest import mock

from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

from lambdas import confirm as confirm_function
from lambdas import ledger as ledger_function
from recourse import events
from recourse.asl import compile_saga
from recourse.aws import client
from recourse.items import decode_item, request
from recourse.ledger import Ledger, Record, digest, saga_id
from recourse.park import park
from recourse.relay import relay
from recourse.runs import Runs, parse_name, run_name
from recourse.runtime import StepRunner
from recourse.saga import Saga, Step
from recourse.step import Document
from recourse.sweeper import Sweeper
from services.holdings import HOLDINGS
from statemachines import SAGAS
from tests.moto import (
    attributes,
    handlers,
    keeping,
    parsing,
    stopping,
    streams,
    transactions,
    waiting,
)

LEDGER = "ledger"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
PATIENCE = 5
"""A nap longer than this plays a step that answers after its task's timeout."""

Mishap = Callable[[str, dict[str, Any], Callable[[], Any]], Any]


def _no_mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
    return run()


def nap(seconds: float) -> None:
    """Wait a moment; a long wait is a step that answers too late.

    Raises:
        TimeoutError: The task has timed out meanwhile.
    """
    if seconds > PATIENCE:
        raise TimeoutError
    time.sleep(min(seconds, 0.002))


@dataclass(repr=False)
class Ground:
    """Every saga on moto.

    Attributes:
        sagas: The declarations.
        stream: What the tables' streams hold.
        naps: What retries would have waited.
        mishap: Wraps every call of a step's function: a test may kill it, delay it, repeat it.
        documents: What steps have stored.
        stock: What was put last, by kind and id.
    """

    sagas: Mapping[str, Saga]
    stream: streams.Stream
    naps: list[float]
    mishap: Mishap = _no_mishap
    documents: dict[str, Document] = field(default_factory=dict)
    stock: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dynamodb = client("dynamodb")
        self.sfn = client("stepfunctions")
        self.sns = client("sns")
        self.sqs = client("sqs")
        self.steps: dict[str, Step] = {
            step.function: step for saga in self.sagas.values() for step in saga.all
        }
        self.services = sorted({step.service for step in self.steps.values()})
        for table in (*self.services, LEDGER):
            self._table(table)
        self.functions: dict[str, handlers.Handler] = {
            name: partial(self._step, name, self._runner(step)) for name, step in self.steps.items()
        }
        self.functions["Park"] = self._park
        machines = {name: self._machine(saga) for name, saga in self.sagas.items()}
        self.topic = self.sns.create_topic(Name="events")["TopicArn"]
        self.ledger_queue = self._queue(LEDGER)
        self.ledger = Ledger(self.dynamodb, LEDGER, self.sagas)
        pivots = {name: saga.pivot.function for name, saga in self.sagas.items()}
        self.runs = Runs(self.sfn, _Invoker(self.functions), self.sagas, machines, pivots)  # type: ignore[arg-type]
        self.sweeper = Sweeper(self.ledger, self.runs, self.sagas)

    # What a caller does.

    def start(
        self,
        saga: str,
        body: Mapping[str, Any],
        *,
        key: str,
        faults: Mapping[str, str] | None = None,
        run: bool = True,
    ) -> str:
        """Start a saga as the API does, and run it to its end; the saga's id."""
        declared = self.sagas[saga]
        record, _ = self.ledger.start(
            Record(
                saga_id=saga_id(saga, "asha", key),
                saga=saga,
                owner="asha",
                business_key=body[declared.business_key],
                coordination="orchestration",
                request=body,
                body=digest(body),
                started_at=events.now(),
                faults=faults or {},
            )
        )
        if run:
            self.runs.start(record)
        return record.saga_id

    def resolve(self, saga: str, step: str, *, skip: bool) -> None:
        """Decide on a stuck step as an operator."""
        self.runs.start(self.ledger.resolve(saga, step, skip=skip, reason="a test", by="operator"))

    def view(self, saga: str) -> dict[str, Any]:
        """The saga as the API shows it."""
        record = self.ledger.get(saga)
        assert record is not None
        return record.view(self.sagas[record.saga])

    def statuses(self, saga: str) -> dict[str, str]:
        """The status of each of its steps."""
        return {step["name"]: step["status"] for step in self.view(saga)["steps"]}

    def put(self, kind: str, thing: str, body: Mapping[str, Any]) -> None:
        """Make a thing that a service holds."""
        holding = HOLDINGS[kind]
        row = self.row(holding.service, holding.key(thing))
        writes = holding.change(thing, row, body)
        assert writes is not None
        self.dynamodb.transact_write_items(
            TransactItems=[request(holding.service, write) for write in writes]
        )
        self.stock[kind, thing] = body

    def held(self, kind: str, thing: str) -> dict[str, Any]:
        """A thing as the API shows it."""
        holding = HOLDINGS[kind]
        row = self.row(holding.service, holding.key(thing))
        assert row is not None
        return holding.show(row)

    # What runs by itself.

    def settle(self, *, shuffle: random.Random | None = None, twice: bool = False) -> None:
        """Deliver everything that is told, until all is quiet.

        Args:
            shuffle: In a random order.
            twice: Every message two times.
        """
        while records := self.stream.fetch():
            if shuffle:
                shuffle.shuffle(records)
            # moto's queues are slow when they are full, so they are emptied in between.
            for first in range(0, len(records), 20):
                for _ in range(1 + twice):
                    relay(self.sns, self.topic, records[first : first + 20])
                while self._drain(shuffle):
                    pass

    def confirm(self, bodies: list[str]) -> None:
        """Let every service hear of pivots that have acted."""
        messages = [{"body": body, "messageId": str(n)} for n, body in enumerate(bodies)]
        for service in self.services:
            failed = confirm_function.take(self.dynamodb, service, service, messages)
            assert failed == {"batchItemFailures": []}

    def _drain(self, shuffle: random.Random | None) -> int:
        got = self.sqs.receive_message(QueueUrl=self.ledger_queue, MaxNumberOfMessages=10)
        messages = got.get("Messages", [])
        if shuffle:
            shuffle.shuffle(messages)
        records = [{"messageId": m["MessageId"], "body": m["Body"]} for m in messages]
        failed = {
            failure["itemIdentifier"]
            for failure in ledger_function.take(self.ledger, records)["batchItemFailures"]
        }
        pivots = {f"recourse.{saga.name}.{saga.pivot.name}.done" for saga in self.sagas.values()}
        self.confirm([r["body"] for r in records if json.loads(r["body"])["type"] in pivots])
        for message in messages:
            if message["MessageId"] not in failed:
                self.sqs.delete_message(
                    QueueUrl=self.ledger_queue, ReceiptHandle=message["ReceiptHandle"]
                )
        return len(messages)

    def forget(self) -> None:
        """Forget the sagas whose executions have ended: their history, rows, events, documents.

        What they took from the services stays taken. Only for runs of thousands of sagas.
        """
        backend = stepfunctions_parser_backends[handlers.ACCOUNT]["us-east-1"]
        ended: set[str] = set()
        for machine in backend.state_machines:
            ended |= {parse_name(e.name)[0] for e in machine.executions if e.status != "RUNNING"}
            machine.executions = [e for e in machine.executions if e.status == "RUNNING"]
        for table in dynamodb_backends[handlers.ACCOUNT]["us-east-1"].tables.values():
            for key in [k for k in table.items if ended & set(re.split("[#.]", k.value))]:
                del table.items[key]
        self.stream.fetch()
        self.documents.clear()
        self.naps.clear()

    # What tests look at.

    def row(self, table: str, key: str) -> dict[str, Any] | None:
        """A row, if there is one."""
        got = self.dynamodb.get_item(TableName=table, Key={"pk": {"S": key}}, ConsistentRead=True)
        return decode_item(got["Item"]) if "Item" in got else None

    def rows(self, table: str, prefix: str) -> list[dict[str, Any]]:
        """Every row whose key begins so."""
        pages = self.dynamodb.get_paginator("scan").paginate(
            TableName=table,
            FilterExpression="begins_with(pk, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": prefix}},
        )
        return [decode_item(item) for page in pages for item in page["Items"]]

    def execution(self, saga: str, run: int = 0) -> dict[str, Any]:
        """An execution as Step Functions describes it."""
        record = self.ledger.get(saga)
        assert record is not None
        machine = self.runs.machines[record.saga].replace(":stateMachine:", ":execution:")
        described: dict[str, Any] = self.sfn.describe_execution(
            executionArn=f"{machine}:{run_name(saga, run)}"
        )
        return described

    def entered(self, saga: str) -> Counter[str]:
        """How often each state of the first run was entered."""
        arn = self.execution(saga)["executionArn"]
        history = self.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        return Counter(
            event["stateEnteredEventDetails"]["name"]
            for event in history
            if "stateEnteredEventDetails" in event
        )

    # How it is made.

    def _runner(self, step: Step) -> StepRunner:
        return StepRunner(
            self.dynamodb,
            step.service,
            step.action,
            step.undo,
            store=self._store if step.action.documents else None,
            faults=True,
            sleep=nap,
        )

    def _store(self, document: Document) -> None:
        self.documents[document.key] = document

    def _step(self, name: str, runner: StepRunner, task: dict[str, Any]) -> Any:
        return self.mishap(name, task, lambda: runner.run(task))

    def _park(self, task: dict[str, Any]) -> list[str]:
        return park(self.dynamodb, LEDGER, self.sagas[task["saga"]["name"]], task, 1)

    def _machine(self, saga: Saga) -> str:
        text = json.dumps(compile_saga(saga))
        for name in self.functions:
            text = text.replace(f"${{{name}}}", handlers.arn(name))
        role = f"arn:aws:iam::{handlers.ACCOUNT}:role/machine"
        made = self.sfn.create_state_machine(name=saga.name, definition=text, roleArn=role)
        return str(made["stateMachineArn"])

    def _table(self, name: str) -> None:
        indexes = {"by-owner": "owner", "by-status": "status", "by-business-key": "business_key"}
        attributes = ["pk"]
        options: dict[str, Any] = {}
        if name == LEDGER:
            attributes += ["started", *indexes.values()]
            options["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": index,
                    "KeySchema": [
                        {"AttributeName": attribute, "KeyType": "HASH"},
                        {"AttributeName": "started", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, attribute in indexes.items()
            ]
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"} for attribute in attributes
            ],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
            **options,
        )

    def _queue(self, name: str) -> str:
        url = self.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "0"})[
            "QueueUrl"
        ]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        self.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=arn["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )
        return str(url)


class _Invoker:
    """A Lambda client that knows the ground's functions."""

    def __init__(self, functions: Mapping[str, handlers.Handler]) -> None:
        self._functions = functions

    def invoke(self, *, FunctionName: str, Payload: str) -> dict[str, Any]:
        answer = handlers.call(self._functions[FunctionName], Payload)
        return {"Payload": BytesIO(json.dumps(answer).encode())}


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Say nothing: moto warns of every failure that a test brings about."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@contextmanager
def ground(sagas: Mapping[str, Saga] = SAGAS) -> Iterator[Ground]:
    """A fresh ground, for the length of a block."""
    config: Any = {"stepfunctions": {"execute_state_machine": True}}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, ENVIRONMENT))
        stack.enter_context(mock_aws(config=config))
        stack.callback(client.cache_clear)
        client.cache_clear()
        naps = stack.enter_context(waiting.for_nothing())
        stack.enter_context(keeping.nothing())
        stack.enter_context(parsing.once())
        stack.enter_context(stopping.quietly())
        stack.enter_context(attributes.plain())
        stack.enter_context(transactions.true())
        stream = stack.enter_context(streams.collected())
        stack.enter_context(_quiet("moto"))
        made = Ground(sagas, stream, naps)
        stack.enter_context(handlers.registered(made.functions))
        yield made
