"""The HTTP API, and who may call it."""

from __future__ import annotations

from aws_cdk import CfnOutput, Duration, Stack
from constructs import Construct

from infra.components.function import HandlerFunction
from infra.components.http_api import JwtApi
from infra.components.issuer import SCOPE_PREFIX, UserPoolIssuer
from infra.components.rights import use_table
from infra.components.tables import LEDGER_INDEXES, OutboxTable
from infra.stacks.events import EventsStack
from infra.stacks.sagas import SagasStack
from infra.stacks.valet import ValetStack
from infra.stage import Stage
from services.holdings import HOLDINGS


class ApiStack(Stack):
    """The API for sagas and for what services hold."""

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
    ) -> None:
        super().__init__(scope, name)
        shown = {
            service: tables[service]
            for service in {h.service for h in HOLDINGS.values()}
            if service in tables
        }
        if stage.issuer and stage.audience:
            issuer, audiences = stage.issuer, [stage.audience]
        else:
            pool = UserPoolIssuer(self, "Users", stage=stage)
            issuer, audiences = pool.issuer, list(pool.clients.values())
            CfnOutput(self, "UserPoolId", value=pool.pool.user_pool_id)
            CfnOutput(self, "TokenUrl", value=pool.token_url)
            for client, client_id in pool.clients.items():
                CfnOutput(self, f"{client}Id", value=client_id)
        function = HandlerFunction(
            self,
            "Api",
            stage=stage,
            handler="lambdas.api.handler",
            environment=sagas.environment_of_runs
            | valet.environment_of_keys
            | {
                "VALET_SIGNING_KEY": valet.signing_key.key_id,
                "PUBLIC_URL": stage.public_url,
                "LEDGER_TABLE": events.ledger.table_name,
                "SERVICE_TABLES": self.to_json_string({n: t.table_name for n, t in shown.items()}),
                "CHAOS": "on" if stage.chaos else "",
                "SCOPE_PREFIX": "" if stage.issuer else SCOPE_PREFIX,
            },
            timeout=Duration.seconds(29),
            memory=1024,
        )
        use_table(
            events.ledger,
            function,
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            indexes=list(LEDGER_INDEXES),
        )
        for table in shown.values():
            use_table(
                table, function, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"
            )
        sagas.let_run(function)
        valet.let_issue(function)
        valet.let_commit(function)
        api = JwtApi(
            self,
            "Http",
            stage=stage,
            function=function,
            redeems=valet.redeems,
            issuer=issuer,
            audiences=audiences,
            alarm=events.alarm,
        )
        CfnOutput(self, "ApiUrl", value=api.url)
        CfnOutput(self, "ApiId", value=api.api.api_id)
        CfnOutput(self, "Chaos", value="on" if stage.chaos else "off")
