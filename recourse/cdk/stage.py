"""A deployment's settings, from the CDK context."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from aws_cdk import Duration, RemovalPolicy
from aws_cdk.region_info import RegionInfo

from recourse.errors import RecourseError
from recourse.functions.limits import overridden
from recourse.project import Project

if TYPE_CHECKING:
    from constructs import Node


LONGEST = 900
"""Seconds that a function may take."""


class ContextError(RecourseError, ValueError):
    """The CDK context cannot be deployed; the message names the key."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One deployment.

    Attributes:
        base: Its name, `dev` unless the context says another; `prod` keeps its data.
        chaos: Whether faults on demand are switched on; the stage's name then says so.
        timescale: What multiplies the time-outs and back-offs of sagas.
        issuer: Who issues the bearer tokens; a Cognito user pool is made where nobody is named.
        audience: For whom they are issued.
        cors_origins: The web origins that may call the API.
        public_url: The API's address, where it is another than the gateway's own.
        connections_url: Where WebSocket connections are posted to, with `{api}` and `{stage}` for
            theirs; the gateway's own address where it is empty.
        streams: How many server-sent event streams may be open at once, each of which holds a
            function: so many are reserved. None where they share with everything else.
        owner_limits: What tells functions of limits by owner that are other than the defaults.
        cloudwatch_role: Whether the account is given the role by which API Gateway writes logs, one
            for all its APIs; off where it has one.
        sender: The address, verified in SES, from which people are told how their saga ended; empty
            where nobody is.
        malware_scan: Whether GuardDuty scans uploads: then nothing is downloaded before it is found
            clean.
        probe: Whether there is something on the channels to measure them by.
        fargate: Whether consumers that can be workers are: services on Fargate, and no functions.
        index_step: How many deploys a ledger that has the former indexes is on its way to these;
            None where it has these, or is made now.
        local: Whether functions run on the checkout's own interpreter, under the local cloud.
    """

    base: str = "dev"
    chaos: bool = False
    timescale: float = 1.0
    issuer: str | None = None
    audience: str | None = None
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    connections_url: str = ""
    streams: int | None = None
    owner_limits: Mapping[str, str] = MappingProxyType({})
    cloudwatch_role: bool = True
    sender: str = ""
    malware_scan: bool = False
    probe: bool = False
    fargate: bool = False
    index_step: int | None = None
    local: bool = False

    @classmethod
    def from_context(cls, node: Node) -> Stage:
        """Read the context, and the region that the CDK CLI has said it deploys to.

        Raises:
            ContextError: A value is not one that it can have.
        """
        region = os.environ.get("CDK_DEFAULT_REGION", "")
        partition = RegionInfo.get(region).partition or "aws"
        if partition != "aws":
            # Streams stand on a layer that is published in `aws` alone, and addresses of the user
            # pool end otherwise elsewhere.
            raise ContextError(
                f"region {region!r} is in the partition {partition!r}: only 'aws' is supported"
            )

        def text(name: str) -> str:
            return str(node.try_get_context(name) or "").strip()

        base = text("stage") or "dev"
        if not base.isalnum() or not base.islower():
            raise ContextError(f"context stage={base!r}: lower case letters and digits only")
        for switch in ("chaos", "cloudwatch_role", "malware_scan", "probe"):
            if text(switch) not in ("", "on", "off"):
                raise ContextError(f"context {switch}={text(switch)!r}: on or off")
        if text("public_url") and not re.fullmatch(r"https?://[^/?#\s]+", text("public_url")):
            raise ContextError(f"context public_url={text('public_url')!r}: a scheme and a host")
        provider = text("payment_provider")
        if provider and not re.fullmatch(r"https?://[^?#\s]+", provider):
            raise ContextError(f"context payment_provider={provider!r}: an http or https address")
        if text("sender") and not re.fullmatch(r"[^@\s/*]+@[^@\s/*]+", text("sender")):
            raise ContextError(f"context sender={text('sender')!r}: a mail address")
        if "*" in text("cors_origins"):
            raise ContextError(f"context cors_origins={text('cors_origins')!r}: no wildcard")
        if bool(text("issuer")) != bool(text("audience")):
            raise ContextError("context issuer and audience: both or neither")
        if text("runtime") not in ("", "local"):
            raise ContextError(f"context runtime={text('runtime')!r}: local or nothing")
        if text("workers") not in ("", "lambda", "fargate"):
            raise ContextError(f"context workers={text('workers')!r}: lambda or fargate")
        if text("workers") == "fargate" and text("runtime") == "local":
            raise ContextError("context workers='fargate': the local cloud runs functions alone")
        try:
            timescale = float(text("timescale") or 1)
        except ValueError as problem:
            raise ContextError(f"context timescale={text('timescale')!r}: a number") from problem
        if not 0 < timescale <= 100:
            raise ContextError(f"context timescale={timescale:g}: above 0, at most 100")
        if text("streams") and not (text("streams").isdecimal() and int(text("streams"))):
            raise ContextError(f"context streams={text('streams')!r}: a number, at least 1")
        try:
            overridden(text("owner_limits"))
        except ValueError as problem:
            raise ContextError(f"context owner_limits: {problem}") from problem
        if text("index_step") not in ("", *"123456"):
            raise ContextError(f"context index_step={text('index_step')!r}: 1 to 6, or nothing")
        return cls(
            base=base,
            chaos=text("chaos") == "on",
            timescale=timescale,
            issuer=text("issuer") or None,
            audience=text("audience") or None,
            cors_origins=tuple(o for o in text("cors_origins").replace(",", " ").split() if o),
            public_url=text("public_url"),
            connections_url=text("connections_url"),
            streams=int(text("streams")) if text("streams") else None,
            owner_limits={"OWNER_LIMITS": own} if (own := text("owner_limits")) else {},
            cloudwatch_role=text("cloudwatch_role") != "off",
            sender=text("sender"),
            malware_scan=text("malware_scan") == "on",
            probe=text("probe") == "on",
            fargate=text("workers") == "fargate",
            index_step=int(text("index_step")) if text("index_step") else None,
            local=text("runtime") == "local",
        )

    @property
    def name(self) -> str:
        """The stage's name in stacks and outputs."""
        return f"{self.base}-chaos" if self.chaos else self.base

    @property
    def prefix(self) -> str:
        """The prefix of the names of its stacks and queues."""
        return f"Recourse-{self.name}"

    @property
    def sagas(self) -> str:
        """Where the declarations are listed, `module:name`: the functions' `RECOURSE_SAGAS`."""
        return Project.find().sagas

    @property
    def keeps_data(self) -> bool:
        """Whether what is stored outlives its stack."""
        return self.base == "prod"

    @property
    def removal(self) -> RemovalPolicy:
        """What happens to stored data when its stack is deleted.

        What a failed create leaves behind holds nothing, and goes.
        """
        return (
            RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if self.keeps_data else RemovalPolicy.DESTROY
        )

    @property
    def removal_of_protected(self) -> RemovalPolicy:
        """The same for what is protected from deletion: where nobody tries, nothing fails by it."""
        return RemovalPolicy.RETAIN if self.keeps_data else RemovalPolicy.DESTROY

    def step_timeout(self, seconds: float) -> Duration:
        """The timeout of a step's function: its task's, so no try outlives what waits for it."""
        return Duration.seconds(min(LONGEST, max(1, math.ceil(seconds * self.timescale))))

    def batch_timeout(self, seconds: float) -> Duration:
        """The timeout of a function that has a step's time for a batch, and some to answer for it.

        What is still at work when the step's time is up ends with the function's process
        (`recourse.choreography.listener`).
        """
        whole = self.step_timeout(seconds).to_seconds() + 10
        return Duration.seconds(min(LONGEST, whole))
