"""Bearer tokens where no gateway looks: only the issuer's own, for us, and in their time."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from recourse.functions.bearer import (
    CLOCK_SKEW,
    UNKNOWN_KEY_INTERVAL,
    Bearers,
    ForbiddenError,
    IssuerError,
    UnauthorizedError,
    in_header,
)
from recourse.local.issuer import Issuer

URL = "https://issuer.example"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(URL, tmp_path_factory.mktemp("issuer") / "key.pem")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(URL, tmp_path_factory.mktemp("stranger") / "key.pem")


@pytest.fixture
def bearers(issuer: Issuer) -> Bearers:
    return Bearers(URL, ["recourse", "another"], keys=lambda: issuer.jwks)


def signed(issuer: Issuer, *, but: tuple[str, ...] = (), **claims: Any) -> str:
    now = int(time.time())
    usual = {"iss": URL, "aud": "recourse", "sub": "asha", "scope": "sagas:read", "exp": now + 60}
    body = {name: value for name, value in (usual | claims).items() if name not in but}
    return jwt.encode(body, issuer._key, algorithm="RS256", headers={"kid": issuer._kid})


def test_a_token_of_the_issuer_says_who_calls_and_until_when(
    issuer: Issuer, bearers: Bearers
) -> None:
    ends = int(time.time()) + 60
    who = bearers.verify(signed(issuer, scope="sagas:read valet:issue", exp=ends), "sagas:read")
    assert (who.subject, who.until) == ("asha", ends)
    assert who.scopes == {"sagas:read", "valet:issue"}


def test_cognitos_access_tokens_name_a_client_and_prefix_their_scopes(issuer: Issuer) -> None:
    bearers = Bearers(URL, ["client-1"], prefix="recourse/", keys=lambda: issuer.jwks)
    told = {"client_id": "client-1", "token_use": "access", "scope": "recourse/sagas:read"}
    who = bearers.verify(signed(issuer, but=("aud",), **told), "sagas:read")
    assert who.scopes == {"sagas:read"}
    with pytest.raises(UnauthorizedError, match="another audience"):
        bearers.verify(signed(issuer, but=("aud",), client_id="client-2"), "sagas:read")


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": ["sagas:read", "valet:issue"]},
        {"scope": "[sagas:read valet:issue]"},
        {"scope": None, "scp": "sagas:read valet:issue"},
        {"scp": ["sagas:read", "valet:issue"], "but": ("scope",)},
        {"scope": "valet:issue", "scp": ["sagas:read", 7, None]},
    ],
    ids=["a list", "a list in brackets", "scp", "scp as a list", "both"],
)
def test_scopes_may_be_in_either_claim_as_text_or_as_a_list(
    issuer: Issuer, bearers: Bearers, claims: dict[str, Any]
) -> None:
    who = bearers.verify(signed(issuer, **claims), "sagas:read")
    assert who.scopes == {"sagas:read", "valet:issue"}
    with pytest.raises(ForbiddenError):
        bearers.verify(signed(issuer, **claims), "sagas:write")


@pytest.mark.parametrize("claim", [7, True, {"sagas:read": 1}, [["sagas:read"]], "", []])
@pytest.mark.parametrize("name", ["scope", "scp"])
def test_a_claim_of_another_shape_has_no_scopes(
    issuer: Issuer, bearers: Bearers, name: str, claim: Any
) -> None:
    token = signed(issuer, **({"scope": "sagas:write"} | {name: claim}))
    with pytest.raises(ForbiddenError):
        bearers.verify(token, "sagas:read")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "others"},
        {"aud": ["others", "more"]},
        {"aud": "others", "client_id": "recourse"},
        {"iss": "https://other.example"},
        {"exp": int(time.time()) - CLOCK_SKEW - 5},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"but": ("exp",)},
        {"but": ("sub",)},
        {"but": ("iss",)},
        {"but": ("aud",)},
    ],
    ids=lambda claims: "-".join(claims),
)
def test_a_token_that_is_not_for_us_or_not_now_does_not_count(
    issuer: Issuer, bearers: Bearers, claims: dict[str, Any]
) -> None:
    with pytest.raises(UnauthorizedError):
        bearers.verify(signed(issuer, **claims), "sagas:read")


def forged(issuer: Issuer, stranger: Issuer) -> dict[str, str]:
    """Tokens that look right, and are not."""
    claims = jwt.decode(signed(issuer), options={"verify_signature": False})
    public = issuer._key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header, body, signature = signed(issuer).split(".")
    named = {"kid": issuer._kid}
    # PyJWT itself refuses to sign by a public key, so that one is made by hand.
    by_public_key = jwt.api_jws.PyJWS(algorithms=["HS256"])
    by_public_key._algorithms["HS256"].prepare_key = lambda key: key  # type: ignore[method-assign]
    payload = jwt.utils.base64url_decode(body)
    return {
        "signed by a stranger under the issuer's name for its key": jwt.encode(
            claims, stranger._key, algorithm="RS256", headers=named
        ),
        "signed by a stranger's key": signed(stranger),
        "not signed": jwt.encode(claims, "", algorithm="none", headers=named),
        "the public key taken for a secret": by_public_key.encode(
            payload, public, algorithm="HS256", headers=named
        ),
        "another algorithm of the same key": jwt.encode(
            claims, issuer._key, algorithm="PS256", headers=named
        ),
        "no key named": jwt.encode(claims, issuer._key, algorithm="RS256"),
        "tampered": f"{header}.{body[:-2]}AA.{signature}",
        "no signature": f"{header}.{body}.",
        "no token": "garbage",
    }


def test_a_forged_token_does_not_count(issuer: Issuer, stranger: Issuer, bearers: Bearers) -> None:
    for how, token in forged(issuer, stranger).items():
        with pytest.raises(UnauthorizedError):
            pytest.fail(f"{how}: {bearers.verify(token, 'sagas:read')}")


def test_no_token_and_no_scope_are_told_apart(issuer: Issuer, bearers: Bearers) -> None:
    for none in (None, ""):
        with pytest.raises(UnauthorizedError, match="send a bearer token"):
            bearers.verify(none, "sagas:read")
    with pytest.raises(ForbiddenError):
        bearers.verify(signed(issuer, scope="sagas:write"), "sagas:read")
    assert bearers.verify(signed(issuer, scope="operator"), "sagas:read").is_operator


def test_a_symmetric_key_among_the_issuers_is_left_out(issuer: Issuer) -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"
    jwks = {"keys": [*issuer.jwks["keys"], {"kty": "oct", "k": secret, "kid": "shared"}]}
    bearers = Bearers(URL, ["recourse"], keys=lambda: jwks)
    token = jwt.encode({"sub": "asha"}, issuer._key, algorithm="RS256", headers={"kid": "shared"})
    with pytest.raises(UnauthorizedError, match="a key that its issuer does not have"):
        bearers.verify(token, "sagas:read")


def test_keys_are_kept_and_an_unknown_one_is_asked_for_once_in_a_while(
    issuer: Issuer, stranger: Issuer
) -> None:
    asked, now = [], [0.0]
    known = [stranger.jwks]

    def keys() -> dict[str, Any]:
        asked.append(now[0])
        return known[0]

    bearers = Bearers(URL, ["recourse"], keys=keys, clock=lambda: now[0])
    for _ in range(3):
        bearers.verify(signed(stranger), "sagas:read")
        with pytest.raises(UnauthorizedError):
            bearers.verify(signed(issuer), "sagas:read")
    assert asked == [0.0]
    known[0] = issuer.jwks
    now[0] = UNKNOWN_KEY_INTERVAL + 1.0
    bearers.verify(signed(issuer), "sagas:read")
    assert len(asked) == 2


def test_an_issuer_that_does_not_answer_is_our_trouble_unless_its_keys_are_known(
    issuer: Issuer,
) -> None:
    now = [0.0]
    answers: list[Callable[[], dict[str, Any]]] = [lambda: issuer.jwks]

    def down() -> dict[str, Any]:
        raise OSError("no route")

    bearers = Bearers(URL, ["recourse"], keys=lambda: answers[0](), clock=lambda: now[0])
    answers[0] = down
    with pytest.raises(IssuerError):
        bearers.verify(signed(issuer), "sagas:read")
    answers[0] = lambda: issuer.jwks
    bearers.verify(signed(issuer), "sagas:read")
    answers[0] = down
    now[0] = 1e6
    bearers.verify(signed(issuer), "sagas:read")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("", None),
    ],
)
def test_the_header_has_a_scheme_and_a_token(header: str, token: str | None) -> None:
    assert in_header(header) == token


@pytest.mark.parametrize("subject", ["", "x" * 257, "x" * 2046, "a\u202eb", "\u3164"])
def test_a_subject_that_cannot_own_anything_is_not_let_in(
    issuer: Issuer, bearers: Bearers, subject: str
) -> None:
    with pytest.raises(UnauthorizedError, match="subject must"):
        bearers.verify(signed(issuer, sub=subject), "sagas:read")


def test_a_header_nested_without_end_is_not_a_token(bearers: Bearers) -> None:
    header = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 50_000).rstrip(b"=").decode()
    with pytest.raises(UnauthorizedError, match="not valid"):
        bearers.verify(f"{header}.e30.e30", "sagas:read")
