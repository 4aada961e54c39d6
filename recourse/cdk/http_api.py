"""The HTTP API: every path is behind the authorizer, except the open ones."""

from __future__ import annotations

import json

from aws_cdk import Duration
from aws_cdk.aws_apigatewayv2 import (
    CfnStage,
    CorsHttpMethod,
    CorsPreflightOptions,
    HttpApi,
    HttpMethod,
    HttpNoneAuthorizer,
    HttpStage,
    IHttpRouteAuthorizer,
    ThrottleSettings,
)
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from aws_cdk.aws_cloudwatch import IAlarmAction
from aws_cdk.aws_lambda import Function
from aws_cdk.aws_logs import LogGroup
from constructs import Construct

from recourse.cdk.queues import alarm_above
from recourse.cdk.rights import explain
from recourse.cdk.stage import Stage

OPEN = ("/health", "/docs", "/docs/{version}/{name}", "/openapi.json", "/.well-known/jwks.json")
TOKEN_IS_CREDENTIAL = {"/valet-keys/redeem": HttpMethod.POST, "/v/{token}": HttpMethod.GET}
READING = [HttpMethod.GET, HttpMethod.HEAD]
"""A link of a valet key is not read but used, so it answers no HEAD."""
RATE, BURST = 200, 400
"""Requests a second, and how many at once, before callers get 429."""


class AuthorizedApi(Construct):
    """An HTTP API in front of one function, with an authorizer.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        function: Answers every request, except those with a valet key's token as credential.
        redeems: Answers those with a valet key's token; None if there are no valet keys.
        authorizer: Verifies the callers.
        alarm: Alerted when the API answers with a 5xx.

    Attributes:
        api: The API.
        url: Its address.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        function: Function,
        redeems: Function | None,
        authorizer: IHttpRouteAuthorizer,
        alarm: IAlarmAction,
    ) -> None:
        super().__init__(scope, name)
        integration = HttpLambdaIntegration("Integration", function)
        cors = None
        if stage.cors_origins:
            cors = CorsPreflightOptions(
                allow_origins=list(stage.cors_origins),
                allow_methods=[
                    CorsHttpMethod.GET,
                    CorsHttpMethod.HEAD,
                    CorsHttpMethod.POST,
                    CorsHttpMethod.PUT,
                    CorsHttpMethod.DELETE,
                ],
                allow_headers=[
                    "authorization",
                    "content-type",
                    "idempotency-key",
                    "traceparent",
                    "if-match",
                    "if-none-match",
                    "not-before",
                    "prefer",
                    "recourse-chaos",
                ],
                expose_headers=["etag", "location", "preference-applied", "retry-after"],
            )
        self.api = HttpApi(self, "Api", create_default_stage=False, cors_preflight=cors)
        self.api.add_routes(
            path="/{proxy+}",
            methods=[
                *READING,
                HttpMethod.POST,
                HttpMethod.PUT,
                HttpMethod.DELETE,
                # No path has it: the function's 405 says so, where the gateway's 404 would not.
                HttpMethod.PATCH,
            ],
            integration=integration,
            authorizer=authorizer,
        )
        for path in OPEN:
            routes = self.api.add_routes(
                path=path,
                methods=READING,
                integration=integration,
                authorizer=HttpNoneAuthorizer(),
            )
            for route in routes:
                explain(
                    route,
                    "AwsSolutions-APIG4",
                    reason=f"{path} returns no data of any owner",
                )
        if redeems:
            self._redeem(redeems)
        logs = LogGroup(
            self,
            "AccessLogs",
            retention=stage.log_retention,
            removal_policy=stage.removal,
        )
        default = HttpStage(
            self,
            "Stage",
            http_api=self.api,
            stage_name="$default",
            auto_deploy=True,
            throttle=ThrottleSettings(rate_limit=RATE, burst_limit=BURST),
        )
        underneath = default.node.default_child
        assert isinstance(underneath, CfnStage)
        underneath.access_log_settings = CfnStage.AccessLogSettingsProperty(
            destination_arn=logs.log_group_arn,
            format=json.dumps(
                {
                    "time": "$context.requestTime",
                    "method": "$context.httpMethod",
                    "route": "$context.routeKey",
                    "status": "$context.status",
                    "subject": "$context.authorizer.claims.sub",
                    "latency": "$context.responseLatency",
                    "request": "$context.requestId",
                }
            ),
        )
        alarm_above(
            self,
            "Failing",
            self.api.metric_server_error(statistic="Sum", period=Duration.minutes(5)),
            stage=stage,
            threshold=0,
            action=alarm,
            vital=True,
        )
        self.url = default.url

    def _redeem(self, function: Function) -> None:
        redeeming = HttpLambdaIntegration("Redeeming", function)
        for path, method in TOKEN_IS_CREDENTIAL.items():
            routes = self.api.add_routes(
                path=path,
                methods=[method],
                integration=redeeming,
                authorizer=HttpNoneAuthorizer(),
            )
            for route in routes:
                explain(
                    route,
                    "AwsSolutions-APIG4",
                    reason="the valet key's token is the credential, and the function verifies it",
                )
