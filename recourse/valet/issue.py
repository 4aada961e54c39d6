"""Issuing keys, and saying whether one is good; the owner's side of a key's life."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from recourse.errors import TransientError
from recourse.store.contention import ConditionFailedError
from recourse.store.credentials import Credentials
from recourse.store.expressions import ABSENT
from recourse.valet import content
from recourse.valet.errors import BadTokenError, OutOfScopeError, TooLargeError
from recourse.valet.keys import Actor, Key, Keys, key_of, key_pk, moment, too_often
from recourse.valet.names import incoming_key, object_name
from recourse.valet.token import Claims, Jwk, Operation, Signer, jwk, sign, verify

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MAX_UPLOAD_BYTES = 5 * 1024**3
"""Bytes of an upload: what S3 copies in one call."""
MULTIPART_THRESHOLD = 8 * 1024**2
MIN_PART_BYTES = 8 * 1024**2
MAX_PARTS = 1000
LENT_SECONDS = 7 * 24 * 3600
"""Seconds that a key to a service's own document is good for, before it is renewed."""
LENT_USES = 10_000
MAX_CACHED_TOKENS = 1000
"""How many tokens of such keys are kept, so that looking again asks KMS for no signature."""
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
    _lent: dict[str, tuple[int, str]] = field(default_factory=dict)

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
        by: Actor,
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
        expires = self._expiry(now, expires_in)
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
        token = self._token(key, now)
        try:
            self.keys.table.transact(
                [
                    self.keys.table.put_request(key.row, when=ABSENT),
                    self.keys.audit(key_id, "issue", "allowed", by),
                    self.keys.owner_rate(owner),
                ]
            )
        except ConditionFailedError:
            if multipart:
                self.s3.abort_multipart_upload(
                    Bucket=self.bucket, Key=incoming_key(key_id), UploadId=multipart["upload_id"]
                )
            raise too_often(owner=True) from None
        return Issued(key, token)

    def lend(
        self, about: str, owner: str, name: str, find: Callable[[], Mapping[str, Any]], by: Actor
    ) -> str | None:
        """The token of the one key to a document that a service has stored.

        The key's id is made from what it is about: whoever looks first makes its row, everybody
        after that finds it. One that has expired is good again, in its row, for tokens signed from
        then on; one that was revoked stays so.

        Args:
            about: What there is one key for.
            owner: Whose key it is.
            name: What the document is called.
            find: What is stored, asked for the first time only: `bucket`, `key`, `version`,
                `content_type`.
            by: Who looks.

        Returns:
            The token; None where the key was revoked or is used up.
        """
        key_id = hashlib.sha256(f"lent#{about}".encode()).hexdigest()[:32]
        now = self.keys.clock()
        row = self.keys.row(key_pk(key_id))
        key = key_of(row) if row else None
        if key is None or key.status(now) == "EXPIRED":
            expires = self._expiry(now, LENT_SECONDS)
            if key is None:
                new = Key(
                    key_id=key_id,
                    owner=owner,
                    operation="download",
                    object=object_name(name),
                    expires=expires,
                    max_uses=LENT_USES,
                    created_at=moment(now),
                    stored=find(),
                )
                write = self.keys.table.put_request(new.row, when=ABSENT)
            else:
                write = self.keys.table.update_request(
                    key_pk(key_id),
                    set={"expires": expires},
                    when={"expires": key.expires, "revoked_at": ABSENT},
                )
            with suppress(ConditionFailedError):  # somebody else was quicker: theirs is as good
                self.keys.table.transact([write, self.keys.audit(key_id, "issue", "allowed", by)])
            key = self.keys.get(key_id)
        if key.status(now) != "ACTIVE":
            return None
        known = self._lent.get(key_id)
        if known is None or known[0] != key.expires:
            if len(self._lent) >= MAX_CACHED_TOKENS:
                self._lent.clear()
            known = self._lent[key_id] = key.expires, self._token(key, now)
        return known[1]

    def _expiry(self, now: float, seconds: int) -> int:
        """When a key of so many seconds expires: not after credentials that nobody renews."""
        expires = math.floor(now) + seconds
        ends = self.credentials().expires
        if ends is not None:
            expires = min(expires, math.floor(ends))
        if expires <= now:
            raise TransientError("the signer's credentials are about to end")
        return expires

    def _token(self, key: Key, now: float) -> str:
        claims = Claims(
            iss=self.issuer,
            sub=key.owner,
            operation=key.operation,
            object=key.object,
            exp=key.expires,
            iat=math.floor(now),
            jti=key.key_id,
        )
        assert self._published
        return sign(claims, self.signer)

    def _multipart(self, key_id: str, upload: Mapping[str, Any]) -> dict[str, Any] | None:
        """Begin an upload in parts, where it is one; whole parts, so that S3 takes them."""
        length = upload["content_length"]
        if length > MAX_UPLOAD_BYTES:
            raise TooLargeError(
                f"it has at most {MAX_UPLOAD_BYTES} bytes", field="upload.content_length"
            )
        if length < MULTIPART_THRESHOLD:
            return None
        size = max(MIN_PART_BYTES, math.ceil(length / MAX_PARTS / _MIB) * _MIB)
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
        row = self.keys.row(key_pk(claims.jti))
        if row is None or key_of(row).status(self.keys.clock()) != "ACTIVE":
            return {"active": False}
        return {"active": True, "token_type": "valet-key", **claims.json()}

    def jwks(self) -> dict[str, Jwk]:
        """Every public key that tokens may be signed with, by its id."""
        own = self._published
        return {**self.keys.public_keys(), own["kid"]: own}
