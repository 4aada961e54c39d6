"""Signatures by Standard Webhooks (https://www.standardwebhooks.com), version 1: symmetric."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
LENGTH = 32
"""Bytes of a secret; the scheme asks for 24 to 64."""


def new_secret() -> str:
    """A new secret, in the form in which its owner sees it once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(LENGTH)).decode()


def headers(signing_secrets: Iterable[str], event_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt, signed with every secret that is valid now.

    Args:
        signing_secrets: The secrets.
        event_id: The event's id, the same in every attempt. No caller can choose it: with a full
            stop in it another split of the signed text would be valid too.
        at: The time of this attempt, in seconds of the epoch.
        body: The body that is sent.
    """
    signed = f"{event_id}.{at}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{_signature(one, signed)}" for one in signing_secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
