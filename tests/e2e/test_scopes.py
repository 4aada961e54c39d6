"""Where issuers put scopes is nobody's concern: `scope` or `scp`, as text or as a list."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx
import jwt
import pytest

from recourse.local.cloud import LocalCloud
from recourse.local.issuer import AUDIENCE
from tests.patience import PATIENCE

WANTED = ["sagas:read", "webhooks:write"]


def bearer(cloud: LocalCloud, **claims: Any) -> str:
    """What an issuer would sign that puts scopes so."""
    now = int(time.time())
    usual = {"iss": cloud.issuer.url, "aud": AUDIENCE, "sub": uuid.uuid4().hex, "exp": now + 600}
    made = jwt.encode(
        usual | claims, cloud.issuer._key, algorithm="RS256", headers={"kid": cloud.issuer._kid}
    )
    return f"Bearer {made}"


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": " ".join(WANTED)},
        {"scope": WANTED},
        {"scp": " ".join(WANTED)},
        {"scp": WANTED},
        {"scope": "", "scp": WANTED},
        {"scope": WANTED[:1], "scp": WANTED[1:]},
    ],
    ids=["scope", "scope as a list", "scp", "scp as a list", "no scope but scp", "half in each"],
)
def test_a_token_permits_the_same_wherever_its_scopes_are(
    cloud: LocalCloud, claims: dict[str, Any]
) -> None:
    headers = {"Authorization": bearer(cloud, **claims)}
    with httpx.Client(
        base_url=cloud.api_url, headers=headers, timeout=PATIENCE, trust_env=False
    ) as http:
        assert http.get("/sagas").status_code == 200
        made = http.post("/webhooks", json={"url": "http://127.0.0.1:9/in"})
        assert made.status_code == 201, made.text
        assert http.delete(f"/webhooks/{made.json()['webhook_id']}").status_code == 204
        with http.stream("GET", "/events/stream") as stream:
            assert stream.status_code == 200
        stock = {"total": 1, "price": {"amount": 1, "currency": "INR"}}
        refused = http.put("/flights/one", json=stock)
        assert refused.status_code == 403, refused.text
        key = http.post("/valet-keys", json={"operation": "download", "object": "a"})
        assert key.status_code == 403, key.text


def test_a_token_without_scopes_permits_nothing(cloud: LocalCloud) -> None:
    nothing: list[dict[str, Any]] = [
        {},
        {"scp": []},
        {"scope": [], "scp": ""},
        {"scp": {"sagas:read": True}},
    ]
    for claims in nothing:
        headers = {"Authorization": bearer(cloud, **claims)}
        for path in ("/sagas", "/events/stream"):
            answer = httpx.get(
                cloud.api_url + path, headers=headers, timeout=PATIENCE, trust_env=False
            )
            assert answer.status_code == 403, (claims, path, answer.text)
