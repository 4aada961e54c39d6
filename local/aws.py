"""Clients of the emulator, whose account is made up; the secret of its root's key is not.

The secret is random, made once for each checkout and readable by its owner alone: who has it may do
anything on a local cloud, and so may run code as the user who runs it.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local import LOCAL, private

ACCOUNT = "000000000000"
REGION = "us-east-1"
KEY_ID = "local"
SECRET = LOCAL / "root-secret"


def root_secret() -> str:
    """The secret of root's key."""
    return private.made_once(SECRET, lambda: secrets.token_urlsafe(30).encode()).decode()


def environment(endpoint: str) -> dict[str, str]:
    """The variables by which AWS's own tools are root at the emulator's address."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": root_secret(),
    }


def write_config(file: Path, endpoint: str) -> None:
    """The same as a file, for `AWS_CONFIG_FILE`; as `AWS_SHARED_CREDENTIALS_FILE` it does too."""
    private.write(
        file,
        "[default]\n"
        f"endpoint_url = {endpoint}\n"
        f"region = {REGION}\n"
        f"aws_access_key_id = {KEY_ID}\n"
        f"aws_secret_access_key = {root_secret()}\n".encode(),
    )


def client(service: str, endpoint: str) -> Any:
    """A boto3 client of ``service`` at the emulator's address; untyped, for any service will do."""
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=root_secret(),
        config=Config(proxies={}),  # whatever the machine's way to the Internet is
    )
