"""Valet keys on moto, called as the gateway and S3's event call them.

moto's S3 takes any URL. So what a URL allows is asked of the strict verifier, which stands before
moto's S3 as S3's own checks do; see `tests/valet/verifier.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from moto import mock_aws

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

import lambdas.api
import recourse.functions.valet
import recourse.functions.valet_commit
from recourse.cdk.indexes import VALET_INDEXES
from recourse.functions import kit
from recourse.store.aws import client
from recourse.store.credentials import Credentials
from recourse.testing import objects, speed, transactions
from recourse.valet.commit import Committer
from recourse.valet.issue import Issuer
from recourse.valet.keys import Keys
from recourse.valet.objects import Bucket
from recourse.valet.redeem import Redeemer
from recourse.valet.token import LocalSigner
from tests.description import must_be_described

BUCKET, TABLE, REGION = "valet-bucket", "valet", "us-east-1"
ISSUER = "urn:recourse:test"
CREDENTIALS = Credentials("AKIASIGNER", "secret", "session")
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
NOW = 1_800_000_000.25


def gateway(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """What is answered by the function that the gateway chooses, which may be that of redeeming."""
    method, path = event["requestContext"]["http"]["method"], event["rawPath"]
    redeems = method == "GET" and path.startswith("/v/")
    if redeems or (method, path) == ("POST", "/valet-keys/redeem"):
        return recourse.functions.valet.handler(event, context)
    return lambdas.api.API.handler(event, context)


@dataclass(frozen=True)
class Answer:
    """What was answered over HTTP."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Ground:
    """The server side of valet keys, on moto.

    Attributes:
        now: The time, which a test moves on.
        credentials: What URLs are signed with.
        signer: What tokens are signed with.
    """

    now: float = NOW
    credentials: Credentials = CREDENTIALS
    signer: LocalSigner = field(
        default_factory=lambda: LocalSigner(ec.generate_private_key(ec.SECP256R1()))
    )

    def __post_init__(self) -> None:
        self.dynamodb, self.s3 = client("dynamodb"), client("s3")
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("pk", "started", *VALET_INDEXES.values())
            ],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [
                        {"AttributeName": attribute, "KeyType": "HASH"},
                        {"AttributeName": "started", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, attribute in VALET_INDEXES.items()
            ],
        )
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.keys = Keys(self.dynamodb, TABLE, lambda: self.now, lambda _: None)
        self.committer = Committer(self.keys, self.s3, BUCKET)
        self.redeemer = Redeemer(
            self.keys, Bucket(BUCKET, REGION), ISSUER, lambda: self.credentials
        )
        self.rotate(self.signer)

    def rotate(self, signer: LocalSigner) -> None:
        """Sign tokens with another key from now on."""
        self.signer = signer
        self.issuer = Issuer(self.keys, self.s3, BUCKET, ISSUER, signer, lambda: self.credentials)

    # As the gateway calls.

    def call(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        subject: str | None = "asha",
        scope: str = "valet:issue",
        **headers: str,
    ) -> Answer:
        """A call through the gateway, which chooses the function."""
        parts = urlsplit(target, allow_fragments=False)
        context: dict[str, Any] = {
            "stage": "$default",
            "requestId": "r",
            "domainName": "api.example",
            "http": {"method": method, "path": parts.path, "sourceIp": "192.0.2.7"},
        }
        if subject is not None:
            context["authorizer"] = {"jwt": {"claims": {"sub": subject, "scope": scope}}}
        event: dict[str, Any] = {
            "version": "2.0",
            "rawPath": parts.path,
            "rawQueryString": parts.query,
            "headers": {name.replace("_", "-").lower(): text for name, text in headers.items()},
            "requestContext": context,
            "isBase64Encoded": body is not None,
        }
        if parts.query:
            event["queryStringParameters"] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            event["body"] = base64.b64encode(raw).decode()
        answer = gateway(event, None)
        sent = {name.lower(): value for name, value in answer.get("headers", {}).items()}
        must_be_described(method, parts.path, answer["statusCode"], answer["body"])
        return Answer(answer["statusCode"], sent, answer["body"])

    def issue(
        self,
        operation: str = "upload",
        name: str = "passports/asha.pdf",
        body: bytes = PDF,
        content_type: str = "application/pdf",
        subject: str = "asha",
        **more: Any,
    ) -> dict[str, Any]:
        """A key that was issued."""
        asked: dict[str, Any] = {"operation": operation, "object": name, **more}
        if operation == "upload":
            asked["upload"] = {
                "content_type": content_type,
                "content_length": len(body),
                "sha256": sha256(body),
            }
        answer = self.call("POST", "/valet-keys", asked, subject=subject)
        assert answer.status == 201, answer
        issued: dict[str, Any] = answer.json
        return issued

    def redeem(self, token: str, part: Any = None) -> Answer:
        body = {"token": token} | ({"part": part} if part is not None else {})
        return self.call("POST", "/valet-keys/redeem", body, subject=None)

    def complete(self, key: str, **options: Any) -> Answer:
        return self.call("POST", f"/valet-keys/{key}/complete", **options)

    def revoke(self, key: str, query: str = "", **options: Any) -> Answer:
        return self.call("DELETE", f"/valet-keys/{key}{query}", **options)

    def show(self, key: str, **options: Any) -> Answer:
        return self.call("GET", f"/valet-keys/{key}", **options)

    def audit(self, key: str) -> list[tuple[str, str]]:
        """The first page of a key's trail, oldest first; the API has the newest first."""
        rows = reversed(self.show(key).json["audit"])
        return [(row["action"], row["outcome"]) for row in rows]

    # As S3 does.

    def land(self, key: str, body: bytes = PDF) -> None:
        """What a redeemed upload does, where it is not the URL that is tested."""
        self.s3.put_object(
            Bucket=BUCKET, Key=f"incoming/{key}", Body=body, ChecksumAlgorithm="SHA256"
        )

    def tell(self, key: str) -> None:
        """S3's event of an object that has landed."""
        detail = {"bucket": {"name": BUCKET}, "object": {"key": f"incoming/{key}"}}
        recourse.functions.valet_commit.handler(
            {"detail-type": "Object Created", "detail": detail}, None
        )

    def sweep(self) -> None:
        """The hour that has passed."""
        recourse.functions.valet_commit.handler(
            {"detail-type": "Scheduled Event", "detail": {}}, None
        )

    def stored(self, prefix: str) -> list[str]:
        """The versions under a prefix, by their keys."""
        found = self.s3.list_object_versions(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Versions", [])]

    def uploaded(self, name: str = "passports/asha.pdf", body: bytes = PDF, **more: Any) -> str:
        """The id of a key whose upload was completed."""
        key: str = self.issue("upload", name, body, **more)["key_id"]
        self.land(key, body)
        answer = self.complete(key, subject=more.get("subject", "asha"))
        assert answer.status == 200, answer
        return key


@contextmanager
def ground() -> Iterator[Ground]:
    """The server side of valet keys, as long as the block lasts."""
    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "VALET_TABLE": "valet",
    }
    with (
        mock.patch.dict(os.environ, environment),
        mock_aws(),
        speed.up(),
        transactions.true(),
        objects.whole(),
    ):
        client.cache_clear()
        made = Ground()
        with (
            mock.patch.object(kit, "valet_keys", lambda: made.keys),
            mock.patch.object(kit, "valet_issuer", lambda: made.issuer),
            mock.patch.object(kit, "valet_committer", lambda: made.committer),
            mock.patch.object(recourse.functions.valet, "redeemer", lambda: made.redeemer),
        ):
            yield made
        client.cache_clear()


@pytest.fixture
def valet() -> Iterator[Ground]:
    """A ground of one's own."""
    with ground() as made:
        yield made


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    """The problem that an answer must be."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == f"urn:recourse:problem:{kind}"
    assert answer.json["status"] == status
    found: dict[str, Any] = answer.json
    return found
