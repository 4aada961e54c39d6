"""No right too many: after the whole tier, each right was used or is listed with its reason.

The log of decisions says by which right something was allowed. That it is right is shown by taking
some of these rights away, one at a time: what it says was allowed by them is then refused.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from recourse.local.aws import REGION
from recourse.local.cloud import LocalCloud
from statemachines import SAGAS
from tests.decisions import Refusal, decisions_of
from tests.patience import until
from tests.rights import Names, Right, granted, taken, used

LISTED = tomllib.loads(Path(__file__).with_name("unused_rights.toml").read_text())
"""By what it is: `not_judged` is never used here, `rare` in some runs only."""
LISTED["not_judged"] |= {
    f"{name.title().replace('-', '')} lambda:InvokeFunction *": "a state machine invokes its steps"
    for name in SAGAS
}
SEED, SOME = 2026, 20


@pytest.fixture
def whole_tier(request: pytest.FixtureRequest) -> None:
    """Only after every test that uses the cloud: what they did not need, nobody needed."""
    here = Path(__file__).parent
    chosen = {item.path for item in request.session.items}
    narrowed = request.config.getoption("keyword") or request.config.getoption("markexpr")
    if narrowed or any(file not in chosen for file in here.glob("test_*.py")):
        pytest.skip("only after the whole tier")


@pytest.mark.usefixtures("whole_tier")
def test_every_right_was_used_or_is_listed_with_its_reason(cloud: LocalCloud) -> None:
    names = Names(cloud)
    log = until(lambda: decisions_of(cloud.decisions), "the log of decisions")
    assert not cloud.decisions.with_name(f"{cloud.decisions.name}.1").exists(), "it is not whole"
    everything = granted(cloud)
    unused = {names.of(one) for one in everything - used(log)}
    lines = [line for group in LISTED.values() for line in group]
    assert not [one for one in sorted(unused) if not any(fnmatchcase(one, p) for p in lines)]
    stands_for = {"not_judged": unused, "rare": {names.of(one) for one in everything}}
    assert not [
        line
        for name, group in LISTED.items()
        for line in group
        if not any(fnmatchcase(one, line) for one in stands_for[name])
    ]
    assert used(log) & everything


def _dynamodb(right: Right) -> dict[str, Any]:
    return {"TableName": right.resource.partition("/")[2].partition("/index/")[0]}


ROW = {"pk": {"S": "slots#nobody"}}
ASKED: dict[str, tuple[str, Callable[[Right], dict[str, Any]]]] = {
    "dynamodb:GetItem": ("get_item", lambda r: {**_dynamodb(r), "Key": ROW}),
    "dynamodb:BatchGetItem": (
        "batch_get_item",
        lambda r: {"RequestItems": {_dynamodb(r)["TableName"]: {"Keys": [ROW]}}},
    ),
    "dynamodb:UpdateItem": ("update_item", lambda r: {**_dynamodb(r), "Key": ROW}),
    "dynamodb:PutItem": (
        "put_item",
        lambda r: {**_dynamodb(r), "Item": ROW, "ConditionExpression": "attribute_exists(pk)"},
    ),
    "dynamodb:DeleteItem": ("delete_item", lambda r: {**_dynamodb(r), "Key": ROW}),
    "sqs:GetQueueUrl": ("get_queue_url", lambda r: {"QueueName": r.resource.split(":")[-1]}),
    "sqs:GetQueueAttributes": ("get_queue_attributes", lambda r: {"QueueUrl": _url(r)}),
    "sqs:ReceiveMessage": (
        "receive_message",
        lambda r: {"QueueUrl": _url(r), "VisibilityTimeout": 0},
    ),
    "sqs:DeleteMessage": ("delete_message", lambda r: {"QueueUrl": _url(r), "ReceiptHandle": "-"}),
    "sqs:ChangeMessageVisibility": (
        "change_message_visibility",
        lambda r: {"QueueUrl": _url(r), "ReceiptHandle": "-", "VisibilityTimeout": 0},
    ),
    "kms:GetPublicKey": ("get_public_key", lambda r: {"KeyId": r.resource}),
    "s3:GetObject": ("get_object", lambda r: _object(r)),
    "s3:GetObjectVersion": ("get_object", lambda r: {**_object(r), "VersionId": "none"}),
    "s3:DeleteObjectVersion": ("delete_object", lambda r: {**_object(r), "VersionId": "none"}),
    "states:DescribeExecution": (
        "describe_execution",
        lambda r: {"executionArn": r.resource.replace("*", "none")},
    ),
    "states:GetExecutionHistory": (
        "get_execution_history",
        lambda r: {"executionArn": r.resource.replace("*", "none")},
    ),
}
"""A call that asks for a right, by its action: of those that can be asked for without harm."""
CLIENT = {"states": "stepfunctions"}


def _url(right: Right) -> str:
    *_, account, name = right.resource.split(":")
    return f"http://queues.invalid/{account}/{name}"


def _object(right: Right) -> dict[str, str]:
    bucket, _, key = right.resource.rpartition(":")[2].partition("/")
    return {"Bucket": bucket, "Key": key.replace("*", "none")}


def ask(cloud: LocalCloud, right: Right) -> str:
    """Ask for a right as its role, by a session of the role; the error's code, or nothing."""
    role = f"arn:aws:iam::000000000000:role/{right.role}"
    given = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="asks")["Credentials"]
    operation, parameters = ASKED[right.action]
    service = right.action.partition(":")[0]
    make: Callable[..., Any] = boto3.client
    asks = make(
        CLIENT.get(service, service),
        endpoint_url=cloud.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        config=Config(proxies={}, retries={"max_attempts": 1}),
    )
    try:
        getattr(asks, operation)(**parameters(right))
    except ClientError as problem:
        return str(problem.response["Error"]["Code"])
    return ""


@pytest.mark.usefixtures("whole_tier")
def test_what_the_log_names_is_what_allowed_it(cloud: LocalCloud, expected: list[Refusal]) -> None:
    """Twenty rights, by a seed, are taken away one at a time from a role's own policies."""
    names = Names(cloud)
    own = granted(cloud, managed=False)
    said = sorted(used(decisions_of(cloud.decisions)) & own, key=names.of)
    may_ask = [one for one in said if one.action in ASKED]
    denied = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403"}
    for right in random.Random(SEED).sample(may_ask, SOME):
        assert ask(cloud, right) not in denied, names.of(right)
        with taken(cloud, *right):
            expected.append(Refusal(right.role, right.action))
            assert ask(cloud, right) in denied, names.of(right)
        assert ask(cloud, right) not in denied, names.of(right)
