"""Cards: payments by a provider elsewhere, over HTTP: authorise, void, capture.

The provider is at the address `PAYMENT_PROVIDER`. It keeps a payment under the reference that we
give it, which is made from the saga id, and answers a repeated Idempotency-Key as it
answered the first time. So whatever becomes of our tries, the payment can be found,
cancelled or captured.
Our row of it (AUTHORISED, then CAPTURED, VOIDED or REFUNDED) says what we know.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from urllib.parse import quote, urlsplit

from recourse import (
    Call,
    CurrencyMismatchError,
    Decision,
    Money,
    Put,
    Refusal,
    TransientError,
    Update,
    action,
    undo,
)
from recourse.declare.step import plain
from recourse.store.interim import FinalResponse

LONGEST = 10.0
"""Seconds that one call of the provider may take, and never longer than the try may call."""


class CardDeclinedError(Refusal):
    """The provider declined the card."""


class CardsUnavailableError(Refusal):
    """This stage has no payment provider (context `payment_provider`)."""


class CardPaymentGoneError(Refusal):
    """The provider has no authorised payment to capture: it was cancelled there, or has expired."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card, by the token that the provider's own form gave for it."""

    token: str


@dataclass(frozen=True, kw_only=True)
class AuthoriseAsk:
    """Which card pays."""

    card: Card


class Payment(TypedDict):
    """What an authorisation and a capture answer."""

    payment: str
    amount: Mapping[str, Any]
    status: str


def reference(call: Call) -> str:
    """What the provider keeps the saga's payment under."""
    return call.saga_id


def payment_key(call: Call) -> str:
    """The key of our row of it."""
    return f"payment#{call.saga_id}"


@action(
    AuthoriseAsk,
    external=True,
    refuses=[CardDeclinedError, CardsUnavailableError, CurrencyMismatchError],
    settings=["PAYMENT_PROVIDER"],
)
def authorise(call: Call[AuthoriseAsk]) -> Decision[Payment]:
    """Have the provider authorise the sum of the earlier results' prices."""
    amount = Money.total(Money.of(one["price"]) for one in call.results.values() if one)
    asked = {"reference": reference(call), "card": call.ask.card.token, **plain(amount)}
    status, said = _ask(call, "POST", "/payments", asked)
    if status == 402:
        raise CardDeclinedError(said["error"])
    if status != 201:
        raise TransientError(f"the provider did not authorise: {said['error']}")
    return Decision(
        result=_result(said),
        writes=[
            Put(
                {
                    "pk": payment_key(call),
                    "saga_id": call.saga_id,
                    "owner": call.owner,
                    "amount": amount,
                    "status": "AUTHORISED",
                }
            )
        ],
    )


@undo(external=True, reads=lambda call: [payment_key(call)])
def void(call: Call[object, Payment | None]) -> Decision:
    """Cancel what was authorised, or refund what was captured after all.

    Where the authorisation never committed (`call.result` is None) it is unknown whether there is a
    payment. Cancelling one that does not exist keeps it from ever being authorised.
    """
    status, said = _ask(call, "POST", f"/payments/{quote(reference(call), safe='')}/cancel")
    if status == 409:
        status, said = _ask(call, "POST", f"/payments/{quote(reference(call), safe='')}/refund")
    if status != 200:
        raise TransientError(f"the provider did not give it back: {said['error']}")
    ours = "VOIDED" if said["status"] == "CANCELLED" else said["status"]
    payment = call.item
    if payment is None:
        return Decision(result={"payment": reference(call), "status": ours})
    turned = Update(payment["pk"], put={"status": ours}, when={"status": payment["status"]})
    return Decision(result={"payment": reference(call), "status": ours}, writes=[turned])


def find_capture(call: Call) -> Decision[Payment] | None:
    """What the provider says of a capture whose answer never came."""
    status, said = _ask(call, "GET", f"/payments/{quote(reference(call), safe='')}")
    return _captured(call, said) if status == 200 and said["status"] == "CAPTURED" else None


@action(
    external=True,
    refuses=[CardPaymentGoneError],
    find=find_capture,
    settings=["PAYMENT_PROVIDER"],
)
def capture(call: Call) -> Decision[Payment]:
    """Have the provider capture what was authorised: the money changes hands."""
    status, said = _ask(call, "POST", f"/payments/{quote(reference(call), safe='')}/capture")
    if status in (404, 409):
        raise CardPaymentGoneError(said["error"])
    if status != 200:
        raise TransientError(f"the provider did not capture: {said['error']}")
    return _captured(call, said)


def _captured(call: Call, said: dict[str, Any]) -> Decision[Payment]:
    turned = Update(payment_key(call), put={"status": "CAPTURED"}, when={"status": "AUTHORISED"})
    return Decision(result=_result(said), writes=[turned])


def _result(said: dict[str, Any]) -> Payment:
    return {
        "payment": said["reference"],
        "amount": plain(Money.of(said)),
        "status": said["status"],
    }


def _ask(
    call: Call, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Call the provider; its status and what it says.

    Raises:
        CardsUnavailableError: There is none.
        TransientError: It did not answer in time, or could not.
    """
    address = os.environ.get("PAYMENT_PROVIDER")
    if not address:
        raise CardsUnavailableError("this stage has no payment provider")
    seconds = min(LONGEST, call.remaining())
    if seconds <= 0:
        raise TransientError("there is no time left to call the provider")
    provider = urlsplit(address)
    kind = http.client.HTTPSConnection if provider.scheme == "https" else http.client.HTTPConnection
    connection = kind(provider.netloc, timeout=seconds)
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"{reference(call)}{path}"}
    try:
        connection.request(method, provider.path + path, json.dumps(body or {}), headers)
        connection.response_class = FinalResponse
        answer = connection.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise TransientError(f"the provider did not answer: {problem!r}") from problem
    finally:
        connection.close()
    if answer.status >= 500 or answer.status == 429:
        raise TransientError(f"the provider could not: {said.get('error', answer.status)}")
    return answer.status, said
