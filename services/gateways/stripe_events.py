"""Stripe's webhooks: whether one is from Stripe, and which payment it is about.

By https://docs.stripe.com/webhooks/signature: `Stripe-Signature: t=…,v1=…`, an HMAC with SHA-256 of
the moment, a dot and the body as it came; several `v1` while a secret is being rolled.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

TOLERANCE = 300
"""By how many seconds the moment of a signature may differ from now."""
PREFIX = "pi_"


class UnsignedError(Exception):
    """A message is not signed by Stripe, or was long ago."""


def verify(header: str, body: bytes, secret: str, now: float) -> None:
    """Check that Stripe has signed a body, and not long ago.

    Raises:
        UnsignedError: It has not.
    """
    fields = [field.strip().partition("=") for field in header.split(",")]
    moments = [value for name, _, value in fields if name == "t"]
    if not secret or len(moments) != 1 or not (moments[0].isascii() and moments[0].isdecimal()):
        raise UnsignedError("it has no signature of one moment")
    signed = hmac.new(secret.encode(), moments[0].encode() + b"." + body, hashlib.sha256)
    wanted = signed.hexdigest().encode()
    given = [value.encode() for name, _, value in fields if name == "v1"]
    if not any([hmac.compare_digest(wanted, one) for one in given]):
        raise UnsignedError("its signature is another")
    if len(moments[0]) > 12 or abs(now - int(moments[0])) > TOLERANCE:
        raise UnsignedError("it was signed long ago")


def payment_of(body: bytes) -> str | None:
    """The id of the payment that an event is about; None if it is about none.

    Raises:
        ValueError: It is no event.
    """
    said: Any = json.loads(body)
    try:
        thing = said["data"]["object"]
        found = thing["id"] if thing["object"] == "payment_intent" else thing.get("payment_intent")
    except (AttributeError, KeyError, TypeError) as problem:
        raise ValueError("it must be an event with an object") from problem
    return found if isinstance(found, str) and found.startswith(PREFIX) else None
