"""An endpoint of one's own believes SNS alone, and only what is for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from recourse.feed.sns_push import ForgedError, Receiver

TOPIC = "arn:aws:sns:eu-west-1:123456789012:feed"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-{'0123456789abcdef' * 2}.pem"
CONFIRM = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
ORDER = ("Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn")


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(private: Any, *, days: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .sign(private, SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def sign(message: dict[str, Any], private: Any = None, hashed: Any = None) -> dict[str, Any]:
    """A message with the signature that SNS would put on it."""
    text = "".join(f"{n}\n{message[n]}\n" for n in (*ORDER, "Type") if n in message)
    made = (private or key()).sign(text.encode(), padding.PKCS1v15(), hashed or SHA256())
    return message | {"Signature": base64.b64encode(made).decode()}


def message(**other: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": '{"type": "recourse.order.started"}',
        "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    } | other


@pytest.fixture
def got() -> list[str]:
    """The addresses that were fetched."""
    return []


@pytest.fixture
def receiver(got: list[str]) -> Receiver:
    def get(url: str) -> bytes:
        got.append(url)
        return certificate(key()) if url == CERTIFICATE else b"<ConfirmSubscriptionResponse/>"

    return Receiver([TOPIC], get)


def test_a_message_of_sns_is_taken_and_its_certificate_kept(
    receiver: Receiver, got: list[str]
) -> None:
    for subject in ({}, {"Subject": "news"}):
        posted = json.dumps(sign(message(**subject))).encode()
        assert receiver.receive(posted) == '{"type": "recourse.order.started"}'
    assert got == [CERTIFICATE]


def test_a_subscription_is_confirmed_at_sns(receiver: Receiver, got: list[str]) -> None:
    asked = message(Type="SubscriptionConfirmation", SubscribeURL=CONFIRM, Token="2336412f37")
    assert receiver.receive(json.dumps(sign(asked)).encode()) is None
    assert got == [CERTIFICATE, CONFIRM]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/../?Action=ConfirmSubscription",
    ],
)
def test_a_subscription_is_confirmed_nowhere_else(
    receiver: Receiver, got: list[str], url: str
) -> None:
    asked = message(Type="SubscriptionConfirmation", SubscribeURL=url, Token="2336412f37")
    with pytest.raises(ForgedError, match="confirmed at an address of SNS"):
        receiver.receive(json.dumps(sign(asked)).encode())
    assert got == [CERTIFICATE]


def old(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda: sign(message()) | {"Message": "another"}, "signature"),
        (lambda: sign(message()) | {"Subject": "added"}, "signature"),
        (lambda: sign(message(), rsa.generate_private_key(65537, 2048)), "signature"),
        (lambda: sign(message(), hashed=SHA1()), "signature"),
        (lambda: sign(message(SignatureVersion="1"), hashed=SHA1()), "SignatureVersion must be 2"),
        (lambda: sign(message(TopicArn=TOPIC + "2")), "is not a topic of this receiver"),
        (lambda: sign(message(Timestamp=old(1.1))), "published"),
        (lambda: sign(message(Timestamp=old(-1.1))), "published"),
        (lambda: sign(message(SigningCertURL=CERTIFICATE.replace("https", "http"))), "address"),
        (lambda: sign(message(SigningCertURL="https://evil.example/x.pem")), "address"),
        (lambda: sign(message(SigningCertURL=CERTIFICATE + "?x")), "address"),
        (lambda: sign(message(SigningCertURL=CERTIFICATE.replace("sns.", "s3."))), "address"),
        (
            lambda: sign(message(Type="Notification")) | {"Type": "UnsubscribeConfirmation"},
            "not a m",
        ),
        (lambda: sign(message()) | {"Signature": "%"}, "not a message"),
        (lambda: sign(message()) | {"Message": None}, "not a text"),
        (lambda: sign(message(Timestamp="2026-11-24T10:00:00")), "not a message"),
        (lambda: [], "not a message"),
        (lambda: {}, "not a message"),
    ],
)
def test_what_is_forged_is_refused(receiver: Receiver, forge: Callable[[], Any], why: str) -> None:
    with pytest.raises(ForgedError, match=why):
        receiver.receive(json.dumps(forge()).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null", b"[" * 10_000])
def test_what_cannot_be_read_is_refused(receiver: Receiver, body: bytes) -> None:
    with pytest.raises(ForgedError):
        receiver.receive(body)


@pytest.mark.parametrize(
    "pem",
    [
        lambda: b"no certificate",
        lambda: certificate(key(), days=-1),
        lambda: certificate(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_a_certificate_that_is_none_is_refused(pem: Callable[[], bytes]) -> None:
    with pytest.raises(ForgedError, match="certificate"):
        Receiver([TOPIC], lambda _: pem()).receive(json.dumps(sign(message())).encode())


@pytest.mark.parametrize("field", ["Message", "TopicArn", "Subject", "Other"])
def test_half_of_a_surrogate_pair_is_no_message_of_sns(receiver: Receiver, field: str) -> None:
    posted = json.dumps(sign(message()) | {field: "\ud800"}).encode()
    with pytest.raises(ForgedError, match="half of a surrogate pair"):
        receiver.receive(posted)
