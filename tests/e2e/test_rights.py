"""Rights as they are judged: what a role is refused is seen, loses nothing, and is made up for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from recourse.cli.api import Api
from recourse.local.cloud import LocalCloud
from tests.decisions import Refusal
from tests.e2e.test_valet import PDF, Caller, problem
from tests.local.conftest import clients_of_user
from tests.patience import PATIENCE
from tests.rights import taken


def function_of(cloud: LocalCloud, name: str) -> dict[str, str]:
    """A deployed function, by the name of its construct."""
    named = re.compile(rf"-{name}[0-9A-F]{{8}}")
    pages = cloud.client("lambda").get_paginator("list_functions").paginate()
    every = [one for page in pages for one in page["Functions"]]
    (found,) = [one for one in every if named.search(one["FunctionName"])]
    return dict(found)


def role_of(cloud: LocalCloud, function: str) -> str:
    """The name of a function's role."""
    return function_of(cloud, function)["Role"].rpartition("/")[2]


@pytest.fixture
def caller(api: Api, url: str) -> Iterator[Caller]:
    """Somebody with a document of a name that nobody else has."""
    with httpx.Client(timeout=PATIENCE, trust_env=False) as http:
        yield Caller(api, url, http)


def test_a_redeemer_that_is_refused_its_row_gives_nothing_out_and_uses_nothing_up(
    caller: Caller, cloud: LocalCloud, expected: list[Refusal]
) -> None:
    caller.complete(caller.put())
    role = role_of(cloud, "Redeem")
    expected.append(Refusal(role, "dynamodb:UpdateItem"))
    key = caller.issue("download")
    with taken(cloud, role, "dynamodb:UpdateItem"):
        problem(caller.redeem(key["token"]), 500, "internal")
    assert caller.api.get(f"/valet-keys/{key['key_id']}")["uses"] == 0
    assert caller.use(caller.redeem(key["token"]).json()).content == PDF


@pytest.fixture
def make(cloud: LocalCloud) -> Iterator[Callable[..., Any]]:
    """Clients of somebody who may do everything; what is refused, the bucket refuses."""
    yield clients_of_user(cloud.aws_endpoint, "everything", {"Action": "*", "Resource": "*"})
    iam = cloud.client("iam")
    for key in iam.list_access_keys(UserName="everything")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="everything", AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName="everything", PolicyName="may")
    iam.delete_user(UserName="everything")


def test_the_buckets_refuse_a_signature_of_version_2_and_an_old_one_whoever_signs(
    cloud: LocalCloud,
    make: Callable[..., Any],
    expected: list[Refusal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected.append(Refusal("user/everything", "s3:GetObject"))
    root = cloud.client("s3")
    buckets = [one["Name"] for one in root.list_buckets()["Buckets"]]
    ours = [one for one in buckets if "-valet" in one or "-documents" in one]
    assert len(ours) == 2
    for bucket in ours:
        where = {"Bucket": bucket, "Key": "objects/of-a-test"}
        root.put_object(**where, Body=b"")
        v4, v2, v2_query = (
            make("s3", config=Config(signature_version=one)) for one in ("s3v4", "s3", "s3-query")
        )
        assert v4.get_object(**where)["ResponseMetadata"]["HTTPStatusCode"] == 200
        with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
            v2.get_object(**where)

        def presigned(s3: Any, where: dict[str, str] = where) -> int:
            url = s3.generate_presigned_url("get_object", where)
            return httpx.get(url, trust_env=False).status_code

        assert (presigned(v4), presigned(v2_query)) == (200, 403)
        with monkeypatch.context() as patch:
            past = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=17)
            patch.setattr("botocore.auth.get_current_datetime", lambda past=past: past)
            assert presigned(v4) == 403, "it would live for an hour"
        versions = root.list_object_versions(Bucket=bucket, Prefix=where["Key"])["Versions"]
        for one in versions:
            root.delete_object(**where, VersionId=one["VersionId"])
