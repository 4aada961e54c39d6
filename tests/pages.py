"""What a web page of another origin tries on the ports of the local cloud, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from recourse.local.aws import client
from tests.browser import Attempt

NAMES = ("127.0.0.1", "localhost")
FUNCTION = {
    "FunctionName": "of-a-page",
    "Runtime": "python3.12",
    "Role": "arn:aws:iam::000000000000:role/any",
    "Handler": "of.page",
    "Code": {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="},
}
KEY = "test/20261128/us-east-1/{}/aws4_request"
SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261128T000000Z&X-Amz-SignedHeaders=host"
QUEUE = {"Action": "CreateQueue", "QueueName": "of-a-page"}
READ = (
    "/",
    "/health",
    "/openapi.json",
    "/_ministack/ready",
    "/_ministack/health",
    "/_issuer/jwks.json",
    "/_issuer/authorize",
    "/_payment_provider/books",
    "/events/stream",
    "/console.json",
    "/api/health",
    "/2015-03-31/functions",
    "/2018-06-01/runtime/invocation/next",
)


def attempts(ports: Iterable[int]) -> Iterator[Attempt]:
    """What a page may send without anybody's leave, and what it would have to ask for."""
    for port in ports:
        for name in NAMES:
            for mode in ("no-cors", "cors"):
                for path in READ:
                    yield Attempt("fetch", f"http://{name}:{port}{path}", {"mode": mode})
                for path, body in _posts():
                    how = {"method": "POST", "mode": mode, "body": body}
                    yield Attempt("fetch", f"http://{name}:{port}{path}", how)
        yield from _otherwise(f"{NAMES[0]}:{port}")


def _otherwise(host: str) -> Iterator[Attempt]:
    url = f"http://{host}"
    for path in READ:
        yield Attempt("element", url + path, {"tag": "script"})
        yield Attempt("element", url + path, {"tag": "img"})
    for service in ("sqs", "s3"):
        asked = f"/?Action=CreateQueue&QueueName=of-a-page&{SIGNED}&X-Amz-Signature=none"
        asked += f"&X-Amz-Credential={KEY.format(service).replace('/', '%2F')}"
        yield Attempt("fetch", url + asked, {"method": "POST", "mode": "no-cors"})
        yield Attempt("fetch", url + asked, {"mode": "no-cors"})
        yield Attempt("form", url + asked)
    yield Attempt("form", f"{url}/", QUEUE)
    yield Attempt("form", f"{url}/_ministack/reset")
    yield Attempt("form", f"{url}/2018-06-01/runtime/init/error")
    table = {"x-amz-target": "DynamoDB_20120810.ListTables", "content-type": "text/plain"}
    key = f"AWS4-HMAC-SHA256 Credential={KEY.format('dynamodb')}, SignedHeaders=host, Signature=0"
    for headers in (table, table | {"authorization": key, "x-amz-date": "20261128T000000Z"}):
        how = {"method": "POST", "headers": headers, "body": "{}"}
        yield Attempt("fetch", f"{url}/", how)
    yield Attempt("fetch", f"{url}/of-a-page", {"method": "PUT", "mode": "cors"})
    yield Attempt("stream", f"{url}/events/stream")
    yield Attempt("socket", f"ws://{host}/events/ws", {"protocols": ["recourse.v1", "bearer.x"]})
    yield Attempt("socket", f"ws://{host}/api/events/ws", {"protocols": ["recourse.v1"]})
    yield Attempt("socket", f"ws://{host}/_aws/execute-api/any/live")


def _posts() -> Iterator[tuple[str, str]]:
    yield "/2015-03-31/functions", json.dumps(FUNCTION)
    yield "/", "&".join(f"{name}={value}" for name, value in QUEUE.items())
    yield "/_ministack/reset", ""
    yield "/_ministack/config", json.dumps({"lambda_svc.LAMBDA_EXECUTOR": "docker"})
    yield "/2018-06-01/runtime/init/error", json.dumps({"errorMessage": "of a page"})
    yield "/_payment_provider/payments", json.dumps({"reference": "of-a-page", "card": "c"})
    yield (
        "/_payment_provider/faults",
        json.dumps({"operation": "find", "fault": "before", "times": 99}),
    )
    yield "/sagas/travel-booking", "{}"
    yield "/api/sagas/travel-booking", "{}"
    yield "/_issuer/token", "grant_type=refresh_token&client_id=recourse-console&refresh_token=x"
    yield "/valet-keys/redeem", json.dumps({"token": "of-a-page"})


def holdings(endpoint: str) -> dict[str, Any]:
    """What is there of what a page tries to make or to take away."""
    functions = client("lambda", endpoint).get_paginator("list_functions")
    return {
        "functions": sorted(
            one["FunctionName"] for page in functions.paginate() for one in page["Functions"]
        ),
        "queues": client("sqs", endpoint).list_queues().get("QueueUrls", []),
        "tables": client("dynamodb", endpoint).list_tables()["TableNames"],
        "buckets": [one["Name"] for one in client("s3", endpoint).list_buckets()["Buckets"]],
    }
