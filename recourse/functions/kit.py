"""What functions share, as the environment describes it, made when first needed.

Each part is imported where it is made: a function loads what it needs and pays for nothing else
when it starts. It is longer than other modules, for it names every part.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from recourse.functions import settings
from recourse.store.aws import client, credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from types_boto3_dynamodb import DynamoDBClient

    from recourse.declare.saga import Saga
    from recourse.declare.shape import Shape
    from recourse.declare.wait import Waits
    from recourse.feed.connections import Connections
    from recourse.feed.feed import Feed
    from recourse.feed.pusher import Pusher
    from recourse.feed.wake_ups import WakeUpQueue
    from recourse.functions.bearer import Bearers
    from recourse.imports.check import Checker
    from recourse.imports.finish import Finisher
    from recourse.imports.runs import ImportRuns
    from recourse.imports.start import Starter
    from recourse.imports.table import Imports
    from recourse.ledger.ledger import Ledger
    from recourse.ledger.record import Record
    from recourse.ledger.shapes import Shapes
    from recourse.orchestration.decisions import Decisions
    from recourse.orchestration.executions import Runs
    from recourse.orchestration.sweeper import Sweeper
    from recourse.queues.deadletters import DeadletterQueue, OperatorQueue
    from recourse.queues.reach import Reach
    from recourse.queues.sources import SourceQueue
    from recourse.store.parameters import Parameters
    from recourse.store.slots import Rate, Slots
    from recourse.valet.commit import Committer
    from recourse.valet.issue import Issuer
    from recourse.valet.keys import Keys
    from recourse.webhooks.webhooks import Webhooks

WATCH_INTERVAL = 15
"""Minutes between two looks into the dead-letter queues that have no alarms of their own."""


@cache
def dynamodb() -> DynamoDBClient:
    """The DynamoDB client."""
    made: DynamoDBClient = client("dynamodb")
    return made


@cache
def sagas() -> Mapping[str, Saga]:
    """Every declaration, by name, from where the environment says: `statemachines:SAGAS`.

    Raises:
        ProjectError: None are listed there: the stack and the code disagree.
    """
    from recourse.project import declared_at

    return declared_at(settings.required("RECOURSE_SAGAS"))


@cache
def deployed() -> list[Shape[Any]]:
    """Every shape that this deployment serves: the declarations, and those of sagas in flight."""
    from recourse.project import recorded_at

    return [*sagas().values(), *recorded_at(settings.required("RECOURSE_SAGAS"))]


@cache
def known() -> tuple[str, ...]:
    """The names of all sagas that this deployment serves: those declared, then retired ones."""
    return tuple(dict.fromkeys(shape.name for shape in deployed()))


@cache
def questions() -> Mapping[str, Waits]:
    """How steps wait for somebody's decision, by what their questions are called."""
    # The newest come last: a declaration says who may decide what an earlier one has asked.
    steps = (step for shape in reversed(deployed()) for step in shape.waiting.values())
    return {step.waits.name: step.waits for step in steps}


@cache
def refusals() -> Mapping[str, frozenset[str]]:
    """The names of the refusals that actions may raise by now, by the function of their step."""
    return {step.function: step.refusals for saga in sagas().values() for step in saga.all}


@cache
def shapes() -> Shapes:
    """The shapes that sagas began with."""
    from recourse.ledger.shapes import Shapes

    return Shapes(dynamodb(), settings.required("LEDGER_TABLE"), sagas())


@cache
def ledger() -> Ledger:
    """The ledger."""
    from recourse.ledger.ledger import Ledger

    return Ledger(dynamodb(), settings.required("LEDGER_TABLE"), sagas(), shapes())


@cache
def feed() -> Feed:
    """The feed of every owner."""
    from recourse.feed.feed import Feed

    return Feed(dynamodb(), settings.required("FEED_TABLE"))


@cache
def bearers() -> Bearers:
    """The verifier of bearer tokens, where no gateway verifies them."""
    from recourse.functions.bearer import Bearers, fetched

    issuer = settings.required("ISSUER")
    return Bearers(
        issuer,
        settings.required("AUDIENCES").split(),
        prefix=os.environ.get("SCOPE_PREFIX", ""),
        keys=fetched(issuer),
    )


@cache
def connections() -> Connections:
    """Every open WebSocket connection."""
    from recourse.feed.connections import Connections
    from recourse.functions.limits import limit

    table = settings.required("CONNECTIONS_TABLE")
    return Connections(dynamodb(), table, most=limit("sockets").most)


@cache
def slots(name: str) -> Slots:
    """The slots of one of the limits by owner (`recourse.functions.limits`)."""
    from recourse.functions.limits import limit
    from recourse.store.slots import Slots
    from recourse.store.table import Table

    table = Table(dynamodb(), settings.required("CONNECTIONS_TABLE"), ("pk", "connection"))
    found = limit(name)
    return Slots(table, name, most=found.most, seconds=found.seconds, sort="slots")


@cache
def start_rate() -> Rate:
    """How often each owner may start a saga (`recourse.functions.limits`)."""
    from recourse.functions.limits import limit
    from recourse.store.slots import Rate
    from recourse.store.table import Table

    table = Table(dynamodb(), settings.required("CONNECTIONS_TABLE"), ("pk", "connection"))
    found = limit("starts")
    return Rate(table, "starts", most=found.most, seconds=found.seconds)


@cache
def pusher() -> Pusher:
    """The sender of messages to connections."""
    from recourse.feed.pusher import Pusher

    url = settings.required("CONNECTIONS_URL")
    gateway = client("apigatewaymanagementapi", read_timeout=2, endpoint=url)
    return Pusher(connections(), feed(), gateway)


@cache
def wake_ups() -> WakeUpQueue:
    """The queue of wake-ups for the pusher."""
    from recourse.feed.wake_ups import WakeUpQueue

    return WakeUpQueue(client("sqs"), settings.required("PUSH_QUEUE_URL"))


@cache
def parameters(kind: str) -> Parameters:
    """What the deployment says of each saga or service: `machines`, `called` and `tables`."""
    from recourse.store.parameters import Parameters

    path = settings.required("PARAMETERS")
    return Parameters(lambda: client("ssm"), f"{path}/{kind}")


@cache
def runs() -> Runs:
    """The runs of every saga."""
    from recourse.orchestration.executions import Runs, Versions

    return Runs(
        client("stepfunctions"),
        client("lambda", read_timeout=20),
        shapes(),
        parameters("machines"),
        parameters("called"),
        Versions(client("stepfunctions"), parameters("machines")),
    )


@cache
def decisions(log: Callable[[Record, Exception], None]) -> Decisions:
    """What somebody has decided, and what moves its saga on.

    Args:
        log: Told what is left to the sweeper, and why.
    """
    from recourse.orchestration.decisions import Decisions

    return Decisions(ledger(), runs(), log, settings.timescale())


@cache
def sweeper(
    alarm: Callable[[str, str], None], passed_over: Callable[[str, datetime], None]
) -> Sweeper:
    """The sweeper.

    Args:
        alarm: Alerts the people on call, with a saga's id and what is wrong with it.
        passed_over: Called when an operators' queue begins to be out of reach.
    """
    from recourse.orchestration.markers import Markers
    from recourse.orchestration.sweeper import LEASE_DURATION, Sweeper
    from recourse.queues.called import operators_queues
    from recourse.queues.deadletters import OperatorQueue
    from recourse.store.lease import Lease

    table = settings.required("LEDGER_TABLE")
    prefix = settings.required("QUEUE_PREFIX")
    names = operators_queues(deployed(), choreography=settings.choreography())
    return Sweeper(
        ledger=ledger(),
        runs=runs(),
        markers=Markers(dynamodb(), table, parameters("tables"), shapes()),
        lease=Lease(dynamodb(), table, "lease#sweeper", seconds=LEASE_DURATION, clock=time.time),
        alarm=alarm,
        reach=reach(passed_over),
        room=room_for_imports,
        queues=[OperatorQueue(client("sqs"), prefix + name) for name in names],
        timescale=settings.timescale(),
    )


def check_watched(passed_over: Callable[[str, datetime], None]) -> None:
    """Look into the dead-letter queues that have no alarms of their own, if there are any.

    Args:
        passed_over: Called when one of them begins to be out of reach.

    Raises:
        MessagesWaitError: Messages wait in some.
    """
    from recourse.queues.deadletters import check_empty

    check_empty(_watched(), reach(passed_over), time.time())


@cache
def reach(passed_over: Callable[[str, datetime], None]) -> Reach:
    """What passes over queues that a deploy keeps out of reach."""
    from recourse.queues.reach import Reach

    return Reach(dynamodb(), settings.required("LEDGER_TABLE"), passed_over)


@cache
def _watched() -> list[OperatorQueue]:
    from recourse.queues.called import redriven_queues
    from recourse.queues.deadletters import OperatorQueue, deadletters_of

    others = os.environ.get("WATCHED_QUEUES")
    if not others:
        return []
    prefix = settings.required("QUEUE_PREFIX")
    redriven = redriven_queues(deployed(), choreography=settings.choreography())
    names = [prefix + deadletters_of(name) for name in (*redriven, *json.loads(others))]
    return [OperatorQueue(client("sqs"), name) for name in names]


@cache
def queue(arn: str) -> SourceQueue:
    """The queue of that ARN."""
    from recourse.queues.sources import SourceQueue

    return SourceQueue(lambda: client("sqs"), arn)


@cache
def deadletters() -> dict[str, DeadletterQueue]:
    """Every dead-letter queue of the stage, by the name that operators use."""
    from recourse.queues.called import redriven_queues
    from recourse.queues.deadletters import DeadletterQueue

    prefix = settings.required("QUEUE_PREFIX")
    others = json.loads(settings.required("DEADLETTERS"))
    redriven = redriven_queues(deployed(), choreography=settings.choreography())
    why_not = dict.fromkeys([*redriven, *others["redriven"]]) | others["kept"]
    return {
        name: DeadletterQueue(client("sqs"), name, prefix + name, why_not=why)
        for name, why in sorted(why_not.items())
    }


@cache
def webhooks() -> Webhooks:
    """The table of webhooks."""
    from recourse.webhooks.webhooks import Webhooks

    return Webhooks(dynamodb(), settings.required("WEBHOOKS_TABLE"))


@cache
def wake(url: str, delay: int = 0) -> Callable[..., None]:
    """A function that sends a message to a queue: its fields, as body and as attributes.

    Its first argument is the message's group, by which the queue is fair; None for none.
    """

    def send(group: str | None, /, **fields: str) -> None:
        client("sqs").send_message(
            QueueUrl=url,
            DelaySeconds=delay,
            MessageBody=json.dumps(fields),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in fields.items()
            },
            **({} if group is None else {"MessageGroupId": group}),
        )

    return send


@cache
def valet_keys() -> Keys:
    """The valet table."""
    from recourse.valet.keys import Keys

    return Keys(dynamodb(), settings.required("VALET_TABLE"))


@cache
def valet_issuer() -> Issuer:
    """The issuer of valet keys."""
    from recourse.valet.issue import Issuer
    from recourse.valet.token import KmsSigner

    return Issuer(
        valet_keys(),
        client("s3"),
        settings.required("VALET_BUCKET"),
        settings.required("VALET_ISSUER"),
        KmsSigner(client("kms"), settings.required("VALET_SIGNING_KEY")),
        credentials,
    )


def stored(key: str) -> dict[str, str]:
    """The current version of the document that a step has stored under a key."""
    bucket = settings.required("DOCUMENTS_BUCKET")
    found = client("s3").head_object(Bucket=bucket, Key=key)
    return {
        "bucket": bucket,
        "key": key,
        "version": found["VersionId"],
        "content_type": found["ContentType"],
    }


@cache
def imports() -> Imports:
    """The table of imports."""
    from recourse.imports.table import Imports

    return Imports(dynamodb(), settings.required("IMPORTS_TABLE"))


@cache
def import_runs() -> ImportRuns:
    """The runs of imports."""
    from recourse.imports.runs import ImportRuns

    return ImportRuns(client("stepfunctions"), settings.required("IMPORTS_MACHINE"), imports())


@cache
def import_checker() -> Checker:
    """Reads the files of imports."""
    from recourse.imports.check import Checker

    bucket = settings.required("VALET_BUCKET")
    s3 = client("s3", read_timeout=60)
    return Checker(imports(), s3, bucket, sagas(), valet_keys().missing)


def room_for_imports(owner: str) -> int:
    """How many more sagas of an owner's imports may begin now."""
    from recourse.functions import limits

    return limits.room_for_imports(ledger().queries.in_flight, owner)


@cache
def import_starter(log: Callable[[Record, BaseException], None]) -> Starter:
    """Starts the batches of imports.

    Args:
        log: Told what is left to the sweeper, and why.
    """
    from recourse.imports.start import Starter

    return Starter(imports(), ledger(), runs(), room_for_imports, log)


@cache
def import_finisher() -> Finisher:
    """Joins what became of the rows of imports."""
    from recourse.imports.finish import Finisher

    bucket = settings.required("VALET_BUCKET")
    return Finisher(imports(), client("s3", read_timeout=60), bucket)


@cache
def valet_committer() -> Committer:
    """The committer of uploads."""
    from recourse.valet.commit import Committer

    s3 = client("s3", read_timeout=60)
    return Committer(valet_keys(), s3, settings.required("VALET_BUCKET"))
