"""Issuing keys, and saying whether one is good; the owner's side of a key's life."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recourse.step import TransientError
from recourse.valet import content
from recourse.valet.errors import BadTokenError, OutOfScopeError, TooLargeError
from recourse.valet.keys import By, Contended, Key, Keys, key_of, key_pk, moment, too_often
from recourse.valet.names import incoming_key, object_name
from recourse.valet.sigv4 import Credentials
from recourse.valet.token import Claims, Jwk, Operation, Signer, jwk, sign, verify

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

LARGEST = 5 * 1024**3
"""Bytes of an upload: what S3 copies in one call."""
MULTIPART_FROM = 8 * 1024**2
PART = 8 * 1024**2
MOST_PARTS = 1000
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Issued:
    """A key that was just issued: the only time that its token is seen."""

    key: Key
    token: str


@dataclass(frozen=True)
class Issuer:
    """Issues keys.

    Args:
        keys: The valet table.
        s3: Begins uploads in parts.
        bucket: Where they go.
        issuer: What tokens say of who issued them.
        signer: Signs them.
        credentials: Those of whoever will sign the URLs, where they end without being renewed.
    """

    keys: Keys
    s3: S3Client
    bucket: str
    issuer: str
    signer: Signer
    credentials: Callable[[], Credentials]

    @cached_property
    def _published(self) -> Jwk:
        """Our public key, once everybody can verify with it."""
        own = jwk(self.signer.public_key)
        self.keys.publish(own)
        return own

    def issue(
        self,
        owner: str,
        operation: Operation,
        name: str,
        *,
        expires_in: int,
        max_uses: int,
        upload: Mapping[str, Any] | None,
        by: By,
    ) -> Issued:
        """Issue a key.

        Args:
            owner: Whose it is, and in whose space the object is named.
            operation: What it is for.
            name: The object's name.
            expires_in: Seconds; cut to the life of credentials that are not renewed.
            max_uses: How often it may be redeemed.
            upload: What an upload must be: `content_type`, `content_length`, `sha256`.
            by: Who asks.

        Raises:
            ValetError: It is not issued.
        """
        name = object_name(name)
        now = self.keys.clock()
        expires = math.floor(now) + expires_in
        ends = self.credentials().expires
        if ends is not None:
            expires = min(expires, math.floor(ends))
        if expires <= now:
            raise TransientError("the signer's credentials are about to end")
        key_id = secrets.token_hex(16)
        multipart = None
        if upload is not None:
            content.checkable(upload["content_type"])
            multipart = self._multipart(key_id, upload)
        key = Key(
            key_id=key_id,
            owner=owner,
            operation=operation,
            object=name,
            expires=expires,
            max_uses=max_uses,
            created_at=moment(now),
            upload=upload,
            multipart=multipart,
        )
        claims = Claims(
            iss=self.issuer,
            sub=owner,
            operation=operation,
            object=name,
            exp=expires,
            iat=math.floor(now),
            jti=key_id,
        )
        assert self._published
        token = sign(claims, self.signer)
        try:
            self.keys.write(
                self.keys.put(key.row),
                self.keys.audit(key_id, "issue", "allowed", by),
                self.keys.owner_rate(owner),
            )
        except Contended:
            if multipart:
                self.s3.abort_multipart_upload(
                    Bucket=self.bucket, Key=incoming_key(key_id), UploadId=multipart["upload_id"]
                )
            raise too_often(owner=True) from None
        return Issued(key, token)

    def _multipart(self, key_id: str, upload: Mapping[str, Any]) -> dict[str, Any] | None:
        """Begin an upload in parts, where it is one; whole parts, so that S3 takes them."""
        length = upload["content_length"]
        if length > LARGEST:
            raise TooLargeError(f"it has at most {LARGEST} bytes", field="upload.content_length")
        if length < MULTIPART_FROM:
            return None
        size = max(PART, math.ceil(length / MOST_PARTS / _MIB) * _MIB)
        begun = self.s3.create_multipart_upload(
            Bucket=self.bucket,
            Key=incoming_key(key_id),
            ContentType=upload["content_type"],
            ChecksumAlgorithm="SHA256",
        )
        return {
            "upload_id": begun["UploadId"],
            "part_size": size,
            "parts": math.ceil(length / size),
        }

    def introspect(self, token: str) -> dict[str, Any]:
        """What RFC 7662 answers: whether the key can still be used, and what it is for."""
        try:
            claims = verify(token, issuer=self.issuer, key=self.jwks().get)
        except (BadTokenError, OutOfScopeError):
            return {"active": False}
        (row,) = self.keys.rows(key_pk(claims.jti))
        if row is None or key_of(row).status(self.keys.clock()) != "ACTIVE":
            return {"active": False}
        return {"active": True, "token_type": "valet-key", **claims.json()}

    def jwks(self) -> dict[str, Jwk]:
        """Every public key that tokens may be signed with, by its id."""
        own = self._published
        return {**self.keys.public_keys(), own["kid"]: own}
