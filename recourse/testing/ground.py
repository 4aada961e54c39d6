"""The ground: sagas on moto, with their real declarations, machines, steps and consumers.

An execution runs to its end in the thread that starts it. What it tells waits in the outboxes
until it is relayed, and what is relayed waits in the queues until it is delivered, so a test
decides when, in what order and how often anything is (`relay`, `deliver`, `wait`), or has all of it
delivered (`settle`).

It is longer than other modules because it is one object with one state, as what it stands for is:
a test asks it for everything.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from threading import Condition, RLock, get_ident
from typing import Any, TypeVar
from unittest import mock

from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

from recourse import events
from recourse.choreography.listener import MIN_RECEIVES, Listener
from recourse.choreography.routing import listeners
from recourse.choreography.tries import longest
from recourse.declare.declaration import Coordination, Earlier, Step
from recourse.declare.ids import SagaId, Traceparent
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.declare.shape import Shape
from recourse.declare.step import Document
from recourse.declare.tables import ExistingTable
from recourse.errors import TransientError
from recourse.events.relay import relay
from recourse.functions import confirm as confirm_function
from recourse.functions import ledger as ledger_function
from recourse.functions import limits
from recourse.functions import step_queue as queue_function
from recourse.ledger.history import AT_REST
from recourse.ledger.ledger import Ledger
from recourse.ledger.listing import INDEXES
from recourse.ledger.record import Record, digest
from recourse.ledger.reversals import Reversal
from recourse.orchestration.compiler import compile_saga
from recourse.orchestration.decisions import Decisions, Outcome
from recourse.orchestration.executions import Runs, parse_name, run_name
from recourse.orchestration.markers import Markers
from recourse.orchestration.sweeper import LEASE_DURATION, Sweeper
from recourse.queues.deadletters import DeadletterQueue, OperatorQueue, deadletters_of
from recourse.queues.reach import Reach
from recourse.queues.sources import SourceQueue, dead_letter_record
from recourse.run.failures import reported
from recourse.run.fault_injector import FaultInjector
from recourse.run.parking import park
from recourse.run.runner import StepRunner
from recourse.run.task import TaskRunner
from recourse.store.aws import client
from recourse.store.items import decode_item, encode_item
from recourse.store.lease import Lease
from recourse.testing import (
    attributes,
    backwards,
    clock,
    comparing,
    fairness,
    handlers,
    keeping,
    parsing,
    speed,
    stopping,
    streams,
    transactions,
    waiting,
)

LEDGER = "ledger"
PARKED = "parked"
HANGING = 300
"""Seconds after which a step that has not answered never will."""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
Made = TypeVar("Made", bound="Ground")
Mishap = Callable[[str, dict[str, Any], Callable[[], Any]], Any]


def _no_mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
    return run()


def is_business(row: Mapping[str, Any]) -> bool:
    """Whether a row is one that an author writes: no marker, no outbox, no inbox."""
    return not str(row.get("pk", "")).startswith(("marker#", "outbox#", "inbox#"))


def key_text(row: Mapping[str, Any], table: ExistingTable | None) -> str:
    """The key of a row, in words."""
    return "/".join(str(row[name]) for name in (table.key_names if table else ("pk",)))


@dataclass(repr=False)
class Ground:
    """Sagas on moto.

    Attributes:
        sagas: The declarations that are deployed.
        earlier: Other shapes that sagas in flight may have.
        stream: What the tables' streams hold.
        naps: What retries would have waited.
        clock: The clock of the queues.
        mishap: Wraps every call of a step's function: a test may kill it, delay it, repeat it.
        documents: What steps have stored.
        operators_queues: Those that the sweeper clears, where a test gives them to it.
        alarms: What the sweeper has told whoever is on call, by saga.
        passed_over: Which queues began to be out of the sweeper's reach, and when.
        end: Ends the process of a step's queue function, where a thread of it hangs; by default
            what its threads have begun comes to an end before anything else happens.
        alone: Held by every call of DynamoDB: who holds it sees no half of a transaction.
    """

    sagas: Mapping[str, Saga]
    stream: streams.Stream
    naps: list[float]
    clock: clock.Clock
    mishap: Mishap = _no_mishap
    documents: dict[str, Document] = field(default_factory=dict)
    end: Callable[[], None] | None = None
    alone: AbstractContextManager[Any] = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.dynamodb = client("dynamodb")
        self.sfn = client("stepfunctions")
        self.sns = client("sns")
        self.sqs = client("sqs")
        self.topic = self.sns.create_topic(Name="events")["TopicArn"]
        self.lost = self._made_queue("streams-deadletters", {})[0]
        self.services: list[str] = []
        self.functions: dict[str, handlers.Handler] = {}
        self.queues: dict[str, str] = {}
        self.existing: dict[str, ExistingTable] = {}
        self.alarms: list[tuple[str, str]] = []
        self.passed_over: list[tuple[str, datetime]] = []
        self._sources: dict[str, SourceQueue] = {}
        self._tries: dict[int, tuple[str, str]] = {}
        self._tries_change = Condition()
        self._subscriptions: dict[str, str] = {}
        self._heard: dict[str, dict[str, list[str]]] = {}
        self._defined: dict[str, tuple[Shape[Any], str]] = {}
        self._table(LEDGER)
        self.queues[LEDGER] = self._queue(LEDGER)
        self._made_queue(deadletters_of(PARKED), {})
        self._subscribe(self._made_queue(PARKED, {})[1], {"outcome": ["parked"]})
        self.deploy(self.sagas)

    def deploy(self, sagas: Mapping[str, Saga], earlier: Sequence[Earlier] = ()) -> None:
        """Deploy declarations, in the place of those that are deployed.

        What is in flight stays so: tables, messages and runs.

        Args:
            sagas: The declarations, by name.
            earlier: Other shapes that sagas in flight may have.
        """
        self.sagas, self.earlier = sagas, earlier
        shapes: list[Shape[Step]] = [*earlier, *sagas.values()]
        self.steps: dict[str, Step] = {
            step.function: step for shape in shapes for step in shape.all
        }
        services = {step.service for step in self.steps.values()}
        for table in sorted(services.difference(self.services)):
            self._table(table)
        self.services = sorted(services.union(self.services))
        existing = {
            table.name: table
            for step in self.steps.values()
            for part in (step.action, step.undo, step.confirm)
            for table in (part.tables if part else ())
        }
        for name in sorted(existing.keys() - self.existing):
            self.make_table(existing[name])
        self.existing |= existing
        # The very mapping that Lambda tasks look into: those that go stay, as nobody deletes them.
        self.functions |= {
            name: partial(self._step, name, self._runner(step)) for name, step in self.steps.items()
        }
        self.functions["Park"] = self._park
        machines = {shape.name: self._machine(shape) for shape in shapes}
        decided = sorted({f"recourse.{shape.name}.{shape.pivot.name}.done" for shape in shapes})
        heard = {
            f"{service}-confirm": {"type": decided}
            for service in sorted({s.service for shape in shapes for s in shape.all if s.confirm})
        }
        heard |= {
            function: {"coordination": ["choreography"], "type": types}
            for function, types in listeners(shapes).items()
        }
        for name, only in heard.items():
            self._hear(name, only)
        lost = [deadletters_of(name) for name in (PARKED, LEDGER, *self.steps)]
        self._operators = [PARKED, *lost]
        self.operators_queues = [OperatorQueue(self.sqs, name) for name in self._operators]
        self.deadletters = {
            name: DeadletterQueue(self.sqs, name, name) for name in sorted(self.queues)
        }
        self.ledger = Ledger(self.dynamodb, LEDGER, self.sagas)
        self.listeners = {name: self._listener(name, step) for name, step in self.steps.items()}
        self.runs = Runs(
            self.sfn,
            _Invoker(self.functions),  # type: ignore[arg-type]
            self.ledger.shapes,
            machines,
            {name: name for name in self.steps},
            self._version,
        )
        now = self.clock.seconds
        tables = {service: service for service in self.services}
        self.sweeper = Sweeper(
            ledger=self.ledger,
            runs=self.runs,
            markers=Markers(self.dynamodb, LEDGER, tables, self.ledger.shapes),
            lease=Lease(self.dynamodb, LEDGER, "lease#sweeper", seconds=LEASE_DURATION, clock=now),
            alarm=lambda saga, why: self.alarms.append((saga, why)),
            reach=Reach(self.dynamodb, LEDGER, lambda *passed: self.passed_over.append(passed)),
            room=self.room_for_imports,
            clock=now,
            sleep=self.clock.sleep,
        )
        self.decisions = Decisions(self.ledger, self.runs, self._left)

    # What a caller does.

    def start(
        self,
        saga: str,
        body: Mapping[str, Any],
        *,
        key: str,
        faults: Mapping[str, str] | None = None,
        coordination: Coordination = "orchestration",
        run: bool = True,
        owner: str = "asha",
        trace: Traceparent | None = None,
        begins_at: str | None = None,
    ) -> str:
        """Start a saga as the API does, and run it to its end; the saga's id.

        One that `begins_at` a time begins when the sweeper goes round from then on.

        Of one that reverses another the body is that one's, which is started first and settled.
        """
        if first := reversed_by(self.sagas).get(saga):
            before = self.start(first[0].name, body, key=key, owner=owner)
            self.settle()
            return self.reverse(
                before, faults=faults, coordination=coordination, run=run, by=owner, trace=trace
            )
        declared = self.sagas[saga]
        record, _ = self.ledger.start(
            Record(
                saga_id=SagaId.of(saga, owner, key),
                saga=saga,
                owner=owner,
                business_key=body[declared.business_key],
                coordination=coordination,
                request=body,
                body=digest(body),
                started_at=events.now(),
                faults=faults or {},
                begins_at=begins_at,
                scheduled=begins_at is not None,
            ),
            trace=trace,
        )
        if run and not record.scheduled:
            self.runs.start(record)
        return record.saga_id

    def reverse(
        self,
        saga: str,
        *,
        reason: str | None = None,
        faults: Mapping[str, str] | None = None,
        coordination: Coordination = "orchestration",
        run: bool = True,
        by: str = "asha",
        trace: Traceparent | None = None,
    ) -> str:
        """Reverse a saga that has succeeded, as the API does; the id of the reversing one."""
        asked = Reversal(by=by, reason=reason, coordination=coordination, faults=faults or {})
        record = self.ledger.reverse(saga, asked, trace=trace)
        if run:
            self.runs.start(record)
        return record.saga_id

    def resolve(self, saga: str, step: str, *, skip: bool) -> None:
        """Decide on a stuck step as an operator."""
        opened = self.ledger.resolve(saga, step, skip=skip, reason="a test", by="operator")
        with suppress(TransientError):  # it is left to the sweeper, as by the API
            self.runs.start(opened)

    def decide(
        self, saga: str, step: str, *, approved: bool, reason: str = "", by: str = "somebody"
    ) -> Outcome:
        """Answer the question of a step, as the API does."""
        record = self.ledger.get(saga)
        assert record is not None
        asking = self.ledger.shape(record).by_name[step]
        return self.decisions.decide(record, asking, approved=approved, reason=reason, by=by)

    def cancel(self, saga: str) -> bool:
        """Cancel a saga, as the API does; whether that was still possible."""
        record = self.ledger.get(saga)
        assert record is not None
        if record.scheduled:
            at = events.moment(datetime.fromtimestamp(self.clock.seconds(), UTC))
            record = self.ledger.call_off(saga, at=at)
            self.runs.start(record)
            return True
        cancelled = self.runs.cancel(record)
        if cancelled:
            self.decisions.withdraw(record)
        return cancelled

    def _left(self, record: Record, problem: Exception) -> None:
        """What could not be started is left to the sweeper."""

    def view(self, saga: str) -> dict[str, Any]:
        """The saga as the API shows it."""
        record = self.ledger.get(saga)
        assert record is not None
        return record.view(self.ledger.shape(record))

    def statuses(self, saga: str) -> dict[str, str]:
        """The status of each of its steps."""
        return {step["name"]: step["status"] for step in self.view(saga)["steps"]}

    # What there is before any saga.

    def make_table(self, table: ExistingTable, types: str = "SS") -> None:
        """Make a table that exists already, empty; without this its keys are text.

        Args:
            table: As it is declared.
            types: Of each attribute of its key: `S` for text, `N` for whole numbers.
        """
        if table.name in self._tables:
            self.dynamodb.delete_table(TableName=table.name)
        names = table.key_names
        self.dynamodb.create_table(
            TableName=table.name,
            KeySchema=[
                {"AttributeName": name, "KeyType": "RANGE" if number else "HASH"}
                for number, name in enumerate(names)
            ],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in zip(names, types, strict=False)
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def add(self, table: str, *rows: Mapping[str, Any]) -> None:
        """Put rows into a table, as they are before any saga begins.

        Args:
            table: The name of a service, or of a table that exists already.
            rows: Each with its key: `{"pk": "item#tea", "free": 100}`.
        """
        for row in rows:
            self.dynamodb.put_item(TableName=table, Item=encode_item(row))

    # What runs by itself.

    def sweep(self, timescale: float = 1) -> dict[str, str]:
        """Let the sweeper go round; a timescale near 0 lets every deadline pass."""
        return replace(self.sweeper, timescale=timescale).sweep()

    def hear_of_end(self, saga: str, run: int = 0) -> dict[str, str]:
        """Tell the sweeper how a run has ended, as the execution-status event does, if badly."""
        ended = self.execution(saga, run)
        if ended["status"] in ("RUNNING", "SUCCEEDED"):
            return {}
        return self.sweeper.handle_run_end(ended["name"], ended["status"], ended.get("error"))

    def room_for_imports(self, owner: str) -> int:
        """How many more sagas of an owner's imports may begin now."""
        return limits.room_for_imports(self.ledger.queries.in_flight, owner)

    def settle(
        self,
        *,
        shuffle: random.Random | None = None,
        twice: bool = False,
        without: str | None = None,
        fair: bool = False,
    ) -> None:
        """Deliver everything that is told, until all is quiet and nothing is put off.

        Args:
            shuffle: In a random order.
            twice: Every message two times.
            without: A queue that delivers nothing; no time passes then, so what is put off waits.
            fair: Fairly between message groups (`deliver`).
        """
        moved = True
        while moved:
            moved = bool(self.relay(shuffle=shuffle, twice=twice))
            names = list(self.queues)
            if shuffle:
                shuffle.shuffle(names)
            for name in names:
                if name != without and self.waiting(name):
                    moved = bool(self.deliver(name, shuffle=shuffle, fair=fair)) or moved
            moved = moved or (without is None and self.pass_time())

    def pass_time(self) -> bool:
        """Move on until the next message comes that is put off or being taken; whether one does."""
        backends = (self._backend[name] for name in self.queues)
        return self.clock.skip(m.visible_at for queue in backends for m in queue._messages)

    def lose(self, name: str) -> None:
        """Lose the messages of a queue that could be delivered now."""
        queue = self._backend[name]
        for message in queue.messages:
            queue._messages.remove(message)

    def relay(
        self,
        most: int = 20,
        *,
        shuffle: random.Random | None = None,
        twice: bool = False,
    ) -> int:
        """Relay what the outboxes hold, in batches; how many records that were.

        Args:
            most: No more than this; moto's queues are slow when they are full.
            shuffle: Any of them, in a random order; else the oldest.
            twice: Every record two times.
        """
        records = self.stream.fetch()
        if shuffle:
            shuffle.shuffle(records)
        now, later = records[:most], records[most:]
        self.stream.give_back(later)
        for _ in range(1 + twice):
            relay(self.sns, self.topic, now, self.lose_record)
        return len(now)

    def lose_record(self, record: Mapping[str, Any], reason: str) -> None:
        """Dead-letter a record that can never be relayed."""
        dead_letter_record(lambda: self.sqs, self.lost, record, reason)

    def deliver(
        self,
        name: str,
        most: int = 10,
        *,
        shuffle: random.Random | None = None,
        twice: bool = False,
        lost: bool = False,
        fair: bool = False,
    ) -> int:
        """Deliver a batch from a queue to its function; how many messages that were.

        Args:
            name: The queue.
            most: No more than this.
            shuffle: Any of them, in a random order; else the oldest.
            twice: The same batch two times.
            lost: The function's process dies after its work: nothing of the batch is deleted.
            fair: Between message groups, as our model of SQS's fair queues has it
                (`recourse.testing.fairness`); moto takes no notice of groups in standard queues.
        """
        # What polls a queue is played, not called: a call through moto takes longer than all else.
        queue = self._backend[name]
        if shuffle:
            shuffle.shuffle(queue._messages)
        if fair:
            fairness.order(queue._messages, lambda message: message.group_id)
        messages = sqs_backends[handlers.ACCOUNT]["us-east-1"].receive_message(
            name, most, 0, queue.visibility_timeout, ["All"]
        )
        if not messages:
            return 0
        records = [
            {
                "messageId": message.id,
                "receiptHandle": message.receipt_handle,
                "body": message.body,
                "attributes": {
                    "ApproximateFirstReceiveTimestamp": str(
                        message.approximate_first_receive_timestamp
                    ),
                    "ApproximateReceiveCount": str(message.approximate_receive_count),
                    "SentTimestamp": str(message.sent_timestamp),
                    **({"MessageGroupId": message.group_id} if message.group_id else {}),
                },
                "messageAttributes": {
                    attribute: _attribute(one)
                    for attribute, one in message.message_attributes.items()
                },
                "eventSourceARN": f"arn:aws:sqs:us-east-1:{handlers.ACCOUNT}:{name}",
            }
            for message in messages
        ]
        failed: set[str] = set()
        for _ in range(1 + twice):
            try:
                answer = self._take(name, records)
                failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            except handlers.Killed:
                lost = True
        for message in messages:
            if message.id not in failed and not lost:
                queue.delete_message(message.receipt_handle)
        return len(messages)

    def dead_lettered(self, name: str) -> list[dict[str, Any]]:
        """What rests in the dead-letter queue of a queue."""
        got = self.sqs.receive_message(
            QueueUrl=deadletters_of(self.queues[name]),
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
        )
        found: list[dict[str, Any]] = got.get("Messages", [])
        return found

    def asked(self) -> dict[str, list[str]]:
        """What operators' queues hold, by queue, where there is something."""
        held = {
            name: [message.body for message in self._backend[name]._messages]
            for name in self._operators
        }
        return {name: bodies for name, bodies in held.items() if bodies}

    def clear(self) -> None:
        """Let the sweeper go round and take out of operators' queues what it may."""
        queues = [OperatorQueue(self.sqs, name) for name in self.asked()]
        replace(self.sweeper, queues=queues).sweep()

    def _take(self, name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        if name == LEDGER:
            return ledger_function.handle_batch(self.ledger, records, self._source)
        if name in self.listeners:
            results = self.listeners[name].handle_batch(records)
            return queue_function.answer(results, self.end or self._let_tries_end)
        service = name.removesuffix("-confirm")
        return self._confirm(service, records)

    def _confirm(self, service: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        return confirm_function.handle_batch(
            self.dynamodb, service, service, self.ledger.shapes, records, self._source
        )

    def waiting(self, name: str) -> int:
        """How many messages of a queue could be delivered now; asking SQS itself takes longer."""
        return len(self._backend[name].messages)

    @property
    def _backend(self) -> Mapping[str, Any]:
        return sqs_backends[handlers.ACCOUNT]["us-east-1"].queues

    def forget(self) -> None:
        """Forget the sagas that have ended: their executions, rows, events and documents.

        What they took from the services stays taken. Only for runs of thousands of sagas.
        """
        backend = stepfunctions_parser_backends[handlers.ACCOUNT]["us-east-1"]
        ended = {row["pk"] for row in self.rows(LEDGER, "") if row.get("status") in AT_REST}
        for machine in backend.state_machines:
            ended |= {parse_name(e.name)[0] for e in machine.executions if e.status != "RUNNING"}
            machine.executions = [e for e in machine.executions if e.status == "RUNNING"]
        for table in dynamodb_backends[handlers.ACCOUNT]["us-east-1"].tables.values():
            for key in [k for k in table.items if ended & set(re.split("[#.]", k.value))]:
                del table.items[key]
        for topic in sns_backends[handlers.ACCOUNT]["us-east-1"].topics.values():
            topic.sent_notifications.clear()
        for queue in self._backend.values():
            queue.deleted_messages.clear()
        self.stream.fetch()
        self.documents.clear()
        self.naps.clear()

    def wipe(self) -> None:
        """Be as new: no rows, no messages, no runs, and nothing at work."""
        self._let_tries_end()
        for table in self._tables.values():
            table.items.clear()
        for queue in self._backend.values():
            queue._messages.clear()
            queue.deleted_messages.clear()
            queue.pending_messages.clear()
        for topic in sns_backends[handlers.ACCOUNT]["us-east-1"].topics.values():
            topic.sent_notifications.clear()
        backend = stepfunctions_parser_backends[handlers.ACCOUNT]["us-east-1"]
        for machine in backend.state_machines:
            machine.executions.clear()
        self.stream.fetch()
        for kept in (self.documents, self.naps, self.alarms, self.passed_over):
            kept.clear()
        self.clock.reset()
        self.mishap = _no_mishap
        self.ledger.shapes.forget()

    # What tests look at.

    def row(self, table: str, key: str) -> dict[str, Any] | None:
        """A row, if there is one; from moto itself, for a test looks at many."""
        found = self._tables[table].items.get(DynamoType({"S": key}))
        return decode_item(found.to_json()["Attributes"]) if found else None

    def rows(self, table: str, prefix: str, suffix: str = "") -> list[dict[str, Any]]:
        """Every row whose key begins, and ends, so."""
        return [
            decode_item(found.to_json()["Attributes"])
            for key, found in list(self._tables[table].items.items())
            if key.value.startswith(prefix) and key.value.endswith(suffix)
        ]

    def business_rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every row that authors write, by table and key: no marker, no outbox, no inbox."""
        return {
            (name, key_text(row, self.existing.get(name))): row
            for name in (*self.services, *self.existing)
            for item in list(self._tables[name].all_items())
            if is_business(row := decode_item(item.to_json()["Attributes"]))
        }

    @property
    def _tables(self) -> Mapping[str, Any]:
        return dynamodb_backends[handlers.ACCOUNT]["us-east-1"].tables

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

    def _runner(self, step: Step) -> TaskRunner:
        return FaultInjector(
            StepRunner(
                self.dynamodb,
                step.service,
                step.action,
                step.undo,
                store=self._store if step.action.documents else None,
                sleep=partial(self._nap, step),
                clock=lambda: self.clock.millis() / 1000 + sum(self.naps),
            )
        )

    def _nap(self, step: Step, seconds: float) -> None:
        """Let a step wait; a wait beyond its task's timeout is a step that answers too late.

        It takes no time, unless another try of the same step is at work: on AWS its process would
        have ended by the time that some wait for, and here its thread goes on. So they wait until
        it has ended, or as long as they say.
        """
        if seconds > step.timeout:
            raise TimeoutError
        with self._tries_change:
            if waiting := self._tries.pop(get_ident(), None):
                self._tries_change.notify_all()
                self._tries_change.wait_for(lambda: waiting not in self._tries.values(), seconds)
                self._tries[get_ident()] = waiting
        self.clock.sleep(seconds)
        time.sleep(min(seconds, 0.002))

    def _try(self, runner: TaskRunner, task: dict[str, Any]) -> Any:
        """Run a task, which is at work meanwhile."""
        thread = get_ident()
        with self._tries_change:
            around = self._tries.get(thread)
            self._tries[thread] = task["saga"]["id"], task["step"]
        try:
            return runner.run(task)
        finally:
            with self._tries_change:
                del self._tries[thread]
                if around:
                    self._tries[thread] = around
                self._tries_change.notify_all()

    def _let_tries_end(self) -> None:
        own = {get_ident()}
        with self._tries_change:
            ended = self._tries_change.wait_for(lambda: not self._tries.keys() - own, HANGING)
        assert ended, f"still at work after {HANGING} s: {self._tries}"

    def _listener(self, name: str, step: Step) -> Listener:
        heard = _Heard(self, name, self._runner(step))
        return Listener(
            name,
            heard,
            self.ledger.shapes,
            self.dynamodb,
            step.service,
            self._source,
            budget=longest(name, [*self.earlier, *self.sagas.values()]),
        )

    def _source(self, arn: str) -> SourceQueue:
        return self._sources.setdefault(arn, SourceQueue(lambda: self.sqs, arn))

    def _store(self, document: Document) -> None:
        self.documents[document.key] = document

    def _step(self, name: str, runner: TaskRunner, task: dict[str, Any]) -> Any:
        try:
            return self.mishap(name, task, lambda: self._try(runner, task))
        except TimeoutError:
            raise
        except Exception as problem:
            raise reported(problem) from None

    def _park(self, task: dict[str, Any]) -> list[str]:
        shape = self.ledger.shapes.of(task["saga"]["name"], task["saga"].get("shape"))
        refusals = {step.function: step.refusals for s in self.sagas.values() for step in s.all}
        return park(self.dynamodb, LEDGER, shape, task, 1, refusals)

    def _machine(self, shape: Shape[Any]) -> str:
        """The machine of a saga, with the definition of a shape, if it has not got it."""
        defined, arn = self._defined.get(shape.name, (None, ""))
        if defined is shape:
            return arn
        text = json.dumps(compile_saga(shape))
        for name in self.functions:
            text = text.replace(f"${{{name}}}", handlers.arn(name))
        arn = f"arn:aws:states:us-east-1:{handlers.ACCOUNT}:stateMachine:{shape.name}"
        self._defined[shape.name] = shape, arn
        with suppress(self.sfn.exceptions.StateMachineDoesNotExist):
            self.sfn.update_state_machine(stateMachineArn=arn, definition=text)
            return arn
        role = f"arn:aws:iam::{handlers.ACCOUNT}:role/machine"
        made = self.sfn.create_state_machine(name=shape.name, definition=text, roleArn=role)
        return str(made["stateMachineArn"])

    def _version(self, shape: Shape[Any]) -> str:
        """The machine of a saga at a version: moto has no versions, so it has that definition."""
        defined, arn = self._defined[shape.name]
        return arn if defined is shape else self._machine(shape)

    def _hear(self, name: str, only: dict[str, list[str]]) -> None:
        """Have a queue hear these events, and no others any more."""
        heard, self._heard[name] = self._heard.get(name), only
        if name not in self.queues:
            self.queues[name] = self._queue(name, only)
            return
        if heard == only:
            return
        self.sns.set_subscription_attributes(
            SubscriptionArn=self._subscriptions[name],
            AttributeName="FilterPolicy",
            AttributeValue=json.dumps(only),
        )

    def _table(self, name: str) -> None:
        attributes = ["pk"]
        options: dict[str, Any] = {}
        if name == LEDGER:
            keys = {name for index in INDEXES for name in (index.attribute, index.sort)}
            attributes += sorted(keys)
            options["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": index.name,
                    "KeySchema": [
                        {"AttributeName": index.attribute, "KeyType": "HASH"},
                        {"AttributeName": index.sort, "KeyType": "RANGE"},
                    ],
                    "Projection": {
                        "ProjectionType": "INCLUDE",
                        "NonKeyAttributes": list(index.includes),
                    },
                }
                for index in INDEXES
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

    def _queue(self, name: str, only: Mapping[str, list[str]] | None = None) -> str:
        lost = self._made_queue(deadletters_of(name), {})
        redrive = {"deadLetterTargetArn": lost[1], "maxReceiveCount": MIN_RECEIVES}
        url, arn = self._made_queue(name, {"RedrivePolicy": json.dumps(redrive)})
        self._subscriptions[name] = self._subscribe(arn, only)
        return url

    def _subscribe(self, arn: str, only: Mapping[str, list[str]] | None) -> str:
        made = self.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true"}
            | ({"FilterPolicy": json.dumps(only)} if only else {}),
        )
        return str(made["SubscriptionArn"])

    def _made_queue(self, name: str, attributes: Mapping[str, str]) -> tuple[str, str]:
        made = self.sqs.create_queue(
            QueueName=name, Attributes={"VisibilityTimeout": "210", **attributes}
        )
        return str(made["QueueUrl"]), f"arn:aws:sqs:us-east-1:{handlers.ACCOUNT}:{name}"


class _Heard:
    """A step's runner within its queue's function, which a mishap reaches too."""

    def __init__(self, ground: Ground, name: str, runner: TaskRunner) -> None:
        self._ground = ground
        self._name = name
        self._runner = runner

    def run(self, payload: Mapping[str, Any]) -> Any:
        task = dict(payload)
        return self._ground.mishap(self._name, task, lambda: self._ground._try(self._runner, task))


class _Invoker:
    """A Lambda client that knows the ground's functions."""

    def __init__(self, functions: Mapping[str, handlers.Handler]) -> None:
        self._functions = functions

    def invoke(self, *, FunctionName: str, Payload: str) -> dict[str, Any]:
        if FunctionName not in self._functions:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "Invoke")
        try:
            answer = handlers.call(self._functions[FunctionName], Payload)
        except TimeoutError as problem:
            raise ReadTimeoutError(endpoint_url=FunctionName) from problem
        except lambda_eval_utils.LambdaFunctionErrorException as problem:
            return {"Payload": BytesIO(problem.payload.encode()), "FunctionError": "Unhandled"}
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
def ground(
    sagas: Mapping[str, Saga],
    kind: Callable[..., Made] = Ground,  # type: ignore[assignment]
) -> Iterator[Made]:
    """A fresh ground, for the length of a block.

    Args:
        sagas: The declarations, by name.
        kind: A subclass that knows more of its services, made of the same arguments.
    """
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
        stack.enter_context(backwards.told())
        stack.enter_context(speed.up())
        alone = stack.enter_context(transactions.true())
        stack.enter_context(comparing.by_type())
        stream = stack.enter_context(streams.collected())
        stack.enter_context(_quiet("moto"))
        made = kind(sagas, stream, naps, stack.enter_context(clock.virtual()))
        made.alone = alone
        stack.enter_context(handlers.registered(made.functions))
        yield made


def _attribute(given: dict[str, Any]) -> dict[str, str]:
    """An attribute of a message as a record of a Lambda event has it."""
    if given["DataType"].startswith("Binary"):
        value = b64encode(given["BinaryValue"]).decode()
        return {"dataType": given["DataType"], "binaryValue": value}
    return {"dataType": given["DataType"], "stringValue": given["StringValue"]}
