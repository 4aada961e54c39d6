import stat
from pathlib import Path

import jwt

from recourse.local.issuer import AUDIENCE, Issuer, issuer_of

URL = issuer_of("http://127.0.0.1:8000/")


def test_a_token_verifies_with_the_published_key(tmp_path: Path) -> None:
    issuer = Issuer(URL, tmp_path / "key.pem")
    token = issuer.token("asha", "sagas:read sagas:write")

    key = jwt.PyJWKSet.from_dict(issuer.jwks)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=URL)

    assert claims["sub"] == "asha"
    assert claims["scope"] == "sagas:read sagas:write"
    assert claims["exp"] - claims["iat"] == 3600


def test_the_discovery_document_leads_to_the_keys(tmp_path: Path) -> None:
    issuer = Issuer(URL, tmp_path / "key.pem")
    assert issuer.discovery["issuer"] == "http://127.0.0.1:8000/_issuer"
    assert issuer.discovery["jwks_uri"] == "http://127.0.0.1:8000/_issuer/jwks.json"


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key.pem"
    assert Issuer(URL, path).jwks == Issuer(URL, path).jwks
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "d" not in Issuer(URL, path).jwks["keys"][0]
