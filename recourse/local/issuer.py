"""The local issuer of bearer tokens: what the API's JWT authorizer needs of Cognito."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from recourse.local import folder, private

AUDIENCE = "recourse"


def issuer_of(api_url: str) -> str:
    """The issuer's URL, under the API's own address, which serves its documents.

    It names loopback in one way, whichever its caller uses.
    """
    url = urlsplit(api_url)
    named = url._replace(netloc=url.netloc.replace("localhost", "127.0.0.1"))
    return f"{named.geturl().rstrip('/')}/_issuer"


class Issuer:
    """Signs tokens with RS256, as HTTP API authorizers require, by a key kept in `.local`."""

    def __init__(self, url: str, key: Path | None = None) -> None:
        """Read the key, or make one that only its owner can read."""
        self.url = url
        pem = private.made_once(key or folder() / "issuer-key.pem", _new_key)
        made = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(made, rsa.RSAPrivateKey)
        self._key = made
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(made.public_key()))
        self._kid = str(public["n"])[:16]
        self.jwks = {"keys": [public | {"kid": self._kid, "alg": "RS256", "use": "sig"}]}

    @property
    def discovery(self) -> dict[str, Any]:
        """The OpenID Connect discovery document, as far as an authorizer reads it."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks.json",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def token(self, subject: str, scope: str, *, lifetime: int = 3600) -> str:
        """A bearer token that expires after ``lifetime`` seconds; ``scope`` is space separated."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": scope,
            "iat": now,
            "exp": now + lifetime,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid})


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
