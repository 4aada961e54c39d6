"""Live channels: who gets in, how many, and how often."""

from __future__ import annotations

import json

import pytest

from recourse.feed.connections import LEASE
from tests.infra.assembly import Assembly

pytestmark = pytest.mark.xdist_group("infra")


def test_a_websocket_is_opened_by_whoever_the_authorizer_lets_in(each: Assembly) -> None:
    routes = {
        one.properties["RouteKey"]: one.properties.get("AuthorizationType")
        for one in each.every("AWS::ApiGatewayV2::Route")
        if one.stack == "Live"
    }
    assert routes.pop("$connect") == "CUSTOM"
    assert set(routes) == {"$disconnect", "$default"}
    (authorizer,) = [
        one for one in each.every("AWS::ApiGatewayV2::Authorizer") if one.stack == "Live"
    ]
    assert authorizer.properties["AuthorizerType"] == "REQUEST"
    # A named source has to be there: the header, or else the subprotocol, would be mandatory.
    assert not authorizer.properties.get("IdentitySource")
    assert "<Authorise.Arn>" in each.plain("Live", authorizer.properties["AuthorizerUri"])


def test_clients_are_throttled_and_written_down(each: Assembly) -> None:
    (stage,) = [one for one in each.every("AWS::ApiGatewayV2::Stage") if one.stack == "Live"]
    assert stage.properties["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": 100,
        "ThrottlingBurstLimit": 200,
    }
    format = json.loads(stage.properties["AccessLogSettings"]["Format"])
    assert "authorizer" in format["subject"]
    assert "token" not in json.dumps(format)


def test_a_lease_outlives_its_holder(each: Assembly) -> None:
    assert each.one("AWS::Lambda::Function", "Push").properties["Timeout"] < LEASE


def test_the_stream_is_served_by_the_web_adapter_as_it_comes(each: Assembly) -> None:
    from recourse.cdk.stream import ADAPTER

    function = each.one("AWS::Lambda::Function", "Stream")
    told = each.environment(function)
    assert told["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
    assert told["AWS_LWA_INVOKE_MODE"] == "response_stream"
    (layer,) = each.plain("Live", function.properties["Layers"])
    assert layer == f"arn:<AWS::Partition>:lambda:<AWS::Region>:{ADAPTER}"
    url = each.one("AWS::Lambda::Url", "Stream/FunctionUrl").properties
    assert (url["AuthType"], url["InvokeMode"]) == ("NONE", "RESPONSE_STREAM")


def test_a_stream_ends_in_order_before_its_function_does(each: Assembly) -> None:
    function = each.one("AWS::Lambda::Function", "Stream")
    assert (
        float(each.environment(function)["STREAM_SECONDS"]) <= function.properties["Timeout"] - 20
    )


def test_the_account_has_its_role_for_logs_before_the_stage_asks_for_them(each: Assembly) -> None:
    """Else a fresh account refuses the stage: 'CloudWatch Logs role ARN must be set'."""
    (stage,) = [one for one in each.every("AWS::ApiGatewayV2::Stage") if one.stack == "Live"]
    before = {each.plain("Live", {"Ref": one}) for one in stage.body["DependsOn"]}
    assert "<WebSockets/Account>" in before
    account = each.one("AWS::ApiGateway::Account", "WebSockets/Account")
    role = each.one("AWS::IAM::Role", "WebSockets/LogsRole")
    assert each.plain("Live", account.properties["CloudWatchRoleArn"]) == f"<{role.name}.Arn>"
    assert each.plain("Live", role.properties["ManagedPolicyArns"]) == [
        "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
    ]
    for kept in (account, role):
        # It is there for every API of the account, whoever's.
        assert kept.body["DeletionPolicy"] == kept.body["UpdateReplacePolicy"] == "Retain"


def test_an_account_that_has_a_role_for_logs_keeps_it(fargate: Assembly) -> None:
    assert [one for one in fargate.resources if one.type == "AWS::ApiGateway::Account"] == []


def test_nothing_reserves_what_a_fresh_account_does_not_have(each: Assembly) -> None:
    """It has ten executions at once, all of which must stay unreserved."""
    reserving = {
        one.name
        for one in each.every("AWS::Lambda::Function")
        if "ReservedConcurrentExecutions" in one.properties
    }
    assert reserving == set()


def test_streams_are_kept_from_what_sagas_need_where_the_context_says_how_many(
    fargate: Assembly,
) -> None:
    reserved = {
        one.name: one.properties["ReservedConcurrentExecutions"]
        for one in fargate.every("AWS::Lambda::Function")
        if "ReservedConcurrentExecutions" in one.properties
    }
    assert reserved == {"Stream": 20}


def test_browsers_may_read_it_from_the_origins_of_the_context_alone(
    dev: Assembly, prod: Assembly
) -> None:
    url = "Stream/FunctionUrl"
    assert "Cors" not in dev.one("AWS::Lambda::Url", url).properties
    cors = prod.one("AWS::Lambda::Url", url).properties["Cors"]
    assert cors["AllowOrigins"] == ["https://one.example", "https://two.example"]
    assert set(cors["AllowHeaders"]) == {"authorization", "last-event-id"}


def test_health_says_where_they_are(dev: Assembly, local: Assembly) -> None:
    def told(assembly: Assembly) -> tuple[str, str]:
        found = assembly.environment(assembly.one("AWS::Lambda::Function", "Api"))
        return found["SSE_URL"], found["WEBSOCKET_URL"]

    assert told(local) == (
        "http://127.0.0.1:8000/events/stream",
        "ws://127.0.0.1:8000/events/ws",
    )
    stream, socket = told(dev)
    assert stream == "<Stream/FunctionUrl.FunctionUrl>events/stream"
    assert socket.startswith("wss://<WebSockets/Api>.execute-api.") and socket.endswith("/live")
