"""What a stage costs while nobody uses it: a development stage little, production what it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from bench.cost import AT_MOST
from recourse.cdk.idle import ROUND, Month, idle_month
from recourse.cdk.prices import PRICES, cost
from recourse.testing.capacity import metered
from tests.ground import ground
from tests.infra.assembly import Assembly
from tests.infra.test_events import consumers

pytestmark = pytest.mark.xdist_group("infra")


def month(assembly: Assembly) -> Month:
    return idle_month(assembly.templates.values())


def bill(**resources: Mapping[str, Any]) -> Month:
    return idle_month([{"Resources": resources}])


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def test_an_idle_development_stage_costs_little(dev: Assembly) -> None:
    found = month(dev)
    assert found.dollars <= AT_MOST, found.said
    assert {line.what: line.count for line in found.lines} == {
        "polled queues": len(consumers(dev)),
        "KMS keys": 2,
        "schedules": 2,
        "alarms": 3,
    }


def test_production_keeps_each_alarm_and_each_key(prod: Assembly, whole: Assembly) -> None:
    for assembly in (prod, whole):
        found = month(assembly)
        assert found.of("alarms").count == len(assembly.every("AWS::CloudWatch::Alarm")) > 50
        assert found.of("KMS keys").count == 5
        assert found.dollars > AT_MOST


def test_few_alarms_are_what_only_a_person_mends(dev: Assembly) -> None:
    names = {f"{one.stack}/{one.name}" for one in dev.every("AWS::CloudWatch::Alarm")}
    assert names == {"Events/ParkedAlarm", "Sagas/SweeperErrors", "Api/Http/Failing"}


def test_one_key_encrypts_everything_and_is_used_by_whom_each_was(
    dev: Assembly, prod: Assembly
) -> None:
    def services(assembly: Assembly) -> set[str]:
        """Who may use some key on behalf of who calls them."""
        return {
            one
            for key in assembly.every("AWS::KMS::Key")
            for statement in key.properties["KeyPolicy"]["Statement"]
            for one in _listed(statement["Principal"].get("Service", []))
        }

    assert services(dev) == services(prod)
    assert {one.stack for one in dev.every("AWS::KMS::Key")} == {"Services", "Valet"}
    assert [one.name for one in dev.every("AWS::KMS::Key") if one.stack == "Valet"] == [
        "SigningKey"
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_workers_and_what_they_need_are_counted(fargate: Assembly) -> None:
    """A quarter of a processor, half a GB, a public address, and three empty receives a minute."""
    found = month(fargate).of("workers on Fargate")
    assert found.count == 1
    assert found.charged == pytest.approx(
        {
            "Fargate vCPU-hours": 182.5,
            "Fargate GB-hours": 365,
            "public IPv4 hours": 730,
            "SQS requests": 131_400,
        }
    )
    assert found.dollars == pytest.approx(5.909 + 1.299 + 3.65 + 0.053, abs=0.001)


def test_an_idle_round_of_the_sweeper_takes_what_is_counted_for_it() -> None:
    with ground() as place:
        place.sweeper.sweep()
        with metered(place.dynamodb) as meter:
            place.sweeper.sweep()
        used = meter.found().values()
    counted = {
        "DynamoDB writes": sum(one.writes for one in used),
        "DynamoDB reads": sum(one.reads for one in used),
    }
    assert counted == ROUND


def test_a_bill_has_its_dearest_line_first_and_says_what_dominates() -> None:
    found = bill(
        Key=resource("KMS::Key"),
        Page=resource("CloudWatch::Dashboard"),
        Secret=resource("SecretsManager::Secret"),
        Net=resource("EC2::NatGateway"),
        Alarm=resource("CloudWatch::Alarm", MetricName="Errors"),
        Topic=resource("SNS::Topic"),
        Table=resource("DynamoDB::Table"),
    )
    assert [(line.what, round(line.dollars, 2)) for line in found.lines] == [
        ("NAT gateways", 32.85),
        ("dashboards", 3.00),
        ("KMS keys", 1.00),
        ("secrets", 0.40),
        ("alarms", 0.10),
    ]
    assert found.free == {"tables, with their backups": 1, "topics": 1}
    assert found.said.startswith(
        "idle, this stage costs some $37.35 a month: NAT gateways (1) $32.85, dashboards (1) $3.00"
    )
    assert bill().said == "idle, this stage costs some $0.00 a month"


@pytest.mark.parametrize(
    ("made", "what", "dollars"),
    [
        (
            resource(
                "CloudWatch::Alarm",
                Metrics=[{"Expression": "a+b"}, {"MetricStat": {}}, {"MetricStat": {}}],
            ),
            "alarms",
            0.20,
        ),
        (resource("CloudWatch::CompositeAlarm"), "composite alarms", 0.50),
        (
            resource("Cognito::UserPoolClient", AllowedOAuthFlows=["client_credentials"]),
            "machine clients",
            6.00,
        ),
        (resource("Cognito::UserPoolClient", AllowedOAuthFlows=["code"]), "machine clients", 0),
        (resource("Lambda::EventSourceMapping", EventSourceArn="q"), "polled queues", 0.2628),
        (
            resource("Lambda::EventSourceMapping", StartingPosition="LATEST"),
            "polled queues",
            0,
        ),
        (
            resource("EC2::VPCEndpoint", VpcEndpointType="Interface", SubnetIds=["a", "b"]),
            "VPC endpoints",
            14.60,
        ),
        (resource("EC2::VPCEndpoint", VpcEndpointType="Gateway"), "VPC endpoints", 0),
    ],
)
def test_each_is_charged_as_aws_lists_it(made: dict[str, Any], what: str, dollars: float) -> None:
    assert bill(One=made).of(what).dollars == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("schedule", "calls"),
    [
        ("rate(1 minute)", 43_800),
        ("rate(5 minutes)", 8760),
        ("rate(1 day)", 365 / 12),
        ("cron(0 12 * * ? *)", 730),
    ],
)
def test_a_schedule_is_charged_by_its_calls(schedule: str, calls: float) -> None:
    rule = resource(
        "Events::Rule",
        ScheduleExpression=schedule,
        Targets=[{"Arn": {"Fn::GetAtt": ["Called", "Arn"]}}],
    )
    called = resource("Lambda::Function", MemorySize=512)
    found = bill(Rule=rule, Called=called).of("schedules").charged
    assert found["Lambda requests"] == pytest.approx(calls)
    assert found["Lambda GB-seconds"] == pytest.approx(calls * 1.1 / 2)
    assert "traces" not in found
    traced = json.loads(json.dumps(called))
    traced["Properties"]["TracingConfig"] = {"Mode": "Active"}
    assert (
        bill(Rule=rule, Called=traced).of("schedules").charged["traces"] == found["Lambda requests"]
    )


def test_every_price_has_its_page() -> None:
    for name, price in PRICES.items():
        assert price.page.startswith("https://aws.amazon.com/"), name
        assert price.amount > 0 and price.per > 0, name
    assert cost({"SQS requests": 2e6, "KMS keys": 1}) == pytest.approx(1.80)
