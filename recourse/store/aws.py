"""Clients of AWS: plain botocore, each created once, when it is first needed.

Endpoint and credentials come from the environment, as in all of AWS's tools. Parameters are not
validated here: mypy has checked them against AWS's own shapes, and AWS checks them again; a third
time would cost a fifth of every call.
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
"""The error codes with which AWS's services throttle."""
TRANSIENT_CODES = THROTTLE_CODES | {
    "InternalError",
    "InternalServerError",
    "KMSInternalException",
    "ServiceUnavailable",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""The same, and those of services that are busy and of conflicting writes: a retry may work."""
_TOO_MANY_REQUESTS = 429
_session = cache(botocore.session.get_session)


@cache
def client(service: str, *, read_timeout: float = 10, endpoint: str | None = None) -> Any:
    """The client of a service.

    Args:
        service: The service, by its name in botocore.
        endpoint: Its URL, where that is one of this deployment's own resources.
        read_timeout: Seconds to wait for a response. Attempts are few, since steps are retried.
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
    # Botocore creates a client's exception classes at their first use. Two threads that do so at
    # the same time have two classes of each, and catch only their own; so it is done here, once.
    getattr(made, "exceptions")  # noqa: B009
    return made


def is_transient(error: ClientError) -> bool:
    """Whether a call that failed may succeed in a moment; otherwise the request was wrong.

    A cancelled transaction counts as transient: it conflicted with another one.
    """
    code, answer = error.response["Error"]["Code"], error.response["ResponseMetadata"]
    status: int = answer.get("HTTPStatusCode", 500)
    return (
        status >= 500
        or status == _TOO_MANY_REQUESTS
        or code in TRANSIENT_CODES
        or code == "TransactionCanceledException"
    )


def credentials() -> Credentials:
    """The credentials of this moment, to sign presigned URLs with.

    Where the environment says when they end (`AWS_CREDENTIAL_EXPIRATION`, as AWS's tools export
    it), they are not renewed; a function's own are renewed by Lambda.

    Raises:
        NoCredentialsError: The environment has none.
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
        RuntimeError: The environment names none.
    """
    found: str | None = _session().get_config_variable("region")
    if not found:
        raise RuntimeError("the environment must name a region: set AWS_DEFAULT_REGION")
    return found


def s3_endpoint() -> str | None:
    """The URL of S3 that the environment names; None for AWS's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
