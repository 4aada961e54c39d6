"""A saga's invoice is a valet key on its links: one a saga, its owner's, and revocable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest

from recourse.functions import kit
from recourse.valet.issue import LENT_SECONDS
from recourse.valet.keys import Actor
from tests.ground import Ground, ground
from tests.integration.lending import DOCUMENTS, URL, lending
from tests.integration.trips import TRIP, stock
from tests.slots import count_slots
from tests.valet.conftest import Answer, problem
from tests.valet.conftest import Ground as Valet

SCOPES = "sagas:write sagas:read valet:issue"


class Desk:
    """Asha, her trips and her keys."""

    def __init__(self, ground: Ground, valet: Valet) -> None:
        self.ground, self.valet = ground, valet

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        return self.valet.call(method, path, body, **{"scope": SCOPES} | more)

    def booked(self, key: str = "k") -> str:
        """A trip that is booked, with its invoice."""
        started = self.call("POST", "/sagas/travel-booking", TRIP, idempotency_key=key)
        assert started.status == 202, started
        self.ground.settle()
        return str(started.json["saga_id"])

    def links(self, saga: str, **more: Any) -> dict[str, str]:
        shown = self.call("GET", f"/sagas/{saga}", **more)
        assert shown.json["status"] == "SUCCEEDED", shown
        found: dict[str, str] = shown.json["links"]
        return found

    def follow(self, link: str) -> Answer:
        return self.valet.call("GET", urlsplit(link).path, subject=None)

    def version(self, saga: str) -> str:
        """The version that the link leads to now."""
        location = self.follow(self.links(saga)["invoice"]).headers["location"]
        (version,) = parse_qs(urlsplit(location).query)["versionId"]
        return version


@contextmanager
def on_desk() -> Iterator[Desk]:
    """A desk, as long as the block lasts."""
    with (
        ground() as made,
        lending(made) as valet,
        mock.patch.object(kit, "ledger", lambda: made.ledger),
        mock.patch.object(kit, "runs", lambda: made.runs),
        pytest.MonkeyPatch.context() as patch,
    ):
        count_slots(patch, made.dynamodb)
        stock(made)
        yield Desk(made, valet)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with on_desk() as made:
        yield made


def test_an_invoice_is_lent_under_its_own_name_and_version(desk: Desk) -> None:
    saga = desk.booked()
    link = desk.links(saga)["invoice"]
    assert link.startswith(f"{URL}/v/")
    answer = desk.follow(link)
    assert answer.status == 307, answer
    url = urlsplit(answer.headers["location"])
    assert url.netloc == f"{DOCUMENTS}.s3.us-east-1.amazonaws.com"
    assert url.path == f"/invoices/{saga}.pdf"
    (version,) = parse_qs(url.query)["versionId"]
    stored = desk.valet.s3.head_object(Bucket=DOCUMENTS, Key=f"invoices/{saga}.pdf")
    assert stored["VersionId"] == version


def test_however_often_it_is_looked_at_there_is_one_key(desk: Desk) -> None:
    saga = desk.booked()
    signer = desk.valet.signer
    with mock.patch.object(signer, "sign", wraps=signer.sign) as signed:
        assert len({desk.links(saga)["invoice"] for _ in range(5)}) == 1
    assert signed.call_count == 1
    (key,) = desk.call("GET", "/valet-keys").json["items"]
    assert (key["object"], key["owner"]) == (f"invoices/{saga}.pdf", "asha")
    assert key["status"] == "ACTIVE"
    assert desk.valet.audit(key["key_id"]) == [("issue", "allowed")]


def test_a_version_that_comes_later_is_not_the_one_that_is_lent(desk: Desk) -> None:
    saga = desk.booked()
    before = desk.version(saga)
    later = {"bucket": DOCUMENTS, "key": "x", "version": "later", "content_type": "text/plain"}
    with mock.patch.object(kit, "stored", return_value=later):
        assert desk.version(saga) == before


def test_once_revoked_it_is_dead_and_does_not_come_back(desk: Desk) -> None:
    saga = desk.booked()
    link = desk.links(saga)["invoice"]
    (key,) = desk.call("GET", "/valet-keys").json["items"]
    assert desk.valet.revoke(key["key_id"]).status == 204
    problem(desk.follow(link), 410, "key-revoked")
    assert "invoice" not in desk.links(saga)
    desk.valet.now += LENT_SECONDS + 1
    assert "invoice" not in desk.links(saga)


def test_after_a_week_it_is_another_token_of_the_same_key(desk: Desk) -> None:
    saga = desk.booked()
    link = desk.links(saga)["invoice"]
    desk.valet.now += LENT_SECONDS
    problem(desk.follow(link), 410, "key-expired")
    again = desk.links(saga)["invoice"]
    assert desk.follow(again).status == 307
    problem(desk.follow(link), 410, "key-expired")
    assert len(desk.call("GET", "/valet-keys").json["items"]) == 1


def test_an_operator_who_sees_the_saga_is_not_lent_its_invoice(desk: Desk) -> None:
    saga = desk.booked()
    assert "invoice" not in desk.links(saga, subject="olga", scope="operator")


def test_nobody_gets_at_what_steps_have_stored_by_naming_it(desk: Desk) -> None:
    saga = desk.booked()
    desk.links(saga)
    key = desk.valet.issue("download", f"invoices/{saga}.pdf")
    problem(desk.valet.redeem(key["token"]), 404, "object-not-found")


def test_a_saga_is_shown_where_its_invoice_cannot_be_lent(desk: Desk) -> None:
    saga = desk.booked()
    with mock.patch.dict(os.environ, {"DOCUMENTS_BUCKET": "elsewhere"}):
        assert desk.links(saga).keys() == {"self", "cancel", "reverse"}
    assert "invoice" in desk.links(saga)


def test_of_two_who_look_first_at_once_one_makes_the_key(desk: Desk) -> None:
    saga = desk.booked()
    stored, lent = kit.stored, desk.valet.issuer.lend
    tokens: list[str | None] = []

    def meanwhile(key: str) -> dict[str, str]:
        about = f"{saga}#invoice"
        tokens.append(lent(about, "asha", key, lambda: stored(key), Actor("asha", "192.0.2.8")))
        return stored(key)

    with mock.patch.object(kit, "stored", meanwhile):
        link = desk.links(saga)["invoice"]
    assert link.rpartition("/v/")[2] == tokens[0]
    (key,) = desk.call("GET", "/valet-keys").json["items"]
    assert desk.valet.audit(key["key_id"]) == [("issue", "allowed")]
