"""Live channels to browsers: server-sent events and WebSocket."""

from __future__ import annotations

from aws_cdk import Duration
from constructs import Construct

from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.issuer import Issuer
from recourse.cdk.local_cloud import tell
from recourse.cdk.queues import AT_ONCE_OF_EVERY_EVENT, PullConsumer, alarm_above
from recourse.cdk.rights import use_slots, use_table
from recourse.cdk.stage import Stage
from recourse.cdk.stream import StreamFunction
from recourse.cdk.tables import KeptTable
from recourse.cdk.websocket_api import WebSockets

RECEIVES = 10
"""How often a wake-up is tried: API Gateway's outages last longer than five tries."""


class LiveChannels(Construct):
    """Pushes an owner's feed to its open connections.

    ::

        live = LiveChannels(
            stack,
            "Live",
            stage=stage,
            events=events,
            issuer=Issuer("https://login.example.com/", ("https://shop.example.com",)),
        )
        CfnOutput(stack, "WebSocketUrl", value=live.websocket_url)

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        events: The feed that is pushed.
        issuer: The issuer of bearer tokens, which functions verify here.

    Attributes:
        sse_url: The URL of the stream.
        websocket_url: The URL that WebSockets connect to.
        connections_url: The URL to which messages for connections are posted.
        deadletters: Keep wake-ups that could not be handled.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        events: EventBackbone,
        issuer: Issuer,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._events = events
        issuer = issuer.on(stage)
        self._bearers = {
            "ISSUER": issuer.url,
            "AUDIENCES": " ".join(issuer.audiences),
            "SCOPE_PREFIX": issuer.prefix,
        }
        self._feed = {"FEED_TABLE": events.feed_table.table_name}
        self.connections = KeptTable(
            self,
            "ConnectionsTable",
            stage=stage,
            key=events.key,
            names="connection",
        )
        stream = self._stream()
        hears, pushes = self._hears(), self._pushes()
        consumer = PullConsumer(
            self,
            "PushEvents",
            stage=stage,
            called="Push",
            function=pushes,
            topic=events.feed,
            key=events.key,
            alarm=events.alarm,
            at_once=AT_ONCE_OF_EVERY_EVENT,
            receives=RECEIVES,
        )
        self.deadletters = [consumer.deadletters]
        sockets = WebSockets(
            self,
            "WebSockets",
            stage=stage,
            function=hears,
            authorizer=self._authorises(),
            alarm=events.alarm,
        )
        for function in (hears, pushes):
            function.add_environment("PUSH_QUEUE_URL", consumer.queue.queue_url)
            function.add_environment("CONNECTIONS_URL", sockets.connections_url)
            consumer.let_send(function)
            sockets.let_send(function)
        own = f"{stage.public_url}/events" if stage.local else None
        self.sse_url = f"{own}/stream" if own else f"{stream.address}events/stream"
        self.websocket_url = f"{own}/ws".replace("http", "ws", 1) if own else sockets.url
        self.connections_url = sockets.connections_url
        tell(
            self,
            "Live",
            stage=stage,
            connections_url=self.connections_url,
            connections_table=self.connections.table_name,
            feed_table=events.feed_table.table_name,
        )

    def _stream(self) -> StreamFunction:
        function = StreamFunction(
            self,
            "Stream",
            stage=self._stage,
            environment=self._bearers
            | self._feed
            | {"CONNECTIONS_TABLE": self.connections.table_name}
            | self._stage.owner_limits,
        )
        self._let_read_feed(function)
        use_slots(self.connections, function)
        alarm_above(
            self,
            "StreamsRefused",
            function.metric_throttles(statistic="Sum"),
            stage=self._stage,
            threshold=0,
            action=self._events.alarm,
        )
        return function

    def _authorises(self) -> HandlerFunction:
        return HandlerFunction(
            self,
            "Authorise",
            stage=self._stage,
            handler="recourse.functions.authorise.handler",
            environment=self._bearers,
            timeout=Duration.seconds(15),
        )

    def _hears(self) -> HandlerFunction:
        return self._with_connections(
            "WebSocket", "recourse.functions.websocket.handler", "dynamodb:PutItem"
        )

    def _pushes(self) -> HandlerFunction:
        reads = "dynamodb:GetItem", "dynamodb:Query"
        return self._with_connections("Push", "recourse.functions.push.handler", *reads)

    def _with_connections(self, name: str, handler: str, *actions: str) -> HandlerFunction:
        function = HandlerFunction(
            self,
            name,
            stage=self._stage,
            handler=handler,
            environment=self._feed
            | {"CONNECTIONS_TABLE": self.connections.table_name}
            | self._stage.owner_limits,
            timeout=Duration.seconds(15),
        )
        self._let_read_feed(function)
        changes = "dynamodb:DeleteItem", "dynamodb:UpdateItem"
        use_table(self.connections, function, *changes, *actions)
        return function

    def _let_read_feed(self, function: HandlerFunction) -> None:
        use_table(self._events.feed_table, function, "dynamodb:GetItem", "dynamodb:Query")
