"""Rights, by named actions and resources: wildcards only where AWS has no names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from aws_cdk import Acknowledgment, ArnFormat, CfnElement, CfnResource, Stack, Validations
from aws_cdk.aws_dynamodb import ITable
from aws_cdk.aws_iam import IGrantable, ManagedPolicy, PolicyStatement, Role
from aws_cdk.aws_kms import IKey
from constructs import Construct

from recourse.errors import DeclarationError
from recourse.ledger.shapes import PREFIX

REFERENCES = "@aws-cdk/core:defaultCrossStackReferences"
READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
WRITE = ("dynamodb:PutItem", "dynamodb:UpdateItem")
CHECK = "dynamodb:ConditionCheckItem"
POLICY, POLICIES = 4_800, 10
"""Characters that a managed policy is filled with, of 6,144 that it may have; and how many policies
a role may have attached."""
USUAL_PREFIX = 24
"""Characters that the names of a stage's queues are taken to begin with, where they are fewer: so
stages of different names, and of the local cloud, have the same policies."""


def use_key(key: IKey, grantee: IGrantable) -> None:
    """Allow what reading and writing encrypted data needs."""
    key.grant(
        grantee,
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    )


def use_table(
    table: ITable, grantee: IGrantable, *actions: str, indexes: Sequence[str] = ()
) -> None:
    """Allow some actions on a table, and queries of some of its indexes."""
    for one in actions:
        allow(grantee, one, table.table_arn)
    if indexes:
        allow(grantee, "dynamodb:Query", *(f"{table.table_arn}/index/{name}" for name in indexes))
    if table.encryption_key:
        use_key(table.encryption_key, grantee)


def read_shapes(ledger: ITable, grantee: IGrantable) -> None:
    """Allow to read the shapes of sagas (`recourse.ledger.shapes`), and no other row."""
    condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{PREFIX}*"]}}
    allow(grantee, "dynamodb:GetItem", ledger.table_arn, conditions=condition)
    if ledger.encryption_key:
        use_key(ledger.encryption_key, grantee)


def use_slots(table: ITable, grantee: IGrantable) -> None:
    """Allow to count what its owners have under way (`recourse.store.slots`), and no other row."""
    condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["slots#*"]}}
    allow(grantee, "dynamodb:UpdateItem", table.table_arn, conditions=condition)
    if table.encryption_key:
        use_key(table.encryption_key, grantee)


def allow(
    grantee: IGrantable, action: str, *resources: str, conditions: dict[str, Any] | None = None
) -> None:
    """Allow one action on named resources."""
    statement = PolicyStatement(actions=[action], resources=list(resources), conditions=conditions)
    grantee.grant_principal.add_to_principal_policy(statement)


def use_queues(
    scope: Construct,
    name: str,
    role: Role,
    given: Sequence[tuple[Sequence[str], Sequence[str]]],
    *,
    prefix: str,
) -> None:
    """Allow actions on queues by their names, in as many managed policies as that needs.

    Names, because an import of their ARNs would prevent a queue from ever being removed. Managed
    policies, because the inline ones of a role are too small.

    Args:
        scope: The construct that contains the policies.
        name: The construct id of the first; the others have it with a number.
        role: The role that may.
        given: Actions, each with the queues' names in SQS.
        prefix: What all of these begin with: the stage's.

    Raises:
        DeclarationError: They are more than a role's policies can name.
    """
    policies = list(_filled(given, max(0, USUAL_PREFIX - len(prefix))))
    if len(policies) > POLICIES:
        queues = len({queue for _, names in given for queue in names})
        raise DeclarationError(
            f"{name}: {queues} queues fill {len(policies)} managed policies, and a role may have "
            f"{POLICIES}: divide the sagas among more than one app (docs/operations.md)"
        )
    for number, statements in enumerate(policies, 1):
        ManagedPolicy(
            scope,
            name if number == 1 else f"{name}{number}",
            roles=[role],
            statements=[
                PolicyStatement(
                    actions=list(actions),
                    resources=[
                        Stack.of(scope).format_arn(
                            service="sqs", resource=queue, arn_format=ArnFormat.NO_RESOURCE_NAME
                        )
                        for queue in names
                    ],
                )
                for actions, names in statements.items()
            ],
        )


def _filled(
    given: Sequence[tuple[Sequence[str], Sequence[str]]], spare: int
) -> Iterator[Mapping[tuple[str, ...], Sequence[str]]]:
    """The queues by actions, policy by policy, so that none becomes too long.

    Names are taken to be longer than they are by `spare`.
    """
    policy: dict[tuple[str, ...], list[str]] = {}
    used = 0
    for actions, names in given:
        head = sum(len(one) + 3 for one in actions) + len('{"Action":[],"Effect":"Allow"},')
        for name in names:
            # With quotes and a comma, in the region of the longest name.
            needs = len("arn:aws:sqs:ap-southeast-1:123456789012:") + len(name) + spare + 3
            starts = tuple(actions) not in policy
            if policy and used + needs + starts * head > POLICY:
                yield policy
                policy, used, starts = {}, 0, True
            policy.setdefault(tuple(actions), []).append(name)
            used += needs + starts * head
    if policy:
        yield policy


def explain(construct: Construct, *findings: str, reason: str) -> None:
    """Accept findings of cdk-nag at a resource, with a reason.

    Args:
        construct: The resource, or a construct that contains it.
        findings: The rule, and in brackets what it found, as cdk-nag prints them.
        reason: Why they are accepted.
    """
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=finding, reason=reason) for finding in findings)
    )


def explain_dead_lettering(role: Role) -> None:
    """Explain the CDK's grants on the key of a queue to which Lambda dead-letters.

    Args:
        role: The role of the function whose failures are dead-lettered.
    """
    explain(
        role,
        "AwsSolutions-IAM5[Action::kms:GenerateDataKey*]",
        "AwsSolutions-IAM5[Action::kms:ReEncrypt*]",
        reason="the CDK's grant to dead-letter a function's failures, on this app's own key",
    )


def wildcard(
    resource: Construct,
    attribute: str,
    *,
    before: str = "",
    after: str,
    seen_from: Construct | None = None,
) -> str:
    """The finding that cdk-nag makes of a wildcard after a resource's own ARN or name.

    Args:
        resource: The resource.
        attribute: The resource's attribute in the ARN.
        before: The text before it.
        after: The text after it, with the wildcard.
        seen_from: The construct that uses the ARN: in another stack the attribute is an import.
            Between nested stacks, and where references are weak, the CDK names it later: there an
            app that uses cdk-nag accepts the finding itself.
    """
    home, user = Stack.of(resource), Stack.of(seen_from or resource)
    child = cast("CfnElement", resource.node.default_child)
    name = f"<{home.get_logical_id(child)}.{attribute}>"
    named_later = user.nested or home.nested or home.node.try_get_context(REFERENCES) == "weak"
    if user != home and not named_later:
        exported = home.export_value(cast("CfnResource", child).get_att(attribute))
        name = home.resolve(exported)["Fn::ImportValue"]
    return f"AwsSolutions-IAM5[Resource::{before}{name}{after}]"
