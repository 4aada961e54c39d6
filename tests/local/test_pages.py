"""A web page on another port of this machine, in a real browser, against the ports that are open.

What it may send anywhere it sends; what counts is what it has changed, and what it could read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from recourse.local.aws import KEY_ID, REGION, client, root_secret
from recourse.local.emulator import Emulator
from recourse.local.issuer import Issuer
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from samples.provider import served
from tests.browser import Attempt, Visit, page
from tests.local.conftest import Start
from tests.local.test_gaps import create_function
from tests.pages import attempts, holdings
from tests.patience import PATIENCE
from tests.sockets import family, listening

pytestmark = pytest.mark.xdist_group("emulator")


@pytest.fixture
def visit() -> Iterator[Visit]:
    with page() as visit:
        yield visit


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    issuer = Issuer("http://127.0.0.1/_issuer", tmp_path / "key.pem")
    stand_ins = {"payment_provider": served()}
    proxy = Proxy(port=free_port(0), issuer=issuer, secret=root_secret(), stand_ins=stand_ins)
    proxy.start()
    yield proxy
    proxy.stop()


def begun(emulator: Emulator) -> Any:
    """Let there be something to take away, and a worker that waits for its calls."""
    client("dynamodb", emulator.url).create_table(
        TableName="somebodys",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    functions = create_function(emulator)
    functions.invoke(FunctionName="pid", Payload=b"0")
    return functions


def test_where_nobody_is_kept_out_a_page_makes_and_takes_away(start: Start, visit: Visit) -> None:
    emulator = start(anybody=True)
    begun(emulator)
    (queue,) = visit(
        [
            one
            for one in attempts([emulator.port])
            if one.way == "form" and "Action=CreateQueue" in one.url and "sqs" in one.url
        ][:1]
    )
    assert queue == "sent"
    assert any("of-a-page" in one for one in holdings(emulator.url)["queues"])
    assert visit([Attempt("form", f"{emulator.url}/_ministack/reset")]) == ["sent"]
    assert not any(holdings(emulator.url).values())


def test_a_page_changes_nothing_and_reads_nothing(
    closed: Emulator, visit: Visit, proxy: Proxy
) -> None:
    functions = begun(closed)
    proxy.target = f"{closed.url}/_aws/execute-api/any/$default"
    proxy.websocket = f"ws://127.0.0.1:{closed.port}/_aws/execute-api/any/live"
    addresses = listening(family(closed.pid))
    ports = {port for _, port in addresses}
    assert {address for address, _ in addresses} == {"127.0.0.1"}
    assert closed.port in ports and len(ports) > 1, "a worker's is among them"
    before = holdings(closed.url)

    tried = list(attempts([*ports, int(proxy.url.rpartition(":")[2])]))
    told = visit(tried)

    got = [(one, what) for one, what in zip(tried, told, strict=True) if _is_something(what)]
    assert got == []
    assert holdings(closed.url) == before
    with httpx.Client(base_url=proxy.url, timeout=PATIENCE, trust_env=False) as http:
        assert http.get("/_payment_provider/books").json() == {"journal": []}
        assert http.get("/_payment_provider/payments/none").status_code == 404, (
            "it was asked for no fault"
        )
    answer = functions.invoke(FunctionName="pid", Payload=b"0")
    assert "FunctionError" not in answer and json.load(answer["Payload"]), "its worker is as it was"


def _is_something(told: str) -> bool:
    return told not in ("opaque", "sent", "failed")


def test_a_page_uses_the_presigned_urls_that_it_was_given(shipped: Emulator, visit: Visit) -> None:
    root = client("s3", shipped.url)
    root.create_bucket(Bucket="documents")
    rule = {
        "AllowedOrigins": [visit.origin],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["*"],
    }
    root.put_bucket_cors(Bucket="documents", CORSConfiguration={"CORSRules": [rule]})
    root.create_bucket(Bucket="others")
    for bucket in ("documents", "others"):
        root.put_object(Bucket=bucket, Key="down", Body=b"of somebody")
    signer = boto3.client(
        "s3",
        endpoint_url=shipped.url,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=root_secret(),
        config=Config(signature_version="s3v4"),
    )

    def presigned(way: str, bucket: str, key: str) -> str:
        url: str = signer.generate_presigned_url(way, Params={"Bucket": bucket, "Key": key})
        return url

    put = {"method": "PUT", "body": "of a page", "headers": {"content-type": "text/x-any"}}
    up = presigned("put_object", "documents", "up")
    down = presigned("get_object", "documents", "down")
    told = visit(
        [
            Attempt("fetch", up, put),
            Attempt("fetch", down),
            Attempt("fetch", presigned("get_object", "others", "down")),
            Attempt("fetch", presigned("put_object", "others", "up"), put),
        ]
    )
    assert told == ["read 200 ", "read 200 of somebody", "failed", "failed"]
    assert root.get_object(Bucket="documents", Key="up")["Body"].read() == b"of a page"
    assert [one["Key"] for one in root.list_objects_v2(Bucket="others")["Contents"]] == ["down"]
