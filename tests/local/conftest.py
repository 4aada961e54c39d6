import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from local.aws import REGION, client
from local.cloud import _free_port
from local.emulator import Emulator
from tests.decisions import Refusal, decisions_of, unexpected

ROLE = "arn:aws:iam::000000000000:role/any"
"""What functions and machines of tests act under: they may call functions, and nothing else."""
SERVICES = ["lambda.amazonaws.com", "states.amazonaws.com"]
Start = Callable[..., Emulator]


@pytest.fixture
def expected() -> list[Refusal]:
    """The refusals that a test provokes; any other one fails it."""
    return []


@pytest.fixture
def start(tmp_path: Path, expected: list[Refusal]) -> Iterator[Start]:
    """Start an emulator with the gaps given closed; it stops after the test.

    One that takes anybody's calls would take a web page's too: only whoever asks for it gets it.
    """
    started: list[Emulator] = []

    def start(
        *gaps: str, folder: str = "emulator", anybody: bool = False, **options: Any
    ) -> Emulator:
        port = _free_port(0)
        ours = () if anybody else ("own_callers",)
        closed = dict.fromkeys((*ours, "decisions", *gaps))
        emulator = Emulator(port=port, folder=tmp_path / folder, gaps=closed, **options)
        emulator.start()
        started.append(emulator)
        make_role(emulator)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()
    assert not unexpected(
        [one for emulator in started for one in decisions_of(emulator.decisions)], expected
    )


def make_role(emulator: Emulator) -> None:
    """Make the role that functions and machines of tests act under."""
    iam = client("iam", emulator.url)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": SERVICES}}
    name = ROLE.rpartition("/")[2]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
    calls = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}
    iam.put_role_policy(RoleName=name, PolicyName="calls", PolicyDocument=document(calls))


def document(*statements: dict[str, Any]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def clients_of_user(url: str, name: str, *allowed: dict[str, Any]) -> Callable[..., Any]:
    """What makes clients of a new user, who may do what the statements say."""
    iam = client("iam", url)
    iam.create_user(UserName=name)
    statements = [{"Effect": "Allow", **one} for one in allowed]
    iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=document(*statements))
    key = iam.create_access_key(UserName=name)["AccessKey"]

    def make(service: str, **options: Any) -> Any:
        make: Callable[..., Any] = boto3.client
        return make(
            service,
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            **options,
        )

    return make
