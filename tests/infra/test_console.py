"""The console on AWS: a private page, the API behind its origin, and how people sign in."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recourse import tools
from recourse.cdk import console_settings
from tests.infra.assembly import PAGE, Assembly, Resource, listed, synthesise

pytestmark = pytest.mark.xdist_group("infra")

DISABLED, OPTIMIZED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "658327ea-f89d-4fab-a63d-7e88639e58f6"
"""CloudFront's own policies: cache nothing; cache what the answer says."""
ALL_BUT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
"""CloudFront's own policy: whatever the viewer sends goes on, but for Host."""
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f"
HERS = {
    "issuer": "https://login.example/shop",
    "audience": "recourse",
    "console_client": "page",
    "console_endpoints": "authorize=https://login.example/shop/authorize "
    "token=https://tokens.example/token,revoke=https://tokens.example/revoke",
}
"""An issuer that is no user pool."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """A stage with a user pool that knows the console's URL."""
    context = {"console_url": "https://d1.cloudfront.net"}
    return synthesise(tmp_path_factory.mktemp("known"), context, judged=False)


@pytest.fixture(scope="module")
def hers(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """A stage with another issuer, and a domain of its own."""
    context = HERS | {
        "console_domain": "console.example",
        "console_certificate": CERTIFICATE,
    }
    return synthesise(tmp_path_factory.mktemp("hers"), context)


def of_console(assembly: Assembly, kind: str) -> Resource:
    (found,) = [one for one in assembly.every(kind) if one.stack == "Console"]
    return found


def served(assembly: Assembly) -> Mapping[str, Any]:
    found: Mapping[str, Any] = assembly.plain(
        "Console",
        of_console(assembly, "AWS::CloudFront::Distribution").properties["DistributionConfig"],
    )
    return found


def policy(assembly: Assembly) -> str:
    """The Content-Security-Policy."""
    headers = of_console(assembly, "AWS::CloudFront::ResponseHeadersPolicy").properties
    security = headers["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
    found: str = assembly.plain("Console", security["ContentSecurityPolicy"])[
        "ContentSecurityPolicy"
    ]
    return found


def configuration(assembly: Assembly) -> Mapping[str, Any]:
    """`console.json`, as the CDK's function will write it: with markers replaced."""
    (copied,) = [
        assembly.plain("Console", one.properties)
        for one in assembly.every("Custom::CDKBucketDeployment")
        if one.name.startswith("Configuration")
    ]
    (key,) = copied["SourceObjectKeys"]
    text = text_of(assembly.folder / f"asset.{key.removesuffix('.zip')}", "console.json")
    for marker, value in copied["SourceMarkers"][0].items():
        text = text.replace(marker, value).replace(f'"{marker}"', value)
    found: Mapping[str, Any] = json.loads(text)
    return found


def text_of(asset: Path, name: str) -> str:
    if asset.is_dir():
        return (asset / name).read_text()
    with zipfile.ZipFile(asset.with_suffix(".zip")) as packed:
        return packed.read(name).decode()


def test_the_bucket_is_private_and_read_by_this_distribution_alone(
    dev: Assembly, prod: Assembly
) -> None:
    for assembly, removal in ((dev, "Delete"), (prod, "RetainExceptOnCreate")):
        bucket = of_console(assembly, "AWS::S3::Bucket")
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert "WebsiteConfiguration" not in bucket.properties
        assert bucket.body["DeletionPolicy"] == removal
        (rights,) = [
            assembly.plain("Console", one.properties["PolicyDocument"]["Statement"])
            for one in assembly.every("AWS::S3::BucketPolicy")
            if one.stack == "Console"
        ]
        denied, allowed = rights
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert (denied["Effect"], denied["Action"]) == ("Deny", "s3:*")
        assert allowed == {
            "Action": "s3:GetObject",
            "Effect": "Allow",
            "Principal": {"Service": "cloudfront.amazonaws.com"},
            "Resource": "<Page.Arn>/*",
            "Condition": {
                "StringEquals": {
                    "AWS:SourceArn": "arn:<AWS::Partition>:cloudfront::<AWS::AccountId>:"
                    "distribution/<Distribution>"
                }
            },
        }
    control = of_console(dev, "AWS::CloudFront::OriginAccessControl").properties
    assert control["OriginAccessControlConfig"]["SigningBehavior"] == "always"
    page = next(one for one in served(dev)["Origins"] if "S3OriginConfig" in one)
    assert page["OriginAccessControlId"] == "<Access.Id>"


def test_what_a_path_is_and_where_it_goes(dev: Assembly) -> None:
    has = served(dev)
    hosts = {one["Id"]: one["DomainName"] for one in has["Origins"]}
    # In this order: the stream is not the API's.
    assert {
        one["PathPattern"]: (hosts[one["TargetOriginId"]], one["CachePolicyId"])
        for one in has["CacheBehaviors"]
    } == {
        "/api/events/stream": ("<Stream/FunctionUrl>", DISABLED),
        "/live": ("<WebSockets/Api>.execute-api.<AWS::Region>.<AWS::URLSuffix>", DISABLED),
        "/api/*": ("<Http/Api>.execute-api.<AWS::Region>.<AWS::URLSuffix>", DISABLED),
        "/assets/*": ("<Page.RegionalDomainName>", OPTIMIZED),
    }
    assert has["CacheBehaviors"][0]["PathPattern"] == "/api/events/stream"
    other = has["DefaultCacheBehavior"]
    assert hosts[other["TargetOriginId"]] == "<Page.RegionalDomainName>"
    # index.html and console.json: nothing that changes is cached, so nothing is ever invalidated.
    assert (other["CachePolicyId"], has["DefaultRootObject"]) == (DISABLED, "index.html")
    # An error of the API is told as it is, and no page of ours.
    assert "CustomErrorResponses" not in has


def test_what_goes_to_the_api_goes_as_it_comes(dev: Assembly) -> None:
    """With Authorization and Last-Event-ID, by each method, as long as an answer takes."""
    has = served(dev)
    passed = [one for one in has["CacheBehaviors"] if one["PathPattern"] != "/assets/*"]
    assert len(passed) == 3
    for one in passed:
        assert one["OriginRequestPolicyId"] == ALL_BUT_HOST
        assert one["ViewerProtocolPolicy"] == "https-only"
        assert "ResponseHeadersPolicyId" not in one
        functions = [each["FunctionARN"] for each in one.get("FunctionAssociations", [])]
        assert functions == (
            [] if one["PathPattern"] == "/live" else ["<WithoutPrefix.FunctionARN>"]
        )
    (api,) = [one for one in passed if one["PathPattern"] == "/api/*"]
    assert {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} <= set(api["AllowedMethods"])
    for one in has["Origins"]:
        if "CustomOriginConfig" in one:
            assert one["CustomOriginConfig"] == {
                "OriginProtocolPolicy": "https-only",
                "OriginReadTimeout": 60,
                "OriginSSLProtocols": ["TLSv1.2"],
            }


def test_a_stream_says_something_sooner_than_cloudfront_gives_up() -> None:
    from recourse.cdk.console import READ_TIMEOUT
    from recourse.functions import sse

    assert READ_TIMEOUT.to_seconds() > sse.HEARTBEAT * 3


@pytest.mark.parametrize(
    ("uri", "passed"),
    [
        ("/api/health", "/health"),
        ("/api/", "/"),
        ("/api/events/stream", "/events/stream"),
        ("/api/valet-keys/a%2Fb", "/valet-keys/a%2Fb"),
        ("/api/api/x", "/api/x"),
    ],
)
def test_the_api_has_the_paths_that_it_has_elsewhere(dev: Assembly, uri: str, passed: str) -> None:
    function = of_console(dev, "AWS::CloudFront::Function").properties
    assert function["FunctionConfig"]["Runtime"] == "cloudfront-js-2.0"
    request = {"method": "GET", "uri": uri, "querystring": {"a": {"value": "1"}}, "headers": {}}
    calls = f"{function['FunctionCode']}; const event = {json.dumps({'request': request})};"
    says = "console.log(JSON.stringify(handler(event)))"
    done = subprocess.run(
        [tools.NODE, "-e", f"{calls} {says}"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == request | {"uri": passed}


REST = (
    "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


def test_the_page_may_reach_what_it_needs_and_nothing_else(
    dev: Assembly, known: Assembly, hers: Assembly
) -> None:
    own = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'"
    )
    s3 = " https://<Valet.RegionalDomainName>"
    assert policy(dev) == own + s3 + REST
    pool = "<Users/Pool/Domain>.auth.<AWS::Region>.amazoncognito.com"
    assert policy(known) == f"{own} wss://d1.cloudfront.net https://{pool}{s3}{REST}"
    tokens = " https://tokens.example"
    assert policy(hers) == f"{own} wss://console.example{tokens}{s3}{REST}"


def test_browsers_are_told_to_guess_nothing_and_to_come_by_tls(dev: Assembly) -> None:
    headers = of_console(dev, "AWS::CloudFront::ResponseHeadersPolicy").properties
    security = headers["ResponseHeadersPolicyConfig"]["SecurityHeadersConfig"]
    assert security["ContentTypeOptions"] == {"Override": True}
    assert security["ReferrerPolicy"] == {"Override": True, "ReferrerPolicy": "no-referrer"}
    assert security["StrictTransportSecurity"]["AccessControlMaxAgeSec"] == 31_536_000
    has = served(dev)
    files = [has["DefaultCacheBehavior"], has["CacheBehaviors"][-1]]
    assert [one["ResponseHeadersPolicyId"] for one in files] == ["<Headers>"] * 2


def test_a_page_of_before_finds_its_files_and_a_new_one_comes_after_its_own(dev: Assembly) -> None:
    copied = {one.name.split("/")[0]: one for one in dev.every("Custom::CDKBucketDeployment")}
    kept = {name: one.properties["SystemMetadata"]["cache-control"] for name, one in copied.items()}
    assert kept == {
        "Assets": "public, max-age=31536000, immutable",
        "Configuration": "no-store",
        "Index": "no-cache",
    }
    assert {one.properties["Prune"] for one in copied.values()} == {False}
    assert {"Assets/CustomResource/Default", "Configuration/CustomResource/Default"} <= {
        name for _, name in dev.before(copied["Index"])
    }
    (index,) = copied["Index"].properties["SourceObjectKeys"]
    folder = dev.folder / f"asset.{index.removesuffix('.zip')}"
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    (assets,) = copied["Assets"].properties["SourceObjectKeys"]
    folder = dev.folder / f"asset.{assets.removesuffix('.zip')}"
    assert [path.name for path in folder.iterdir()] == [
        path.name for path in (PAGE / "assets").iterdir()
    ]


def test_what_the_page_is_told(dev: Assembly, known: Assembly, hers: Assembly) -> None:
    told = configuration(dev)
    assert {name: told[name] for name in ("api", "sse", "ws", "scope_prefix", "client_id")} == {
        "api": "/api",
        "sse": "/api/events/stream",
        "ws": "/live",
        "scope_prefix": "recourse/",
        "client_id": None,
    }
    assert {"recourse/sagas:write", "recourse/operator"} <= set(told["scopes"])
    told = configuration(known)
    assert told["issuer"].endswith(".amazonaws.com/<Users/Pool>")
    for one in ("authorize", "token", "revoke"):
        assert told[one].endswith(f".amazoncognito.com/oauth2/{one}")
    assert told["client_id"] == "<Users/Pool/Console>"
    told = configuration(hers)
    assert told["issuer"] == "https://login.example/shop"
    assert told["authorize"] == "https://login.example/shop/authorize"
    assert told["revoke"] == "https://tokens.example/revoke"
    assert (told["client_id"], told["scope_prefix"]) == ("page", "")
    assert {"sagas:write", "operator"} <= set(told["scopes"])


def test_a_pool_has_a_client_for_the_console_once_its_url_is_known(
    dev: Assembly, known: Assembly
) -> None:
    def clients(assembly: Assembly) -> dict[str, Resource]:
        return {one.name: one for one in assembly.every("AWS::Cognito::UserPoolClient")}

    assert set(clients(dev)) == {"Users/Pool/Login"}
    found = clients(known)
    assert set(found) == {"Users/Pool/Login", "Users/Pool/Console"}
    has = found["Users/Pool/Console"].properties
    assert has["GenerateSecret"] is False
    assert has["CallbackURLs"] == ["https://d1.cloudfront.net/"]
    assert (has["AllowedOAuthFlows"], has["EnableTokenRevocation"]) == (["code"], True)
    assert has["RefreshTokenRotation"]["Feature"] == "ENABLED"
    assert (has["RefreshTokenValidity"], has["TokenValidityUnits"]["RefreshToken"]) == (
        720,
        "minutes",
    )
    # Its tokens are accepted wherever those of `recourse login` are.
    (authorizer,) = [
        one for one in known.every("AWS::ApiGatewayV2::Authorizer") if one.stack == "Api"
    ]
    audiences = known.plain("Api", authorizer.properties["JwtConfiguration"]["Audience"])
    assert audiences == ["<Users/Pool/Login>", "<Users/Pool/Console>"]
    for name in ("Stream", "Authorise"):
        told = known.environment(known.one("AWS::Lambda::Function", name))
        assert told["AUDIENCES"] == " ".join(audiences)


def test_the_first_deploy_says_what_the_second_needs(
    dev: Assembly, known: Assembly, prod: Assembly, hers: Assembly
) -> None:
    url = "https://<Distribution.DomainName>"
    assert dev.outputs["ConsoleUrl"] == url
    assert dev.outputs["ConsoleNextStep"].endswith(f"again with --context console_url={url}")
    assert known.outputs["ConsoleUrl"] == "https://d1.cloudfront.net"
    assert hers.outputs["ConsoleUrl"] == "https://console.example"
    assert not {"ConsoleNextStep"} & (known.outputs.keys() | hers.outputs.keys())
    assert "console_client=… --context console_endpoints=…" in prod.outputs["ConsoleNextStep"]


def test_a_domain_of_ones_own_has_its_certificate_and_tls_1_2(
    dev: Assembly, hers: Assembly
) -> None:
    assert "ViewerCertificate" not in served(dev) and "Aliases" not in served(dev)
    has = served(hers)
    assert has["Aliases"] == ["console.example"]
    assert has["ViewerCertificate"] == {
        "AcmCertificateArn": CERTIFICATE,
        "MinimumProtocolVersion": "TLSv1.2_2021",
        "SslSupportMethod": "sni-only",
    }
    assert not hers.findings()


def test_the_api_says_where_the_console_is(dev: Assembly, known: Assembly, local: Assembly) -> None:
    told = {
        one: one.environment(one.one("AWS::Lambda::Function", "Api"))["CONSOLE_URL"]
        for one in (dev, known, local)
    }
    assert list(told.values()) == ["", "https://d1.cloudfront.net", "http://127.0.0.1:8000"]


def test_the_cdks_function_may_copy_into_this_bucket_and_no_other(dev: Assembly) -> None:
    template = next(body for name, body in dev.templates.items() if name.endswith("-Console"))
    (function,) = [
        one for one in template["Resources"].values() if one["Type"] == "AWS::Lambda::Function"
    ]
    assert function["Properties"]["LoggingConfig"]["LogGroup"]
    role = dev.plain("Console", function["Properties"]["Role"])
    assert role == "<DeployRole.Arn>"
    assert "ManagedPolicyArns" not in of_console(dev, "AWS::IAM::Role").properties
    may: dict[str, set[str]] = {}
    for statement in of_console(dev, "AWS::IAM::Policy").properties["PolicyDocument"]["Statement"]:
        for resource in listed(dev.plain("Console", statement["Resource"])):
            may.setdefault(resource, set()).update(listed(statement["Action"]))
    writing = {one for one, does in may.items() if any("Put" in action for action in does)}
    assert writing == {"<Page.Arn>", "<Page.Arn>/*", "<DeployLogs.Arn>"}
    others = may.keys() - writing
    assert others and all("cdk-hnb659fds-assets-" in one for one in others)


def test_no_stack_where_the_context_says_off_and_under_the_local_cloud(
    local: Assembly, tmp_path: Path
) -> None:
    assert "Console" not in {one.stack for one in local.resources}
    off = synthesise(tmp_path, {"console": "off"}, judged=False)
    assert "Console" not in {one.stack for one in off.resources}


def test_a_page_that_is_not_built_is_missed_by_the_command_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recourse.cdk.stage import ContextError

    monkeypatch.setattr(console_settings, "BUILT", tmp_path / "nothing")
    with pytest.raises(
        ContextError, match=r"nothing/index.html: build .* `make setup`.*console=off"
    ):
        synthesise(tmp_path / "out", {}, judged=False)


def test_the_local_cloud_has_none_made_for_it(tmp_path: Path) -> None:
    from aws_cdk import App, Stack

    from recourse.cdk import Console, Issuer, Stage
    from recourse.errors import DeclarationError

    stack = Stack(App(outdir=str(tmp_path), analytics_reporting=False), "Theirs")
    given: Any = {"api": None}
    issuer = Issuer("https://login.example", ("shop",))
    with pytest.raises(DeclarationError, match=r"where stage\.has_console"):
        Console(stack, "Console", stage=Stage(local=True), issuer=issuer, **given)
