"""What AWS takes at the most: every template, and what it would make, stays below it.

The figures are AWS's own, of November 2026, from the services' pages on quotas. What may be raised
for an account is not among them: `recourse doctor` looks at that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.infra.assembly import Assembly, Resource, listed

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

ROOM = 0.8
"""The share of a quota that may be used: an app grows."""


def below(quota: int, used: dict[str, int]) -> None:
    """Each of these stays below a share of the quota, and there are some."""
    assert used
    assert not {name: one for name, one in used.items() if one > quota * ROOM}


LONGEST = {
    "AWS::Partition": "aws",
    "AWS::Region": "ap-southeast-1",
    "AWS::AccountId": "123456789012",
}


def deployed(assembly: Assembly, text: str) -> str:
    """A text with every reference as long as what will stand there."""

    def physical(found: re.Match[str]) -> str:
        name, _, attribute = found[1].partition(".")
        if name in LONGEST:
            return LONGEST[name]
        stack = "" if name.endswith("Machine") else "Recourse-dev-Choreography-"
        made = f"{stack}{re.sub('[^a-zA-Z]', '', name)}01234567-0123456789AB"
        is_arn = attribute.endswith("Arn") or name in assembly.named_by_arn
        return f"arn:aws:states:ap-southeast-1:123456789012:stateMachine:{made}" if is_arn else made

    return re.sub("<([^<>]+)>", physical, text)


def size(assembly: Assembly, resource: Resource, *path: str) -> int:
    """Bytes of a property, as it is sent."""
    value = assembly.plain(resource.stack, resource.properties)
    for step in path:
        value = value.get(step, {})
    return len(deployed(assembly, json.dumps(value, separators=(",", ":"))).encode())


def test_stacks(each: Assembly) -> None:
    templates = each.templates
    below(500, {name: len(one["Resources"]) for name, one in templates.items()})
    below(200, {name: len(one.get("Outputs", {})) for name, one in templates.items()})
    below(200, {name: len(one.get("Parameters", {})) for name, one in templates.items()})
    below(1_000_000, {path.name: path.stat().st_size for path in each.files})


def test_environments_have_4_kb(each: Assembly) -> None:
    functions = each.every("AWS::Lambda::Function")
    below(4096, {one.name: size(each, one, "Environment", "Variables") for one in functions})


def roles(each: Assembly) -> Iterator[tuple[str, Resource]]:
    for policy in each.every("AWS::IAM::Policy"):
        for role in each.plain(policy.stack, policy.properties["Roles"]):
            yield role, policy


def test_the_policies_of_a_role_have_10_kb_and_a_managed_one_6(each: Assembly) -> None:
    inline: Counter[str] = Counter()
    for role, policy in roles(each):
        inline[role] += size(each, policy, "PolicyDocument")
    below(10_240, inline)
    managed = each.every("AWS::IAM::ManagedPolicy")
    below(6_144, {one.name: size(each, one, "PolicyDocument") for one in managed})
    attached = Counter(
        role
        for one in managed
        for role in map(str, each.plain(one.stack, one.properties.get("Roles", [])))
    )
    below(10, attached)
    trusts = each.every("AWS::IAM::Role")
    below(2048, {one.name: size(each, one, "AssumeRolePolicyDocument") for one in trusts})


def test_the_policies_of_resources(each: Assembly) -> None:
    for kind, property_, quota in (
        ("AWS::KMS::Key", "KeyPolicy", 32_768),
        ("AWS::S3::BucketPolicy", "PolicyDocument", 20_480),
        ("AWS::SQS::QueuePolicy", "PolicyDocument", 8_192),
        ("AWS::SNS::TopicPolicy", "PolicyDocument", 30_720),
    ):
        below(quota, {one.name: size(each, one, property_) for one in each.every(kind)})


def test_what_may_invoke_a_function_fits_its_policy_of_20_kb(each: Assembly) -> None:
    """A permission is a statement of some 400 bytes."""
    permissions = Counter(
        str(each.plain(one.stack, one.properties["FunctionName"]))
        for one in each.every("AWS::Lambda::Permission")
    )
    below(20_480 // 400, permissions)


def test_a_topic_has_200_filters_of_150_combinations_each(each: Assembly) -> None:
    filtered: Counter[str] = Counter()
    combinations: dict[str, int] = {}
    for one in each.every("AWS::SNS::Subscription"):
        if policy := one.properties.get("FilterPolicy"):
            filtered[str(each.plain(one.stack, one.properties["TopicArn"]))] += 1
            product = 1
            for values in policy.values():
                product *= len(listed(values))
            combinations[one.name] = product
    below(200, filtered)
    below(150, combinations)


def test_two_readers_follow_a_stream_at_the_most(each: Assembly) -> None:
    """Each shard of a DynamoDB stream is read by two at once; a third is throttled."""
    readers = Counter(
        arn
        for one in each.every("AWS::Lambda::EventSourceMapping")
        if (arn := str(each.plain(one.stack, one.properties["EventSourceArn"]))).endswith("Stream")
        or "StreamArn" in arn
    )
    assert readers
    assert max(readers.values()) <= 2, readers


def test_rules_and_routes(each: Assembly) -> None:
    rules = each.every("AWS::Events::Rule")
    assert max(len(one.properties["Targets"]) for one in rules) <= 5
    patterns = {
        one.name: size(each, one, "EventPattern")
        for one in rules
        if "EventPattern" in one.properties
    }
    below(2048, patterns)
    below(300, dict(Counter(one.stack for one in each.every("AWS::ApiGatewayV2::Route"))))


def test_names_that_aws_would_cut_or_refuse(each: Assembly) -> None:
    for kind, property_, longest in (
        ("AWS::SQS::Queue", "QueueName", 80),
        ("AWS::CloudWatch::Alarm", "AlarmName", 255),
        ("AWS::Lambda::Function", "Description", 256),
    ):
        for one in each.every(kind):
            name = str(each.plain(one.stack, one.properties.get(property_, "")))
            assert len(name) <= longest, name


def test_a_definition_of_a_machine_has_1_mb(each: Assembly) -> None:
    machines = each.every("AWS::StepFunctions::StateMachine")
    below(1_048_576, {one.name: size(each, one, "DefinitionString") for one in machines})
