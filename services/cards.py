"""Cards: payments through an external provider, over HTTP: authorise, void, capture.

The provider is at the address `PAYMENT_PROVIDER`. It stores a payment under the caller's reference,
here the saga id, and repeats its answer to a repeated Idempotency-Key. So the payment can be found,
cancelled or captured even if an answer was lost.

The payment's row in this service's table (AUTHORISED, then CAPTURED, VOIDED or REFUNDED) holds its
last known status.
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
"""The longest that one call of the provider may take, in seconds, if the attempt has that left."""


class CardDeclinedError(Refusal):
    """The provider declined the card."""


class CardsUnavailableError(Refusal):
    """This stage has no payment provider (context `payment_provider`)."""


class CardPaymentGoneError(Refusal):
    """The provider has no authorised payment to capture: it was cancelled there, or has expired."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card, by the token that the provider's form issued for it."""

    token: str


@dataclass(frozen=True, kw_only=True)
class AuthoriseAsk:
    """Which card pays."""

    card: Card


class Payment(TypedDict):
    """The result of an authorisation and of a capture."""

    payment: str
    amount: Mapping[str, Any]
    status: str


def reference(call: Call) -> str:
    """The provider's reference of the saga's payment."""
    return call.saga_id


def payment_key(call: Call) -> str:
    """The key of the payment's row."""
    return f"payment#{call.saga_id}"


@action(
    AuthoriseAsk,
    external=True,
    refuses=[CardDeclinedError, CardsUnavailableError, CurrencyMismatchError],
    settings=["PAYMENT_PROVIDER"],
    keeps={"payment": "the provider's reference, which is the id of the saga"},
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
    """Cancel the authorised payment, or refund it if it was captured.

    If the authorisation never committed (`call.result` is None), it is unknown whether there is a
    payment. Cancelling one that does not exist prevents that it is ever authorised.
    """
    status, said = _ask(call, "POST", f"/payments/{quote(reference(call), safe='')}/cancel")
    if status == 409:
        status, said = _ask(call, "POST", f"/payments/{quote(reference(call), safe='')}/refund")
    if status != 200:
        raise TransientError(f"the provider did not cancel or refund: {said['error']}")
    status_now = "VOIDED" if said["status"] == "CANCELLED" else said["status"]
    result = {"payment": reference(call), "status": status_now}
    payment = call.item
    if payment is None:
        return Decision(result=result)
    turned = Update(payment["pk"], put={"status": status_now}, when={"status": payment["status"]})
    return Decision(result=result, writes=[turned])


def find_capture(call: Call) -> Decision[Payment] | None:
    """The result of a capture whose answer was lost, from the provider."""
    status, said = _ask(call, "GET", f"/payments/{quote(reference(call), safe='')}")
    return _captured(call, said) if status == 200 and said["status"] == "CAPTURED" else None


@action(
    external=True,
    refuses=[CardPaymentGoneError],
    find=find_capture,
    settings=["PAYMENT_PROVIDER"],
)
def capture(call: Call) -> Decision[Payment]:
    """Have the provider capture the authorised payment: the money moves."""
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
    """Call the provider; the status and the body of its answer.

    Raises:
        CardsUnavailableError: No provider is configured.
        TransientError: It did not answer in time, or answered 429 or 5xx.
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
    if call.traceparent:
        headers["traceparent"] = call.traceparent
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
        raise TransientError(f"the provider failed: {said.get('error', answer.status)}")
    return answer.status, said
