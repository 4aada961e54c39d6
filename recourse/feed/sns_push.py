"""What an HTTPS endpoint of your own needs to receive pushes from SNS: every message is verified.

SNS signs what it posts (signature version 2: SHA-256 with RSA, over the fields in the order of
their names): https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. The
certificate is fetched from SNS's own address over TLS and cached. A message of another topic, an
old message and a subscription to another topic are refused.

An endpoint answers 200 where `Receiver.receive` returns and 403 where it raises `ForgedError`, and
skips events whose ids it has seen: SNS delivers at least once.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from recourse.errors import RecourseError
from recourse.store import fetching
from recourse.text import read_json

MAX_AGE = timedelta(hours=1)
"""How long ago a message may have been published; SNS retries for longer, but out of order."""
MAX_ANSWER_BYTES = 64 * 1024
"""Bytes that are read of a certificate or of the answer to a confirmation."""
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
    """It is not a message of SNS for this receiver; the text says why."""


def fetch(url: str) -> bytes:
    """Fetch what is at an address of SNS; no redirect is followed.

    Raises:
        OSError: It cannot be fetched.
    """
    return fetching.fetch(url, MAX_ANSWER_BYTES, redirects=False)


class Receiver:
    """Receives what SNS posts to an endpoint.

    Usage::

        receiver = Receiver(["arn:aws:sns:eu-west-1:123456789012:Recourse-prod-Events-Feed…"])
        message = receiver.receive(body)

    Args:
        topics: The ARNs of the topics that it is subscribed to.
        get: Fetches the certificate, and confirms a subscription by fetching its address.
    """

    def __init__(self, topics: Collection[str], get: Callable[[str], bytes] = fetch) -> None:
        self._topics = frozenset(topics)
        self._get = get
        self._key = cache(self._fetch_key)

    def receive(self, body: bytes) -> str | None:
        """The message of a post; None where it was a subscription, which is then confirmed.

        Args:
            body: The body of the post, unchanged; its headers are not trusted.

        Raises:
            ForgedError: It is not of SNS, not of one of the topics, or too old.
            OSError: The certificate or the confirmation cannot be fetched: answer 500, SNS retries.
        """
        posted = self._verified(body)
        if posted["Type"] == "Notification":
            return str(posted["Message"])
        if not _CONFIRMATION.fullmatch(posted["SubscribeURL"]):
            raise ForgedError("a subscription must be confirmed at an address of SNS")
        self._get(posted["SubscribeURL"])
        return None

    def _verified(self, body: bytes) -> Mapping[str, str]:
        try:
            posted = read_json(body)
            names = _SIGNED[posted["Type"]]
            signed = {name: posted[name] for name in names if name != "Subject" or name in posted}
            signing = {name: posted[name] for name in ("SignatureVersion", "SigningCertURL")}
            signature = base64.b64decode(posted["Signature"], validate=True)
            age = datetime.now(UTC) - datetime.fromisoformat(posted["Timestamp"])
        except (ValueError, LookupError, TypeError, OverflowError) as problem:
            raise ForgedError(f"it is not a message of SNS: {problem!r}") from problem
        if not all(isinstance(value, str) for value in (signed | signing).values()):
            raise ForgedError("it is not a message of SNS: a field is not a text")
        if signed["TopicArn"] not in self._topics:
            raise ForgedError(f"{signed['TopicArn']} is not a topic of this receiver")
        if (version := signing["SignatureVersion"]) != "2":
            raise ForgedError(f"the topic's SignatureVersion must be 2 (SHA-256), got {version:.8}")
        if not _CERTIFICATE.fullmatch(signing["SigningCertURL"]):
            raise ForgedError("its certificate must be at an address of SNS")
        if abs(age) > MAX_AGE:
            raise ForgedError(f"it must have been published at most {MAX_AGE} ago, got {age}")
        text = "".join(f"{name}\n{value}\n" for name, value in signed.items())
        try:
            self._key(signing["SigningCertURL"]).verify(
                signature, text.encode(), PKCS1v15(), SHA256()
            )
        except InvalidSignature as problem:
            raise ForgedError("its signature is not SNS's") from problem
        return signed

    def _fetch_key(self, url: str) -> RSAPublicKey:
        try:
            certificate = load_pem_x509_certificate(self._get(url))
        except ValueError as problem:
            raise ForgedError("its certificate is not a valid certificate") from problem
        now = datetime.now(UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise ForgedError("its certificate is not valid now")
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise ForgedError("its certificate has no RSA key")
        return key
