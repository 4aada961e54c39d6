"""List prices: what counted requests cost, in dollars, in us-east-1, without any free tier.

Looked up in November 2026 on AWS's pages for each service. Left out, because no path differs in
them: the feed itself, alarms and logs; and, because they depend on the network, transfer and NAT.
"""

from __future__ import annotations

from collections.abc import Mapping

DATE = "November 2026"
A_MILLION = {
    "SNS publishes": 0.50,
    "SNS deliveries by HTTP": 0.60,
    "SQS requests": 0.40,
    "Lambda requests": 0.20,
    "HTTP API requests": 1.00,
    "WebSocket messages": 1.00,
    "WebSocket connection minutes": 0.25,
    "DynamoDB writes": 0.625,
    "DynamoDB reads": 0.125,
}
"""Dollars a million. A message of WebSocket or SQS is charged again for each 32 or 64 KB of it; a
write is 1 KB, in a transaction it counts twice; a read is 4 KB, half that where it need not be
consistent. SNS charges nothing for deliveries to SQS and Lambda."""
LAMBDA_GB_SECOND = 0.0000133334
"""On arm64."""
FARGATE_HOUR = 0.25 * 0.03238 + 0.5 * 0.00356
"""A quarter of a processor and half a GB, on arm64: a worker."""
MONTH_HOURS = 730


def cost(charged: Mapping[str, float], *, gb_seconds: float = 0, hours: float = 0) -> float:
    """Dollars for counted requests.

    Args:
        charged: How many of each of `A_MILLION`.
        gb_seconds: Lambda's time, times its memory.
        hours: Of a worker on Fargate.
    """
    requests = sum(A_MILLION[what] * count / 1e6 for what, count in charged.items())
    return requests + gb_seconds * LAMBDA_GB_SECOND + hours * FARGATE_HOUR
