"""Seeds the services through the operators' API."""

import json
from pathlib import Path

import httpx


def seed(api: str, token: str, file: Path) -> int:
    """PUT each holding of the file that does not exist yet; returns how many were put.

    The file is {"flights": {"AI-202": {…the body of the PUT}}, …}. Existing holdings stay as they
    are: their counts and balances belong to the state that is kept between runs.
    """
    put = 0
    with httpx.Client(
        base_url=api, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    ) as client:
        for kind, things in json.loads(file.read_text()).items():
            for name, body in things.items():
                found = client.get(f"/{kind}/{name}")
                if found.status_code != 404:
                    found.raise_for_status()
                    continue
                client.put(f"/{kind}/{name}", json=body).raise_for_status()
                put += 1
    return put
