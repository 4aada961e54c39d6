"""The AWS account that a stage is to be deployed to, against what its templates ask.

::

    clients = lambda service: session.create_client(service, region_name=region, config=BOUNDED)
    for found in Account(clients, planned, region).findings():
        print(found.level, found.what, found.remedy)

Every call only reads, and takes some seconds at the most. A call that is refused or not answered
is a finding too; of what AWS says then only the error's code is shown, for its text may name keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from botocore.config import Config

from recourse import tools
from recourse.doctor.asking import UnansweredError, naming
from recourse.doctor.finding import Finding, error, ok, warning
from recourse.doctor.planned import NEAR, Planned, Resource

BOUNDED = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
"""For the clients: no call takes longer than 26 seconds, and most need one."""
MOST = 5000
"""Items that are counted at the most."""
UNRESERVED = 10
"""Executions that AWS keeps for functions without a reservation."""


class Quota(NamedTuple):
    """A quota of the account that can be raised.

    Attributes:
        what: Of what.
        service: The service, as Service Quotas calls it.
        code: Its code there.
        default: What AWS documents for an account of which it cannot be read.
        kind: The type of the resources that count.
        call: The operation that lists what there is, of the service of the same name.
        items: Where its answer has them.
    """

    what: str
    service: str
    code: str
    default: int
    kind: str
    call: str
    items: str


QUOTAS = (
    Quota(
        "DynamoDB tables",
        "dynamodb",
        "L-F98FE922",
        2500,
        "AWS::DynamoDB::Table",
        "list_tables",
        "TableNames",
    ),
    Quota(
        "EventBridge rules",
        "events",
        "L-244521F2",
        300,
        "AWS::Events::Rule",
        "list_rules",
        "Rules",
    ),
)
STACKS = ("cloudformation", "L-0485CB21", 2000)
CONCURRENCY = ("lambda", "L-B99A9384")


class Account:
    """An account and a region, before a deploy.

    Args:
        client: Makes a botocore client of a service, in the region.
        planned: What is to be deployed.
        region: The region.
    """

    def __init__(self, client: Callable[[str], Any], planned: Planned, region: str) -> None:
        self._client = client
        self._planned = planned
        self._region = region
        self._id = ""
        self._own_quotas = True

    def findings(self) -> Iterator[Finding]:
        """What is found, each as soon as it is; nothing more where the account does not answer."""
        identity = list(self._answered("credentials", self._credentials))
        yield from identity
        if any(one.level != "ok" for one in identity):
            return
        for name, look in (
            ("bootstrap", self._bootstrap),
            ("concurrency", self._concurrency),
            ("cloudwatch role", self._cloudwatch_role),
            ("mail", self._mail),
            ("quotas", self._stacks),
            *(("quotas", one) for one in map(self._looking, QUOTAS)),
            ("quotas", self._iam),
        ):
            yield from self._answered(name, look)

    def _answered(self, check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """The findings of a check, and one more if a call of it has no answer."""
        try:
            yield from look()
        except UnansweredError as problem:
            yield self._unanswered(check, problem)

    def _unanswered(self, check: str, problem: UnansweredError) -> Finding:
        what, remedy = f"{problem.right} was not answered: {problem.code}", _remedy(problem)
        if problem.is_credentials:
            why = "nothing can be deployed without valid credentials"
            return error(
                check, what, why, "sign in again, as with `aws sso login`, or set AWS_PROFILE"
            )
        if problem.is_network and check == "credentials":
            why = f"AWS cannot be reached in {self._region}, or there is no such region"
            return error(
                check, what, why, "check the network, HTTPS_PROXY, AWS_REGION and AWS_ENDPOINT_URL"
            )
        return warning(check, what, f"so it is not known whether {check} is well", remedy)

    def _call(self, service: str, operation: str, **asked: Any) -> Any:
        """The answer to one call.

        Raises:
            UnansweredError: There is none.
        """
        with naming(service, operation):
            return getattr(self._client(service), operation)(**asked)

    def _count(self, service: str, operation: str, items: str, **asked: Any) -> int:
        with naming(service, operation):
            limit = {"MaxItems": MOST}
            pages = self._client(service).get_paginator(operation)
            return sum(len(page[items]) for page in pages.paginate(**asked, PaginationConfig=limit))

    def _credentials(self) -> Iterator[Finding]:
        self._id = self._call("sts", "get_caller_identity")["Account"]
        yield ok("credentials", f"account {self._id}, region {self._region}")

    def _bootstrap(self) -> Iterator[Finding]:
        place = f"aws://{self._id}/{self._region}"
        remedy = f"{tools.NODE} {tools.CDK} bootstrap {place}"
        why = "the CDK deploys by the roles and the bucket that `cdk bootstrap` makes"
        for parameter, needed in self._planned.bootstrap.items():
            try:
                found = self._call("ssm", "get_parameter", Name=parameter)["Parameter"]["Value"]
            except UnansweredError as problem:
                if not problem.is_missing:
                    raise
                yield error("bootstrap", f"{place} is not bootstrapped", why, remedy)
                continue
            if not found.isdecimal() or int(found) < needed:
                what = f"{place} is bootstrapped with version {found}, and {needed} is needed"
                yield error("bootstrap", what, why, remedy)
            else:
                yield ok("bootstrap", f"version {found}, at least {needed} is needed")

    def _concurrency(self) -> Iterator[Finding]:
        settings = self._call("lambda", "get_account_settings")
        limits = settings["AccountLimit"]
        whole = limits["ConcurrentExecutions"]
        functions = list(self._planned.every("AWS::Lambda::Function"))
        reserved = [one for one in functions if self._reserves(one)]
        wanted = sum(map(self._reserves, reserved))
        left = limits["UnreservedConcurrentExecutions"] - wanted + sum(map(self._has, reserved))
        raised = _raise(*CONCURRENCY, 1000)
        what = f"{whole:,} executions at once, {wanted:,} reserved by the stage: {left:,} are left"
        if wanted and left < UNRESERVED:
            why = f"AWS refuses a reservation that leaves fewer than {UNRESERVED}: the deploy fails"
            remedy = f"reserve fewer with -c streams=N, or none without it; or {raised}"
            yield error("concurrency", what, why, remedy)
        elif left < len(functions):
            why = (
                f"the stage has {len(functions)} functions: fewer executions make them "
                "wait for each other, and calls are throttled"
            )
            yield warning("concurrency", what, why, raised)
        else:
            yield ok("concurrency", what)
        size, most = settings["AccountUsage"]["TotalCodeSize"], limits["TotalCodeSize"]
        if size >= NEAR * most:
            what = f"{size / 10**9:.1f} of {most / 10**9:.1f} GB of functions' code are used"
            remedy = "delete old versions of functions, or " + _raise("lambda", "L-2ACBD22F", 150)
            yield warning("quotas", what, "a deploy that is beyond it fails", remedy)

    def _reserves(self, function: Resource) -> int:
        said = function.properties.get("ReservedConcurrentExecutions", 0)
        return said if isinstance(said, int) else 0

    def _has(self, function: Resource) -> int:
        """What a function that is deployed has reserved already."""
        if (name := self._deployed(function)) is None:
            return 0
        found = self._call("lambda", "get_function_concurrency", FunctionName=name)
        return int(found.get("ReservedConcurrentExecutions", 0))

    def _deployed(self, resource: Resource) -> str | None:
        """What a resource is called in the account; None if it is not there."""
        if resource.stack not in self._there:
            return None
        asked = {"StackName": resource.stack, "LogicalResourceId": resource.name}
        try:
            found = self._call("cloudformation", "describe_stack_resource", **asked)
        except UnansweredError as problem:
            if problem.is_missing:
                return None
            raise
        detail = found["StackResourceDetail"]
        gone = detail["ResourceStatus"] == "DELETE_COMPLETE"
        return None if gone else detail.get("PhysicalResourceId")

    @cached_property
    def _there(self) -> set[str]:
        """Those of the stage's stacks that the account has."""
        return {name for name in self._planned.stacks if self._has_stack(name)}

    def _has_stack(self, name: str) -> bool:
        try:
            self._call("cloudformation", "describe_stacks", StackName=name)
        except UnansweredError as problem:
            if problem.is_missing:
                return False
            raise
        return True

    def _cloudwatch_role(self) -> Iterator[Finding]:
        sockets = [
            one
            for one in self._planned.every("AWS::ApiGatewayV2::Api")
            if one.properties.get("ProtocolType") == "WEBSOCKET"
        ]
        if not sockets:
            return
        own = list(self._planned.every("AWS::ApiGateway::Account"))
        role = self._call("apigateway", "get_account").get("cloudwatchRoleArn")
        if not role and not own:
            yield error(
                "cloudwatch role",
                "API Gateway has no role to write logs by, and the stage makes none",
                "AWS refuses the WebSocket stage: 'CloudWatch Logs role ARN must be set'",
                "deploy without -c cloudwatch_role=off",
            )
        elif role and own and self._deployed(own[0]) is None:
            yield warning(
                "cloudwatch role",
                f"the account has a role by which API Gateway writes logs: {role}",
                "the deploy replaces it, for every API of the account and the region",
                "deploy with -c cloudwatch_role=off",
            )
        else:
            yield ok("cloudwatch role", role or "the stage makes the account's role")

    def _mail(self) -> Iterator[Finding]:
        for sender in self._planned.senders:
            remedy = f"aws sesv2 create-email-identity --email-identity {sender}"
            try:
                found = self._call("sesv2", "get_email_identity", EmailIdentity=sender)
            except UnansweredError as problem:
                if not problem.is_missing:
                    raise
                why = "no mail is sent, and each is dead-lettered"
                yield error("mail", f"SES does not know {sender}", why, remedy)
                continue
            if not found.get("VerifiedForSendingStatus"):
                what = f"{sender} is not verified"
                why = "SES sends nothing from it: no mail is sent, and each is dead-lettered"
                remedy = f"follow the link in the mail to {sender}, or {remedy} for another one"
                yield error("mail", what, why, remedy)
            else:
                yield ok("mail", f"{sender} is verified")
        if not self._planned.senders:
            return
        account = self._call("sesv2", "get_account")
        if not account.get("SendingEnabled"):
            why = "SES has paused sending for this account and region"
            yield error("mail", "sending is paused", why, "aws sesv2 get-account says why")
        elif not account.get("ProductionAccessEnabled"):
            yield warning(
                "mail",
                "SES is in its sandbox",
                "only verified recipients get mail, and the function has no right to theirs",
                "aws sesv2 put-account-details --production-access-enabled "
                "--mail-type TRANSACTIONAL --website-url https://…",
            )

    def _stacks(self) -> Iterator[Finding]:
        used = self._count("cloudformation", "describe_stacks", "Stacks")
        new = len(self._planned.stacks) - len(self._there)
        yield from self._near("CloudFormation stacks", *STACKS, used, new)

    def _looking(self, quota: Quota) -> Callable[[], Iterator[Finding]]:
        def look() -> Iterator[Finding]:
            used = self._count(quota.service, quota.call, quota.items)
            new = self._planned.count(quota.kind, without=self._there)
            yield from self._near(quota.what, quota.service, quota.code, quota.default, used, new)

        return look

    def _near(
        self, what: str, service: str, code: str, default: int, used: int, new: int
    ) -> Iterator[Finding]:
        asked = {"ServiceCode": service, "QuotaCode": code}
        try:
            most = int(self._call("service-quotas", "get_service_quota", **asked)["Quota"]["Value"])
        except UnansweredError as problem:
            most = default
            if self._own_quotas:
                self._own_quotas = False
                yield warning(
                    "quotas",
                    f"{problem.right} was not answered: {problem.code}",
                    "quotas are taken to be those that AWS documents: this account may have others",
                    _remedy(problem),
                )
        yield _against(what, used, new, most, _raise(service, code, 2 * (used + new)))

    def _iam(self) -> Iterator[Finding]:
        found: Mapping[str, int] = self._call("iam", "get_account_summary")["SummaryMap"]
        for name, kind in (("Roles", "AWS::IAM::Role"), ("Policies", "AWS::IAM::ManagedPolicy")):
            new = self._planned.count(kind, without=self._there)
            most, used = found[f"{name}Quota"], found[name]
            remedy = f"delete {name.lower()} that nobody uses, or raise the quota in Service Quotas"
            yield _against(f"IAM {name.lower()}", used, new, most, f"{remedy} (iam, in us-east-1)")


def _remedy(problem: UnansweredError) -> str:
    """What to do about a call that was refused, or not answered."""
    if problem.is_refused:
        return f"allow {problem.right} to these credentials; it only reads"
    return "run `recourse doctor` again; if it stays, check the network and the service's health"


def _against(what: str, used: int, new: int, most: int, remedy: str) -> Finding:
    said = f"{used:,} {what}, {new:,} more with this stage, of {most:,}"
    if used + new > most:
        return error("quotas", said, "the deploy fails where the quota is reached", remedy)
    if used + new >= NEAR * most:
        return warning("quotas", said, "the deploy after this one may fail", remedy)
    return ok("quotas", said)


def _raise(service: str, code: str, number: int) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} "
        f"--quota-code {code} --desired-value {number}"
    )
