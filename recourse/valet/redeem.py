"""Redeeming: a token becomes a URL that lives ten seconds, by one transaction that may refuse.

The transaction holds the key's row to all that must be true (not revoked, not done, not used up,
not expired), counts the use, counts it against the rates of the key and its owner, and writes the
audit row: all of it or nothing. Before it, one read. Whoever revokes, or uses the key up, at the
same time is therefore before or after it, never beside it.

No S3 client and no pydantic here: this is what a function starts with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    """A part of an upload, as the client says it is; the signature holds the client to it."""

    number: int
    sha256: str
    content_length: int


@dataclass(frozen=True)
class Redeemer:
    """Turns tokens into URLs.

    Args:
        keys: The valet table.
        bucket: Where the documents are.
        issuer: Whose tokens are taken.
        credentials: What URLs are signed with now.
    """

    keys: Keys
    bucket: Bucket
    issuer: str
    credentials: Callable[[], Credentials]
    _known: dict[str, Jwk] = field(default_factory=dict)

    def redeem(self, token: str, by: Actor, part: Part | None = None) -> Signed:
        """The request to make of S3.

        Raises:
            ValetError: It is refused; all but `BadTokenError` are in the key's audit trail.
        """
        claims = self.claims(token)
        return self._redeem(claims, by, "redeem" if part is None else "redeem-part", part)

    def follow(self, token: str, by: Actor, *, bearer: bool) -> Signed:
        """The same for a link, which is followed as it is: for downloads alone.

        Args:
            token: The token in the link.
            by: Who follows it.
            bearer: Whether an Authorization header came with it. It would be sent on to S3, which
                answers with an error to whoever authorises twice.
        """
        claims = self.claims(token)
        if bearer:
            self._refuse(claims, "follow", by, BearerOnLinkError("send no Authorization header"))
        if claims.operation != "download":
            problem = OutOfScopeError("only a download is a link; redeem the token instead")
            self._refuse(claims, "follow", by, problem)
        return self._redeem(claims, by, "follow", None)

    def claims(self, token: str) -> Claims:
        """What a token says, if it is ours."""
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
            raise UnknownKeyError("the key's row is not there")
        key = key_of(row)
        # A key that was renewed has a later expiry than the tokens of before.
        key = replace(key, expires=min(key.expires, claims.exp))
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
        """Write the refusal down, then refuse."""
        said = self.keys.audit(claims.jti, action, problem.kind, by, str(problem))
        self.keys.table.transact([said])
        raise problem


def _usable(key: Key, now: float, part: Part | None) -> None:
    """Whether a key may be used, as its row was when it was read.

    Raises:
        ValetError: It may not.
    """
    if key.revoked_at:
        raise RevokedKeyError(f"it was revoked at {key.revoked_at}")
    if key.expires <= now:
        raise ExpiredKeyError("ask its owner for another")
    if key.state != "ISSUED":
        raise UsedUpKeyError("its upload is done")
    if part is None and key.uses >= key.max_uses:
        raise UsedUpKeyError(f"it may be used {key.max_uses} times, and was")


def _refusal(failed: ConditionFailedError, now: float, part: Part | None) -> ValetError:
    """Why a transaction was refused, by what its conditions met."""
    if 0 in failed.rows:
        row = failed.rows[0]
        if row is None:
            return UnknownKeyError("the key's row is not there")
        try:
            _usable(key_of(row), int(now), part)
        except ValetError as problem:
            return problem
        raise TransientError("the key was changed while it was redeemed")
    if 4 in failed.rows:
        return UnknownObjectError("it was withdrawn or replaced at this moment")
    return too_often(owner=2 not in failed.rows)


def _request(key: Key, stored: Mapping[str, Any] | None, part: Part | None) -> Request:
    """What a key opens.

    Raises:
        ValetError: It does not open this.
    """
    if key.operation == "download":
        if part is not None:
            raise OutOfScopeError("the key is for a download, which has no parts")
        if key.stored:
            return download_request(key.object, key.stored)
        if stored is None or stored["state"] != "VISIBLE":
            raise UnknownObjectError(f"{key.object!r} is not there")
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
        raise WrongPartError(f"parts are numbered from 1 to {parts}", field="part.number")
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
