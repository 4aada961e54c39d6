"""What an HTTPS endpoint of your own needs to take pushes from SNS: no message is believed unread.

SNS signs what it posts (signature version 2: SHA-256 with RSA, over the fields in the order of
their names): https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. The
certificate is fetched from SNS's own address over TLS and kept. A message of another topic, a
message of long ago and a subscription that nobody asked for are refused.

An endpoint answers 200 to what `Receiver.take` returns, 403 to what it raises, and drops the ids of
messages that it has seen: SNS delivers at least once.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from recourse.errors import RecourseError

OLDEST = timedelta(hours=1)
"""How long ago a message may have been published: SNS tries for longer, but not in good order."""
LARGEST = 64 * 1024
_HOST = r"https://sns\.[a-z]{2}(?:-[a-z]+)+-\d\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE = re.compile(rf"{_HOST}/SimpleNotificationService-[0-9a-f]{{32}}\.pem", re.ASCII)
_CONFIRMATION = re.compile(rf"{_HOST}/\?[\w.=&%:+-]+", re.ASCII)
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}


class ForgedError(RecourseError, ValueError):
    """It is no message of SNS for us; the text says why."""


def fetch(url: str) -> bytes:
    """What is at an address of SNS; no redirect is followed.

    Raises:
        OSError: It cannot be had.
    """

    class Refuse(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    with urllib.request.build_opener(Refuse).open(url, timeout=5) as answer:
        found: bytes = answer.read(LARGEST)
    return found


class Receiver:
    """Takes what SNS posts to an endpoint.

    Args:
        topics: The ARNs of the topics that it is subscribed to.
        get: Fetches the certificate, and confirms a subscription by fetching its address.
    """

    def __init__(self, topics: Collection[str], get: Callable[[str], bytes] = fetch) -> None:
        self._topics = frozenset(topics)
        self._get = get
        self._key = cache(self._fetch_key)

    def take(self, body: bytes) -> str | None:
        """The message that a post brings; None where it was a subscription, which is confirmed.

        Args:
            body: The post's body as it came; its headers are not believed.

        Raises:
            ForgedError: It is not of SNS, not of our topics, or too old.
            OSError: The certificate or the confirmation cannot be had: answer 500, SNS tries again.
        """
        posted = self._verified(body)
        if posted["Type"] == "Notification":
            return str(posted["Message"])
        if not _CONFIRMATION.fullmatch(posted["SubscribeURL"]):
            raise ForgedError("a subscription is confirmed at SNS and nowhere else")
        self._get(posted["SubscribeURL"])
        return None

    def _verified(self, body: bytes) -> Mapping[str, str]:
        try:
            posted = json.loads(body)
            names = _SIGNED[posted["Type"]]
            signed = {name: posted[name] for name in names if name != "Subject" or name in posted}
            said = {name: posted[name] for name in ("SignatureVersion", "SigningCertURL")}
            signature = base64.b64decode(posted["Signature"], validate=True)
            age = datetime.now(UTC) - datetime.fromisoformat(posted["Timestamp"])
        except (ValueError, LookupError, TypeError, RecursionError) as problem:
            raise ForgedError(f"it is no message of SNS: {problem!r}") from problem
        if not all(isinstance(value, str) for value in (signed | said).values()):
            raise ForgedError("it is no message of SNS: a field is no text")
        if signed["TopicArn"] not in self._topics:
            raise ForgedError(f"{signed['TopicArn']} is none of our topics")
        if said["SignatureVersion"] != "2":
            raise ForgedError("signed by SHA-1: set the topic's SignatureVersion to 2")
        if not _CERTIFICATE.fullmatch(said["SigningCertURL"]):
            raise ForgedError("its certificate is not at SNS's address")
        if abs(age) > OLDEST:
            raise ForgedError(f"it was published {age} ago")
        text = "".join(f"{name}\n{value}\n" for name, value in signed.items())
        try:
            self._key(said["SigningCertURL"]).verify(signature, text.encode(), PKCS1v15(), SHA256())
        except InvalidSignature as problem:
            raise ForgedError("its signature is not SNS's") from problem
        return signed

    def _fetch_key(self, url: str) -> RSAPublicKey:
        try:
            certificate = load_pem_x509_certificate(self._get(url))
        except ValueError as problem:
            raise ForgedError("its certificate is none") from problem
        now = datetime.now(UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise ForgedError("its certificate is not valid now")
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise ForgedError("its certificate has no RSA key")
        return key
