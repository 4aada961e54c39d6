"""The endpoint of Stripe's webhooks: each has the books compared for one payment.

What an event says is not believed: it names a payment, which is asked for by its id. So an event
that comes twice, late or in another order changes nothing. No saga waits for one, and none is moved
on by it: what it finds is what somebody did at Stripe after a saga had ended, such as a refund by
hand or one that failed later, and an operator is told.

Deployed only with the CDK context `payment_provider=stripe:…`.
"""

from __future__ import annotations

import os
import time
from base64 import b64decode
from dataclasses import dataclass
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse import TransientError
from recourse.functions import settings
from recourse.store.aws import client
from recourse.store.contention import ConditionFailedError
from recourse.store.secrets import Secret
from recourse.store.table import Table
from services import cards
from services.gateways.stripe import Stripe
from services.gateways.stripe_events import UnsignedError, payment_of, verify

logger = Logger()
LARGEST = 1 << 20
SECONDS = 12.0
"""For how long the books are compared; the function has some more, and Stripe waits for twenty."""


@dataclass(frozen=True)
class Until:
    """A moment of the monotonic clock."""

    moment: float

    def remaining(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self.moment - time.monotonic())


@cache
def secret() -> Secret:
    """The secret, of which the field `webhook_secret` is needed here."""
    return Secret(lambda: client("secretsmanager"), settings.required("PAYMENT_SECRET"))


@cache
def stripe() -> Stripe:
    """Stripe."""
    where = settings.required("PAYMENT_PROVIDER").partition(":")[2]
    return Stripe.of(where, settings.required("PAYMENT_SECRET"))


@cache
def table() -> Table:
    """The payments' rows."""
    return Table(client("dynamodb"), settings.required("TABLE_NAME"))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a webhook: 204 once the books are compared, 400 for what is not Stripe's.

    Where they cannot be compared now the answer is 424, and Stripe sends it again, for days.
    """
    text = event.get("body") or ""
    body = b64decode(text) if event.get("isBase64Encoded") else text.encode()
    header = event.get("headers", {}).get("stripe-signature", "")
    try:
        if len(body) > LARGEST:
            raise ValueError(f"it must be at most {LARGEST} bytes")
        verify(header, body, secret().fields().get("webhook_secret", ""), time.time())
        payment = payment_of(body)
    except (UnsignedError, ValueError) as wrong:
        logger.warning("not taken: %s", wrong)
        return {"statusCode": 400}
    except TransientError as problem:
        return _later(problem)
    if payment is None:
        return {"statusCode": 204}
    try:
        compare(payment)
    except (TransientError, ConditionFailedError) as problem:
        return _later(problem)
    return {"statusCode": 204}


def compare(payment: str) -> None:
    """Compare the books for one payment, and tell an operator once where they disagree.

    Raises:
        TransientError: Stripe did not say how the payment stands.
        ConditionFailedError: Its row has changed meanwhile.
    """
    stands = stripe().standing(Until(time.monotonic() + SECONDS), payment)
    row = table().get(f"payment#{stands.saga}") if stands else None
    if stands is None or row is None:
        return  # another's payment, or one whose saga has not recorded it
    wrong = cards.disagreement(row, payment, stands.status)
    if wrong == row.get("disagreement", ""):
        return
    if wrong:
        logger.error("books disagree: %s", wrong, extra={"saga_id": stands.saga})
        client("sns").publish(
            TopicArn=os.environ["ALARMS_TOPIC_ARN"],
            Subject="A payment needs attention",
            Message=f"Saga {stands.saga}, payment {payment}: {wrong}. "
            "See docs/card-payments.md, 'When the books disagree'.",
        )
    # After the alarm: one that is sent twice is better than one that is not.
    table().update(row["pk"], set={"disagreement": wrong}, when={"status": row["status"]})


def _later(problem: Exception) -> dict[str, Any]:
    logger.warning("not compared: %s", problem)
    return {"statusCode": 424}
