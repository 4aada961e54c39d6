"""Tokens: PyJWT verifies them from the JWKS alone, and nothing that was changed is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from recourse.valet import token as tokens
from recourse.valet.errors import BadTokenError, OutOfScopeError
from recourse.valet.token import AUDIENCE, Claims, KmsSigner, LocalSigner, jwk, sign, verify

ISSUER = "urn:recourse:dev"
SIGNER = LocalSigner(ec.generate_private_key(ec.SECP256R1()))
OTHER = LocalSigner(ec.generate_private_key(ec.SECP256R1()))
CLAIMS = Claims(
    iss=ISSUER,
    sub="asha",
    operation="upload",
    object="passports/é.pdf",
    exp=4_000_000_000,
    iat=1_700_000_000,
    jti="9f" * 16,
)
TOKEN = sign(CLAIMS, SIGNER)


def known(*signers: LocalSigner) -> Any:
    return {(one := jwk(signer.public_key))["kid"]: one for signer in signers or (SIGNER,)}.get


def test_pyjwt_verifies_a_token_from_the_jwks_alone() -> None:
    jwks = jwt.PyJWKSet.from_dict({"keys": [jwk(OTHER.public_key), jwk(SIGNER.public_key)]})
    kid = jwt.get_unverified_header(TOKEN)["kid"]
    found = jwt.decode(TOKEN, jwks[kid].key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    assert found == CLAIMS.json()


def test_a_token_gives_back_its_claims() -> None:
    assert verify(TOKEN, issuer=ISSUER, key=known()) == CLAIMS


def test_after_a_rotation_older_tokens_are_still_good() -> None:
    both = known(SIGNER, OTHER)
    assert verify(TOKEN, issuer=ISSUER, key=both) == CLAIMS
    assert verify(sign(CLAIMS, OTHER), issuer=ISSUER, key=both) == CLAIMS


def test_kms_is_given_a_digest_and_its_der_becomes_raw() -> None:
    asked: list[dict[str, Any]] = []

    class Kms:
        def get_public_key(self, **of: Any) -> Any:
            der = SIGNER.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return {"PublicKey": der}

        def sign(self, **of: Any) -> Any:
            asked.append(of)
            return {"Signature": SIGNER.sign(of["Message"])}

    token = sign(CLAIMS, KmsSigner(Kms(), "key-1"))  # type: ignore[arg-type]
    assert verify(token, issuer=ISSUER, key=known()) == CLAIMS
    (one,) = asked
    assert one == {
        "KeyId": "key-1",
        "Message": hashlib.sha256(token.rpartition(".")[0].encode()).digest(),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("AZaz09-_.=+/ é"))
def test_no_character_of_a_token_can_be_changed(at: int, by: str) -> None:
    changed = TOKEN[:at] + by + TOKEN[at + 1 :]
    if changed != TOKEN:
        with pytest.raises(BadTokenError):
            verify(changed, issuer=ISSUER, key=known())


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=100).map(
            lambda raw: base64.urlsafe_b64encode(raw).decode() + ".e30.e30"
        ),
    )
)
def test_whatever_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(BadTokenError):
        verify(text, issuer=ISSUER, key=known())


def forged(header: dict[str, Any], claims: Any = None, signature: bytes | None = None) -> str:
    signed = f"{tokens._pack(header)}.{tokens._pack(claims or CLAIMS.json())}"
    raw = signature if signature is not None else b"\0" * 64
    return f"{signed}.{tokens._encode(raw)}"


KID = jwk(SIGNER.public_key)["kid"]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": KID},
        {"alg": "HS256", "kid": KID},
        {"alg": "ES256"},
        {"alg": "ES256", "kid": "other"},
        {"alg": "ES256", "kid": ["x"]},
        {"alg": "ES256", "kid": KID, "crit": ["exp"]},
        {"alg": "ES256", "kid": KID, "jwk": jwk(OTHER.public_key)},
    ],
)
def test_an_unsigned_or_oddly_signed_token_is_refused(header: dict[str, Any]) -> None:
    for signature in (b"", b"\0" * 64, b"\xff" * 64):
        with pytest.raises(BadTokenError):
            verify(forged(header, signature=signature), issuer=ISSUER, key=known())


def test_a_public_key_used_as_a_secret_signs_nothing() -> None:
    signed = f"{tokens._pack({'alg': 'HS256', 'kid': KID})}.{tokens._pack(CLAIMS.json())}"
    secret = json.dumps(jwk(SIGNER.public_key)).encode()
    mac = hmac.digest(secret, signed.encode(), "sha256")
    with pytest.raises(BadTokenError):
        verify(f"{signed}.{tokens._encode(mac)}", issuer=ISSUER, key=known())


def test_anothers_signature_is_refused() -> None:
    with pytest.raises(BadTokenError):
        verify(sign(CLAIMS, OTHER), issuer=ISSUER, key=known())


@pytest.mark.parametrize(
    "claims", [replace(CLAIMS, iss="urn:recourse:prod"), replace(CLAIMS, aud="somebody")]
)
def test_a_token_for_somebody_else_is_out_of_scope(claims: Claims) -> None:
    with pytest.raises(OutOfScopeError):
        verify(sign(claims, SIGNER), issuer=ISSUER, key=known())
