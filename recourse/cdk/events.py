"""Events: the outboxes' relay, the topic, the ledger, the feed, and the confirming consumers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from aws_cdk import Duration, Stack
from aws_cdk.aws_cloudwatch_actions import SnsAction
from aws_cdk.aws_dynamodb import ITable, StreamViewType
from aws_cdk.aws_iam import PolicyStatement, ServicePrincipal
from aws_cdk.aws_kms import Key
from aws_cdk.aws_lambda import FilterCriteria, FilterRule, StartingPosition
from aws_cdk.aws_lambda_event_sources import DynamoEventSource, SqsDlq
from aws_cdk.aws_sns import Topic
from aws_cdk.aws_sqs import Queue, QueueEncryption
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.queues import (
    AT_ONCE_OF_EVERY_EVENT,
    Deadletters,
    PullConsumer,
    alarm_above,
    queue_called,
    subscribe,
)
from recourse.cdk.rights import (
    READ,
    WRITE,
    allow,
    explain,
    explain_dead_lettering,
    read_shapes,
    use_key,
    use_table,
)
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.cdk.tables import KeptTable, LedgerTable
from recourse.declare.declaration import Step
from recourse.declare.shape import Shape
from recourse.queues.called import confirmer

ATTEMPTS = 100
"""How often a batch of a stream is tried. Each try lasts 20 s (`PATIENCE` in
`recourse.events.relay`), so a batch is tried for half an hour at least, unless the function crashes
at once. Records that can never be processed are dead-lettered at the first try."""


class EventBackbone(Construct):
    """The relay, the events topic, the ledger, the feed, and the services' confirmations.

    ::

        events = EventBackbone(stack, "Events", stage=stage, services=services)
        events.alarms.add_subscription(EmailSubscription("on-call@example.com"))

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: The services whose events it carries.

    Attributes:
        ledger: The ledger's table.
        topic: The topic `events`, which steps and consumers listen to; it promises no order.
        feed_table: The feed of every owner.
        feed: The topic `feed`, from which subscribers receive.
        alarms: The topic that every alarm is sent to; subscribe those who are on call.
        alarm: The same, as the action of an alarm.
        confirmers: What confirms the holds of each service, by its name.
        parked: The queue of sagas that need an operator.
        key: The key that encrypts topics and queues.
        deadletters: Keep messages that could not be processed or delivered.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
    ) -> None:
        super().__init__(scope, name)
        # With this flag, which new apps have, the key would name the topics that it encrypts: a
        # cycle, which CloudFormation refuses.
        self.node.set_context("@aws-cdk/aws-sns-subscriptions:restrictSqsDescryption", False)
        self._stage = stage
        self._services = services
        self.deadletters: list[Deadletters] = []
        self.key = self._key()
        self.alarms = Topic(self, "Alarms", master_key=self.key, enforce_ssl=True)
        # Any policy on the topic replaces the default one, which lets alarms publish.
        self.alarms.add_to_resource_policy(
            PolicyStatement(
                principals=[ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.alarms.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        self.alarm = SnsAction(self.alarms)
        self.topic = Topic(self, "Events", master_key=self.key, enforce_ssl=True)
        self.ledger = LedgerTable(self, "LedgerTable", stage=stage, key=services.key)
        self._relay("Relay", self.topic, [*services.tables.values(), self.ledger], "outbox#")
        self._ledger_consumer()
        self.feed_table = KeptTable(
            self,
            "FeedTable",
            stage=stage,
            key=services.key,
            stream=StreamViewType.NEW_IMAGE,
            order="position",
        )
        self.feed = Topic(
            self, "Feed", master_key=self.key, enforce_ssl=True, signature_version="2"
        )
        self._feeder()
        self._relay("FeedRelay", self.feed, [self.feed_table], "feed#")
        self.confirmers = {
            service: self._confirmer(service, types)
            for service, types in sorted(_confirmations(services.shapes).items())
        }
        self.parked = self._parked()

    def _key(self) -> Key:
        key = self._services.key
        if self._stage.has_every_key:
            key = Key(self, "Key", enable_key_rotation=True, removal_policy=self._stage.removal)
        # EventBridge sends no source account when it uses the key: under such a condition nothing
        # that it dead-letters would arrive. The queues' policies admit this account's rules only.
        for service, conditions in (
            ("cloudwatch", {"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}),
            ("events", None),
        ):
            key.add_to_resource_policy(
                PolicyStatement(
                    principals=[ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=["kms:Decrypt", "kms:GenerateDataKey"],
                    resources=["*"],
                    conditions=conditions,
                )
            )
        return key

    def _relay(self, name: str, topic: Topic, tables: Sequence[ITable], rows: str) -> None:
        """The relay of the new rows of tables whose keys have a prefix."""
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler="recourse.functions.relay.handler",
            environment={"TOPIC_ARN": topic.topic_arn},
            timeout=Duration.minutes(1),
        )
        allow(function, "sns:Publish", topic.topic_arn)
        use_key(self.key, function)
        self._follow(
            function,
            name,
            tables,
            {
                "eventName": FilterRule.is_equal("INSERT"),
                "dynamodb": {"Keys": {"pk": {"S": FilterRule.begins_with(rows)}}},
            },
        )

    def _feeder(self) -> None:
        """The function that appends the ledger's new events to the feed."""
        function = HandlerFunction(
            self,
            "Feeder",
            stage=self._stage,
            handler="recourse.functions.feed.handler",
            environment={"FEED_TABLE": self.feed_table.table_name},
            timeout=Duration.minutes(1),
        )
        use_table(
            self.feed_table,
            function,
            "dynamodb:GetItem",
            "dynamodb:BatchGetItem",
            "dynamodb:PutItem",
        )
        self._follow(
            function,
            "Feeder",
            [self.ledger],
            {"dynamodb": {"NewImage": {"owner": {"S": FilterRule.exists()}}}},
        )

    def _follow(
        self,
        function: HandlerFunction,
        name: str,
        tables: Sequence[ITable],
        only: Mapping[str, object],
    ) -> None:
        """Let a function process the streams of tables, with an alarm if it falls behind."""
        alarm_above(
            self,
            f"{name}Late",
            function.metric("IteratorAge", statistic="Maximum"),
            stage=self._stage,
            threshold=Duration.minutes(5).to_milliseconds(),
            action=self.alarm,
        )
        lost = Deadletters(
            self,
            f"{name}Deadletters",
            stage=self._stage,
            called=name,
            why_not="it holds positions in a stream, not events: docs/operations.md says how to "
            "find the events and how to process them again",
            key=self.key,
            alarm=self.alarm,
        )
        self.deadletters.append(lost)
        function.add_environment("LOST_URL", lost.queue_url)
        for table in tables:
            function.add_event_source(
                DynamoEventSource(
                    table,
                    starting_position=StartingPosition.TRIM_HORIZON,
                    batch_size=100,
                    bisect_batch_on_error=True,
                    retry_attempts=ATTEMPTS,
                    max_record_age=Duration.hours(24),
                    on_failure=SqsDlq(lost),
                    filters=[FilterCriteria.filter(only)],
                )
            )
        explain_dead_lettering(function.own_role)

    def _ledger_consumer(self) -> None:
        function = HandlerFunction(
            self,
            "Ledger",
            stage=self._stage,
            handler="recourse.functions.ledger.handler",
            environment={
                "LEDGER_TABLE": self.ledger.table_name,
                "RECOURSE_SAGAS": self._stage.sagas,
            },
            timeout=Duration.seconds(30),
        )
        use_table(self.ledger, function, "dynamodb:GetItem", "dynamodb:PutItem")
        consumer = PullConsumer(
            self,
            "LedgerEvents",
            stage=self._stage,
            called="Ledger",
            function=function,
            topic=self.topic,
            key=self.key,
            alarm=self.alarm,
            at_once=AT_ONCE_OF_EVERY_EVENT,
        )
        self.deadletters.append(consumer.deadletters)

    def _confirmer(self, service: str, types: list[str]) -> PullConsumer:
        table = self._services.tables[service]
        name = confirmer(service)
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler="recourse.functions.confirm.handler",
            environment={
                "SERVICE": service,
                "TABLE_NAME": table.table_name,
                "LEDGER_TABLE": self.ledger.table_name,
                "RECOURSE_SAGAS": self._stage.sagas,
            },
            timeout=Duration.seconds(30),
        )
        use_table(table, function, *READ, *WRITE)
        read_shapes(self.ledger, function)
        served = {
            step.confirm.ref: step.confirm
            for shape in self._services.shapes
            for step in shape.all
            if step.confirm and step.service == service
        }
        self._services.let_use_existing(function, served.values())
        consumer = PullConsumer(
            self,
            f"{name}Events",
            stage=self._stage,
            called=name,
            function=function,
            topic=self.topic,
            only={"type": types},
            key=self.key,
            alarm=self.alarm,
        )
        self.deadletters.append(consumer.deadletters)
        return consumer

    def _parked(self) -> Queue:
        """A queue of the sagas that need an operator, for a person or a tool to pull from.

        A notice stays in it, however often it is received, until its saga is at rest.
        """
        lost = Deadletters(
            self,
            "ParkedDeadletters",
            stage=self._stage,
            called="Parked",
            key=self.key,
            alarm=self.alarm,
        )
        self.deadletters.append(lost)
        parked = Queue(
            self,
            "Parked",
            queue_name=queue_called(self._stage, "Parked"),
            encryption=QueueEncryption.KMS,
            encryption_master_key=self.key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        explain(
            parked,
            "AwsSolutions-SQS3",
            reason="a notice stays, however often it is received, until its saga is at rest",
        )
        subscribe(self.topic, parked, lost, only={"outcome": ["parked"]})
        alarm_above(
            self,
            "ParkedAlarm",
            parked.metric_approximate_number_of_messages_visible(statistic="Maximum"),
            stage=self._stage,
            threshold=0,
            action=self.alarm,
            vital=True,
        )
        return parked


def _confirmations(shapes: Iterable[Shape[Step]]) -> dict[str, list[str]]:
    """The types of the pivot events at which each service confirms its holds."""
    found: dict[str, set[str]] = defaultdict(set)
    for shape in shapes:
        for step in shape.all:
            if step.confirm:
                found[step.service].add(f"recourse.{shape.name}.{shape.pivot.name}.done")
    return {service: sorted(types) for service, types in found.items()}
