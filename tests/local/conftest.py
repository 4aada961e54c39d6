import json
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from recourse.local.aws import KEY_ID, REGION, client, root_secret
from recourse.local.boot import GAPS
from recourse.local.emulator import Emulator
from recourse.local.ports import free_port
from tests.decisions import Refusal, decisions_of, unexpected

ROLE = "arn:aws:iam::000000000000:role/any"
"""What functions and machines of tests act under: they may call functions, and nothing else."""
SERVICES = ["lambda.amazonaws.com", "states.amazonaws.com"]
Start = Callable[..., Emulator]


@pytest.fixture
def expected() -> list[Refusal]:
    """The refusals that a test provokes; any other one fails it."""
    return []


@pytest.fixture(scope="session")
def shipped_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator of ``shipped``."""
    yield from running(tmp_path_factory.mktemp("shipped"), timescale=0.25)


@pytest.fixture(scope="session")
def closed_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator of ``closed``."""
    yield from running(tmp_path_factory.mktemp("closed"), *GAPS, timescale=0.25)


@pytest.fixture
def shipped(shipped_to_all: Emulator, expected: list[Refusal]) -> Iterator[Emulator]:
    """An emulator as shipped, but for who may call it, as if it were just started.

    Its machines wait for a quarter of the time; those of ``closed`` too.
    """
    yield from lent(shipped_to_all, expected)


@pytest.fixture
def closed(closed_to_all: Emulator, expected: list[Refusal]) -> Iterator[Emulator]:
    """An emulator with every gap closed, as if it were just started."""
    yield from lent(closed_to_all, expected)


@pytest.fixture
def start(tmp_path: Path, expected: list[Refusal]) -> Iterator[Start]:
    """Start an emulator of a test's own with the gaps given closed; it stops after the test.

    One that takes anybody's calls would take a web page's too: only whoever asks for it gets it.
    """
    started: list[Emulator] = []

    def start(
        *gaps: str, folder: str = "emulator", anybody: bool = False, **options: Any
    ) -> Emulator:
        emulator = of_gaps(tmp_path / folder, *gaps, anybody=anybody, **options)
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


def of_gaps(folder: Path, *gaps: str, anybody: bool = False, **options: Any) -> Emulator:
    """An emulator with these gaps closed, and those that every test wants closed."""
    ours = () if anybody else ("own_callers",)
    closed = dict.fromkeys((*gaps, *ours, "decisions"))
    return Emulator(port=free_port(0), folder=folder, gaps=closed, **options)


def running(folder: Path, *gaps: str, **options: Any) -> Iterator[Emulator]:
    """An emulator for many tests, which forgets between them."""
    emulator = of_gaps(folder, "tests.local.shared", *gaps, **options)
    emulator.start()
    yield emulator
    emulator.stop()


def lent(emulator: Emulator, expected: list[Refusal]) -> Iterator[Emulator]:
    """An emulator that others had before, for one test."""
    renew(emulator)
    yield emulator
    assert not unexpected(decisions_of(emulator.decisions), expected)


def renew(emulator: Emulator) -> None:
    """Leave an emulator with nothing but the role of functions and machines."""
    request = AWSRequest("POST", f"{emulator.url}/forget")
    SigV4Auth(Credentials(KEY_ID, root_secret()), "s3", REGION).add_auth(request)
    with closing(HTTPConnection("127.0.0.1", emulator.port)) as connection:
        connection.request("POST", "/forget", headers=dict(request.headers))
        assert connection.getresponse().status == 200
    make_role(emulator)
    emulator.decisions.unlink(missing_ok=True)


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
