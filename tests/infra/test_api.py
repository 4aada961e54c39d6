"""Who gets in, how often, and what is written down of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recourse.cli.main import app
from recourse.cli.tokens import EVERYDAY_SCOPE
from recourse.functions.users import CALLBACKS, GROUPS, SCOPES
from recourse.local.cloud import EVERY_SCOPE
from tests.description import FILE, OPERATIONS
from tests.infra.assembly import Assembly, Resource

pytestmark = pytest.mark.xdist_group("infra")

OPEN = {
    "GET /health",
    "GET /docs",
    "GET /docs/{version}/{name}",
    "GET /openapi.json",
    "GET /.well-known/jwks.json",
    # The valet key's token is the credential.
    "POST /valet-keys/redeem",
    "GET /v/{token}",
}


def test_the_description_says_what_is_open() -> None:
    assert {str(one) for one in OPERATIONS if not one.scope} == OPEN


def test_the_functions_carry_the_description() -> None:
    from recourse.cdk.code import sources
    from recourse.project import Project

    assert FILE in sources(Project.find()).values()


def http(assembly: Assembly, kind: str) -> list[Resource]:
    """What the HTTP API has of a type; the WebSocket API has its own tests."""
    return [one for one in assembly.every(f"AWS::ApiGatewayV2::{kind}") if one.stack == "Api"]


def test_every_route_but_the_open_ones_asks_for_a_token(each: Assembly) -> None:
    routes = http(each, "Route")
    kinds = {one.properties["RouteKey"]: one.properties["AuthorizationType"] for one in routes}
    # Whatever can be read answers HEAD; a link of a valet key is used, not read.
    read = {key for key in OPEN if key.startswith("GET") and key != "GET /v/{token}"}
    opened = OPEN | {key.replace("GET", "HEAD") for key in read}
    assert {key for key, kind in kinds.items() if kind == "NONE"} == opened
    closed = {key for key, kind in kinds.items() if kind == "JWT"}
    assert closed == set(kinds) - opened
    # PATCH is there to be refused with the methods that there are. OPTIONS is not: a preflight has
    # no token, and the gateway answers it where the stage has origins.
    verbs = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
    assert closed == {f"{verb} /{{proxy+}}" for verb in verbs}
    (authorizer,) = http(each, "Authorizer")
    for route in routes:
        if route.properties["RouteKey"] in closed:
            known = each.plain(route.stack, route.properties["AuthorizerId"])
            assert known == f"<{authorizer.name}>"


def test_scopes_are_judged_by_the_function_alone(each: Assembly) -> None:
    """One route leads to calls of every scope, so it can ask for none."""
    assert not [one.name for one in http(each, "Route") if "AuthorizationScopes" in one.properties]


def test_the_user_pool_has_every_scope_that_a_call_asks_for() -> None:
    assert {one.scope for one in OPERATIONS if one.scope} == set(SCOPES)


def test_every_scope_is_in_the_help_of_the_command_the_documentation_and_the_demos_token() -> None:
    asked = {one.scope for one in OPERATIONS if one.scope}
    told = CliRunner().invoke(app, ["token", "--help"], env={"COLUMNS": "200"}).output
    assert asked <= set(re.findall(r"[\w:]+", told))
    rows = re.findall(r"^\| `([\w:]+)` \|", Path("docs/operations.md").read_text(), re.M)
    assert asked <= set(rows)
    (readme,) = re.findall(r'recourse token .*--scope "([^"]+)"', Path("README.md").read_text())
    assert asked == set(readme.split()) == set(EVERY_SCOPE.split())
    assert set(EVERYDAY_SCOPE.split()) < asked


def test_tokens_of_valet_keys_are_redeemed_by_a_function_of_its_own(each: Assembly) -> None:
    serves = {
        one.properties["RouteKey"]: each.plain(one.stack, one.properties["Target"])
        for one in http(each, "Route")
    }
    integrations = {
        f"integrations/<{one.name}>": each.plain(one.stack, one.properties["IntegrationUri"])
        for one in http(each, "Integration")
    }
    redeemed = {key for key, target in serves.items() if integrations[target] == "<Redeem.Arn>"}
    assert redeemed == {"POST /valet-keys/redeem", "GET /v/{token}"}


def test_tokens_are_those_of_the_issuer_that_the_context_names(prod: Assembly) -> None:
    (authorizer,) = http(prod, "Authorizer")
    assert authorizer.properties["JwtConfiguration"] == {
        "Issuer": "https://issuer.example",
        "Audience": ["recourse"],
    }
    assert not [one for one in prod.resources if one.type.startswith("AWS::Cognito")]
    assert prod.environment(prod.one("AWS::Lambda::Function", "Api"))["SCOPE_PREFIX"] == ""


def test_without_one_they_are_those_of_a_user_pool_of_ours(dev: Assembly) -> None:
    (authorizer,) = http(dev, "Authorizer")
    assert dev.plain("Api", authorizer.properties["JwtConfiguration"]) == {
        "Issuer": "https://cognito-idp.<AWS::Region>.amazonaws.com/<Users/Pool>",
        "Audience": ["<Users/Pool/Login>"],
    }
    assert dev.environment(dev.one("AWS::Lambda::Function", "Api"))["SCOPE_PREFIX"] == "recourse/"
    pool = dev.one("AWS::Cognito::UserPool", "Users/Pool").properties
    assert pool["MfaConfiguration"] == "ON"
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}


def test_a_token_with_scopes_can_be_had_from_the_user_pool(dev: Assembly) -> None:
    """Only a domain has the endpoint for it; a user pool by itself issues none."""
    domain = dev.one("AWS::Cognito::UserPoolDomain", "Users/Pool/Domain")
    assert dev.plain("Issuer", domain.properties) == {
        "Domain": "recourse-dev-<AWS::AccountId>",
        "UserPoolId": "<Users/Pool>",
    }
    assert dev.outputs["TokenUrl"] == (
        "https://<Users/Pool/Domain>.auth.<AWS::Region>.amazoncognito.com/oauth2/token"
    )
    (server,) = dev.every("AWS::Cognito::UserPoolResourceServer")
    assert {one["ScopeName"] for one in server.properties["Scopes"]} == set(SCOPES)


def test_a_trigger_that_fails_raises_an_alarm_where_there_are_all(
    whole: Assembly, dev: Assembly
) -> None:
    """If it fails no user is issued a token, and nothing but its own metric shows it."""
    (alarm,) = (a for a in whole.every("AWS::CloudWatch::Alarm") if a.stack == "Issuer")
    assert alarm.properties["MetricName"] == "Errors"
    assert whole.plain("Issuer", alarm.properties["Dimensions"]) == [
        {"Name": "FunctionName", "Value": "<Users/PreToken>"}
    ]
    assert not [a for a in dev.every("AWS::CloudWatch::Alarm") if a.stack == "Issuer"]


def test_people_sign_in_by_a_public_client_with_a_code_for_a_few_ports_alone(
    dev: Assembly,
) -> None:
    (client,) = dev.every("AWS::Cognito::UserPoolClient")  # idle, a machine's would cost $6 a month
    assert client.name == "Users/Pool/Login"
    has = dev.plain("Issuer", client.properties)
    assert has["AllowedOAuthFlows"] == ["code"]
    assert has["AllowedOAuthFlowsUserPoolClient"] is True
    assert not has["GenerateSecret"]
    assert has["CallbackURLs"] == list(CALLBACKS)
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", one) for one in CALLBACKS)
    assert has["AllowedOAuthScopes"] == [f"<Users/Pool/Resources>/{scope}" for scope in SCOPES]
    assert has["SupportedIdentityProviders"] == ["COGNITO"]
    assert has["EnableTokenRevocation"] is True
    assert has["RefreshTokenRotation"] == {"Feature": "ENABLED", "RetryGracePeriodSeconds": 60}
    # Cognito refuses rotation together with ALLOW_REFRESH_TOKEN_AUTH, which is in its defaults.
    assert has["ExplicitAuthFlows"] == ["ALLOW_USER_SRP_AUTH"]
    assert dev.outputs["LoginCommand"] == (
        f"recourse login --api {dev.outputs['ApiUrl']} --issuer "
        "https://cognito-idp.<AWS::Region>.amazonaws.com/<Users/Pool> --client <Users/Pool/Login>"
    )


def test_every_token_of_a_user_is_judged_by_their_groups(dev: Assembly) -> None:
    pool = dev.one("AWS::Cognito::UserPool", "Users/Pool")
    assert pool.properties["UserPoolTier"] == "ESSENTIALS", "Lite does not change access tokens"
    assert dev.plain("Issuer", pool.properties["LambdaConfig"]) == {
        "PreTokenGenerationConfig": {
            "LambdaArn": "<Users/PreToken.Arn>",
            "LambdaVersion": "V2_0",  # V3_0 would also judge machines, which have no groups
        }
    }
    function = dev.one("AWS::Lambda::Function", "Users/PreToken")
    assert function.properties["Timeout"] == 5
    assert dev.environment(function)["SCOPE_PREFIX"] == "recourse/"
    (permission,) = [
        one.properties
        for one in dev.every("AWS::Lambda::Permission")
        if one.properties["Principal"] == "cognito-idp.amazonaws.com"
    ]
    assert dev.plain("Issuer", permission["SourceArn"]) == "<Users/Pool.Arn>"
    groups = {one.properties["GroupName"] for one in dev.every("AWS::Cognito::UserPoolGroup")}
    assert groups == set(GROUPS)


def test_a_machine_has_a_client_of_its_own_with_the_scopes_of_its_groups(
    fargate: Assembly,
) -> None:
    """The context names them; the two that every pool had keep their ids under their names."""
    may = {
        client.name.rpartition("/")[2]: {
            scope.rpartition("/")[2]
            for scope in fargate.plain("Issuer", client.properties["AllowedOAuthScopes"])
        }
        for client in fargate.every("AWS::Cognito::UserPoolClient")
        if client.properties["AllowedOAuthFlows"] == ["client_credentials"]
        and client.properties["GenerateSecret"]
    }
    assert may == {"Client": set(SCOPES) - {"operator", "insurer"}, "Operator": set(SCOPES)}
    assert fargate.outputs["ClientId"] == "<Users/Pool/Client>"
    (authorizer,) = http(fargate, "Authorizer")
    audience = fargate.plain("Api", authorizer.properties["JwtConfiguration"])["Audience"]
    assert audience == [f"<Users/Pool/{one}>" for one in ("Login", "Client", "Operator")]


def test_every_group_has_scopes_that_there_are_and_one_has_them_all() -> None:
    assert set().union(*GROUPS.values()) == set(SCOPES) == set(GROUPS["operator"])
    assert [group for group, scopes in GROUPS.items() if "operator" in scopes] == ["operator"]


def test_callers_are_throttled(each: Assembly) -> None:
    (stage,) = http(each, "Stage")
    assert stage.properties["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": 200,
        "ThrottlingBurstLimit": 400,
    }


def test_the_access_log_says_who_asked_for_what_and_no_more(each: Assembly) -> None:
    (stage,) = http(each, "Stage")
    settings = each.plain("Api", stage.properties["AccessLogSettings"])
    assert settings["DestinationArn"] == "<Http/AccessLogs.Arn>"
    assert set(json.loads(settings["Format"])) == {
        "time",
        "method",
        "route",
        "status",
        "subject",
        "latency",
        "request",
    }


def test_browsers_may_call_it_from_the_origins_of_the_context_alone(
    dev: Assembly, prod: Assembly
) -> None:
    assert "CorsConfiguration" not in dev.one("AWS::ApiGatewayV2::Api", "Http/Api").properties
    cors = prod.one("AWS::ApiGatewayV2::Api", "Http/Api").properties["CorsConfiguration"]
    assert cors["AllowOrigins"] == ["https://one.example", "https://two.example"]
    assert {"authorization", "idempotency-key", "if-none-match"} <= set(cors["AllowHeaders"])
    assert {"etag", "location"} <= set(cors["ExposeHeaders"])


def test_errors_of_its_own_raise_an_alarm(each: Assembly) -> None:
    found = [a for a in each.every("AWS::CloudWatch::Alarm") if a.stack == "Api"]
    assert [one.properties["MetricName"] for one in found] == ["5xx"]


def test_the_function_answers_before_the_gateway_gives_up(each: Assembly) -> None:
    assert each.one("AWS::Lambda::Function", "Api").properties["Timeout"] < 30
