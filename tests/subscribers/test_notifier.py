"""The notifier tells each person once how it ended, whatever fails and however often it hears."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from moto.ses.models import ses_backends

from lambdas.subscribers import notifier as function
from lambdas.subscribers.notifier import CLAIMED, Message, Notifier
from recourse.errors import TransientError
from recourse.events import Event
from recourse.functions import kit
from recourse.store.aws import client
from recourse.testing import handlers
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, stock

TABLE = "notifier"


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made:
        stock(made)
        made._table(TABLE)
        yield made


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def notifier(shared: Ground, sent: list[Message]) -> Notifier:
    return Notifier(shared.dynamodb, TABLE, shared.ledger, sent.append)


def ended(shared: Ground, key: str, faults: Mapping[str, str] | None = None) -> Event:
    """The last event of a trip that has ended."""
    trip = TRIP | {"trip_id": f"{key}\nBcc: all@example.com"}
    saga = shared.start("travel-booking", trip, key=key, faults=faults)
    shared.settle()
    record = shared.ledger.get(saga)
    assert record
    return record.entered[-1]


def test_it_hears_of_endings_and_may_read_the_ledger_write_its_own_table_and_send_mail() -> None:
    assert function.SUBSCRIBER.hears == {"kind": ("succeeded", "compensated")}
    assert function.SUBSCRIBER.may == {
        "ledger": ["dynamodb:GetItem"],
        "table": ["dynamodb:PutItem"],
        "sender": ["ses:SendEmail"],
    }


def test_the_traveller_hears_of_the_booking_once(
    shared: Ground, notifier: Notifier, sent: list[Message]
) -> None:
    event = ended(shared, "told")
    assert [notifier.notify(event) for _ in range(3)] == [True, False, False]
    (message,) = sent
    assert message.to == "asha@example.com"
    assert message.subject == "travel-booking told Bcc: all@example.com: done"
    assert f"Its number is {event.saga_id}." in message.text


def test_the_traveller_hears_why_it_was_undone(
    shared: Ground, notifier: Notifier, sent: list[Message]
) -> None:
    assert notifier.notify(ended(shared, "undone", {"payment": "reject"}))
    assert sent[0].subject.endswith(": undone")
    assert "The reason: payment:" in sent[0].text


def test_nothing_but_an_ending_is_told(
    shared: Ground, notifier: Notifier, sent: list[Message]
) -> None:
    event = ended(shared, "started")
    started = replace(event, kind="started", id="started")
    unknown = replace(event, saga_id="0" * 32, id="unknown")
    assert [notifier.notify(one) for one in (started, unknown)] == [False, False]
    assert sent == []


def test_what_could_not_be_sent_is_sent_later_and_by_one_alone(
    shared: Ground, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(message: Message) -> None:
        raise ConnectionError

    event = ended(shared, "later")
    broken = Notifier(shared.dynamodb, TABLE, shared.ledger, refuse)
    working = Notifier(shared.dynamodb, TABLE, shared.ledger, sent.append)
    with pytest.raises(ConnectionError):
        broken.notify(event)
    with pytest.raises(TransientError):
        working.notify(event)
    later = time.time() + CLAIMED + 1
    monkeypatch.setattr("lambdas.subscribers.notifier.time.time", lambda: later)
    assert [working.notify(event), working.notify(event)] == [True, False]
    assert len(sent) == 1


@pytest.mark.parametrize("sender", ["trips@example.com", ""])
def test_a_mail_goes_out_where_there_is_a_sender_and_a_line_where_there_is_none(
    shared: Ground, monkeypatch: pytest.MonkeyPatch, sender: str
) -> None:
    monkeypatch.setenv("SENDER", sender)
    monkeypatch.setenv("NOTIFIER_TABLE", TABLE)
    monkeypatch.setattr(kit, "ledger", lambda: shared.ledger)
    monkeypatch.setattr(kit, "dynamodb", lambda: shared.dynamodb)
    lines: list[str] = []
    monkeypatch.setattr(function.logger, "info", lambda line, **_: lines.append(line))
    function._notifier.cache_clear()
    event = ended(shared, f"by-{sender}")
    if sender:
        client("sesv2").create_email_identity(EmailIdentity=sender)
    mails = ses_backends[handlers.ACCOUNT]["us-east-1"].sent_messages
    before = len(mails)
    function.handler({"Records": [{"Sns": {"Message": event.to_json()}}]}, None)
    assert len(mails) - before == bool(sender)
    # A log cannot be erased (docs/retention.md): of the person it has neither address nor key.
    said = " ".join(lines)
    assert "asha@example.com" not in said and "Bcc" not in said
    assert ("no sender" in said) != bool(sender)
