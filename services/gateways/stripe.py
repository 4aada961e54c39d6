"""Stripe: a PaymentIntent with manual capture for each saga, and refunds of it.

What keeps it to one payment a saga, whatever is sent twice, late, or without an answer:

- A PaymentIntent is created under an idempotency key made from the saga id, and not confirmed by
  that. Only confirming its id reserves money, and only who has got an answer has the id.
- Confirming, capturing and cancelling each need a state that they end. So they have no key: after
  an error the intent itself is asked for by its id, and its state says what became of it.
- An undo that does not know an id first asks for an intent of its own under the saga's key. Where
  Stripe makes it, no action has used the key, and none can any more. Where Stripe says that the key
  was used, the intent is looked for in the list of all, which is not behind as the search is. One
  that is not there yet is not confirmed, and nobody will.
- Keys are kept for a day at least. An undo that comes later also searches by the saga's id: what
  was made a day ago is found so, as the search is an hour behind at the most.

See `docs/card-payments.md` and `docs/decisions/0019-stripe-without-its-sdk.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from recourse import Call, Money, TransientError
from recourse.store.aws import client
from recourse.store.secrets import Secret
from services.gateways import CardPaymentGoneError, CardsUnavailableError, Charge, Ended
from services.gateways.exchange import Timed, exchange
from services.gateways.stripe_errors import Meaning, Verdict, meaning
from services.gateways.stripe_money import from_stripe, to_stripe

API = "https://api.stripe.com"
VERSION = "2026-09-30.endive"
"""The version of Stripe's API that is spoken, whichever the account's own is."""
SAGA = "recourse_saga"
"""The key of an intent's metadata that has the saga's id."""
KEY_LIFE = timedelta(hours=23)
"""For how long a key surely stands; Stripe keeps them for at least 24 hours."""
MARGIN = timedelta(minutes=5)
"""By how much the clocks here and there may differ."""
PAGE, MOST_PAGES = 100, 50
NOTHING = {
    "amount": "500",
    "currency": "usd",
    "capture_method": "manual",
    "payment_method_types[]": "card",
    "metadata[recourse_void]": "true",
}
"""What an undo asks for under the saga's key: never confirmed, and cancelled at once."""
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?")
_KEY = re.compile(r"(?:sk|rk)_(test|live)_\w+")


@dataclass(frozen=True)
class Intent:
    """A PaymentIntent, as much of it as is looked at."""

    id: str
    status: str
    amount: int
    capturable: int
    received: int
    currency: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Intent:
        """The intent that an answer shows.

        Raises:
            TransientError: It shows none.
        """
        try:
            made = cls(
                body["id"],
                body["status"],
                body["amount"],
                body["amount_capturable"],
                body["amount_received"],
                body["currency"],
            )
        except KeyError as problem:
            raise TransientError(f"Stripe answered with a payment without {problem}") from problem
        if not isinstance(made.id, str) or not made.id.startswith("pi_"):
            raise TransientError("Stripe answered with something else than a payment")
        return made


@dataclass(frozen=True)
class Standing:
    """How a saga's payment stands at Stripe.

    Attributes:
        saga: The saga's id.
        payment: Stripe's id of the payment.
        status: As our rows call it, where they have a word for it.
    """

    saga: str
    payment: str
    status: str


@dataclass(frozen=True)
class Said:
    """An answer of Stripe: its body, and what it means if it is an error."""

    body: dict[str, Any]
    meaning: Meaning | None = None
    what: str = ""


class Stripe:
    """Payments by Stripe.

    Args:
        provider: Where it is.
        secret: Has Stripe's key as `api_key`.
        mode: The mode of keys that are used; another is not sent anywhere.
    """

    def __init__(self, provider: SplitResult, secret: Secret, mode: str) -> None:
        self._provider, self._secret, self._mode = provider, secret, mode

    @classmethod
    def of(cls, where: str, secret: str) -> Stripe:
        """Stripe as the settings name it.

        Raises:
            CardsUnavailableError: They name it otherwise than `services.gateways` says.
        """
        live = where == "live"
        if not (live or where == "test" or _LOOPBACK.fullmatch(where)):
            raise CardsUnavailableError("PAYMENT_PROVIDER must be stripe:test or stripe:live")
        if not secret:
            raise CardsUnavailableError("Stripe needs the ARN of its key's secret: PAYMENT_SECRET")
        provider = urlsplit(where if _LOOPBACK.fullmatch(where) else API)
        read = Secret(lambda: client("secretsmanager"), secret)
        return cls(provider, read, "live" if live else "test")

    def authorise(self, call: Call, amount: Money, token: str) -> Charge:
        """Have an amount reserved on a card, once for a saga."""
        value = to_stripe(amount)
        asked = {
            "amount": str(value),
            "currency": amount.currency.lower(),
            "capture_method": "manual",
            "payment_method_types[]": "card",
            f"metadata[{SAGA}]": call.saga_id,
            "metadata[recourse_key]": call.business_key,
        }
        made = self._ask(call, "POST", "/v1/payment_intents", asked, key=call.saga_id)
        _refuse(made)
        if made.meaning is not None:
            raise TransientError(f"Stripe made no payment: {made.what}")
        intent = Intent.of(made.body)
        card = (
            {"payment_method_data[type]": "card", "payment_method_data[card][token]": token}
            if token.startswith("tok_")
            else {"payment_method": token}
        )
        # Nobody is there who could be asked to confirm the payment at their bank.
        confirmed = self._turn(
            call, intent.id, "confirm", card | {"error_on_requires_action": "true"}
        )
        after = Intent.of(confirmed.body)
        if after.status == "requires_capture":
            return _charge(after, "AUTHORISED", after.capturable, value)
        _refuse(confirmed)
        raise TransientError(f"the payment {after.id} is {after.status} and not authorised")

    def cancel(self, call: Call, payment: str | None) -> Ended:
        """Give back what the saga had authorised, or also captured."""
        ended = [self._end(call, one) for one in ([payment] if payment else self._begun(call))]
        return "REFUNDED" if "REFUNDED" in ended else "VOIDED"

    def capture(self, call: Call, payment: str) -> Charge:
        """Take the money that was reserved."""
        after = Intent.of(self._turn(call, payment, "capture", {}).body)
        match after.status:
            case "succeeded":
                return _charge(after, "CAPTURED", after.received, after.amount)
            case "canceled" | "requires_payment_method":
                raise CardPaymentGoneError(f"the payment {payment} is {after.status}")
        raise TransientError(f"the payment {payment} is {after.status} and not captured")

    def find(self, call: Call, payment: str) -> Charge | None:
        """The payment if it was captured.

        A capture that is on its way may still come. Then the undo finds it, and refunds it.
        """
        found = Intent.of(self._get(call, payment))
        match found.status:
            case "succeeded":
                return _charge(found, "CAPTURED", found.received, found.amount)
            case "requires_capture" | "canceled" | "requires_payment_method":
                return None
        raise TransientError(f"the payment {payment} is {found.status}")

    def standing(self, timed: Timed, payment: str) -> Standing | None:
        """A payment as it is now; None if it is no saga's."""
        body = self._get(timed, payment)
        saga = body.get("metadata", {}).get(SAGA)
        if not saga:
            return None
        intent = Intent.of(body)
        if intent.status != "succeeded":
            status = {"requires_capture": "AUTHORISED", "canceled": "VOIDED"}.get(intent.status)
            return Standing(saga, intent.id, status or intent.status)
        refunds = self._refunds(timed, intent.id)
        if _is_back(refunds, intent):
            return Standing(saga, intent.id, "REFUNDED")
        given = any(one.get("status") != "failed" for one in refunds)
        return Standing(saga, intent.id, "PARTLY REFUNDED" if given else "CAPTURED")

    def _begun(self, call: Call) -> list[str]:
        """The intents that tries whose answers were lost may have made; and nothing makes more."""
        mine = self._ask(call, "POST", "/v1/payment_intents", NOTHING, key=call.saga_id)
        if mine.meaning is None:
            found = [Intent.of(mine.body).id]
            age = datetime.now(UTC) - datetime.fromisoformat(call.started_at)
            return found + self._searched(call) if age > KEY_LIFE else found
        if mine.meaning is not Verdict.KEY_TAKEN:
            raise TransientError(f"Stripe did not say whether there is a payment: {mine.what}")
        listed = self._listed(call)
        found = self._searched(call) if listed is None else listed
        if listed is None and not found:
            raise TransientError(f"of {PAGE * MOST_PAGES} payments none is known to be this saga's")
        return found

    def _searched(self, call: Call) -> list[str]:
        query = urlencode({"query": f"metadata['{SAGA}']:'{call.saga_id}'", "limit": PAGE})
        found = _data(self._ask(call, "GET", f"/v1/payment_intents/search?{query}"))
        return [Intent.of(one).id for one in found]

    def _listed(self, call: Call) -> list[str] | None:
        """The saga's intent, if there is one; None where there are too many to look at."""
        since = datetime.fromisoformat(call.started_at) - MARGIN
        page: dict[str, int | str] = {"created[gte]": int(since.timestamp()), "limit": PAGE}
        for _ in range(MOST_PAGES):
            said = self._ask(call, "GET", f"/v1/payment_intents?{urlencode(page)}")
            data = _data(said)
            found = [one for one in data if one.get("metadata", {}).get(SAGA) == call.saga_id]
            if found or not said.body.get("has_more"):
                return [Intent.of(one).id for one in found]
            page["starting_after"] = Intent.of(data[-1]).id
        return None

    def _end(self, call: Call, payment: str) -> Ended:
        if not payment.startswith("pi_"):
            raise TransientError(f"the payment {payment} is at another provider, not at Stripe")
        after = Intent.of(self._turn(call, payment, "cancel", {}).body)
        if after.status == "canceled":
            return "VOIDED"
        if after.status == "succeeded":
            return self._refund(call, after)
        raise TransientError(f"the payment {payment} is {after.status} and not cancelled")

    def _refund(self, call: Call, intent: Intent) -> Ended:
        refunds = self._refunds(call, intent.id)
        if not _is_back(refunds, intent):
            # Stripe refunds what is left, and never more than was captured.
            body = {"payment_intent": intent.id, f"metadata[{SAGA}]": call.saga_id}
            made = self._ask(call, "POST", "/v1/refunds", body)
            if made.meaning is not None or not _is_back([*refunds, made.body], intent):
                said = made.what or made.body.get("status")
                raise TransientError(f"the payment {intent.id} is not refunded yet: {said}")
        return "REFUNDED"

    def _refunds(self, timed: Timed, payment: str) -> list[dict[str, Any]]:
        asked = urlencode({"payment_intent": payment, "limit": PAGE})
        return _data(self._ask(timed, "GET", f"/v1/refunds?{asked}"))

    def _turn(self, call: Timed, payment: str, what: str, asked: Mapping[str, str]) -> Said:
        """Have an intent change its state; it as it is then, and the error if there was one."""
        path = f"/v1/payment_intents/{quote(payment, safe='')}"
        said = self._ask(call, "POST", f"{path}/{what}", asked)
        if said.meaning is None:
            return said
        return Said(self._get(call, payment), said.meaning, said.what)

    def _get(self, call: Timed, payment: str) -> dict[str, Any]:
        said = self._ask(call, "GET", f"/v1/payment_intents/{quote(payment, safe='')}")
        if said.meaning is not None:
            raise TransientError(f"Stripe did not show the payment {payment}: {said.what}")
        return said.body

    def _ask(
        self,
        call: Timed,
        method: str,
        path: str,
        asked: Mapping[str, str] | None = None,
        *,
        key: str = "",
    ) -> Said:
        """Ask Stripe.

        Raises:
            TransientError: It did not answer, or by an error that may pass or that nobody knows.
            UnreadableSecretError: Its key cannot be read.
        """
        headers = {
            "Authorization": f"Bearer {self._key()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Stripe-Version": VERSION,
            **({"Idempotency-Key": key} if key else {}),
        }
        body = urlencode(asked) if asked is not None else None
        answer = exchange(call, self._provider, method, path, body=body, headers=headers)
        if answer.status == 200:
            return Said(answer.body)
        error = answer.body.get("error")
        error = error if isinstance(error, dict) else {}
        means = meaning(answer.status, error)
        # The message is left out, for it may quote what was sent.
        about = (
            answer.status,
            error.get("type"),
            error.get("code"),
            answer.headers.get("request-id"),
        )
        what = " ".join(str(one) for one in about if one)
        if answer.status == 401:
            self._secret.forget()
        if means is Verdict.PASSING:
            raise TransientError(f"Stripe failed: {what}")
        return Said(answer.body, means, what)

    def _key(self) -> str:
        key = self._secret.fields().get("api_key", "")
        form = _KEY.fullmatch(key)
        if not form or form[1] != self._mode:
            raise TransientError(
                f"the secret must have a key of the mode {self._mode!r} as api_key"
            )
        return key


def _refuse(said: Said) -> None:
    """Raise the refusal that an answer is, if it is one."""
    if isinstance(said.meaning, type):
        raise said.meaning(f"Stripe refused: {said.what}")


def _charge(intent: Intent, status: Any, amount: int, wanted: int) -> Charge:
    """The payment that an intent is, if it is of the whole amount.

    Raises:
        TransientError: It is not.
    """
    if amount != wanted:
        raise TransientError(f"the payment {intent.id} is of {amount} and not of {wanted}")
    try:
        return Charge(payment=intent.id, amount=from_stripe(amount, intent.currency), status=status)
    except ValueError as problem:
        raise TransientError(f"the payment {intent.id}: {problem}") from problem


def _is_back(refunds: list[dict[str, Any]], intent: Intent) -> bool:
    """Whether all that was captured has been given back; what is pending may still fail."""
    back = sum(one.get("amount", 0) for one in refunds if one.get("status") == "succeeded")
    return bool(back >= intent.received)


def _data(said: Said) -> list[dict[str, Any]]:
    found = said.body.get("data")
    if said.meaning is not None or not isinstance(found, list):
        raise TransientError(f"Stripe did not list: {said.what}")
    return found
