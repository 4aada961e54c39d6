"""Stripe's webhooks: signed, of any order and number, and never believed."""

from __future__ import annotations

import itertools
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas import payments
from recourse.store.aws import client
from services.gateways.stripe_events import TOLERANCE, UnsignedError, payment_of, verify
from tests.ground import Ground
from tests.integration.test_cards import ORDER
from tests.integration.test_stripe import SAGA, striped
from tests.stripe import provider

SECRET = "whsec_" + "test"
numbers = itertools.count()
NOW = 1_790_000_000


def signed(body: bytes, secret: str = SECRET, at: float = NOW) -> str:
    return provider.signature(body, secret, at)


@pytest.mark.parametrize(
    ("header", "now"),
    [
        (signed(b"{}"), NOW),
        (signed(b"{}"), NOW + TOLERANCE),
        (signed(b"{}"), NOW - TOLERANCE),
        # While a secret is being rolled there is one of each; other schemes are passed over.
        (signed(b"{}", "whsec_old") + "," + signed(b"{}").partition(",")[2] + ",v0=1", NOW),
    ],
)
def test_what_stripe_has_signed_is_taken(header: str, now: float) -> None:
    verify(header, b"{}", SECRET, now)


@pytest.mark.parametrize(
    ("header", "body", "secret", "now"),
    [
        (signed(b"{}"), b"{ }", SECRET, NOW),
        (signed(b"{}"), b"{}", "whsec_other", NOW),
        (signed(b"{}", ""), b"{}", "", NOW),
        (signed(b"{}"), b"{}", SECRET, NOW + TOLERANCE + 1),
        (signed(b"{}"), b"{}", SECRET, NOW - TOLERANCE - 1),
        (signed(b"{}").replace("v1=", "v0="), b"{}", SECRET, NOW),
        (signed(b"{}").replace(f"t={NOW}", f"t={NOW + 1}"), b"{}", SECRET, NOW),
        (f"t={NOW}," + signed(b"{}"), b"{}", SECRET, NOW),
        (signed(b"{}").replace("t=", "t=-"), b"{}", SECRET, NOW),
        (f"t={NOW},v1=", b"{}", SECRET, NOW),
        (f"t={NOW},v1=é", b"{}", SECRET, NOW),
        ("t=²,v1=1", b"{}", SECRET, NOW),
        ("t=" + "9" * 5000 + ",v1=1", b"{}", SECRET, NOW),
        ("", b"{}", SECRET, NOW),
        (",=,", b"{}", SECRET, NOW),
    ],
)
def test_nothing_else_is(header: str, body: bytes, secret: str, now: float) -> None:
    with pytest.raises(UnsignedError):
        verify(header, body, secret, now)


@given(st.text(), st.binary())
def test_no_header_is_an_error_of_another_kind(header: str, body: bytes) -> None:
    with pytest.raises(UnsignedError):
        verify(header, body, SECRET, NOW)


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_a_body_is_about_a_payment_or_none_or_is_no_event(body: bytes) -> None:
    try:
        assert payment_of(body) is None
    except ValueError:
        return


class Paid:
    """A ground with a card order, and the endpoint of Stripe's webhooks."""

    def __init__(self, ground: Ground, books: provider.Books, saga: str) -> None:
        self.ground, self.books, self.saga = ground, books, saga
        (self.intent,) = books.of_saga(saga)
        self.alarms: list[str] = []

    def post(self, body: bytes, header: str | None = None, **more: Any) -> int:
        header = provider.signature(body, SECRET) if header is None else header
        event = {"headers": {"stripe-signature": header}, "body": body.decode(), **more}
        status: int = payments.handler(event, None)["statusCode"]
        return status

    def told(self, kind: str = "charge.refunded", **about: Any) -> int:
        thing = {"id": "ch_1", "object": "charge", "payment_intent": self.intent["id"]} | about
        return self.post(provider.event(kind, thing))

    @property
    def row(self) -> dict[str, Any]:
        found = self.ground.row("cards", f"payment#{self.saga}")
        assert found is not None
        return found

    def refund(self) -> None:
        """Somebody refunds it by hand."""
        self.books.answer("refund", "/v1/refunds", {"payment_intent": self.intent["id"]}, "")


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[Ground, provider.Books, str]]:
    """A ground whose payments are Stripe's, and the topic of its alarms."""
    with striped() as (ground, books):
        keys = {"api_key": provider.KEY, "webhook_secret": SECRET}
        manager = client("secretsmanager")
        manager.put_secret_value(SecretId="stripe", SecretString=json.dumps(keys))
        yield ground, books, client("sns").create_topic(Name="alarms")["TopicArn"]


@pytest.fixture
def paid(
    there: tuple[Ground, provider.Books, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Paid]:
    ground, books, topic = there
    monkeypatch.setenv("ALARMS_TOPIC_ARN", topic)
    monkeypatch.setenv("TABLE_NAME", "cards")
    for kept in (payments.secret, payments.stripe, payments.table):
        kept.cache_clear()
    saga = ground.start(SAGA.name, ORDER, key=f"k-{next(numbers)}", coordination="orchestration")
    ground.settle()
    made = Paid(ground, books, saga)
    sns = client("sns")
    publish = sns.publish

    def note(**asked: Any) -> Any:
        made.alarms.append(asked["Message"])
        return publish(**asked)

    monkeypatch.setattr(sns, "publish", note)
    yield made
    books.keys = {provider.KEY}
    assert books.wrong == []


def test_books_that_agree_are_said_nothing_of(paid: Paid) -> None:
    for _ in range(2):
        assert paid.told("payment_intent.succeeded", **paid.intent) == 204
    assert paid.alarms == [] and "disagreement" not in paid.row
    assert paid.row["status"] == "CAPTURED"


def test_an_event_is_not_believed(paid: Paid) -> None:
    assert paid.told("payment_intent.canceled", **paid.intent | {"status": "canceled"}) == 204
    assert paid.alarms == [] and paid.row["status"] == "CAPTURED"


def test_a_refund_by_hand_is_told_to_an_operator_once(paid: Paid) -> None:
    paid.refund()
    for _ in range(3):
        assert paid.told() == 204
    (alarm,) = paid.alarms
    assert paid.saga in alarm and "says CAPTURED, and the provider REFUNDED" in alarm
    assert paid.row["status"] == "CAPTURED", "the row still says what the saga did"


def test_a_refund_that_fails_after_the_saga_has_ended_is_told(paid: Paid) -> None:
    paid.refund()
    paid.told()
    for one in paid.books.refunds.values():
        one["status"] = "failed"
    assert paid.told("refund.failed") == 204
    assert len(paid.alarms) == 1 and paid.row["disagreement"] == "", "they agree again"


def test_what_cannot_be_compared_now_is_sent_again(paid: Paid) -> None:
    paid.refund()
    paid.books.ask_for("retrieve", "before")
    assert paid.told() == 424
    assert paid.told() == 204
    assert len(paid.alarms) == 1


def test_an_alarm_that_could_not_be_sent_is_sent_with_the_next_event(
    paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid.refund()

    def fails(**_: Any) -> None:
        raise RuntimeError("no alarm")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(client("sns"), "publish", fails)
        paid.told()
    assert paid.told() == 204
    assert len(paid.alarms) == 1


@pytest.mark.parametrize("object_id", ["cus_1", "pi_of_nobody"])
def test_what_is_of_no_saga_is_passed_over(paid: Paid, object_id: str) -> None:
    paid.books.intents["pi_of_nobody"] = paid.intent | {"id": "pi_of_nobody", "metadata": {}}
    thing = {"id": object_id, "object": "payment_intent" if "pi" in object_id else "customer"}
    assert paid.post(provider.event("any.thing", thing)) == 204
    assert paid.alarms == []


def test_a_forged_event_is_refused_before_anything_is_asked(paid: Paid) -> None:
    body = provider.event("payment_intent.succeeded", paid.intent)
    asked = list(paid.books.asked)
    for header in (
        "",
        signed(body, at=time.time() - 3600),
        signed(body, "whsec_other", time.time()),
    ):
        assert paid.post(body, header) == 400
    assert paid.post(b"[]") == paid.post(b"no event") == paid.post(b"") == 400
    assert paid.books.asked == asked


def test_a_body_in_base64_is_signed_as_it_was(paid: Paid) -> None:
    body = provider.event("payment_intent.succeeded", paid.intent)
    header = provider.signature(body, SECRET)
    assert paid.post(b64encode(body), header, isBase64Encoded=True) == 204


def test_no_key_is_logged(paid: Paid, capsys: pytest.CaptureFixture[str]) -> None:
    paid.books.keys = {"another"}
    assert paid.told() == 424
    said = capsys.readouterr()
    for secret in (provider.KEY, SECRET):
        assert secret not in said.out + said.err
