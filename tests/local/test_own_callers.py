"""The emulator's port: open to whoever signs, to presigned URLs, and to the API's own proxy."""

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from recourse.local.aws import KEY_ID, REGION, client, root_secret
from recourse.local.callers import PROXY_HEADER, proxy_pass
from recourse.local.emulator import Emulator
from tests.local.conftest import ROLE, renew
from tests.local.test_gaps import create_function, websocket_api
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.xdist_group("emulator")

PAGE = "http://127.0.0.1:1"
"""The origin of a page on another port."""
ALLOWED = "https://app.example.com"
FUNCTION = {"FunctionName": "f", "Runtime": "provided.al2023", "Handler": "f.f", "Role": "r"}
UNSIGNED: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("POST", "/2015-03-31/functions", {"content-type": "text/plain"}, json.dumps(FUNCTION)),
    ("PUT", "/bucket", {}, ""),
    ("GET", "/", {}, ""),
    ("OPTIONS", "/2015-03-31/functions", {}, ""),
    ("POST", "/", {}, "Action=CreateQueue&QueueName=q"),
    ("POST", "/?Action=CreateQueue&QueueName=q", {}, ""),
    ("POST", "/", {"x-amz-target": "DynamoDB_20120810.ListTables"}, "{}"),
    ("POST", "/", {"x-amz-target": "AWSStepFunctions.ListStateMachines"}, "{}"),
    ("GET", "/_aws/execute-api/api/$default/health", {}, ""),
    ("GET", "/_aws/execute-api/api/$default/h", {PROXY_HEADER.decode(): "guessed"}, ""),
    ("POST", "/restapis/api/live/_user_request_/x", {}, ""),
    ("GET", "/_aws/lambda-url/id/", {}, ""),
    ("POST", "/_ministack/reset", {}, ""),
    ("POST", "/_ministack/config", {}, "{}"),
    ("GET", "/_ministack/health", {}, ""),
    ("GET", "/_localstack/health", {}, ""),
    ("GET", "/health", {}, ""),
)


@pytest.fixture(scope="module")
def emulator(closed_to_all: Emulator) -> Emulator:
    renew(closed_to_all)
    return closed_to_all


@pytest.fixture(scope="module")
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, timeout=PATIENCE, trust_env=False) as made:
        yield made


def as_whom(emulator: Emulator, service: str, key: str, secret: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=emulator.url,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(proxies={}, retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [
        ("test", "test", "InvalidClientTokenId"),
        ("000000000000", "000000000000", "InvalidClientTokenId"),
        ("AKIANOBODYKNOWSTHIS0", "any", "InvalidClientTokenId"),
        (KEY_ID, KEY_ID, "SignatureDoesNotMatch"),
    ],
)
def test_only_root_by_its_secret_is_root(
    emulator: Emulator, key: str, secret: str, code: str
) -> None:
    for call in (
        as_whom(emulator, "sqs", key, secret).list_queues,
        as_whom(emulator, "sns", key, secret).list_topics,
    ):
        with pytest.raises(ClientError) as refused:
            call()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert refused.value.response["Error"]["Code"] == code
    assert "Arn" in client("sts", emulator.url).get_caller_identity()


def test_the_secret_under_another_name_of_root_is_refused(emulator: Emulator) -> None:
    for key in ("test", "000000000000"):
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            as_whom(emulator, "sts", key, root_secret()).get_caller_identity()


@pytest.mark.parametrize(("method", "path", "headers", "body"), UNSIGNED)
def test_an_unsigned_call_is_refused_and_no_page_may_read_why(
    http: httpx.Client, method: str, path: str, headers: dict[str, str], body: str
) -> None:
    answer = http.request(method, path, headers=headers, content=body)
    assert answer.status_code in (400, 403), answer.text
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def a_signed_call(emulator: Emulator) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a call that lists queues."""
    calls: list[Any] = []
    sqs = client("sqs", emulator.url)
    sqs.meta.events.register("before-send.sqs", lambda request, **_: calls.append(request))
    sqs.list_queues(QueueNamePrefix="a")
    (call,) = calls
    headers = {
        name: value if isinstance(value, str) else value.decode()
        for name, value in call.headers.items()
    }
    return headers, call.body


def test_what_was_signed_is_not_another_call(emulator: Emulator, http: httpx.Client) -> None:
    headers, body = a_signed_call(emulator)
    other = body.replace(b'"a"', b'"b"')
    assert other != body
    assert http.post("/", headers=headers, content=body).status_code == 200
    assert http.post("/", headers=headers, content=other).status_code in (400, 403)
    there = headers | {"host": "localhost:1"}
    assert http.post("/", headers=there, content=body).status_code in (400, 403)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", "bucket.localhost"]
)
def test_by_another_name_nothing_is_answered(http: httpx.Client, host: str) -> None:
    for path in ("/_ministack/ready", "/_aws/execute-api/api/$default/health"):
        assert http.get(path, headers=by_the_proxy() | {"host": host}).status_code == 421
    assert http.get("/_ministack/ready").status_code == 200


def test_two_names_or_none_are_no_name(emulator: Emulator) -> None:
    for hosts in ("", "Host: 127.0.0.1\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", emulator.port)) as connection:
            head = f"GET /_ministack/ready HTTP/1.{1 if hosts else 0}\r\n{hosts}\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536).split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "page",
    [
        {"origin": PAGE},
        {"origin": "null"},
        {"origin": ALLOWED},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        },
    ],
)
def test_a_page_is_refused_whatever_it_knows(
    emulator: Emulator, http: httpx.Client, page: dict[str, str]
) -> None:
    headers, body = a_signed_call(emulator)
    assert http.post("/", headers=headers | page, content=body).status_code == 403
    assert http.get("/_ministack/ready", headers=page).status_code == 403


# Presigned URLs.


@pytest.fixture(scope="module")
def bucket(emulator: Emulator) -> str:
    s3 = client("s3", emulator.url)
    s3.create_bucket(Bucket="documents")
    s3.put_bucket_cors(
        Bucket="documents",
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedOrigins": [ALLOWED],
                    "AllowedMethods": ["GET", "PUT"],
                    "AllowedHeaders": ["content-type"],
                    "ExposeHeaders": ["etag"],
                }
            ]
        },
    )
    s3.put_object(Bucket="documents", Key="a b/ü", Body=b"of somebody")
    return "documents"


def presigned(emulator: Emulator, method: str, bucket: str, secret: str = "") -> str:
    s3 = boto3.client(
        "s3",
        endpoint_url=emulator.url,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=secret or root_secret(),
        config=Config(signature_version="s3v4"),
    )
    return s3.generate_presigned_url(method, Params={"Bucket": bucket, "Key": "a b/ü"})


def test_a_page_uses_a_presigned_url_as_the_bucket_says(
    emulator: Emulator, http: httpx.Client, bucket: str
) -> None:
    down, up = (presigned(emulator, way, bucket) for way in ("get_object", "put_object"))
    page = {"origin": ALLOWED, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    asks = page | {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type",
    }
    before = http.options(up, headers=asks)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == ALLOWED
    put = http.put(up, headers=page | {"content-type": "text/plain"}, content=b"of a page")
    got = http.get(down, headers=page)
    assert (put.status_code, got.status_code, got.text) == (200, 200, "of a page")
    for answer in (put, got):
        assert answer.headers["access-control-allow-origin"] == ALLOWED


def test_other_pages_cannot_read_what_a_presigned_url_brings(
    emulator: Emulator, http: httpx.Client, bucket: str
) -> None:
    down, up = (presigned(emulator, way, bucket) for way in ("get_object", "put_object"))
    asks = {"origin": PAGE, "access-control-request-method": "PUT"}
    assert http.options(up, headers=asks).status_code == 403
    answer = http.get(down, headers={"origin": PAGE, "sec-fetch-site": "same-site"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    by_link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert http.get(down, headers=by_link).status_code == 200


def test_a_presigned_url_is_good_for_what_was_signed(
    emulator: Emulator, http: httpx.Client, bucket: str
) -> None:
    down = presigned(emulator, "get_object", bucket)
    forged = presigned(emulator, "get_object", bucket, secret="test")
    others = (
        down.replace("a%20b", "c"),
        down.replace(f"{KEY_ID}%2F", "test%2F"),
        forged,
        forged.replace(f"{KEY_ID}%2F", "test%2F"),
        forged.replace(f"{KEY_ID}%2F", "000000000000%2F"),
    )
    for url in others:
        assert url != down
        assert http.get(url).status_code == 403
    for method in ("PUT", "DELETE", "POST"):
        assert http.request(method, down).status_code == 403
    table = {"x-amz-target": "DynamoDB_20120810.ListTables"}
    assert http.get(down, headers=table).status_code in (400, 403)
    assert http.get(down.replace("/documents/", "/_ministack/")).status_code == 403
    assert http.get(down).status_code == 200


# The API, behind its proxy.


def by_the_proxy() -> dict[str, str]:
    return {PROXY_HEADER.decode(): proxy_pass(root_secret()).decode()}


def test_who_is_refused_unread_is_told_that_the_connection_ends(http: httpx.Client) -> None:
    refused = http.post("/", headers={"origin": "http://127.0.0.1:1"}, content=b"x" * 100_000)
    assert (refused.status_code, refused.headers["connection"]) == (403, "close")
    assert http.get("/_ministack/ready").is_success


def test_the_proxy_reaches_the_api_and_nothing_else(http: httpx.Client) -> None:
    answer = http.get("/_aws/execute-api/none/$default/health", headers=by_the_proxy())
    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})
    for path in ("/_ministack/reset", "/", "/_aws/execute-api/../../_ministack/reset"):
        said = http.post("/", headers=by_the_proxy(), extensions={"target": path.encode()})
        assert said.status_code in (403, 404), path


def test_a_stack_hears_what_it_waits_for_by_an_address_of_its_own(
    emulator: Emulator, http: httpx.Client
) -> None:
    cloudformation = client("cloudformation", emulator.url)
    waits = {"Handle": {"Ref": "Handle"}, "Timeout": str(PATIENCE), "Count": 1}
    body = {
        "Resources": {
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Waits": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": waits},
        }
    }
    cloudformation.create_stack(StackName="waits", TemplateBody=json.dumps(body))

    def made() -> dict[str, str]:
        resources = cloudformation.list_stack_resources(StackName="waits")
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in resources["StackResourceSummaries"]
            if one.get("PhysicalResourceId")
        }

    handle = until(made, "an address to tell it at", lambda found: "Handle" in found)["Handle"]
    told = {"Status": "SUCCESS", "UniqueId": "a", "Data": "any", "Reason": "any"}
    assert handle.startswith(emulator.url)
    assert http.request("PUT", f"{handle}0", content=json.dumps(told)).status_code == 404
    page = {"origin": "http://127.0.0.1:1"}
    assert http.request("PUT", handle, content="{}", headers=page).status_code == 403
    assert http.request("PUT", handle, content=json.dumps(told)).status_code == 200
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="waits", WaiterConfig={"Delay": 1}
    )


def test_a_websocket_is_opened_by_the_proxy_alone(emulator: Emulator) -> None:
    url, right = websocket_api(emulator), {"authorization": "right"}
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, additional_headers=right, proxy=None, open_timeout=PATIENCE),
    ):
        pytest.fail("it was opened")
    assert refused.value.response.status_code == 403
    with connect(
        url,
        additional_headers=right | by_the_proxy(),
        subprotocols=[Subprotocol("v1")],
        proxy=None,
        open_timeout=PATIENCE,
    ) as opened:
        assert opened.response and opened.response.status_code == 101


# Functions.

WORKER = """
import os
from recourse.store.aws import client

def handler(event, context):
    return {
        "environment": dict(os.environ),
        "keys": [os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]],
        "api": os.environ["AWS_LAMBDA_RUNTIME_API"],
        "who": client("sts").get_caller_identity()["Arn"],
    }
"""


@pytest.fixture(scope="module")
def worker(emulator: Emulator) -> dict[str, Any]:
    """What a function says of itself."""
    functions = create_function(emulator, WORKER, "own")
    said: dict[str, Any] = json.load(functions.invoke(FunctionName="own")["Payload"])
    return said


def test_a_function_acts_as_its_role_and_knows_nothing_of_root(worker: dict[str, Any]) -> None:
    assert worker["who"].endswith(":assumed-role/any/own")
    assert root_secret() not in json.dumps(worker["environment"])


def test_the_keys_of_a_function_cannot_be_worked_out(worker: dict[str, Any]) -> None:
    arn = f"arn:aws:lambda:{REGION}:000000000000:function:own"
    digest = hashlib.sha256(f"{arn}:{ROLE}".encode()).hexdigest()
    assert worker["keys"] != [
        f"ASIA{digest[:16].upper()}",
        hashlib.sha256(f"secret:{digest}".encode()).hexdigest(),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": PAGE},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ],
)
def test_a_page_neither_fetches_nor_answers_a_workers_calls(
    worker: dict[str, Any], headers: dict[str, str]
) -> None:
    api = f"http://{worker['api']}/2018-06-01/runtime"
    asked = httpx.get(f"{api}/invocation/next", headers=headers, timeout=PATIENCE)
    failed = httpx.post(f"{api}/init/error", headers=headers, content="{}", timeout=PATIENCE)
    assert (asked.status_code, failed.status_code) == (403, 403)


def test_no_file_of_the_emulator_is_open_to_others(emulator: Emulator) -> None:
    assert os.stat(emulator.folder).st_mode & 0o077 == 0
