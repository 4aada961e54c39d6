"""The local issuer of bearer tokens: what the API's JWT authorizer needs of Cognito."""

import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from recourse.functions.users import scopes
from recourse.local import folder, private
from recourse.local.passcode import Passcode, new_passcode

AUDIENCE = "recourse"
CLIENT = "recourse-cli"
"""The client of `recourse login`, which has a secret."""
CONSOLE = "recourse-console"
"""The client of the console: a page, which cannot keep a secret; its user has the passcode."""


def issuer_of(api_url: str) -> str:
    """The issuer's URL, under the API's own address, which serves its documents.

    It names loopback in one way, whichever its caller uses.
    """
    url = urlsplit(api_url)
    named = url._replace(netloc=url.netloc.replace("localhost", "127.0.0.1"))
    return f"{named.geturl().rstrip('/')}/_issuer"


class Issuer:
    """Signs tokens with RS256, as HTTP API authorizers require, by a key kept in `.local`.

    Attributes:
        url: Its URL.
        jwks: Its public key.
        client_secret: The secret of the client `CLIENT`, which whoever may read `.local` has.
        passcode: What the owner signs in to the console with, from a file there too.
        own: The scopes of the app's own, as `recourse.functions.users` has them.
    """

    def __init__(self, url: str, key: Path | None = None, *, own: Sequence[str] = ()) -> None:
        """Read the key, or make one that only its owner can read."""
        self.url = url
        self.own = own
        file = key or folder() / "issuer-key.pem"
        pem = private.made_once(file, _new_key)
        secret = private.made_once(file.with_name("client-secret"), _new_secret)
        self.client_secret = secret.decode()
        passcode = private.made_once(file.with_name("console-passcode"), new_passcode)
        self.passcode = Passcode(passcode.decode())
        made = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(made, rsa.RSAPrivateKey)
        self._key = made
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(made.public_key()))
        self._kid = str(public["n"])[:16]
        self.jwks = {"keys": [public | {"kid": self._kid, "alg": "RS256", "use": "sig"}]}

    @property
    def discovery(self) -> dict[str, Any]:
        """The OpenID Connect discovery document, as far as authorizers and clients read it."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks.json",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
            "authorization_response_iss_parameter_supported": True,
            "scopes_supported": list(scopes(self.own)),
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


def _new_secret() -> bytes:
    return secrets.token_urlsafe(32).encode()


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
