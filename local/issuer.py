"""The local issuer of bearer tokens: the part of Cognito that the API's JWT authorizer needs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local import LOCAL

AUDIENCE = "recourse"
KEY = LOCAL / "issuer-key.pem"


def issuer_of(api_url: str) -> str:
    """The issuer's name, under the API's own address, where its documents are too."""
    return f"{api_url.rstrip('/')}/_issuer"


class Issuer:
    """Signs tokens by RS256, which HTTP API authorizers take, with a key that stays here."""

    def __init__(self, url: str, key: Path = KEY) -> None:
        """Read the key, or make one for its owner's eyes only."""
        self.url = url
        if not key.exists():
            _write_new_key(key)
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        assert isinstance(private, rsa.RSAPrivateKey)
        self._key = private
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
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
        """A bearer token, good for ``lifetime`` seconds; ``scope`` is space separated."""
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


def _write_new_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a second process that starts now must not read half a key.
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_bytes(pem)
    draft.replace(path)
