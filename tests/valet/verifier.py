"""A strict S3 before moto's: what S3 checks of a presigned request, and moto and ministack do not.

Signature (by botocore, which the signer is not), signed headers, unsigned `x-amz-` headers, two
authorisations at once, expiry, the length, the checksum, If-None-Match, and the conditions of the
bucket's policy as the synthesised template has them. What it takes it hands on to moto.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.exceptions import ClientError

from recourse.store.credentials import Credentials
from tests.infra.assembly import listed

SKEW = 15 * 60
"""Seconds that a request's clock may be ahead of S3's."""


@dataclass(frozen=True)
class Told:
    """What S3 answers."""

    status: int
    code: str = ""
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.told = Told(status, code)


@dataclass(frozen=True)
class StrictS3:
    """S3 as it is for whoever has nothing but a URL.

    Args:
        s3: moto's.
        bucket: The bucket's name.
        region: Its region.
        credentials: Whose signatures are known.
        signer: The principal that they are, as the policy names it.
        policy: The statements of the bucket's policy, with the bucket as `<Valet.Arn>`.
        clock: S3's clock.
    """

    s3: Any
    bucket: str
    region: str
    credentials: Callable[[], Credentials]
    signer: str
    policy: list[dict[str, Any]]
    clock: Callable[[], float]

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        tls: bool = True,
    ) -> Told:
        """Answer a request."""
        sent = {name.lower(): value for name, value in headers.items()}
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        key = unquote(parts.path.removeprefix("/"))
        try:
            self._signed(method, parts, query, sent)
            self._payload(sent, body)
            self._allowed(method, key, query, tls=tls)
            return self._put(key, query, sent, body) if method == "PUT" else self._get(key, query)
        except _Refused as refused:
            return refused.told

    def _signed(self, method: str, parts: Any, query: dict[str, str], sent: Any) -> None:
        if "authorization" in sent:
            raise _Refused(400, "InvalidArgument")  # only one auth mechanism allowed
        if "X-Amz-Signature" not in query:
            raise _Refused(403, "AccessDenied")
        began = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        age = self.clock() - began.timestamp()
        if age < -SKEW or age >= int(query["X-Amz-Expires"]):
            raise _Refused(403, "AccessDenied")
        names = query["X-Amz-SignedHeaders"].split(";")
        if {name for name in sent if name.startswith("x-amz-")} - set(names):
            raise _Refused(403, "AccessDenied")  # headers present that were not signed
        known = {**sent, "host": parts.netloc}
        if not set(names) <= set(known):
            raise _Refused(403, "SignatureDoesNotMatch")
        mine = self.credentials()
        own = {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"}
        own |= {"X-Amz-SignedHeaders", "X-Amz-Security-Token", "X-Amz-Signature"}
        asked = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in query.items()
            if name not in own
        )
        request = AWSRequest(
            method=method,
            url=f"https://{parts.netloc}{parts.path}?{asked}",
            headers={name: known[name] for name in names},
        )
        signer = botocore.auth.S3SigV4QueryAuth(
            BotocoreCredentials(mine.access_key, mine.secret_key, mine.session_token),
            "s3",
            self.region,
            expires=int(query["X-Amz-Expires"]),
        )
        with mock.patch.object(botocore.auth, "get_current_datetime", lambda: began):
            signer.add_auth(request)
        if dict(parse_qsl(urlsplit(str(request.url)).query, keep_blank_values=True)) != query:
            raise _Refused(403, "SignatureDoesNotMatch")

    def _payload(self, sent: Mapping[str, str], body: bytes) -> None:
        if int(sent.get("content-length", len(body))) != len(body):
            raise _Refused(400, "IncompleteBody")
        checksum = sent.get("x-amz-checksum-sha256")
        if checksum and base64.b64decode(checksum) != hashlib.sha256(body).digest():
            raise _Refused(400, "BadDigest")

    def _allowed(self, method: str, key: str, query: Mapping[str, str], *, tls: bool) -> None:
        action = {"PUT": "s3:PutObject", "GET": "s3:GetObject"}[method]
        if method == "GET" and "versionId" in query:
            action = "s3:GetObjectVersion"
        began = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        context = {
            "aws:SecureTransport": "true" if tls else "false",
            "s3:signatureversion": query["X-Amz-Algorithm"],
            "s3:signatureAge": str(int(1000 * (self.clock() - began.timestamp()))),
        }
        if method == "GET":
            context |= {f"s3:ExistingObjectTag/{k}": v for k, v in self._tags(key, query).items()}
        for statement in self.policy:
            if self._applies(statement, action, key, context):
                raise _Refused(403, "AccessDenied")

    def _applies(self, statement: Any, action: str, key: str, context: Mapping[str, str]) -> bool:
        """Whether a statement, which denies, is about a request."""
        if statement["Principal"]["AWS"] not in ("*", self.signer):
            return False
        if not {"s3:*", action} & set(listed(statement["Action"])):
            return False
        held = [
            f"<Valet.Arn>/{key}".startswith(one.removesuffix("*")) and one.endswith("*")
            for one in listed(statement.get("Resource", statement.get("NotResource")))
        ]
        if any(held) == ("NotResource" in statement):
            return False
        return all(
            _holds(operator, context.get(name), wanted)
            for operator, tests in statement.get("Condition", {}).items()
            for name, wanted in tests.items()
        )

    def _tags(self, key: str, query: Mapping[str, str]) -> dict[str, str]:
        which = {"VersionId": query["versionId"]} if "versionId" in query else {}
        try:
            found = self.s3.get_object_tagging(Bucket=self.bucket, Key=key, **which)
        except ClientError as problem:
            raise _Refused(404, problem.response["Error"]["Code"]) from None
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}

    def _put(self, key: str, query: Mapping[str, str], sent: Any, body: bytes) -> Told:
        if "uploadId" in query:
            begun = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
            if query["uploadId"] not in {one["UploadId"] for one in begun if one["Key"] == key}:
                raise _Refused(404, "NoSuchUpload")
            done = self.s3.upload_part(
                Bucket=self.bucket,
                Key=key,
                UploadId=query["uploadId"],
                PartNumber=int(query["partNumber"]),
                Body=body,
                ChecksumSHA256=sent["x-amz-checksum-sha256"],
            )
            return Told(200, headers={"etag": done["ETag"]})
        if sent.get("if-none-match") == "*":
            listed_there = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=key)
            if any(one["Key"] == key for one in listed_there.get("Contents", [])):
                raise _Refused(412, "PreconditionFailed")
        self.s3.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=body,
            ContentType=sent.get("content-type", "binary/octet-stream"),
            ChecksumAlgorithm="SHA256",
        )
        return Told(200)

    def _get(self, key: str, query: Mapping[str, str]) -> Told:
        got = self.s3.get_object(Bucket=self.bucket, Key=key, VersionId=query["versionId"])
        headers = {
            "content-type": query["response-content-type"],
            "content-disposition": query["response-content-disposition"],
        }
        return Told(200, body=got["Body"].read(), headers=headers)


def _holds(operator: str, found: str | None, wanted: str) -> bool:
    """A condition; negated ones hold of what is not there, others do not."""
    if operator in ("StringEquals", "Bool"):
        return found == wanted
    if operator == "StringNotEquals":
        return found != wanted
    if operator == "NumericGreaterThan":
        return found is not None and int(found) > int(wanted)
    raise AssertionError(f"the verifier does not know {operator}: teach it")
