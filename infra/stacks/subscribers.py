"""Who is told of what the feed says: a line a subscriber, a line a consumer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk.aws_kms import Key
from constructs import Construct

from infra.components.function import HandlerFunction
from infra.components.queues import Deadletters, PullConsumer
from infra.components.rights import use_table
from infra.components.tables import KeptTable
from infra.components.worker import Worker, WorkerPlace
from infra.stacks.events import EventsStack
from infra.stage import Stage
from recourse.tally import OUTCOMES


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
        self._tally()

    def _tally(self) -> None:
        """Operators see how many sagas began and how they ended, by day."""
        table = KeptTable(self, "TallyTable", stage=self._stage, key=self._key)
        taker = self._taker("Tally", "lambdas.tally", {"TALLY_TABLE": table.table_name})
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
