"""A provider that stores a payment under the caller's reference, here the saga id.

It repeats its answer to a repeated Idempotency-Key. So a payment can be found, cancelled or
captured even if an answer was lost, and cancelling one that does not exist prevents that it is ever
authorised. `samples.provider` is one.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

from recourse import Call, Money, TransientError
from recourse.declare.step import plain
from services.gateways import CardDeclinedError, CardPaymentGoneError, Charge, Ended
from services.gateways.exchange import exchange


class ReferenceProvider:
    """The provider at an address."""

    def __init__(self, address: str) -> None:
        self._provider = urlsplit(address)

    def authorise(self, call: Call, amount: Money, token: str) -> Charge:
        """Have an amount reserved on a card, under the saga's id."""
        asked = {"reference": call.saga_id, "card": token, **plain(amount)}
        status, said = self._ask(call, "POST", "/payments", asked)
        if status == 402:
            raise CardDeclinedError(said["error"])
        if status != 201:
            raise TransientError(f"the provider did not authorise: {said['error']}")
        return _charge(said)

    def cancel(self, call: Call, payment: str | None) -> Ended:
        """Cancel the payment, if there is one or not; refund it if it was captured."""
        status, said = self._ask(call, "POST", f"{_path(call)}/cancel")
        if status == 409:
            status, said = self._ask(call, "POST", f"{_path(call)}/refund")
        if status != 200:
            raise TransientError(f"the provider did not cancel or refund: {said['error']}")
        return "VOIDED" if said["status"] == "CANCELLED" else "REFUNDED"

    def capture(self, call: Call, payment: str) -> Charge:
        """Have the authorised payment captured."""
        status, said = self._ask(call, "POST", f"{_path(call)}/capture")
        if status in (404, 409):
            raise CardPaymentGoneError(said["error"])
        if status != 200:
            raise TransientError(f"the provider did not capture: {said['error']}")
        return _charge(said)

    def find(self, call: Call, payment: str) -> Charge | None:
        """The payment if it was captured."""
        status, said = self._ask(call, "GET", _path(call))
        return _charge(said) if status == 200 and said["status"] == "CAPTURED" else None

    def _ask(
        self, call: Call, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{call.saga_id}{path}"}
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        said = exchange(
            call, self._provider, method, path, body=json.dumps(body or {}), headers=headers
        )
        if said.status >= 500 or said.status == 429:
            raise TransientError(f"the provider failed: {said.body.get('error', said.status)}")
        return said.status, said.body


def _path(call: Call) -> str:
    return f"/payments/{quote(call.saga_id, safe='')}"


def _charge(said: dict[str, Any]) -> Charge:
    return Charge(payment=said["reference"], amount=Money.of(said), status=said["status"])
