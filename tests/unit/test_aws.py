"""Clients of AWS."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import botocore.session
import pytest
from botocore.errorfactory import ClientExceptionsFactory
from botocore.exceptions import ClientError
from botocore.retries.standard import ThrottledRetryableChecker

from recourse.store.aws import THROTTLE_CODES, client, is_transient


@pytest.fixture
def anew() -> Iterator[None]:
    """No client has been made."""
    client.cache_clear()
    yield
    client.cache_clear()


@pytest.mark.usefixtures("anew")
def test_threads_that_first_name_an_error_at_the_same_time_name_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    create = ClientExceptionsFactory._create_client_exceptions  # type: ignore[attr-defined]

    def counted(factory: ClientExceptionsFactory, model: object) -> object:
        made.append("exceptions")
        return create(factory, model)

    monkeypatch.setattr(ClientExceptionsFactory, "_create_client_exceptions", counted)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    dynamodb = client("dynamodb")
    before = len(made)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            named = set(pool.map(lambda _: dynamodb.exceptions, range(80)))
    finally:
        sys.setswitchinterval(switching)
    assert (len(named), len(made)) == (1, before)


CALLED = """apigatewaymanagementapi dynamodb kms lambda s3 ses sns sqs stepfunctions"""


def throttles() -> set[str]:
    """What every throttle is called: by those who had one, by botocore's retries, by its models."""
    told = {
        "KMS.ThrottlingException",
        "RequestThrottled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
    told |= set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)  # type: ignore[attr-defined]
    for service in CALLED.split():
        for shape in botocore.session.get_session().get_service_model(service).error_shapes:
            code = shape.metadata.get("error", {}).get("code", shape.name)
            if re.search("Throttl|TooManyRequests|Throughput|RequestLimit", shape.name):
                told |= {shape.name, code}
    return told - {"TransactionInProgressException"}


def test_a_throttle_passes_whatever_it_is_called() -> None:
    assert throttles() <= THROTTLE_CODES
    for code in THROTTLE_CODES:
        assert is_transient(refused(code, 400)), code


@pytest.mark.parametrize(
    ("code", "status", "passes"),
    [
        ("Nameless", 429, True),
        ("Nameless", 500, True),
        ("TransactionCanceledException", 400, True),
        ("ValidationException", 400, False),
        ("AccessDeniedException", 403, False),
    ],
)
def test_what_has_no_such_name_passes_by_its_status(code: str, status: int, passes: bool) -> None:
    assert is_transient(refused(code, status)) is passes


def refused(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Any",
    )
