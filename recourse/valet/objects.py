"""The requests to S3 that a valet key allows, each bound to one object and its content.

An upload is bound to its landing key, length, type, SHA-256 and `If-None-Match: *`, so that it
lands once and exactly as declared. A download is bound to a version, and is served as an attachment
with a type that a browser does not execute. Ranges and conditions are left to the client.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from recourse.store.credentials import Credentials
from recourse.valet.names import OCTETS, incoming_key
from recourse.valet.sigv4 import presign

URL_LIFE = 10
"""Seconds for which a URL is valid at the most, also after its key is revoked."""
SAFE_TYPES = frozenset(
    {
        "application/json",
        "application/pdf",
        "application/zip",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
    }
)
"""The types that a download is served with; any other becomes octets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request to S3 that the holder of a key may send, once it is signed.

    Attributes:
        method: Its method.
        key: The S3 key.
        bucket: The bucket, if it is not that of uploads.
        query: Its parameters.
        headers: What must be sent with it, names in lower case.
    """

    method: str
    key: str
    bucket: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def upload_request(key_id: str, upload: Mapping[str, Any]) -> Request:
    """The upload of a whole object."""
    return Request(
        method="PUT",
        key=incoming_key(key_id),
        headers={
            "content-length": str(upload["content_length"]),
            "content-type": upload["content_type"],
            "if-none-match": "*",
            "x-amz-checksum-sha256": in_base64(upload["sha256"]),
        },
    )


def part_request(
    key_id: str, upload_id: str, *, number: int, sha256: str, content_length: int
) -> Request:
    """The upload of one part; its upload comes from the key's row, never from the client."""
    return Request(
        method="PUT",
        key=incoming_key(key_id),
        query={"partNumber": str(number), "uploadId": upload_id},
        headers={
            "content-length": str(content_length),
            "x-amz-checksum-sha256": in_base64(sha256),
        },
    )


def download_request(name: str, stored: Mapping[str, Any]) -> Request:
    """The download of one version."""
    content_type = stored["content_type"].partition(";")[0].strip().lower()
    file = quote(name.rpartition("/")[2], safe="")
    return Request(
        method="GET",
        key=stored["key"],
        bucket=stored.get("bucket"),
        query={
            "response-cache-control": "private, no-store",
            "response-content-disposition": f"attachment; filename*=UTF-8''{file}",
            "response-content-type": content_type if content_type in SAFE_TYPES else OCTETS,
            "versionId": stored["version"],
        },
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed request; `expires` is in seconds since 1970."""

    method: str
    url: str
    headers: Mapping[str, str]
    expires: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket of documents.

    Args:
        name: The bucket's name.
        region: Its region.
        endpoint: The URL of S3, with the bucket in the path; None for AWS's own.
    """

    name: str
    region: str
    endpoint: str | None = None

    def sign(
        self, request: Request, credentials: Credentials, *, key_id: str, now: float, until: int
    ) -> Signed:
        """Sign a request for `URL_LIFE` seconds, or less where key or credentials end before.

        Args:
            request: The request.
            credentials: What signs it.
            key_id: The valet key's id, as a parameter that S3 ignores and logs.
            now: The time, in seconds since 1970.
            until: When the key expires, in seconds since 1970.

        Raises:
            ValueError: The key or the credentials have less than a second left.
        """
        at = int(now)
        ends = min(at + URL_LIFE, until)
        if credentials.expires is not None:
            ends = min(ends, math.floor(credentials.expires))
        name = request.bucket or self.name
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            scheme, host = parts.scheme, parts.netloc
            path = f"{parts.path.rstrip('/')}/{name}/{request.key}"
        else:
            scheme, host = "https", f"{name}.s3.{self.region}.amazonaws.com"
            path = f"/{request.key}"
        url = presign(
            request.method,
            host,
            path,
            query={**request.query, "x-valet-key": key_id},
            headers=request.headers,
            credentials=credentials,
            region=self.region,
            at=at,
            expires=ends - at,
            scheme=scheme,
        )
        return Signed(request.method, url, request.headers, ends)


def in_base64(sha256: str) -> str:
    """A hexadecimal SHA-256 in base64, as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
