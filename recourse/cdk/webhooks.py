"""Webhooks: their table, the function that sorts the feed into lanes, and the one that delivers."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk.aws_kms import Key
from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.indexes import WEBHOOK_INDEXES
from recourse.cdk.queues import AT_ONCE_OF_EVERY_EVENT, PullConsumer
from recourse.cdk.rights import READ, WRITE, use_table
from recourse.cdk.stage import Stage
from recourse.cdk.tables import ListedTable

RECEIVES = 1000
"""The most that SQS allows: attempts at an endpoint are counted in its lane, not by SQS."""


class Webhooks(Construct):
    """Everything that webhooks need, except the API that registers them.

    ::

        webhooks = Webhooks(stack, "Webhooks", stage=stage, events=events)

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        events: The feed that they deliver.

    Attributes:
        table: The table of webhooks.
        deadletters: Keep messages that could not be processed.
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage, events: EventBackbone) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        self.key = events.key
        if stage.has_every_key:
            self.key = Key(self, "Key", enable_key_rotation=True, removal_policy=stage.removal)
        self.table = ListedTable(
            self, "WebhooksTable", stage=stage, key=self.key, indexes=WEBHOOK_INDEXES
        )
        dispatches = self._function(
            "WebhookDispatch", "recourse.functions.webhook_dispatch.handler"
        )
        delivers = self._function(
            "WebhookDeliver",
            "recourse.functions.webhook_deliver.handler",
            WEBHOOK_LOOPBACK=self._loopback,
            TIMESCALE=str(stage.timescale),
        )
        # A wake-up for each event of any owner's feed: the events themselves are read from there.
        self._owners = PullConsumer(
            self,
            "WebhookOwners",
            stage=stage,
            called="WebhookOwners",
            function=dispatches,
            topic=events.feed,
            key=events.key,
            alarm=events.alarm,
            at_once=AT_ONCE_OF_EVERY_EVENT,
        )
        # One message a batch: others in a batch would have to wait for a slow endpoint.
        self._lanes = PullConsumer(
            self,
            "WebhookLanes",
            stage=stage,
            called="WebhookLanes",
            function=delivers,
            topic=None,
            key=events.key,
            alarm=events.alarm,
            at_once=30,
            receives=RECEIVES,
            batch=1,
            puts_off=True,
        )
        use_table(events.feed_table, dispatches, "dynamodb:GetItem", "dynamodb:Query")
        # It also appends to the feed that a webhook was disabled.
        use_table(events.feed_table, delivers, *READ, "dynamodb:PutItem", "dynamodb:Query")
        use_table(self.table, dispatches, *READ, "dynamodb:UpdateItem")
        use_table(self.table, delivers, "dynamodb:GetItem", *WRITE)
        for function in (dispatches, delivers):
            # Each sends wake-ups to itself and to the other for as long as a backlog lasts.
            for name, consumer in self._consumers.items():
                function.add_environment(name, consumer.queue.queue_url)
                consumer.let_send(function)
        self.deadletters = [self._owners.deadletters, self._lanes.deadletters]

    @property
    def environment_of_webhooks(self) -> dict[str, str]:
        """The API's environment variables for webhooks."""
        return {
            "WEBHOOKS_TABLE": self.table.table_name,
            "WEBHOOK_LOOPBACK": self._loopback,
            **{name: one.queue.queue_url for name, one in self._consumers.items()},
        }

    def let_register(self, function: HandlerFunction) -> None:
        """Let a function register webhooks, read their attempts, and have events delivered."""
        use_table(self.table, function, *READ, *WRITE, indexes=list(WEBHOOK_INDEXES))
        for consumer in self._consumers.values():
            consumer.let_send(function)

    @property
    def _consumers(self) -> dict[str, PullConsumer]:
        """The consumers, by the variables that hold the URLs of their queues."""
        return {"WEBHOOK_LANES": self._lanes, "WEBHOOK_OWNERS": self._owners}

    @property
    def _loopback(self) -> str:
        """`on` if webhooks may call this machine, which they may in the local cloud only."""
        return "on" if self._stage.local else ""

    def _function(self, name: str, handler: str, **environment: str) -> HandlerFunction:
        return HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=handler,
            environment={
                "WEBHOOKS_TABLE": self.table.table_name,
                "FEED_TABLE": self._events.feed_table.table_name,
                **environment,
            },
            timeout=Duration.seconds(30),
        )
