"""Tokens: JWTs signed with ES256, which any party can verify with the JWKS.

A `Signer` signs: KMS holds the private key on AWS, and in the local cloud too. Verifying needs only
public keys. PyJWT is not used here: importing it costs the redeeming function half as much again as
a DynamoDB client does, for one algorithm that must be pinned anyway; the tests verify tokens and
JWKS with PyJWT::

    token = sign(claims, signer)
    verify(token, issuer=claims.iss, key={own["kid"]: own}.get) == claims  # own = jwk(public key)

Source: RFC 7515, 7517, 7518 (3.4), 7519, 7638.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from recourse.text import read_json
from recourse.valet.errors import BadTokenError, OutOfScopeError

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

Operation = Literal["upload", "download"]
Jwk = Mapping[str, str]
AUDIENCE = "urn:recourse:valet"
MAX_TOKEN_LENGTH = 4096
_SIZE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """The claims of a token.

    Attributes:
        iss: The issuer.
        sub: The owner of the key and of the object.
        operation: What the key is for.
        object: The object's name, relative to its owner.
        exp: When it expires, in seconds since 1970.
        iat: When it was issued, in seconds since 1970.
        jti: The key's id.
        aud: The audience, `AUDIENCE`.
    """

    iss: str
    sub: str
    operation: Operation
    object: str
    exp: int
    iat: int
    jti: str
    aud: str = AUDIENCE

    def json(self) -> dict[str, Any]:
        """The claims as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


class Signer(Protocol):
    """The holder of a private key on P-256."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key that verifies its signatures."""

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest, in DER."""


class LocalSigner:
    """A private key in memory, for tests."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()

    def sign(self, digest: bytes) -> bytes:
        """Sign a digest."""
        return self._key.sign(digest, ec.ECDSA(Prehashed(SHA256())))


class KmsSigner:
    """A private key that never leaves KMS.

    Args:
        kms: The client.
        key_id: The key's id or ARN; its spec is ECC_NIST_P256, its usage SIGN_VERIFY.
    """

    def __init__(self, kms: KMSClient, key_id: str) -> None:
        self._kms = kms
        self._key_id = key_id

    @cached_property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public key, requested once."""
        der = self._kms.get_public_key(KeyId=self._key_id)["PublicKey"]
        return cast("ec.EllipticCurvePublicKey", load_der_public_key(der))

    def sign(self, digest: bytes) -> bytes:
        """Have KMS sign a digest."""
        return self._kms.sign(
            KeyId=self._key_id,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )["Signature"]


def sign(claims: Claims, signer: Signer) -> str:
    """The token of these claims."""
    header = {"alg": "ES256", "kid": jwk(signer.public_key)["kid"], "typ": "JWT"}
    signed = f"{_pack(header)}.{_pack(claims.json())}"
    der = signer.sign(hashlib.sha256(signed.encode()).digest())
    r, s = decode_dss_signature(der)
    return f"{signed}.{_encode(r.to_bytes(_SIZE, 'big') + s.to_bytes(_SIZE, 'big'))}"


def verify(token: str, *, issuer: str, key: Callable[[str], Jwk | None]) -> Claims:
    """The claims of a token whose signature is valid. It may have expired: the caller checks that.

    Args:
        token: The token.
        issuer: The `iss` that it must have.
        key: Returns the public key of a key id; None if there is none.

    Raises:
        BadTokenError: It is not signed by a known key, or was changed.
        OutOfScopeError: It is signed, but not a valet key of this issuer.
    """
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or token.count(".") != 2:
        raise BadTokenError("the token is not a valid JWT", field="token")
    signed, _, signature = token.rpartition(".")
    header, payload = (_unpack(part) for part in signed.split("."))
    if header.get("alg") != "ES256" or not isinstance(header.get("kid"), str) or "crit" in header:
        raise BadTokenError("the token is not signed with ES256 by a key that it names")
    known = key(header["kid"])
    if known is None:
        raise BadTokenError("the token is signed by an unknown key")
    raw = _decode(signature)
    if len(raw) != 2 * _SIZE:
        raise BadTokenError("the token's signature is not a valid ES256 signature")
    r, s = int.from_bytes(raw[:_SIZE], "big"), int.from_bytes(raw[_SIZE:], "big")
    try:
        public_key(known).verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise BadTokenError("the token's signature does not match its content") from None
    try:
        claims = Claims(**payload)
    except TypeError:
        raise OutOfScopeError("the token is signed, but is not a valet key") from None
    if (claims.iss, claims.aud) != (issuer, AUDIENCE):
        raise OutOfScopeError(
            f"must be by {issuer!r} for {AUDIENCE!r}, got {claims.iss!r} for {claims.aud!r}"
        )
    return claims


def jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """A public key as a JWK; its key id is its thumbprint (RFC 7638)."""
    numbers = key.public_numbers()
    needed = {
        "crv": "P-256",
        "kty": "EC",
        "x": _encode(numbers.x.to_bytes(_SIZE, "big")),
        "y": _encode(numbers.y.to_bytes(_SIZE, "big")),
    }
    text = json.dumps(needed, separators=(",", ":"), sort_keys=True)
    kid = _encode(hashlib.sha256(text.encode()).digest())
    return {**needed, "alg": "ES256", "use": "sig", "kid": kid}


def public_key(known: Jwk) -> ec.EllipticCurvePublicKey:
    """The public key in a JWK."""
    x, y = (int.from_bytes(_decode(known[axis]), "big") for axis in "xy")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Strict: text that is not what its bytes encode to was changed, though it may decode alike."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), "-_", validate=True)
    except ValueError:
        raise BadTokenError("the token is not a valid JWT") from None
    if _encode(raw) != text:
        raise BadTokenError("the token is not a valid JWT")
    return raw


def _pack(content: Mapping[str, Any]) -> str:
    return _encode(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode())


def _unpack(text: str) -> dict[str, Any]:
    try:
        content = read_json(_decode(text))
    except ValueError:
        raise BadTokenError("the token is not a valid JWT") from None
    if not isinstance(content, dict):
        raise BadTokenError("the token is not a valid JWT")
    return content
