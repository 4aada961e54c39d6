"""Rights that no emulator judges: nobody lacks one, and what is taken away is found missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.infra.assembly import Assembly, listed
from tests.infra.unjudged import Templates, findings

pytestmark = pytest.mark.xdist_group("infra")

ROLES, QUEUES, TOPICS = "AWS::IAM::Policy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"
KEYS, TRUST = "AWS::KMS::Key", "AWS::IAM::Role"
DOCUMENT = {KEYS: "KeyPolicy", TRUST: "AssumeRolePolicyDocument"}
"""Where a resource holds its policy, if it is not the PolicyDocument."""
Document = dict[str, Any]


def copied(templates: Templates) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(templates))
    return found


def changed(
    templates: Templates, kind: str, change: Callable[[Document], list[Document]]
) -> Templates:
    """A copy of templates with others for each statement of a kind's policies that allows."""
    copy = copied(templates)
    for template in copy.values():
        for body in template["Resources"].values():
            if body["Type"] == kind:
                policy = body["Properties"][DOCUMENT.get(kind, "PolicyDocument")]
                policy["Statement"] = [
                    other
                    for one in policy["Statement"]
                    for other in (change(one) if one["Effect"] == "Allow" else [one])
                ]
    return copy


def without(templates: Templates, kind: str, action: str, principal: str = "") -> Templates:
    """A copy of templates in which an action is allowed by no policy of a kind.

    Args:
        templates: The templates; they stay as they are.
        kind: The type of what holds the policies.
        action: The action, with `*` behind it or not.
        principal: To whom alone it is no longer allowed.
    """

    def change(statement: Document) -> list[Document]:
        left = [one for one in listed(statement["Action"]) if one.rstrip("*") != action]
        less = [statement | {"Action": left}] if left else []
        if not principal:
            return less
        ((how, who),) = statement["Principal"].items()
        its = [one for one in listed(who) if principal in json.dumps(one)]
        others = [one for one in listed(who) if one not in its]
        return [
            *(one | {"Principal": {how: its}} for one in less if its),
            *([statement | {"Principal": {how: others}}] if others else []),
        ]

    return changed(templates, kind, change)


def less(templates: Templates, is_gone: Callable[[Document], bool]) -> Templates:
    """A copy of templates without some of their resources."""
    copy = copied(templates)
    for template in copy.values():
        for logical, body in list(template["Resources"].items()):
            if is_gone(body):
                del template["Resources"][logical]
    return copy


def must_find(templates: Templates, words: str) -> None:
    """Something is found, and all of it is this."""
    found = findings(templates)
    assert found
    assert not [one for one in found if not re.search(words, one)]


def test_nobody_lacks_a_right_that_no_emulator_judges(each: Assembly) -> None:
    assert not findings(each.templates)


def test_nobody_lacks_one_where_workers_are_on_fargate(fargate: Assembly) -> None:
    assert not findings(fargate.templates)


SERVICE_TO_KEY = [
    (KEYS, action, f"{name}.amazonaws.com", f"{name}.amazonaws.com lacks {action} on ")
    for name in ("cloudwatch", "events", "sns")
    for action in ("kms:Decrypt", "kms:GenerateDataKey")
]


@pytest.mark.parametrize(
    ("kind", "action", "principal", "words"),
    [
        (ROLES, "kms:Decrypt", "", "lacks kms:Decrypt on the key of "),
        (ROLES, "kms:GenerateDataKey", "", "lacks kms:GenerateDataKey on the key of "),
        (KEYS, "kms:", ":root", "lacks kms:.* on the key of "),
        (ROLES, "lambda:InvokeFunction", "", "Machine: lacks lambda:InvokeFunction on "),
        *(
            (ROLES, f"sqs:{one}", "", f": lacks sqs:{one} on .*Queue")
            for one in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
        ),
        *(
            (ROLES, f"dynamodb:{one}", "", f": lacks dynamodb:{one} (on|for) .*Table")
            for one in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
        ),
        (ROLES, "sqs:SendMessage", "", ": lacks sqs:SendMessage on .*Deadletters"),
        (QUEUES, "sqs:SendMessage", "events", "events.amazonaws.com lacks sqs:SendMessage on "),
        (QUEUES, "sqs:SendMessage", "sns", "sns.amazonaws.com lacks sqs:SendMessage on "),
        (TOPICS, "sns:Publish", "cloudwatch", "cloudwatch.amazonaws.com lacks sns:Publish on "),
        *SERVICE_TO_KEY,
        (TRUST, "sts:AssumeRole", "lambda", "lambda.amazonaws.com may not assume "),
        (TRUST, "sts:AssumeRole", "states", "states.amazonaws.com may not assume "),
    ],
)
def test_a_right_that_is_taken_away_is_missed(
    dev: Assembly, kind: str, action: str, principal: str, words: str
) -> None:
    must_find(without(dev.templates, kind, action, principal), words)


@pytest.mark.parametrize("service", ["events", "sns", "apigateway"])
def test_a_function_that_a_service_may_no_longer_invoke_is_found(
    dev: Assembly, service: str
) -> None:
    who = f"{service}.amazonaws.com"

    def is_its(body: Document) -> bool:
        is_permission = body["Type"] == "AWS::Lambda::Permission"
        return is_permission and bool(body["Properties"]["Principal"] == who)

    must_find(less(dev.templates, is_its), f"{who} may not invoke ")


def test_a_machine_that_may_invoke_more_than_it_names_is_found(dev: Assembly) -> None:
    def more(statement: Document) -> list[Document]:
        if listed(statement["Action"]) != ["lambda:InvokeFunction"]:
            return [statement]
        return [statement | {"Resource": [*listed(statement["Resource"]), "*"]}]

    must_find(changed(dev.templates, ROLES, more), r"Machine: has .* on \*, which it never names")


def test_a_source_that_is_another_is_not_let_in(dev: Assembly) -> None:
    def another(statement: Document) -> list[Document]:
        source = {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:123456789012:another"}}
        return [statement | {"Condition": source} if "Condition" in statement else statement]

    must_find(changed(dev.templates, QUEUES, another), "lacks sqs:SendMessage on ")


def test_a_bucket_that_tells_a_queue_which_does_not_let_it_is_found(dev: Assembly) -> None:
    copy = copied(dev.templates)
    for template in copy.values():
        resources = template["Resources"]
        queues = [name for name, body in resources.items() if body["Type"] == "AWS::SQS::Queue"]
        for body in resources.values():
            if body["Type"] == "AWS::S3::Bucket" and queues:
                told = [
                    {"Event": "s3:ObjectCreated:*", "Queue": {"Fn::GetAtt": [queues[0], "Arn"]}}
                ]
                body["Properties"]["NotificationConfiguration"] = {"QueueConfigurations": told}
    must_find(copy, "s3.amazonaws.com lacks (sqs:SendMessage|kms:.*) on ")


def test_what_cannot_be_judged_is_said(dev: Assembly) -> None:
    copy = copied(dev.templates)
    for template in copy.values():
        for body in template["Resources"].values():
            if body["Type"] == "AWS::Events::Rule":
                body["Properties"]["Targets"][0]["Arn"] = "arn:aws:ssm:us-east-1:123456789012:any"
    must_find(copy, "is nothing that can be judged")


@pytest.mark.parametrize(
    "action",
    ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "logs:PutLogEvents", "sqs:ReceiveMessage"],
)
def test_a_right_that_a_task_of_fargate_misses_is_found(fargate: Assembly, action: str) -> None:
    found = findings(without(fargate.templates, ROLES, action))
    assert any(one.endswith(f"Task: lacks {action}") for one in found), found


def test_a_role_that_ecs_may_not_assume_is_found(fargate: Assembly) -> None:
    must_find(
        without(fargate.templates, TRUST, "sts:AssumeRole", "ecs-tasks"),
        "ecs-tasks.amazonaws.com may not assume ",
    )
