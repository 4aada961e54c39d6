"""The HTTP API, its authorization, and the rights of its function."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import ArnFormat, CfnOutput, Duration, Stack
from aws_cdk.aws_iam import ManagedPolicy, PolicyStatement
from aws_cdk.aws_s3 import Bucket
from constructs import Construct

from infra.stacks.events import EventsStack
from infra.stacks.issuer import Issuer
from infra.stacks.live import LiveStack
from infra.stacks.sagas import SagasStack
from infra.stacks.valet import ValetStack
from infra.stacks.webhooks import WebhooksStack
from recourse.cdk.function import HandlerFunction
from recourse.cdk.http_api import JwtApi
from recourse.cdk.queues import Deadletters, queue_called
from recourse.cdk.rights import READ, use_key, use_table
from recourse.cdk.stage import Stage
from recourse.cdk.tables import OutboxTable
from recourse.ledger.listing import INDEXES
from recourse.queues.deadletters import deadletters_of
from services.holdings import HOLDINGS


class ApiStack(Stack):
    """The API for sagas, valet keys, webhooks, events and the services' holdings."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        tables: dict[str, OutboxTable],
        events: EventsStack,
        sagas: SagasStack,
        valet: ValetStack,
        webhooks: WebhooksStack,
        live: LiveStack,
        issuer: Issuer,
        deadletters: Sequence[Deadletters],
        documents: Bucket,
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        shown = {
            service: tables[service]
            for service in sorted({h.service for h in HOLDINGS.values()})
            if service in tables
        }
        function = HandlerFunction(
            self,
            "Api",
            stage=stage,
            handler="lambdas.api.handler",
            environment=sagas.environment_of_runs
            | valet.environment_of_keys
            | webhooks.environment_of_webhooks
            | {
                "VALET_SIGNING_KEY": valet.signing_key.key_id,
                "PUBLIC_URL": stage.public_url,
                "DOCUMENTS_BUCKET": documents.bucket_name,
                "LEDGER_TABLE": events.ledger.table_name,
                "FEED_TABLE": events.feed_table.table_name,
                "SERVICE_TABLES": self.to_json_string({n: t.table_name for n, t in shown.items()}),
                "DEADLETTERS": self._described(deadletters),
                "CHAOS": "on" if stage.chaos else "",
                "SCOPE_PREFIX": issuer.prefix,
                "SSE_URL": live.sse_url,
                "WEBSOCKET_URL": live.websocket_url,
            }
            | stage.owner_limits,
            timeout=Duration.seconds(29),
            memory=1024,
        )
        use_table(
            events.ledger,
            function,
            *READ,
            "dynamodb:PutItem",
            indexes=[index.name for index in INDEXES],
        )
        # To read the feed, and to count what its owners have under way (`recourse.store.slots`).
        use_table(
            events.feed_table, function, "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"
        )
        for table in shown.values():
            use_table(
                table, function, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"
            )
        sagas.let_run(function)
        webhooks.let_register(function)
        valet.let_issue(function)
        valet.let_commit(function)
        self._let_redrive(function, deadletters)
        use_key(events.key, function)
        api = JwtApi(
            self,
            "Http",
            stage=stage,
            function=function,
            redeems=valet.redeems,
            issuer=issuer.url,
            audiences=issuer.audiences,
            alarm=events.alarm,
        )
        CfnOutput(self, "ApiUrl", value=api.url)
        CfnOutput(self, "ApiId", value=api.api.api_id)
        CfnOutput(self, "Chaos", value="on" if stage.chaos else "off")

    def _described(self, deadletters: Sequence[Deadletters]) -> str:
        """The queues as the function reads them, in few bytes: an environment has 4 KB."""
        return self.to_json_string(
            {
                "prefix": queue_called(self._stage, ""),
                "redriven": [one.called for one in deadletters if one.why_not is None],
                "kept": {one.called: one.why_not for one in deadletters if one.why_not},
            }
        )

    def _let_redrive(self, function: HandlerFunction, deadletters: Sequence[Deadletters]) -> None:
        """Grant a function the right to count and redrive the messages of every dead-letter queue.

        The rights name the queues, because an import of their ARNs would prevent a step from ever
        being removed. They are in a managed policy, because a role's inline policy is too small.
        """
        redriven = [queue_called(self._stage, d.called) for d in deadletters if not d.why_not]
        kept = [queue_called(self._stage, d.called) for d in deadletters if d.why_not]
        count = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
        receive = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
        given = (
            (count, [deadletters_of(name) for name in kept]),
            (count + receive, [deadletters_of(name) for name in redriven]),
            (["sqs:SendMessage", "sqs:GetQueueUrl"], redriven),
        )
        ManagedPolicy(
            self,
            "Redrive",
            roles=[function.own_role],
            statements=[
                PolicyStatement(
                    actions=actions, resources=[self._queue_arn(name) for name in names]
                )
                for actions, names in given
            ],
        )

    def _queue_arn(self, name: str) -> str:
        return self.format_arn(service="sqs", resource=name, arn_format=ArnFormat.NO_RESOURCE_NAME)
