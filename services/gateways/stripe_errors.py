"""What each error of Stripe means: a refusal, the state of a payment, or that it may pass.

By https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes. What is not in these
tables means nothing: it is neither success nor refusal, and is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from recourse import Refusal
from services.gateways import (
    AmountUnsupportedError,
    CardAuthenticationRequiredError,
    CardDeclinedError,
    CardExpiredError,
    CardInvalidError,
    InsufficientFundsError,
)


class Verdict(Enum):
    """What an error means that refuses nothing."""

    PASSING = "ask again"
    KEY_TAKEN = "the idempotency key was used with other parameters"
    LOOK = "the payment is not in the state that this needs: look which it is in"


Meaning = Verdict | type[Refusal]

PASSING_STATUS = frozenset({401, 403, 409, 424, 429})
"""Statuses of HTTP that say nothing of the payment, as all from 500 on: the key is wrong or may not
do this, another request has the object or the key, or there are too many."""

CARD: Mapping[str, Meaning] = {
    "authentication_required": CardAuthenticationRequiredError,
    "payment_intent_authentication_failure": CardAuthenticationRequiredError,
    "card_declined": CardDeclinedError,
    "card_decline_rate_limit_exceeded": CardDeclinedError,
    "card_not_supported": CardDeclinedError,
    "currency_not_supported": CardDeclinedError,
    "expired_card": CardExpiredError,
    "incorrect_address": CardInvalidError,
    "incorrect_cvc": CardInvalidError,
    "incorrect_number": CardInvalidError,
    "incorrect_zip": CardInvalidError,
    "insufficient_funds": InsufficientFundsError,
    "invalid_cvc": CardInvalidError,
    "invalid_expiry_month": CardInvalidError,
    "invalid_expiry_year": CardInvalidError,
    "invalid_number": CardInvalidError,
    "postal_code_invalid": CardInvalidError,
    "processing_error": Verdict.PASSING,
}
"""By the code of a `card_error`."""

DECLINES: Mapping[str, Meaning] = {
    "authentication_required": CardAuthenticationRequiredError,
    "expired_card": CardExpiredError,
    "incorrect_cvc": CardInvalidError,
    "incorrect_number": CardInvalidError,
    "incorrect_pin": CardInvalidError,
    "incorrect_zip": CardInvalidError,
    "insufficient_funds": InsufficientFundsError,
    "invalid_account": CardInvalidError,
    "invalid_amount": AmountUnsupportedError,
    "invalid_cvc": CardInvalidError,
    "invalid_expiry_month": CardInvalidError,
    "invalid_expiry_year": CardInvalidError,
    "invalid_number": CardInvalidError,
    "issuer_not_available": Verdict.PASSING,
    "processing_error": Verdict.PASSING,
    "reenter_transaction": Verdict.PASSING,
    "try_again_later": Verdict.PASSING,
}
"""By the reason that the issuer gave for `card_declined`, where it is more than that. Which of the
others it was is not told: nobody is to learn from us that a card is known to be stolen."""

REQUEST: Mapping[str, Meaning] = {
    "amount_too_large": AmountUnsupportedError,
    "amount_too_small": AmountUnsupportedError,
    "capture_charge_authorization_expired": Verdict.LOOK,
    "charge_already_captured": Verdict.LOOK,
    "charge_already_refunded": Verdict.LOOK,
    "charge_expired_for_capture": Verdict.LOOK,
    "idempotency_key_in_use": Verdict.PASSING,
    "lock_timeout": Verdict.PASSING,
    "payment_intent_incompatible_payment_method": CardInvalidError,
    "payment_intent_unexpected_state": Verdict.LOOK,
    "payment_method_unactivated": Verdict.PASSING,
    "rate_limit": Verdict.PASSING,
    "token_already_used": CardInvalidError,
}
"""By the code of an `invalid_request_error`."""

PARAMETERS: Mapping[str, Meaning] = {
    "currency": AmountUnsupportedError,
    "payment_method": CardInvalidError,
    "payment_method_data[card][token]": CardInvalidError,
}
"""By the parameter that an `invalid_request_error` finds wrong or missing, where its code is not
above: the caller chooses these, and the others are ours."""

TYPES = ("api_error", "card_error", "idempotency_error", "invalid_request_error")
"""Every type of error that Stripe has."""


def meaning(status: int, error: Mapping[str, Any]) -> Meaning:
    """What an answer other than 200 means.

    Args:
        status: The status of HTTP.
        error: The `error` of the body; empty where it has none.
    """
    code = error.get("code")
    if status in PASSING_STATUS or not 400 <= status < 500:
        return Verdict.PASSING
    match error.get("type"):
        case "card_error":
            decline = (
                DECLINES.get(error.get("decline_code") or "") if code == "card_declined" else None
            )
            return decline or CARD.get(code or "", Verdict.PASSING)
        case "idempotency_error":
            return Verdict.PASSING if code == "idempotency_key_in_use" else Verdict.KEY_TAKEN
        case "invalid_request_error":
            found = REQUEST.get(code or "")
            return found or PARAMETERS.get(error.get("param") or "", Verdict.PASSING)
    return Verdict.PASSING  # an `api_error`, and what nobody knows
