"""The endpoint of Stripe's webhooks; only with the context `payment_provider=stripe:…`."""

from __future__ import annotations

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk.aws_apigatewayv2 import HttpMethod, HttpNoneAuthorizer, HttpRoute, HttpRouteKey
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from recourse.cdk.api import SagaApi
from recourse.cdk.events import EventBackbone
from recourse.cdk.function import HandlerFunction
from recourse.cdk.rights import allow, explain, use_key, use_table
from recourse.cdk.services import Services
from recourse.cdk.stage import Stage

PATH = "/payment-events"
SERVICE = "cards"


class PaymentEvents(Construct):
    """A function behind a path of the API, which compares Stripe's books with the payments' rows.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        services: Have the payments' rows.
        events: Has the alarm.
        api: Where the path is.
        provider: The context `payment_provider`.
        secret: The ARN of the secret with Stripe's keys.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        services: Services,
        events: EventBackbone,
        api: SagaApi,
        provider: str,
        secret: str,
    ) -> None:
        super().__init__(scope, name)
        table = services.tables[SERVICE]
        function = HandlerFunction(
            self,
            "PaymentEvents",
            stage=stage,
            handler="lambdas.payments.handler",
            environment={
                "PAYMENT_PROVIDER": provider,
                "PAYMENT_SECRET": secret,
                "TABLE_NAME": table.table_name,
                "ALARMS_TOPIC_ARN": events.alarms.topic_arn,
            },
            timeout=Duration.seconds(18),
        )
        allow(function, "secretsmanager:GetSecretValue", secret)
        use_table(table, function, "dynamodb:GetItem", "dynamodb:UpdateItem")
        allow(function, "sns:Publish", events.alarms.topic_arn)
        use_key(events.key, function)
        route = HttpRoute(
            self,
            "Route",
            http_api=api.api,
            route_key=HttpRouteKey.with_(PATH, HttpMethod.POST),
            integration=HttpLambdaIntegration("Events", function),
            authorizer=HttpNoneAuthorizer(),
        )
        explain(
            route,
            "AwsSolutions-APIG4",
            reason="Stripe's signature is the credential, and the function verifies it",
        )
        CfnOutput(Stack.of(self), "PaymentEventsUrl", value=f"{api.url.rstrip('/')}{PATH}")
