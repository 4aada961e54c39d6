"""Clients of AWS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.errorfactory import ClientExceptionsFactory

from recourse.aws import client


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
