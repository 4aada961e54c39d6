"""A secret is read when it is needed, kept for some minutes, and said nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from recourse.errors import TransientError
from recourse.store.secrets import LIFE, Secret, UnreadableSecretError

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:stripe-AbCdEf"


class Manager:
    """Secrets Manager with one secret."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.reads = 0
        self.now = 0.0

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:
        assert SecretId == ARN
        self.reads += 1
        if isinstance(self.value, Exception):
            raise self.value
        return {"SecretString": self.value} if isinstance(self.value, str) else self.value

    def secret(self) -> Secret:
        return Secret(lambda: self, ARN, clock=lambda: self.now)


def error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "GetSecretValue",
    )


def test_it_is_read_once_in_its_life() -> None:
    manager = Manager(json.dumps({"api_key": "one"}))
    secret = manager.secret()
    assert manager.reads == 0
    for now in (0, LIFE - 1):
        manager.now = now
        assert secret.fields() == {"api_key": "one"}
    assert manager.reads == 1


def test_a_rotated_one_is_taken_up_when_its_life_is_over_or_it_was_refused() -> None:
    manager = Manager(json.dumps({"api_key": "one"}))
    secret = manager.secret()
    secret.fields()
    manager.value = json.dumps({"api_key": "two"})
    assert secret.fields()["api_key"] == "one"
    manager.now = LIFE
    assert secret.fields()["api_key"] == "two"
    manager.value = json.dumps({"api_key": "three"})
    secret.forget()
    assert secret.fields()["api_key"] == "three"


@pytest.mark.parametrize(
    "value",
    [
        error("ThrottlingException"),
        error("InternalServiceError", 500),
        EndpointConnectionError(endpoint_url="https://here"),
    ],
)
def test_what_may_pass_is_asked_again(value: Exception) -> None:
    manager = Manager(value)
    secret = manager.secret()
    with pytest.raises(TransientError):
        secret.fields()
    manager.value = "{}"
    assert secret.fields() == {}


@pytest.mark.parametrize(
    "value",
    [
        error("ResourceNotFoundException"),
        error("AccessDeniedException"),
        {"SecretBinary": b"sk_live_x"},
        "sk_live_x",
        '"sk_live_x"',
        '["sk_live_x"]',
        '{"api_key": 1, "other": "sk_live_x"}',
        '{"api_key": "sk_live_x"',
    ],
)
def test_what_is_no_secret_of_ours_is_named_by_its_arn_alone(value: Any) -> None:
    with pytest.raises(UnreadableSecretError, match=ARN) as wrong:
        Manager(value).secret().fields()
    assert "sk_live" not in str(wrong.value) + repr(wrong.value.__context__)


def test_it_is_not_in_what_is_printed_of_it() -> None:
    secret = Manager('{"api_key": "sk_live_x"}').secret()
    assert secret.fields()
    assert "sk_live" not in repr(secret)
