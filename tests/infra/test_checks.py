"""What others find in the templates, and what the local one has that AWS's has not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.infra.assembly import Assembly, synthesise
from tests.infra.conftest import LOCAL

pytestmark = pytest.mark.xdist_group("infra")


@pytest.mark.of_all
def test_cdk_nag_finds_nothing(each: Assembly) -> None:
    assert each.findings() == []


def test_cdk_nag_is_there_to_find_something(tmp_path: Path) -> None:
    from aws_cdk import App, Stack, Validations
    from aws_cdk.aws_s3 import Bucket
    from cdk_nag import AwsSolutionsChecks

    app = App(outdir=str(tmp_path), analytics_reporting=False)
    Bucket(Stack(app, "Careless"), "Open")
    Validations.of(app).add_plugins(AwsSolutionsChecks())
    with pytest.raises(RuntimeError, match="AwsSolutions-S10"):
        app.synth()
    assert "AwsSolutions-S10 at Careless/Open/Resource" in Assembly(tmp_path).findings()


def test_cfn_lint_finds_nothing(prod: Assembly, fargate: Assembly) -> None:
    """In what AWS gets; the local templates differ from it in nothing but `DIFFERENCES`.

    `make check` asks it about those of dev.
    """
    workers = [
        path for path in fargate.files if path.name.split(".")[0].endswith(("Subscribers", "Probe"))
    ]
    files = [*prod.files, *workers]
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [lint, "--non-zero-exit-code", "warning", "--", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


DIFFERENCES = {
    "the interpreter": {("AWS::Lambda::Function", "Runtime")},
    "the code: a bootstrap that runs the checkout": {
        ("AWS::Lambda::Function", "Code.S3Key"),
    },
    "the issuer of tokens, which the context names": {
        ("AWS::ApiGatewayV2::Authorizer", "JwtConfiguration.Issuer"),
        ("AWS::ApiGatewayV2::Authorizer", "JwtConfiguration.Audience[]"),
        ("AWS::Lambda::Function", "Environment.Variables.SCOPE_PREFIX"),
        ("AWS::Lambda::Function", "Environment.Variables.ISSUER"),
        ("AWS::Lambda::Function", "Environment.Variables.AUDIENCES"),
    },
    "faults on demand, which the context switches on": {
        ("AWS::Lambda::Function", "Environment.Variables.CHAOS"),
    },
    "webhooks to this very machine, which the local run allows": {
        ("AWS::Lambda::Function", "Environment.Variables.WEBHOOK_LOOPBACK"),
    },
    "the API's address, which the context names": {
        ("AWS::Lambda::Function", "Environment.Variables.PUBLIC_URL"),
        ("AWS::Lambda::Function", "Environment.Variables.SSE_URL"),
        ("AWS::Lambda::Function", "Environment.Variables.WEBSOCKET_URL"),
    },
    "the console's origin, which the context names": {
        ("AWS::Lambda::Function", "Environment.Variables.CONSOLE_URL"),
        ("AWS::S3::Bucket", "CorsConfiguration"),
    },
    "where connections are posted to, which the context names": {
        ("AWS::Lambda::Function", "Environment.Variables.CONNECTIONS_URL"),
    },
    "the timescale, which the context sets": {
        ("AWS::Lambda::Function", "Environment.Variables.TIMESCALE"),
        ("AWS::Lambda::Function", "Timeout"),
        ("AWS::SQS::Queue", "VisibilityTimeout"),
        ("AWS::StepFunctions::StateMachine", "DefinitionString"),
    },
    "how many sagas of an import are in flight, for which there are few workers": {
        ("AWS::Lambda::Function", "Environment.Variables.OWNER_LIMITS"),
    },
    "the stage's name": {
        ("AWS::Lambda::Function", "Environment.Variables.VALET_ISSUER"),
        ("AWS::Logs::LogGroup", "LogGroupName"),
        ("AWS::SQS::Queue", "QueueName"),
        ("AWS::Lambda::Function", "Environment.Variables.QUEUE_PREFIX"),
        ("AWS::Lambda::Function", "Environment.Variables.PARAMETERS"),
        ("AWS::Lambda::Function", "Environment.Variables.POWERTOOLS_METRICS_NAMESPACE"),
        ("AWS::SSM::Parameter", "Name"),
        ("AWS::CloudWatch::Dashboard", "DashboardName"),
        ("AWS::CloudWatch::Dashboard", "DashboardBody"),
        ("AWS::IAM::Policy", "PolicyDocument.Statement[].Resource"),
        ("AWS::IAM::ManagedPolicy", "Description"),
        ("AWS::IAM::ManagedPolicy", "PolicyDocument.Statement[].Resource[]"),
        ("AWS::IAM::ManagedPolicy", "PolicyDocument.Statement[].Resource"),
        ("AWS::SQS::QueuePolicy", "PolicyDocument.Statement[].Sid"),
        ("AWS::IAM::ManagedPolicy", "Description"),
    },
}
ONLY_ON_AWS = {"Issuer", "Console"}
"""The stacks of the user pool and of the console: the local cloud has an issuer of its own, and
serves the page itself."""
COMPARED = ("Properties", "DeletionPolicy", "UpdateReplacePolicy")
STAGE_TAGS = ("Tags[].Value", "Tags.recourse:stage", "UserPoolTags.recourse:stage")


def differing(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Where two values differ, by the path to the innermost difference."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {*one, *other}:
            yield from differing(one.get(key), other.get(key), f"{at}.{key}" if at else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for mine, yours in zip(one, other, strict=True):
            yield from differing(mine, yours, f"{at}[]")
    elif one != other:
        yield at


def test_the_local_template_is_awss_but_for_what_is_named_here(
    whole: Assembly, local: Assembly
) -> None:
    assert {one.stack for one in whole.resources} >= ONLY_ON_AWS
    aws = [one for one in whole.resources if one.stack not in ONLY_ON_AWS]
    kinds = [(one.stack, one.type) for one in aws]
    assert kinds == [(one.stack, one.type) for one in local.resources]
    found = set()
    for one, other in zip(aws, local.resources, strict=True):
        for part in COMPARED:
            aws_has = whole.plain(one.stack, one.body.get(part))
            local_has = local.plain(other.stack, other.body.get(part))
            found |= {(one.type, at) for at in differing(aws_has, local_has)}
    tagged = {(kind, at) for kind, at in found if at in STAGE_TAGS}
    assert found - tagged == set().union(*DIFFERENCES.values())


def test_local_functions_run_on_the_checkout(local: Assembly) -> None:
    for function in local.every("AWS::Lambda::Function"):
        assert function.properties["Runtime"] == "provided.al2023"
    (asset,) = [one for one in local.folder.glob("asset.*") if one.is_dir()]
    assert [path.name for path in asset.iterdir()] == ["bootstrap"]
    assert (asset / "bootstrap").stat().st_mode & 0o111


def test_aws_functions_run_on_its_own_python(dev: Assembly) -> None:
    for function in dev.every("AWS::Lambda::Function"):
        assert function.properties["Runtime"] == "python3.13"


def test_the_same_sources_give_the_same_templates(local: Assembly, tmp_path: Path) -> None:
    assert synthesise(tmp_path, LOCAL, judged=False).templates == local.templates
