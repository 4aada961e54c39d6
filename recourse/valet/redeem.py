"""Redeeming: a token becomes a URL that is valid for ten seconds, by one conditional transaction.

The transaction has the conditions on the key's row (not revoked, not done, not used up, not
expired), counts the use, counts it against the rates of the key and its owner, and writes the audit
row: all of it or nothing. It follows one read. A concurrent revocation or last use therefore
happens before or after it, never in between.

No S3 client and no pydantic here: the redeeming function loads this at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from recourse.errors import TransientError
from recourse.store.contention import ConditionFailedError
from recourse.store.credentials import Credentials
from recourse.store.expressions import Attribute, LessThan, MoreThan
from recourse.valet.errors import (
    BearerOnLinkError,
    ExpiredKeyError,
    OutOfScopeError,
    RevokedKeyError,
    UnknownKeyError,
    UnknownObjectError,
    UsedUpKeyError,
    ValetError,
    WrongPartError,
)
from recourse.valet.keys import (
    KEY_RATE,
    OPEN,
    Actor,
    Key,
    Keys,
    key_of,
    key_pk,
    object_pk,
    too_often,
)
from recourse.valet.objects import (
    Bucket,
    Request,
    Signed,
    download_request,
    part_request,
    upload_request,
)
from recourse.valet.token import Claims, Jwk, verify

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload, as the client declares it; the signature binds the client to it."""

    number: int
    sha256: str
    content_length: int


@dataclass(frozen=True)
class Redeemer:
    """Turns tokens into URLs.

    Args:
        keys: The valet table.
        bucket: The bucket of documents.
        issuer: The `iss` that tokens must have.
        credentials: Returns the credentials to sign URLs with.
    """

    keys: Keys
    bucket: Bucket
    issuer: str
    credentials: Callable[[], Credentials]
    _known: dict[str, Jwk] = field(default_factory=dict)

    def redeem(self, token: str, by: Actor, part: Part | None = None) -> Signed:
        """Redeem a token: the signed request to send to S3.

        Raises:
            ValetError: It is refused; the key's audit trail records every refusal but
                `BadTokenError`.
            TransientError: The credentials are about to end, or the key changed meanwhile.
        """
        claims = self.claims(token)
        return self._redeem(claims, by, "redeem" if part is None else "redeem-part", part)

    def follow(self, token: str, by: Actor, *, bearer: bool) -> Signed:
        """The same for a link, which is redirected to S3: for downloads only.

        Args:
            token: The token in the link.
            by: Who follows it.
            bearer: Whether an Authorization header came with it. The client would send it on to S3,
                which rejects requests that are authorised twice.
        """
        claims = self.claims(token)
        if bearer:
            self._refuse(claims, "follow", by, BearerOnLinkError("send no Authorization header"))
        if claims.operation != "download":
            problem = OutOfScopeError("only a download is a link; redeem the token instead")
            self._refuse(claims, "follow", by, problem)
        return self._redeem(claims, by, "follow", None)

    def claims(self, token: str) -> Claims:
        """The claims of a token that this deployment issued."""
        return verify(token, issuer=self.issuer, key=self._key)

    def _key(self, kid: str) -> Jwk | None:
        if kid not in self._known:
            self._known.update(self.keys.public_keys())
        return self._known.get(kid)

    def _redeem(self, claims: Claims, by: Actor, action: str, part: Part | None) -> Signed:
        rows = [key_pk(claims.jti)]
        if claims.operation == "download":
            rows.append(object_pk(claims.sub, claims.object))
        row, stored = [*self.keys.table.get_many(rows), None][:2]
        if row is None:
            raise UnknownKeyError("the key does not exist")
        key = key_of(row).opened_by(claims)
        if key.stored:
            stored = None
        try:
            _usable(key, self.keys.clock(), part)
            request = _request(key, stored, part)
        except ValetError as problem:
            self._refuse(claims, action, by, problem)
        now = self.keys.clock()
        try:
            signed = self.bucket.sign(
                request, self.credentials(), key_id=key.key_id, now=now, until=key.expires
            )
        except ValueError as problem:
            raise TransientError("the signer's credentials are about to end") from problem
        operations = self._operations(key, stored, action, by, part, now)
        try:
            self.keys.table.transact(operations)
        except ConditionFailedError as failed:
            self._refuse(claims, action, by, _refusal(failed, now, part))
        return signed

    def _operations(
        self,
        key: Key,
        stored: Mapping[str, Any] | None,
        action: str,
        by: Actor,
        part: Part | None,
        now: float,
    ) -> list[TransactWriteItemTypeDef]:
        when = {**OPEN, "expires": MoreThan(int(now))}
        if part is None:
            counted, detail = "uses", None
            when["uses"] = LessThan(Attribute("max_uses"))
        else:
            counted, detail = "parts_redeemed", f"part {part.number}"
        operations = [
            self.keys.table.update_request(key_pk(key.key_id), add={counted: 1}, when=when),
            self.keys.audit(key.key_id, action, "allowed", by, detail),
            self.keys.rate(f"key#{key.key_id}", KEY_RATE),
            self.keys.owner_rate(key.owner),
        ]
        if stored:
            operations.append(
                self.keys.table.check_request(
                    stored["pk"], when={"state": "VISIBLE", "version": stored["version"]}
                )
            )
        return operations

    def _refuse(self, claims: Claims, action: str, by: Actor, problem: ValetError) -> NoReturn:
        """Record the refusal in the audit trail, then raise it."""
        self.keys.refused(claims.jti, action, problem, by)
        raise problem


def _usable(key: Key, now: float, part: Part | None) -> None:
    """Check that a key may be used, by its row.

    Raises:
        ValetError: It may not.
    """
    if key.revoked_at:
        raise RevokedKeyError(f"the key was revoked at {key.revoked_at}")
    if key.expires <= now:
        raise ExpiredKeyError("the key expired; ask its owner for another")
    if key.state != "ISSUED":
        raise UsedUpKeyError("its upload is done")
    if part is None and key.uses >= key.max_uses:
        raise UsedUpKeyError(f"the key may be used {key.max_uses} times, and was")


def _refusal(failed: ConditionFailedError, now: float, part: Part | None) -> ValetError:
    """Why a transaction was refused, by the positions of the conditions that failed."""
    if 0 in failed.rows:
        row = failed.rows[0]
        if row is None:
            return UnknownKeyError("the key does not exist")
        try:
            _usable(key_of(row), int(now), part)
        except ValetError as problem:
            return problem
        raise TransientError("the key was changed while it was redeemed")
    if 4 in failed.rows:
        return UnknownObjectError("the object was withdrawn or replaced meanwhile")
    return too_often(owner=2 not in failed.rows)


def _request(key: Key, stored: Mapping[str, Any] | None, part: Part | None) -> Request:
    """The request that a key allows.

    Raises:
        ValetError: The key does not allow this.
    """
    if key.operation == "download":
        if part is not None:
            raise OutOfScopeError("the key is for a download, which has no parts")
        if key.stored:
            return download_request(key.object, key.stored)
        if stored is None or stored["state"] != "VISIBLE":
            raise UnknownObjectError(f"object {key.object!r} does not exist")
        return download_request(key.object, stored)
    assert key.upload is not None
    if part is None:
        if key.multipart:
            raise WrongPartError("the upload is in parts: redeem each", field="part")
        return upload_request(key.key_id, key.upload)
    if not key.multipart:
        raise WrongPartError("the upload is not in parts", field="part")
    parts, size = key.multipart["parts"], key.multipart["part_size"]
    if not 1 <= part.number <= parts:
        raise WrongPartError(f"must be 1 to {parts}, got {part.number}", field="part.number")
    last = key.upload["content_length"] - size * (parts - 1)
    if part.content_length != (last if part.number == parts else size):
        raise WrongPartError(
            f"part {part.number} has {last if part.number == parts else size} bytes",
            field="part.content_length",
        )
    return part_request(
        key.key_id,
        key.multipart["upload_id"],
        number=part.number,
        sha256=part.sha256,
        content_length=part.content_length,
    )
