"""Issuing keys, and introspecting them: the owner's side of a key's life."""

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
"""What S3 copies in one call."""
MULTIPART_THRESHOLD = 8 * 1024**2
MIN_PART_BYTES = 8 * 1024**2
MAX_PARTS = 1000
LENT_SECONDS = 7 * 24 * 3600
"""Seconds for which a key to a service's own document is valid, before it is renewed."""
LENT_USES = 10_000
MAX_CACHED_TOKENS = 1000
"""How many tokens of such keys are cached, which saves signatures by KMS."""
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Issued:
    """A key that was just issued, with its token, which is not stored and not in the `repr`."""

    key: Key
    token: str = field(repr=False)


@dataclass(frozen=True)
class Issuer:
    """Issues keys.

    Args:
        keys: The valet table.
        s3: Begins multipart uploads.
        bucket: The bucket of uploads.
        issuer: The tokens' `iss`.
        signer: Signs tokens.
        credentials: Those that URLs will be signed with; no key outlives them unless they are
            renewed.
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
        """This issuer's public key; published before the first token is signed with it."""
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
            owner: Its owner, in whose space the object is named.
            operation: What it is for.
            name: The object's name.
            expires_in: Seconds; cut to the life of credentials that are not renewed.
            max_uses: How often it may be redeemed.
            upload: What an upload must be: `content_type`, `content_length` in bytes, `sha256` in
                hexadecimal; None for a download.
            by: Who issues it.

        Raises:
            ValetError: It is refused: the name, the type, the length or the rate is not allowed.
            TransientError: The credentials are about to end.
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

        The key's id is a hash of what it is about: the first caller creates its row, later ones
        find it. A key that has expired is renewed in its row, for tokens signed from then on; one
        that was revoked stays revoked.

        Args:
            about: What there is one key for.
            owner: The key's owner.
            name: The document's name.
            find: Returns what is stored: `bucket`, `key`, `version`, `content_type`; called only
                when the row is created.
            by: Who asks for it.

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
            with suppress(ConditionFailedError):  # a concurrent caller wrote it: theirs is as good
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
        """When a key of so many seconds expires: not after credentials that are not renewed."""
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
        """Begin a multipart upload where the length asks for one; None otherwise."""
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
        """The response of RFC 7662: whether the token still opens its key, and its claims."""
        try:
            claims = verify(token, issuer=self.issuer, key=self.jwks().get)
        except (BadTokenError, OutOfScopeError):
            return {"active": False}
        row = self.keys.row(key_pk(claims.jti))
        if row is None or key_of(row).opened_by(claims).status(self.keys.clock()) != "ACTIVE":
            return {"active": False}
        return {"active": True, "token_type": "valet-key", **claims.json()}

    def jwks(self) -> dict[str, Jwk]:
        """Every public key that tokens may be signed with, by key id."""
        own = self._published
        return {**self.keys.public_keys(), own["kid"]: own}
