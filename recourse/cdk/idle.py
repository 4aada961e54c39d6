"""What a stage costs while nobody uses it, counted in its templates at list prices.

    month = idle_month(template.body for template in templates(Path("cdk.out")).values())
    month.dollars            # 7.9
    month.said               # "idle, this stage costs some $7.90 a month: …"
    month.of("KMS keys")     # Line(what="KMS keys", count=2, charged={"KMS keys": 2})

It reads what `cdk synth` wrote, makes no call, and does not import the CDK. Assumed is what AWS
documents of pollers, and what `ROUND` says of a round of the sweeper; tables, topics, gateways and
functions cost nothing while nothing comes, nor do backups and logs of nothing (`docs/cost.md`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recourse.cdk.prices import DATE, MONTH_HOURS, cost
from recourse.functions.kit import WATCH_INTERVAL

MINUTES = MONTH_HOURS * 60
POLLERS, POLLS = 5, 3
"""How many receives Lambda keeps open on an idle queue, each of 20 s: so many a minute."""
CALL_SECONDS = 1.1
"""What a call on a schedule takes: the sweeper waits a second for each of its queues, at once."""
LOG_BYTES = 600
"""What such a call logs: that it began, ended, and what it took."""
ROUND = {"DynamoDB writes": 2, "DynamoDB reads": 12}
"""What a round of the sweeper takes that finds nothing, besides its queues: the lease, twice, and
each shard of the sagas under way and of those that wait for somebody; a test counts it."""
CLEARS, WATCHES = "sqs:ReceiveMessage", "sqs:GetQueueAttributes"
"""The right by which the sweeper clears a queue, and the one by which it counts what is in one."""
COSTS_NOTHING = {
    "AWS::ApiGatewayV2::Api": "HTTP and WebSocket APIs",
    "AWS::CloudFront::Distribution": "distributions",
    "AWS::DynamoDB::Table": "tables, with their backups",
    "AWS::Lambda::Function": "functions",
    "AWS::Logs::LogGroup": "log groups",
    "AWS::S3::Bucket": "buckets",
    "AWS::SNS::Topic": "topics",
    "AWS::SQS::Queue": "queues",
    "AWS::StepFunctions::StateMachine": "state machines",
}
"""What is charged by use alone, and by what it stores."""
_EACH = {
    "AWS::CloudWatch::CompositeAlarm": "composite alarms",
    "AWS::CloudWatch::Dashboard": "dashboards",
    "AWS::KMS::Key": "KMS keys",
    "AWS::SecretsManager::Secret": "secrets",
}
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}


@dataclass(frozen=True)
class Line:
    """One line of the bill.

    Attributes:
        what: What is charged.
        count: How many resources that is.
        charged: What is counted in a month, by the names of `recourse.cdk.prices.PRICES`.
    """

    what: str
    count: int
    charged: Mapping[str, float]

    @property
    def dollars(self) -> float:
        """What it costs in a month."""
        return cost(self.charged)


@dataclass(frozen=True)
class Month:
    """An idle month.

    Attributes:
        lines: What is charged, the dearest first.
        free: How many resources there are that cost nothing while nothing comes, by what they are.
    """

    lines: tuple[Line, ...]
    free: Mapping[str, int]

    @property
    def dollars(self) -> float:
        """What it costs."""
        return sum(line.dollars for line in self.lines)

    def of(self, what: str) -> Line:
        """One of its lines; an empty one, if nothing of that is charged."""
        found = [line for line in self.lines if line.what == what]
        return found[0] if found else Line(what, 0, {})

    @property
    def said(self) -> str:
        """What it costs and what dominates, in a line."""
        most = ", ".join(
            f"{line.what} ({line.count}) ${line.dollars:.2f}" for line in self.lines[:3]
        )
        return f"idle, this stage costs some ${self.dollars:.2f} a month" + (
            f": {most} (list prices of us-east-1, {DATE})" if most else ""
        )


def idle_month(templates: Iterable[Mapping[str, Any]]) -> Month:
    """Count what a stage costs in a month in which nothing comes.

    Args:
        templates: The templates of its stacks.
    """
    counts: Counter[str] = Counter()
    charged: dict[str, dict[str, float]] = {}
    free: Counter[str] = Counter()
    for template in templates:
        resources = template["Resources"]
        for body in resources.values():
            if body["Type"] in COSTS_NOTHING:
                free[COSTS_NOTHING[body["Type"]]] += 1
            for what, found in _charges(body["Type"], body.get("Properties", {}), resources):
                counts[what] += 1
                line = charged.setdefault(what, {})
                line.update({name: line.get(name, 0) + count for name, count in found.items()})
    lines = [Line(what, counts[what], found) for what, found in charged.items()]
    return Month(tuple(sorted(lines, key=lambda one: -one.dollars)), dict(sorted(free.items())))


def _charges(
    kind: str, has: Mapping[str, Any], resources: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """What a resource is charged for in a month, by line of the bill."""
    match kind:
        case _ if kind in _EACH:
            yield _EACH[kind], {_EACH[kind]: 1}
        case "AWS::CloudWatch::Alarm":
            # One that is computed is charged for each metric that it reads.
            read = sum("MetricStat" in one for one in has.get("Metrics", ()))
            yield "alarms", {"alarms": max(1, read)}
        case "AWS::Cognito::UserPoolClient":
            if "client_credentials" in has.get("AllowedOAuthFlows", ()):
                yield "machine clients", {"machine clients": 1}
        case "AWS::EC2::NatGateway":
            yield "NAT gateways", {"NAT gateway hours": MONTH_HOURS}
        case "AWS::EC2::VPCEndpoint":
            if has.get("VpcEndpointType") == "Interface":
                hours = MONTH_HOURS * (len(has.get("SubnetIds", ())) or 1)
                yield "VPC endpoints", {"VPC endpoint hours": hours}
        case "AWS::ECS::Service":
            task = resources[has["TaskDefinition"]["Ref"]]["Properties"]
            yield "workers on Fargate", _worker(has, task)
        case "AWS::Events::Rule":
            for target in has.get("Targets", ()) if "ScheduleExpression" in has else ():
                logical = target["Arn"].get("Fn::GetAtt", [""])[0]
                called = resources.get(logical, {}).get("Properties", {})
                yield "schedules", _scheduled(has["ScheduleExpression"], called, resources)
        case "AWS::Lambda::EventSourceMapping":
            if "StartingPosition" not in has:  # a stream is read free of charge
                yield "polled queues", {"SQS requests": POLLERS * POLLS * MINUTES}


def _worker(service: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, float]:
    """What a service on Fargate takes: its tasks, their addresses, and their empty receives."""
    hours = service.get("DesiredCount", 1) * MONTH_HOURS
    network = service.get("NetworkConfiguration", {}).get("AwsvpcConfiguration", {})
    return {
        "Fargate vCPU-hours": int(task["Cpu"]) / 1024 * hours,
        "Fargate GB-hours": int(task["Memory"]) / 1024 * hours,
        "public IPv4 hours": hours if network.get("AssignPublicIp") == "ENABLED" else 0,
        "SQS requests": hours * 60 * POLLS,
    }


def _scheduled(
    schedule: str, function: Mapping[str, Any], resources: Mapping[str, Any]
) -> dict[str, float]:
    """What the calls of a schedule take in which there is nothing to do.

    A schedule that is no rate is taken for hourly.
    """
    rate = _RATE.fullmatch(schedule)
    calls = MINUTES / (int(rate[1]) * _UNITS[rate[2]] if rate else 60)
    found = {
        "Lambda requests": calls,
        "Lambda GB-seconds": calls * CALL_SECONDS * function.get("MemorySize", 128) / 1024,
        "log GB": calls * LOG_BYTES / 1e9,
    }
    if function.get("TracingConfig", {}).get("Mode") == "Active":
        found["traces"] = calls
    told = function.get("Environment", {}).get("Variables", {})
    if "WATCHED_QUEUES" in told:  # it is the sweeper
        role = {"Ref": function["Role"]["Fn::GetAtt"][0]}
        cleared, watched = (_queues(role, action, resources) for action in (CLEARS, WATCHES))
        found["SQS requests"] = calls * (cleared + watched / WATCH_INTERVAL)
        found |= {what: calls * units for what, units in ROUND.items()}
    return found


def _queues(role: Mapping[str, Any], action: str, resources: Mapping[str, Any]) -> int:
    """On how many queues managed policies allow a role an action."""
    return sum(
        len(statement["Resource"]) if isinstance(statement["Resource"], list) else 1
        for one in resources.values()
        if one["Type"] == "AWS::IAM::ManagedPolicy" and role in one["Properties"].get("Roles", ())
        for statement in one["Properties"]["PolicyDocument"]["Statement"]
        if action in statement["Action"]
    )
