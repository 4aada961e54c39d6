"""A deployment's settings, from the CDK context."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from aws_cdk import Duration, RemovalPolicy
from aws_cdk.aws_lambda import Code
from aws_cdk.aws_logs import RetentionDays
from aws_cdk.region_info import RegionInfo

from recourse.cdk import console_settings
from recourse.cdk.code import fingerprint
from recourse.cdk.console_settings import SignIn
from recourse.cdk.indexes import INDEX_STEPS
from recourse.errors import RecourseError
from recourse.functions.limits import overridden
from recourse.functions.users import GROUPS
from recourse.ledger.listing import BY_OWNER_STATUS, INDEXES
from recourse.project import Project
from recourse.store import retention

if TYPE_CHECKING:
    from constructs import Node


LOGS = {
    "1": RetentionDays.ONE_DAY,
    "7": RetentionDays.ONE_WEEK,
    "14": RetentionDays.TWO_WEEKS,
    "30": RetentionDays.ONE_MONTH,
    "90": RetentionDays.THREE_MONTHS,
    "180": RetentionDays.SIX_MONTHS,
    "365": RetentionDays.ONE_YEAR,
    "731": RetentionDays.TWO_YEARS,
    "1827": RetentionDays.FIVE_YEARS,
    "3653": RetentionDays.TEN_YEARS,
}
"""How long logs may be kept, by days: CloudWatch has no other numbers in between."""
LONGEST = 900
"""The longest timeout of a function, in seconds."""


class ContextError(RecourseError, ValueError):
    """The CDK context cannot be deployed; the message names the key."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One deployment, which every construct receives.

    ::

        stage = Stage(app="Shop", base="prod", project=PROJECT)
        services = Services(stack, "Services", stage=stage, sagas=[ORDER])

    Attributes:
        app: What the app is called: the names of its queues begin with it, so two apps of one
            account and region need two names.
        base: Its name, `dev` by default; `prod` keeps its data.
        project: Where the sagas are listed and what functions carry; by default what
            `[tool.recourse]` in the pyproject.toml of the current folder says, or of one above it.
        code: Makes the code of every function, once for each, if it is not to be bundled from the
            project: it has the library, what that needs, and the project's packages.
        chaos: Whether faults on demand are switched on; the stage's name then ends in `-chaos`.
        timescale: The factor of the timeouts and back-offs of sagas.
        issuer: The issuer of bearer tokens; if None, a Cognito user pool is created.
        audience: The audience of bearer tokens.
        machines: The machines that get a client of the user pool, by name, each with the groups
            whose scopes it has.
        cors_origins: The web origins that may call the API.
        public_url: The API's address, if it is not the gateway's own.
        console: Whether the console is served, on AWS by a stack of its own (`has_console`).
        console_url: The origin at which it is served: `https://…` without a path, or on this
            machine `http://127.0.0.1:8000`. Empty where it is not known yet.
        console_domain: Its own domain; by default it has one of CloudFront's.
        console_certificate: The ARN of that domain's certificate, in us-east-1.
        sign_in: How people sign in to it, if the issuer is not a user pool of this app.
        connections_url: The URL to which messages for WebSocket connections are posted, with
            placeholders `{api}` and `{stage}`; the gateway's own address if empty.
        streams: How many server-sent event streams may be open at once; each occupies a function,
            and this concurrency is reserved. None reserves none.
        owner_limits: The environment variable with the limits by owner that are not the defaults.
        cloudwatch_role: Whether to create the account's role by which API Gateway writes logs, one
            for all its APIs; off if the account has one.
        sender: The address, verified in SES, from which mails about ended sagas are sent; empty
            sends none.
        malware_scan: Whether GuardDuty scans uploads, which then can only be downloaded when they
            have been found clean.
        fargate: Whether consumers run as services on Fargate instead of functions.
        index_step: The number of the current deploy in the migration from the former indexes of the
            ledger; None if the migration is complete or the ledger is new.
        retained: How many days what is kept for a time is kept, where that is not the default:
            `recourse.store.retention`.
        logs_days: How many days logs are kept; None for a year where data are kept, else two weeks.
        alarms: `all`, or `few`: sagas that are parked, messages in dead-letter queues, errors of
            the API. By default `few` where data are not kept, and all under the local cloud.
        keys: `each`, where services, events, valet keys and webhooks have a KMS key each, or `one`
            for them all. By default `one` where data are not kept, and `each` under the local
            cloud. A stage that changes to `one` can no longer read what it had encrypted with the
            others: messages that wait, and uploads.
        local: Whether functions run on the checkout's own interpreter, under the local cloud.
    """

    app: str = "Recourse"
    base: str = "dev"
    project: Project | None = None
    code: Callable[[], Code] | None = None
    chaos: bool = False
    timescale: float = 1.0
    issuer: str | None = None
    audience: str | None = None
    machines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    console: bool = True
    console_url: str = ""
    console_domain: str = ""
    console_certificate: str = ""
    sign_in: SignIn | None = None
    connections_url: str = ""
    streams: int | None = None
    owner_limits: dict[str, str] = field(default_factory=dict)
    cloudwatch_role: bool = True
    sender: str = ""
    malware_scan: bool = False
    fargate: bool = False
    index_step: int | None = None
    retained: Mapping[str, int] = field(default_factory=dict)
    logs_days: int | None = None
    alarms: Literal["all", "few"] | None = None
    keys: Literal["each", "one"] | None = None
    local: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that queues and user pools cannot have."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,19}", self.app):
            raise ContextError(
                f"app={self.app!r} must be a letter and then letters, digits and '-', at most 20 "
                "together"
            )

    @classmethod
    def from_context(
        cls,
        node: Node,
        *,
        app: str = "Recourse",
        project: Project | None = None,
        code: Callable[[], Code] | None = None,
    ) -> Stage:
        """Read the context, and the region from the CDK CLI's environment.

        ::

            stage = Stage.from_context(stack.node, app="Shop", project=PROJECT)

        Args:
            node: The node of the app, or of a construct that has the context.
            app: As above, like the other two.
            project: Where the sagas are listed and what functions carry.
            code: Makes the code of every function.

        Raises:
            ContextError: A value is not valid.
        """
        region = os.environ.get("CDK_DEFAULT_REGION", "")
        partition = RegionInfo.get(region).partition or "aws"
        if partition != "aws":
            # Streams need a layer that is published in `aws` only, and the user pool's addresses
            # have another suffix elsewhere.
            raise ContextError(
                f"region {region!r} is in the partition {partition!r}: only 'aws' is supported"
            )

        def text(name: str) -> str:
            return str(node.try_get_context(name) or "").strip()

        base = text("stage") or "dev"
        if not base.isalnum() or not base.islower():
            raise ContextError(f"context stage={base!r} must be lower case letters and digits")
        for switch in ("chaos", "cloudwatch_role", "malware_scan"):
            if text(switch) not in ("", "on", "off"):
                raise ContextError(f"context {switch}={text(switch)!r} must be on or off")
        if text("public_url") and not re.fullmatch(r"https?://[^/?#\s]+", text("public_url")):
            raise ContextError(
                f"context public_url={text('public_url')!r} must be a scheme and a host only"
            )
        if text("sender") and not re.fullmatch(r"[^@\s/*]+@[^@\s/*]+", text("sender")):
            raise ContextError(f"context sender={text('sender')!r} must be a mail address")
        if "*" in text("cors_origins"):
            raise ContextError(
                f"context cors_origins={text('cors_origins')!r} must have no wildcard"
            )
        if bool(text("issuer")) != bool(text("audience")):
            raise ContextError("context issuer and audience must be given together or not at all")
        if text("runtime") not in ("", "local"):
            raise ContextError(f"context runtime={text('runtime')!r} must be local or absent")
        if text("workers") not in ("", "lambda", "fargate"):
            raise ContextError(f"context workers={text('workers')!r} must be lambda or fargate")
        if text("workers") == "fargate" and text("runtime") == "local":
            raise ContextError("context workers='fargate': the local cloud runs functions only")
        try:
            timescale = float(text("timescale") or 1)
        except ValueError as problem:
            raise ContextError(
                f"context timescale={text('timescale')!r} must be a number"
            ) from problem
        if not 0 < timescale <= 100:
            raise ContextError(f"context timescale={timescale:g} must be above 0, at most 100")
        if text("streams") and not (text("streams").isdecimal() and int(text("streams"))):
            raise ContextError(f"context streams={text('streams')!r} must be a number, at least 1")
        steps = range(1, INDEX_STEPS)
        if text("index_step") not in ("", *map(str, steps)):
            raise ContextError(
                f"context index_step={text('index_step')!r} must be 1 to {steps[-1]} or absent"
            )
        retained = {}
        for kind in retention.KINDS:
            try:
                if days := text(f"retain_{kind}"):
                    retained[kind] = retention.parse(kind, days)
            except ValueError as problem:
                raise ContextError(f"context retain_{kind} {problem}") from problem
        for choice, values in (("alarms", ("all", "few")), ("keys", ("each", "one"))):
            if text(choice) not in ("", *values):
                raise ContextError(
                    f"context {choice}={text(choice)!r} must be {' or '.join(values)}"
                )
        try:
            overridden(text("owner_limits"))
        except ValueError as problem:
            raise ContextError(f"context owner_limits {problem}") from problem
        try:
            console = console_settings.parse(text)
        except ValueError as problem:
            raise ContextError(f"context {problem}") from problem
        logs = text("retain_logs")
        if logs and logs not in LOGS:
            raise ContextError(
                f"context retain_logs={logs!r} must be one of {', '.join(LOGS)} days"
            )
        return cls(
            app=app,
            base=base,
            project=project,
            code=code,
            chaos=text("chaos") == "on",
            timescale=timescale,
            issuer=text("issuer") or None,
            audience=text("audience") or None,
            machines=_machines(text("machines")),
            cors_origins=tuple(o for o in text("cors_origins").replace(",", " ").split() if o),
            public_url=text("public_url"),
            **console,
            connections_url=text("connections_url"),
            streams=int(text("streams")) if text("streams") else None,
            owner_limits={"OWNER_LIMITS": own} if (own := text("owner_limits")) else {},
            cloudwatch_role=text("cloudwatch_role") != "off",
            sender=text("sender"),
            malware_scan=text("malware_scan") == "on",
            fargate=text("workers") == "fargate",
            index_step=int(text("index_step")) if text("index_step") else None,
            retained=retained,
            logs_days=int(logs) if logs else None,
            alarms=cast("Literal['all', 'few']", text("alarms")) or None,
            keys=cast("Literal['each', 'one']", text("keys")) or None,
            local=text("runtime") == "local",
        )

    @property
    def environment_of_limits(self) -> dict[str, str]:
        """The environment of a function that counts what an owner has in flight."""
        has_index = self.index_step is None or self.index_step > INDEXES.index(BY_OWNER_STATUS)
        return {"UNINDEXED": "" if has_index else BY_OWNER_STATUS.name} | self.owner_limits

    @property
    def name(self) -> str:
        """The stage's name in stacks and outputs."""
        return f"{self.base}-chaos" if self.chaos else self.base

    @property
    def prefix(self) -> str:
        """The prefix of the names of its stacks and queues."""
        return f"{self.app}-{self.name}"

    @property
    def metrics_namespace(self) -> str:
        """CloudWatch's namespace of what its functions count: no other stage counts there."""
        return f"Recourse/{self.prefix}"

    @cached_property
    def carried(self) -> Project:
        """The project whose packages functions carry.

        Raises:
            ProjectError: None was given, and none was found.
        """
        return self.project or Project.find()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the code that functions carry, made once for them all."""
        return fingerprint(self.carried)

    @property
    def sagas(self) -> str:
        """The list of declarations, `module:name`: the functions' `RECOURSE_SAGAS`."""
        return self.carried.sagas

    @property
    def has_console(self) -> bool:
        """Whether the app makes a `Console`: the local cloud serves the page itself."""
        return self.console and not self.local

    @property
    def keeps_data(self) -> bool:
        """Whether stored data outlives its stack."""
        return self.base == "prod"

    @property
    def has_every_alarm(self) -> bool:
        """Whether there is an alarm on everything, rather than on what a person must see."""
        return self.alarms == "all" if self.alarms else self.keeps_data or self.local

    @property
    def has_every_key(self) -> bool:
        """Whether each capability has a KMS key of its own."""
        return self.keys == "each" if self.keys else self.keeps_data or self.local

    @property
    def retention(self) -> dict[str, str]:
        """The environment variables that say how long a function's rows are kept."""
        return {retention.variable(name): str(days) for name, days in self.retained.items()}

    def kept(self, name: str) -> Duration | None:
        """How long objects of a kind are kept; None for good."""
        days = self.retained.get(name, retention.KINDS[name].days)
        return None if days is None else Duration.days(days)

    @property
    def log_retention(self) -> RetentionDays:
        """How long logs are kept."""
        if self.logs_days is not None:
            return LOGS[str(self.logs_days)]
        return RetentionDays.ONE_YEAR if self.keeps_data else RetentionDays.TWO_WEEKS

    @property
    def removal(self) -> RemovalPolicy:
        """What happens to stored data when its stack is deleted.

        A resource that a failed create leaves behind is empty, and is deleted in any case.
        """
        return (
            RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if self.keeps_data else RemovalPolicy.DESTROY
        )

    @property
    def removal_of_protected(self) -> RemovalPolicy:
        """The same for resources with deletion protection, whose deletion a rollback would fail."""
        return RemovalPolicy.RETAIN if self.keeps_data else RemovalPolicy.DESTROY

    def step_timeout(self, seconds: float) -> Duration:
        """The timeout of a step's function: that of its task, so that no attempt outlives it."""
        return Duration.seconds(min(LONGEST, max(1, math.ceil(seconds * self.timescale))))

    def batch_timeout(self, seconds: float) -> Duration:
        """The timeout of a function that has a step's time for a batch, and a margin to answer.

        Attempts that still run when the step's time is up end with the function's process
        (`recourse.choreography.listener`).
        """
        whole = self.step_timeout(seconds).to_seconds() + 10
        return Duration.seconds(min(LONGEST, whole))


def _machines(text: str) -> dict[str, tuple[str, ...]]:
    """The groups of each machine in `nightly,desk:operator,papers:customer+documents`.

    Raises:
        ContextError: It is not such a list.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in text.replace(",", " ").split():
        name, colon, named = one.partition(":")
        groups = tuple(named.split("+")) if colon else ("customer",)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,39}", name) or not set(groups) <= set(GROUPS):
            raise ContextError(
                f"context machines={one!r} must be letters and digits, or these, a colon and "
                f"groups of {', '.join(GROUPS)}, separated by +"
            )
        if name in found:
            raise ContextError(f"context machines: {name!r} must be given once")
        found[name] = groups
    return found
