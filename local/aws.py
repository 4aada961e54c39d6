"""Clients of the emulator, whose account and keys are made up."""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

ACCOUNT = "000000000000"
REGION = "us-east-1"
KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}


def client(service: str, endpoint: str) -> Any:
    """A boto3 client of ``service`` at the emulator's address; untyped, for any service will do."""
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        config=Config(proxies={}),  # whatever the machine's way to the Internet is
        **KEYS,
    )
