"""Clients of AWS, made once and when first needed, and plainly: botocore, no session magic.

Where the endpoint and the credentials come from is the environment's business, as everywhere in
AWS's tools. Parameters are not validated here: mypy has checked them against AWS's own shapes, AWS
checks them again, and doing it a third time costs a fifth of every call.
"""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError

from recourse.store.credentials import Credentials

THROTTLE_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "KmsThrottlingException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""What AWS's services say when they are asked for more than they give."""
PASSING = THROTTLE_CODES | {
    "InternalError",
    "InternalServerError",
    "KMSInternalException",
    "ServiceUnavailable",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""The same, and what they say when they are busy, or another write is in the way."""
_LIMITED = 429
_session = cache(botocore.session.get_session)


@cache
def client(service: str, *, read_timeout: float = 10, endpoint: str | None = None) -> Any:
    """The client of a service.

    Args:
        service: As botocore names it.
        endpoint: Its address, where that is one of our own resources'.
        read_timeout: Seconds to wait for an answer. Tries are few, for steps are tried again.
    """
    made = _session().create_client(
        service,
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=2,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": 3},
            parameter_validation=False,
        ),
    )
    # Botocore makes a client's errors when they are first named. Two threads that do that at the
    # same time have two classes of each, and catch only their own; so it is done here.
    getattr(made, "exceptions")  # noqa: B009
    return made


def is_passing(error: ClientError) -> bool:
    """Whether a call that AWS refused may work in a moment; else it was asked wrongly.

    A transaction that was given up met another one.
    """
    code, answer = error.response["Error"]["Code"], error.response["ResponseMetadata"]
    status: int = answer.get("HTTPStatusCode", 500)
    return (
        status >= 500
        or status == _LIMITED
        or code in PASSING
        or code == "TransactionCanceledException"
    )


def credentials() -> Credentials:
    """What presigned URLs are signed with now.

    Where the environment says when they end (`AWS_CREDENTIAL_EXPIRATION`, as AWS's tools export
    it), nobody renews them; a function's own are renewed by Lambda.

    Raises:
        NoCredentialsError: There are none.
    """
    found = _session().get_credentials()
    frozen = found.get_frozen_credentials() if found else None
    if frozen is None or frozen.access_key is None or frozen.secret_key is None:
        raise NoCredentialsError
    ends = os.environ.get("AWS_CREDENTIAL_EXPIRATION")
    return Credentials(
        frozen.access_key,
        frozen.secret_key,
        frozen.token,
        datetime.fromisoformat(ends).timestamp() if ends else None,
    )


def region() -> str:
    """The region that the environment names.

    Raises:
        RuntimeError: It names none.
    """
    found: str | None = _session().get_config_variable("region")
    if not found:
        raise RuntimeError("the environment names no region")
    return found


def s3_endpoint() -> str | None:
    """Another address of S3 than AWS's own, where the environment names one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
