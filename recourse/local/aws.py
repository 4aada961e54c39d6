"""Clients of the emulator: its account is fictitious, the secret of its root key is not.

The secret is random, made once for each checkout and readable by its owner only: a program that has
it can do anything on the local cloud, and so run code as the user who started it.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from recourse.local import folder, private

ACCOUNT = "000000000000"
REGION = "us-east-1"
KEY_ID = "local"


def root_secret() -> str:
    """The secret of the root key."""
    return private.made_once(
        folder() / "root-secret", lambda: secrets.token_urlsafe(30).encode()
    ).decode()


def environment(endpoint: str) -> dict[str, str]:
    """Environment variables that make AWS's own tools root at the emulator."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": root_secret(),
    }


def write_config(file: Path, endpoint: str) -> None:
    """Write the same as a file, for `AWS_CONFIG_FILE` or `AWS_SHARED_CREDENTIALS_FILE`."""
    private.write(
        file,
        "[default]\n"
        f"endpoint_url = {endpoint}\n"
        f"region = {REGION}\n"
        f"aws_access_key_id = {KEY_ID}\n"
        f"aws_secret_access_key = {root_secret()}\n".encode(),
    )


def client(service: str, endpoint: str) -> Any:
    """A boto3 client of any AWS service at the emulator's address."""
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=root_secret(),
        config=Config(proxies={}),  # the emulator is local: no proxy of the machine applies
    )
