"""Every declared subscriber and consumer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from aws_cdk import Arn, ArnComponents, Duration, Stack
from aws_cdk.aws_dynamodb import ITable
from aws_cdk.aws_ecs import ContainerImage
from aws_cdk.aws_iam import IGrantable
from aws_cdk.aws_lambda_destinations import SqsDestination
from aws_cdk.aws_sns import SubscriptionFilter
from aws_cdk.aws_sns_subscriptions import LambdaSubscription
from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.queues import Deadletters, PullConsumer
from recourse.cdk.rights import allow, explain_dead_lettering, use_key, use_table
from recourse.cdk.services import Services
from recourse.cdk.stage import ContextError, Stage
from recourse.cdk.tables import KeptTable
from recourse.cdk.worker import Worker, WorkerPlace
from recourse.queues.consumer import Consumer, Declaration, Subscriber


class Consumers(Construct):
    """The functions and workers that listen to the topic `feed`.

    ::

        mailer = Consumer("Mailer", hears={"kind": ["succeeded"]})  # its module has `handler`
        consumers = Consumers(
            stack,
            "Consumers",
            stage=stage,
            services=services,
            events=events,
            consumers={"shop.mailer": mailer},
        )

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: Whose key encrypts their tables.
        events: What they listen to.
        consumers: The consumers by their modules' names; `recourse.queues.consumer.declared` finds
            those of a package.
        subscribers: The same of subscribers.
        image: The image of workers, whose entry point is `recourse worker`; needed if
            `stage.fargate`.

    Attributes:
        tables: The tables of those that have one of their own, by their names.
        keeps: The text that stays in these when a person's data are erased, by the same names: the
            reason, by the field's name.
        deadletters: Keep messages that could not be processed or delivered.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
        consumers: Mapping[str, Consumer] | None = None,
        subscribers: Mapping[str, Subscriber] | None = None,
        image: ContainerImage | None = None,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        self._key = services.key
        self._image = image
        self.tables: dict[str, ITable] = {}
        self.keeps: dict[str, dict[str, str]] = {}
        self.deadletters: list[Deadletters] = []
        for module, subscriber in (subscribers or {}).items():
            self._subscriber(module, subscriber)
        for module, consumer in (consumers or {}).items():
            self._consumer(module, consumer)

    def _subscriber(self, module: str, declared: Subscriber) -> None:
        """A function that SNS pushes to; what fails three times is dead-lettered."""
        name, tables = declared.name, self._tables(declared)
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=f"{module}.handler",
            environment=self._environment(declared, tables),
            timeout=Duration.seconds(30),
        )
        lost = Deadletters(
            self,
            f"{name}Deadletters",
            stage=self._stage,
            called=name,
            why_not="its messages come from a function, not from a queue: docs/operations.md says "
            "how to call the function again with them",
            key=self._events.key,
            alarm=self._events.alarm,
        )
        self.deadletters.append(lost)
        function.configure_async_invoke(on_failure=SqsDestination(lost), retry_attempts=2)
        explain_dead_lettering(function.own_role)
        use_key(self._events.key, function)
        self._events.feed.add_subscription(
            LambdaSubscription(
                function,
                dead_letter_queue=lost,
                filter_policy={
                    attribute: SubscriptionFilter.string_filter(allowlist=list(values))
                    for attribute, values in declared.hears.items()
                }
                or None,
            )
        )
        self._allow(function, declared, tables)

    def _consumer(self, module: str, declared: Consumer) -> None:
        """A queue on the feed, and a function or a worker that handles its messages."""
        name, tables = declared.name, self._tables(declared)
        runner = self._runner(name, module, self._environment(declared, tables))
        self._allow(runner.own_role, declared, tables)
        consumer = PullConsumer(
            self,
            f"{name}Events",
            stage=self._stage,
            called=name,
            function=runner,
            topic=self._events.feed,
            only=declared.hears,
            key=self._events.key,
            alarm=self._events.alarm,
        )
        self.deadletters.append(consumer.deadletters)

    def _tables(self, declared: Declaration) -> dict[str, ITable]:
        """The tables that it may be allowed to use; its own table is made here."""
        found: dict[str, ITable] = {"ledger": self._events.ledger, "feed": self._events.feed_table}
        if "table" in declared.may:
            name = f"{declared.name}Table"
            found["table"] = KeptTable(self, name, stage=self._stage, key=self._key)
            self.tables[declared.name] = found["table"]
            if declared.keeps:
                self.keeps[declared.name] = {**declared.keeps}
        return found

    def _environment(self, declared: Declaration, tables: Mapping[str, ITable]) -> dict[str, str]:
        names = {what: table.table_name for what, table in tables.items()}
        names["sender"] = self._stage.sender
        variables = {declared.variable(what): names[what] for what in declared.may}
        return {"RECOURSE_SAGAS": self._stage.sagas, **variables}

    def _allow(
        self, grantee: IGrantable, declared: Declaration, tables: Mapping[str, ITable]
    ) -> None:
        for what, actions in declared.may.items():
            if what in tables:
                use_table(tables[what], grantee, *actions)
            elif self._stage.sender:
                identity = ArnComponents(
                    service="ses", resource="identity", resource_name=self._stage.sender
                )
                for action in actions:
                    allow(grantee, action, Arn.format(identity, Stack.of(self)))

    def _runner(
        self, name: str, module: str, environment: Mapping[str, str]
    ) -> HandlerFunction | Worker:
        """A function that runs the module's `handler`, or a worker that runs its `handle`."""
        if self._stage.fargate:
            if self._image is None:
                raise ContextError("context workers='fargate': Consumers must have an image")
            return Worker(
                self,
                name,
                stage=self._stage,
                place=self._place,
                image=self._image,
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
