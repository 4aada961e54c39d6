"""What the environment says of where S3 is, and of how long the signer's credentials live."""

from __future__ import annotations

import pytest
from botocore.exceptions import NoCredentialsError

from recourse.store import aws
from recourse.store.credentials import Credentials
from recourse.valet.objects import Bucket, Request


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials from the environment, and a session that has seen no other."""
    aws._session.cache_clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CREDENTIAL_EXPIRATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")


def test_a_functions_credentials_are_renewed_by_lambda() -> None:
    assert aws.credentials() == Credentials("AKIA", "secret", "token", None)


def test_credentials_that_say_when_they_end_are_renewed_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2100-01-01T00:00:00Z")
    assert aws.credentials().expires == 4102444800


def test_without_credentials_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(NoCredentialsError):
        aws.credentials()


def test_without_a_region_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws.region() == "ap-south-1"
    aws._session.cache_clear()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(RuntimeError, match="must name a region: set AWS_DEFAULT_REGION"):
        aws.region()


def test_another_address_of_s3_has_the_bucket_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def where() -> str:
        bucket = Bucket("documents", aws.region(), aws.s3_endpoint())
        request = Request(method="GET", key="objects/é")
        signed = bucket.sign(request, aws.credentials(), key_id="k", now=1e9, until=2 * 10**9)
        return signed.url.partition("?")[0]

    assert where() == "https://documents.s3.ap-south-1.amazonaws.com/objects/%C3%A9"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566/")
    assert where() == "http://127.0.0.1:4566/documents/objects/%C3%A9"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:4567")
    assert where() == "http://127.0.0.1:4567/documents/objects/%C3%A9"
