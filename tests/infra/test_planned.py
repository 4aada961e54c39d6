"""The templates of every stage, held against fixed quotas by the doctor."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.doctor.planned import FIXED, Planned, size
from tests.infra.assembly import Assembly

pytestmark = pytest.mark.xdist_group("infra")


def test_no_stage_comes_near_to_a_quota_that_nobody_can_raise(each: Assembly) -> None:
    planned = Planned.of(each.folder)
    assert [one for one in planned.findings() if one.level != "ok"] == []
    assert planned.stacks.keys() == each.templates.keys()
    assert list(planned.bootstrap) == ["/cdk-bootstrap/hnb659fds/version"]
    assert planned.count("AWS::DynamoDB::Table") == len(each.every("AWS::DynamoDB::Table"))


def of(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def planned(**resources: Any) -> Planned:
    return Planned({"One": {"Resources": resources}}, {})


def many(count: int, one: dict[str, Any]) -> dict[str, Any]:
    return {f"R{number}": one for number in range(count)}


STATEMENTS = {"Statement": [{"Action": "s3:GetObject", "Resource": "x" * 6200}]}
READER = of("Lambda::EventSourceMapping", StartingPosition="LATEST", EventSourceArn={"Ref": "T"})
FAULTS: dict[str, tuple[Planned, str]] = {
    "resources": (planned(**many(501, of("SQS::Queue"))), "501 resources"),
    "outputs": (Planned({"One": {"Outputs": many(201, {"Value": "x"})}}, {}), "201 outputs"),
    "template": (planned(Large=of("SQS::Queue", Tags="x" * 10**6)), "bytes of one template"),
    "environment": (
        planned(F=of("Lambda::Function", Environment={"Variables": {"A": "x" * 4096}})),
        "One F: 4,097 bytes of environment",
    ),
    "inline policies": (
        planned(**many(2, of("IAM::Policy", PolicyDocument=STATEMENTS, Roles=[{"Ref": "Role"}]))),
        "One Role:",
    ),
    "managed policy": (planned(P=of("IAM::ManagedPolicy", PolicyDocument=STATEMENTS)), "One P:"),
    "filter policies": (
        planned(**many(201, of("SNS::Subscription", TopicArn={"Ref": "T"}, FilterPolicy={}))),
        "topic T: 201 filter policies",
    ),
    "stream readers": (planned(**many(3, READER)), "stream T: 3 readers"),
}


@pytest.mark.parametrize("what", FIXED)
def test_each_quota_that_is_passed_is_an_error_alone(what: str) -> None:
    made, said = FAULTS[what]
    (found,) = [one for one in made.findings() if one.level != "ok"]
    assert found.level == "error" and said in found.what and found.remedy


def test_what_comes_near_is_a_warning_and_what_does_not_is_none() -> None:
    for count, level in ((449, "ok"), (450, "warning"), (500, "warning")):
        (found,) = planned(**many(count, of("SQS::Queue"))).findings()
        assert found.level == level, count


def test_the_size_of_what_is_not_known_yet_is_that_of_a_name_or_an_arn() -> None:
    arn = {"Fn::GetAtt": ["Function", "Arn"]}
    assert size(arn) > size({"Ref": "Table"}) > size({"Ref": "AWS::Region"})
    assert size({"Fn::Join": ["", ["a", arn, "b"]]}) == size(arn) + 2
