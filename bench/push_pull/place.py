"""Where it is measured: a local cloud of its own, or what an address and the environment name."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx
import jwt

from bench import LOCAL
from bench.figures import say
from recourse.feed.feed import Feed
from recourse.local.aws import environment
from recourse.local.cloud import EVERY_SCOPE, LocalCloud

FOLDER = LOCAL / "bench" / "push-pull"


@dataclass(frozen=True)
class Place:
    """A deployment with the probe.

    Attributes:
        api: The API's address.
        outputs: The stacks' outputs.
        environment: What a process needs to find AWS.
        assembly: The synthesised app, if it was synthesised here.
        is_local: Whether it is the local cloud: then all of it can be reached and counted.
    """

    api: str
    outputs: Mapping[str, str]
    environment: Mapping[str, str]
    assembly: Path | None
    is_local: bool
    _token: Callable[[str], str]
    _client: Callable[[str], Any]

    def client(self, service: str) -> Any:
        """An AWS client."""
        return self._client(service)

    def token(self, owner: str) -> str:
        """A bearer token of an owner."""
        return self._token(owner)

    def owners(self, path: str, count: int) -> list[str]:
        """So many owners for a path, or the only one that there is a token of."""
        if self.is_local:
            return [f"bench-{path}-{number}" for number in range(count)]
        return [str(jwt.decode(self.token(""), options={"verify_signature": False})["sub"])]

    @property
    def machine(self) -> str:
        """Where that is, in words."""
        if not self.is_local:
            return f"AWS, from a machine of {os.cpu_count()} cores"
        return (
            f"the local cloud, {os.cpu_count()} cores, shared, Python {platform.python_version()}"
        )

    @cached_property
    def feed(self) -> Feed:
        """The feed."""
        return Feed(self.client("dynamodb"), self.outputs["FeedTableName"])

    @cached_property
    def health(self) -> dict[str, Any]:
        """What the API says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.api}/health", trust_env=not self.is_local).json()
        return found


@contextmanager
def place() -> Iterator[Place]:
    """The deployment at `RECOURSE_API`; a fresh local cloud where nothing is named.

    At an address, `RECOURSE_TOKEN` is the bearer token, AWS's credentials come from the
    environment, and `STAGE` names the stage; it was deployed with the context `probe=on`.
    """
    if address := os.environ.get("RECOURSE_API"):
        token = os.environ["RECOURSE_TOKEN"]
        stage = os.environ.get("STAGE") or "dev"
        yield Place(
            api=address.rstrip("/"),
            outputs=_outputs(f"Recourse-{stage}-"),
            environment={},
            assembly=None,
            is_local=False,
            _token=lambda _: token,
            _client=_made,
        )
        return
    with LocalCloud(
        port=0,
        aws_port=0,
        state_dir=FOLDER,
        fresh=True,
        seed_file=None,
        context={"probe": "on"},
        say=say,
    ) as cloud:
        yield Place(
            api=cloud.api_url,
            outputs=cloud.outputs,
            environment={
                **environment(cloud.aws_endpoint),
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
            },
            assembly=FOLDER / "cdk.out",
            is_local=True,
            _token=lambda owner: cloud.token(owner, EVERY_SCOPE, lifetime=4 * 3600),
            _client=cloud.client,
        )


def _made(service: str) -> Any:
    make: Callable[..., Any] = boto3.client
    return make(service)


def _outputs(prefix: str) -> dict[str, str]:
    stacks = _made("cloudformation").get_paginator("describe_stacks").paginate()
    return {
        output["OutputKey"]: output["OutputValue"]
        for page in stacks
        for stack in page["Stacks"]
        if stack["StackName"].startswith(prefix)
        for output in stack.get("Outputs", ())
    }
