"""Requests to S3 that a key opens: each bound to one object, and to what may be sent.

An upload is bound to its landing place, length, type, SHA-256 and `If-None-Match: *`, so that it
lands once and as said. A download is bound to a version, comes as an attachment and with a type
that a browser does not run. Ranges and conditions stay the client's own.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from recourse.store.credentials import Credentials
from recourse.valet.names import incoming_key
from recourse.valet.sigv4 import presign

URL_LIFE = 10
"""Seconds that a URL lives at the most: the bound of what a revocation leaves behind."""
OCTETS = "application/octet-stream"
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
"""What a download may say that it is; everything else is octets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request that the holder of a key may make of S3, once it is signed.

    Attributes:
        method: Its method.
        key: The S3 key.
        bucket: The bucket, where it is another than that of uploads.
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
    """The upload of one part; whose upload it belongs to is never the client's to say."""
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
    """A signed request, as a caller is given it."""

    method: str
    url: str
    headers: Mapping[str, str]
    expires: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the documents are.

    Args:
        name: The bucket's name.
        region: Its region.
        endpoint: Another address of S3 than AWS's own, with the bucket in the path.
    """

    name: str
    region: str
    endpoint: str | None = None

    def sign(
        self, request: Request, credentials: Credentials, *, key_id: str, now: float, until: int
    ) -> Signed:
        """Sign a request for ten seconds, or less.

        Args:
            request: What is signed.
            credentials: With what.
            key_id: The valet key's; S3 ignores it, and its logs keep it.
            now: The moment, in seconds since 1970.
            until: When the key expires.

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
    """A SHA-256 in hex as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
