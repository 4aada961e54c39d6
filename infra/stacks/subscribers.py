"""Who is told of what the feed says: a line a subscriber, a line a consumer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from aws_cdk import Arn, ArnComponents, CfnOutput, Duration, Stack
from aws_cdk.aws_kms import Key
from aws_cdk.aws_lambda_destinations import SqsDestination
from aws_cdk.aws_sns import SubscriptionFilter
from aws_cdk.aws_sns_subscriptions import LambdaSubscription
from constructs import Construct

from infra.components.function import HandlerFunction
from infra.components.queues import Deadletters, PullConsumer
from infra.components.rights import allow, explain_setting_aside, use_key, use_table
from infra.components.tables import KeptTable
from infra.components.worker import Worker, WorkerPlace
from infra.stacks.events import EventsStack
from infra.stage import Stage
from lambdas.consumers.tally import OUTCOMES
from lambdas.subscribers.notifier import TOLD


class SubscribersStack(Stack):
    """What listens to the topic `feed` on its own account.

    Attributes:
        deadletters: Where messages rest that could not be taken or delivered.
    """

    def __init__(
        self, scope: Construct, name: str, *, stage: Stage, events: EventsStack, key: Key
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        self._key = key
        self.deadletters: list[Deadletters] = []
        self._notifier()
        self._tally()

    def _notifier(self) -> None:
        """People hear how their saga ended: by mail where there is a sender, else in the log."""
        table = KeptTable(self, "NotifierTable", stage=self._stage, key=self._key)
        function = self._subscriber(
            "Notifier",
            handler="lambdas.subscribers.notifier.handler",
            environment={
                "LEDGER_TABLE": self._events.ledger.table_name,
                "NOTIFIER_TABLE": table.table_name,
                "SENDER": self._stage.sender,
            },
            only={"kind": TOLD},
        )
        use_table(self._events.ledger, function, "dynamodb:GetItem")
        use_table(table, function, "dynamodb:PutItem")
        if self._stage.sender:
            identity = ArnComponents(
                service="ses", resource="identity", resource_name=self._stage.sender
            )
            allow(function, "ses:SendEmail", Arn.format(identity, self))

    def _subscriber(
        self,
        name: str,
        *,
        handler: str,
        environment: Mapping[str, str],
        only: Mapping[str, Sequence[str]],
    ) -> HandlerFunction:
        """A function that SNS pushes to; what it fails at three times is set aside."""
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=handler,
            environment=environment,
            timeout=Duration.seconds(30),
        )
        lost = Deadletters(
            self,
            f"{name}Deadletters",
            stage=self._stage,
            called=name,
            why_not="a function was to take it and no queue: docs/operations.md says how to call "
            "the function again with what rests here",
            key=self._events.key,
            alarm=self._events.alarm,
        )
        self.deadletters.append(lost)
        function.configure_async_invoke(on_failure=SqsDestination(lost), retry_attempts=2)
        explain_setting_aside(function)
        use_key(self._events.key, function)
        self._events.feed.add_subscription(
            LambdaSubscription(
                function,
                dead_letter_queue=lost,
                filter_policy={
                    name: SubscriptionFilter.string_filter(allowlist=list(values))
                    for name, values in only.items()
                },
            )
        )
        return function

    def _tally(self) -> None:
        """Operators see how many sagas began and how they ended, by day."""
        table = KeptTable(self, "TallyTable", stage=self._stage, key=self._key)
        taker = self._taker("Tally", "lambdas.consumers.tally", {"TALLY_TABLE": table.table_name})
        use_table(table, taker.own_role, "dynamodb:PutItem", "dynamodb:UpdateItem")
        consumer = PullConsumer(
            self,
            "TallyEvents",
            stage=self._stage,
            called="Tally",
            function=taker,
            topic=self._events.feed,
            only={"kind": OUTCOMES},
            key=self._events.key,
            alarm=self._events.alarm,
        )
        self.deadletters.append(consumer.deadletters)
        CfnOutput(self, "TallyTableName", value=table.table_name)

    def _taker(
        self, name: str, module: str, environment: Mapping[str, str]
    ) -> HandlerFunction | Worker:
        """What takes a consumer's messages: its module's `handler`, or a worker its `handle`."""
        if self._stage.fargate:
            return Worker(
                self,
                name,
                stage=self._stage,
                place=self._place,
                handler=f"{module}:handle",
                environment=environment,
            )
        return HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=f"{module}.handler",
            environment=environment,
            timeout=Duration.seconds(30),
        )

    @cached_property
    def _place(self) -> WorkerPlace:
        return WorkerPlace(self, "Workers")
