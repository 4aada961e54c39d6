"""List prices of AWS that a stage meets, in us-east-1, in dollars, without any free tier.

Each is what AWS was known to list at `DATE`, on the page that stands beside it: look there before
a decision depends on one. What depends on what a stage does, and not on what it is made of, is left
out: transfer, storage beyond a few MB, mails.

    PRICES["SQS requests"].dollars(1_000_000)   # 0.4
    cost({"Lambda requests": 1e6, "Lambda GB-seconds": 12_500})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DATE = "November 2026"
MONTH_HOURS = 730


class Price(NamedTuple):
    """A list price.

    Attributes:
        amount: Dollars.
        per: For how many of them.
        page: Where AWS lists it.
    """

    amount: float
    per: float
    page: str

    def dollars(self, count: float) -> float:
        """What so many of them cost."""
        return self.amount * count / self.per


_A_MILLION = 1e6
_APIS = "https://aws.amazon.com/api-gateway/pricing/"
_CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/"
_DYNAMODB = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
_FARGATE = "https://aws.amazon.com/fargate/pricing/"
_KMS = "https://aws.amazon.com/kms/pricing/"
_LAMBDA = "https://aws.amazon.com/lambda/pricing/"
_SNS = "https://aws.amazon.com/sns/pricing/"
_VPC = "https://aws.amazon.com/vpc/pricing/"

PRICES: Mapping[str, Price] = {
    # By the month.
    "alarms": Price(0.10, 1, _CLOUDWATCH),
    "composite alarms": Price(0.50, 1, _CLOUDWATCH),
    "custom metrics": Price(0.30, 1, _CLOUDWATCH),
    "dashboards": Price(3.00, 1, _CLOUDWATCH),
    "KMS keys": Price(1.00, 1, _KMS),
    "machine clients": Price(6.00, 1, "https://aws.amazon.com/cognito/pricing/"),
    "secrets": Price(0.40, 1, "https://aws.amazon.com/secrets-manager/pricing/"),
    # By the hour.
    "Fargate vCPU-hours": Price(0.03238, 1, _FARGATE),  # on arm64, as the next
    "Fargate GB-hours": Price(0.00356, 1, _FARGATE),
    "public IPv4 hours": Price(0.005, 1, _VPC),
    "NAT gateway hours": Price(0.045, 1, _VPC),
    "VPC endpoint hours": Price(0.01, 1, "https://aws.amazon.com/privatelink/pricing/"),
    # By the GB; storage by the month.
    "log GB": Price(0.50, 1, _CLOUDWATCH),
    "log storage GB": Price(0.03, 1, _CLOUDWATCH),
    "DynamoDB storage GB": Price(0.25, 1, _DYNAMODB),
    "DynamoDB backup GB": Price(0.20, 1, _DYNAMODB),  # point-in-time recovery
    # By use. A message of SQS is charged again for each 64 KB of it, of WebSocket for each 32 KB. A
    # write is 1 KB, and counts twice in a transaction; a read is 4 KB, half that where it need not
    # be consistent. SNS charges nothing for deliveries to SQS and Lambda, DynamoDB nothing for
    # Lambda's reads of a stream, EventBridge nothing for its schedules and for AWS's own events.
    "SNS publishes": Price(0.50, _A_MILLION, _SNS),
    "SNS deliveries by HTTP": Price(0.60, _A_MILLION, _SNS),
    "SQS requests": Price(0.40, _A_MILLION, "https://aws.amazon.com/sqs/pricing/"),
    "Lambda requests": Price(0.20, _A_MILLION, _LAMBDA),
    "Lambda GB-seconds": Price(13.3334, _A_MILLION, _LAMBDA),  # on arm64
    "HTTP API requests": Price(1.00, _A_MILLION, _APIS),
    "WebSocket messages": Price(1.00, _A_MILLION, _APIS),
    "WebSocket connection minutes": Price(0.25, _A_MILLION, _APIS),
    "DynamoDB writes": Price(0.625, _A_MILLION, _DYNAMODB),
    "DynamoDB reads": Price(0.125, _A_MILLION, _DYNAMODB),
    "state transitions": Price(25.00, _A_MILLION, "https://aws.amazon.com/step-functions/pricing/"),
    "KMS requests": Price(3.00, _A_MILLION, _KMS),
    "traces": Price(5.00, _A_MILLION, "https://aws.amazon.com/xray/pricing/"),
}
"""Every price, by what is counted."""


def cost(charged: Mapping[str, float]) -> float:
    """Dollars for what was counted, by the names of `PRICES`."""
    return sum(PRICES[what].dollars(count) for what, count in charged.items())
