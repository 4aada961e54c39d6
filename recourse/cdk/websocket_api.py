"""The WebSocket API: an authorizer, and one function behind it."""

from __future__ import annotations

import json
from typing import cast

from aws_cdk import CfnElement, Duration, RemovalPolicy, Stack
from aws_cdk.aws_apigateway import CfnAccount
from aws_cdk.aws_apigatewayv2 import (
    CfnStage,
    ThrottleSettings,
    WebSocketApi,
    WebSocketRouteOptions,
    WebSocketStage,
)
from aws_cdk.aws_apigatewayv2_authorizers import WebSocketLambdaAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration
from aws_cdk.aws_cloudwatch import IAlarmAction, Metric
from aws_cdk.aws_iam import ManagedPolicy, Role, ServicePrincipal
from aws_cdk.aws_lambda import Function
from aws_cdk.aws_logs import LogGroup
from constructs import Construct

from recourse.cdk.function import HandlerFunction
from recourse.cdk.queues import alarm_above
from recourse.cdk.rights import allow, explain
from recourse.cdk.stage import Stage

NAME = "live"
RATE, BURST = 100, 200
"""Handshakes and messages a second, and how many at once, before clients are refused."""


class WebSockets(Construct):
    """A WebSocket API whose every event goes to one function.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        function: Handles connects, disconnects and messages.
        authorizer: Verifies a connection's token. It has no identity source, because a token may be
            in either of two headers, and API Gateway would require all of those named.
        alarm: Notified when the API fails.

    Attributes:
        url: The URL that clients connect to.
        connections_url: The URL to which messages for connections are posted.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        function: Function,
        authorizer: Function,
        alarm: IAlarmAction,
    ) -> None:
        super().__init__(scope, name)

        def route(kind: str) -> WebSocketLambdaIntegration:
            return WebSocketLambdaIntegration(kind, function)

        self._api = WebSocketApi(
            self,
            "Api",
            connect_route_options=WebSocketRouteOptions(
                integration=route("Connect"),
                authorizer=WebSocketLambdaAuthorizer("Bearer", authorizer, identity_source=[]),
            ),
            disconnect_route_options=WebSocketRouteOptions(integration=route("Disconnect")),
            default_route_options=WebSocketRouteOptions(integration=route("Message")),
        )
        for key in ("$disconnect", "$default"):
            explain(
                cast("Construct", self._api.node.find_child(f"{key}-Route")),
                "AwsSolutions-APIG4",
                reason="the connection was authorised when it was opened",
            )
        logs = LogGroup(
            self,
            "AccessLogs",
            retention=stage.log_retention,
            removal_policy=stage.removal,
        )
        live = WebSocketStage(
            self,
            "Stage",
            web_socket_api=self._api,
            stage_name=NAME,
            auto_deploy=True,
            throttle=ThrottleSettings(rate_limit=RATE, burst_limit=BURST),
        )
        underneath = live.node.default_child
        assert isinstance(underneath, CfnStage)
        underneath.access_log_settings = CfnStage.AccessLogSettingsProperty(
            destination_arn=logs.log_group_arn,
            format=json.dumps(
                {
                    "time": "$context.requestTime",
                    "event": "$context.eventType",
                    "route": "$context.routeKey",
                    "status": "$context.status",
                    "subject": "$context.authorizer.principalId",
                    "connection": "$context.connectionId",
                    "request": "$context.requestId",
                }
            ),
        )
        if stage.cloudwatch_role:
            live.node.add_dependency(self._may_log())
        alarm_above(
            self,
            "Failing",
            Metric(
                namespace="AWS/ApiGateway",
                metric_name="IntegrationError",
                dimensions_map={"ApiId": self._api.api_id, "Stage": NAME},
                statistic="Sum",
                period=Duration.minutes(5),
            ),
            stage=stage,
            threshold=0,
            action=alarm,
        )
        self._stage = live
        self.url = live.url
        local = stage.connections_url.replace("{api}", self._api.api_id).replace("{stage}", NAME)
        self.connections_url = local or live.callback_url

    def _may_log(self) -> CfnAccount:
        """Set the account's role for API Gateway's logs, which stages need in order to log.

        Every API of the account and region shares it, so it is never deleted.
        """
        role = Role(
            self,
            "LogsRole",
            assumed_by=ServicePrincipal("apigateway.amazonaws.com"),
            managed_policies=[
                ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
                )
            ],
        )
        explain(
            role,
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AmazonAPIGatewayPushToCloudWatchLogs]",
            reason="API Gateway accepts no role that allows less, and every API shares it",
        )
        account = CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        for kept in (role, account):
            kept.apply_removal_policy(RemovalPolicy.RETAIN)
        return account

    def let_send(self, function: HandlerFunction) -> None:
        """Grant a function the right to send to this stage's connections and to close them."""
        api = Stack.of(self).get_logical_id(cast("CfnElement", self._api.node.default_child))
        for verb in ("POST", "DELETE"):
            path = f"{NAME}/{verb}/@connections/*"
            arn = Stack.of(self).format_arn(
                service="execute-api", resource=self._api.api_id, resource_name=path
            )
            allow(function, "execute-api:ManageConnections", arn)
            explain(
                function.own_role,
                "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:execute-api:<AWS::Region>:"
                f"<AWS::AccountId>:<{api}>/{path}]",
                reason="a connection's id is unknown until it is opened",
            )
