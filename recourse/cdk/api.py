"""The HTTP API: its function, that function's rights, and who may call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk.aws_apigatewayv2 import IHttpRouteAuthorizer
from aws_cdk.aws_apigatewayv2_authorizers import HttpJwtAuthorizer
from constructs import Construct

from recourse.cdk.choreography import Choreography
from recourse.cdk.consumers import Consumers
from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.http_api import AuthorizedApi
from recourse.cdk.imports import Imports
from recourse.cdk.issuer import Issuer
from recourse.cdk.live import LiveChannels
from recourse.cdk.local_cloud import tell
from recourse.cdk.orchestration import Orchestration
from recourse.cdk.queues import Deadletters, queue_called
from recourse.cdk.rights import READ, use_key, use_queues, use_slots, use_table
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage
from recourse.cdk.tables import KeptTable
from recourse.cdk.valet import ValetKeys
from recourse.cdk.webhooks import Webhooks
from recourse.declare.shape import Shape
from recourse.errors import DeclarationError
from recourse.functions.users import own_scopes, scopes
from recourse.ledger.listing import BY_DUE, INDEXES
from recourse.queues.called import redriven_queues
from recourse.queues.deadletters import deadletters_of


class SagaApi(Construct):
    """The API for sagas and events, and for the valet keys and webhooks that an app has.

    ::

        api = SagaApi(
            stack,
            "Api",
            stage=stage,
            services=services,
            events=events,
            orchestration=orchestration,
            issuer=Issuer("https://login.example.com/", ("https://shop.example.com",)),
        )
        CfnOutput(stack, "ApiUrl", value=api.url)

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: The services of its sagas.
        events: The ledger and the feed that it shows.
        orchestration: The runs that it starts.
        issuer: The issuer of bearer tokens: any, or `CognitoIssuer(...).issuer`.
        authorizer: An authorizer of the app's own instead. One that is a function answers with a
            context that has the owner as `sub` and its scopes as `scope`, separated by spaces.
        choreography: The steps' queues, if there are any; without them a start with the
            coordination `choreography` is refused.
        valet: Valet keys; without them their routes answer 404, as with the next.
        webhooks: Webhooks.
        imports: Imports, which need valet keys.
        live: The live channels, whose URLs it tells.
        consumers: The consumers whose dead letters operators see and redrive.
        handler: Its entry point, `module.attribute`: the `handler` of an `Api`.

    Attributes:
        function: The function that answers, for rights and variables that its own routes need.
        slots: The table of what each owner has under way; that of the live channels, if any.
        api: The API in API Gateway.
        url: Its address.
        scopes: The scopes that its callers may have, as the project calls them.

    Raises:
        DeclarationError: Neither an issuer nor an authorizer was given, or both; or a saga is
            declared to be choreographed, and there is no choreography; or there are imports, and no
            valet keys.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
        orchestration: Orchestration,
        issuer: Issuer | None = None,
        authorizer: IHttpRouteAuthorizer | None = None,
        choreography: Choreography | None = None,
        valet: ValetKeys | None = None,
        webhooks: Webhooks | None = None,
        imports: Imports | None = None,
        live: LiveChannels | None = None,
        consumers: Consumers | None = None,
        handler: str = "recourse.functions.api.default.handler",
    ) -> None:
        super().__init__(scope, name)
        if (issuer is None) == (authorizer is None):
            raise DeclarationError("SagaApi must have an issuer or an authorizer, and not both")
        choreographed = [s.name for s in services.sagas if s.coordination == "choreography"]
        if choreographed and not choreography:
            names = ", ".join(choreographed)
            raise DeclarationError(f"SagaApi must have a choreography, for it starts {names} so")
        if imports and not valet:
            raise DeclarationError("SagaApi must have valet keys, for imports come by them")
        self._stage = stage
        self.scopes = tuple(scopes(own_scopes(services.sagas)))
        issuer = issuer and issuer.on(stage)
        capabilities = (events, choreography, orchestration, valet, webhooks, live, consumers)
        deadletters = [one for some in capabilities if some for one in some.deadletters]
        self.slots = live.connections if live else self._slots(events)
        self.function = HandlerFunction(
            self,
            "Api",
            stage=stage,
            handler=handler,
            environment=orchestration.environment_of_runs
            | (valet.environment_of_keys if valet else {})
            | (webhooks.environment_of_webhooks if webhooks else {})
            | (imports.environment_of_imports if imports else {})
            | ({"VALET_SIGNING_KEY": valet.signing_key.key_id} if valet else {})
            | {
                "PUBLIC_URL": stage.public_url,
                "CONSOLE_URL": stage.console_url,
                "DOCUMENTS_BUCKET": services.documents.bucket_name,
                "LEDGER_TABLE": events.ledger.table_name,
                "FEED_TABLE": events.feed_table.table_name,
                "QUEUE_PREFIX": queue_called(stage, ""),
                "DEADLETTERS": self._described(services.shapes, choreography, deadletters),
                "CHAOS": "on" if stage.chaos else "",
                "CHOREOGRAPHY": "on" if choreography else "",
                "TIMESCALE": str(stage.timescale),
                "SCOPE_PREFIX": issuer.prefix if issuer else "",
                "SSE_URL": live.sse_url if live else "",
                "WEBSOCKET_URL": live.websocket_url if live else "",
                "CONNECTIONS_TABLE": self.slots.table_name,
            }
            | stage.environment_of_limits,
            timeout=Duration.seconds(29),
            memory=1024,
        )
        use_table(
            events.ledger,
            self.function,
            *READ,
            "dynamodb:PutItem",
            indexes=[index.name for index in INDEXES if index is not BY_DUE],
        )
        use_table(events.feed_table, self.function, "dynamodb:GetItem", "dynamodb:Query")
        use_slots(self.slots, self.function)
        orchestration.let_run(self.function)
        orchestration.let_decide(self.function)
        if webhooks:
            webhooks.let_register(self.function)
        if imports:
            imports.let_import(self.function)
        if valet:
            valet.let_issue(self.function)
            valet.let_commit(self.function)
        self._let_redrive(deadletters)
        if not stage.has_every_alarm:
            orchestration.watch(deadletters)
        use_key(events.key, self.function)
        if issuer:
            audiences = list(issuer.audiences)
            authorizer = HttpJwtAuthorizer("Jwt", issuer.url, jwt_audience=audiences)
        assert authorizer
        http = AuthorizedApi(
            self,
            "Http",
            stage=stage,
            function=self.function,
            redeems=valet.redeems if valet else None,
            authorizer=authorizer,
            alarm=events.alarm,
        )
        self.api, self.url = http.api, http.url
        tell(self, "Api", stage=stage, api_id=self.api.api_id)

    def _slots(self, events: EventBackbone) -> KeptTable:
        """The table of what each owner has under way, which live channels have already."""
        return KeptTable(self, "SlotsTable", stage=self._stage, key=events.key, names="connection")

    def _described(
        self,
        shapes: Sequence[Shape[Any]],
        choreography: Choreography | None,
        deadletters: Sequence[Deadletters],
    ) -> str:
        """The queues that do not follow from the sagas: an environment has 4 KB."""
        known = redriven_queues(shapes, choreography=choreography is not None)
        others = [one for one in deadletters if one.called not in known]
        return Stack.of(self).to_json_string(
            {
                "redriven": [one.called for one in others if one.why_not is None],
                "kept": {one.called: one.why_not for one in others if one.why_not},
            }
        )

    def _let_redrive(self, deadletters: Sequence[Deadletters]) -> None:
        """Grant the right to count and redrive the messages of every dead-letter queue."""
        redriven = [queue_called(self._stage, d.called) for d in deadletters if not d.why_not]
        kept = [queue_called(self._stage, d.called) for d in deadletters if d.why_not]
        count = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
        receive = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
        given = (
            (count, [deadletters_of(name) for name in kept]),
            (count + receive, [deadletters_of(name) for name in redriven]),
            (["sqs:SendMessage", "sqs:GetQueueUrl"], redriven),
        )
        use_queues(self, "Redrive", self.function.own_role, given, prefix=self._stage.prefix)
