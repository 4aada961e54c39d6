"""Rights, each one named: no action and no resource by wildcard that can be named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aws_cdk import Acknowledgment, CfnElement, CfnResource, Stack, Validations
from aws_cdk.aws_dynamodb import Table
from aws_cdk.aws_iam import IGrantable, PolicyStatement, Role
from aws_cdk.aws_kms import IKey
from constructs import Construct

READ = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
WRITE = ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem")


def use_key(key: IKey, grantee: IGrantable) -> None:
    """What reading and writing encrypted data takes."""
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
    table: Table, grantee: IGrantable, *actions: str, indexes: Sequence[str] = ()
) -> None:
    """Some actions on a table, and queries of its indexes by name."""
    for one in actions:
        allow(grantee, one, table.table_arn)
    if indexes:
        allow(grantee, "dynamodb:Query", *(f"{table.table_arn}/index/{name}" for name in indexes))
    if table.encryption_key:
        use_key(table.encryption_key, grantee)


def allow(grantee: IGrantable, action: str, *resources: str) -> None:
    """One action on named resources."""
    statement = PolicyStatement(actions=[action], resources=list(resources))
    grantee.grant_principal.add_to_principal_policy(statement)


def explain(construct: Construct, *findings: str, reason: str) -> None:
    """Say at the resource itself why a finding of cdk-nag is accepted there.

    Args:
        construct: The resource, or what holds it.
        findings: The rule, and in brackets what it found, as cdk-nag prints them.
        reason: Why it is right there.
    """
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=finding, reason=reason) for finding in findings)
    )


def explain_dead_lettering(role: Role) -> None:
    """Say why a function whose failures go to an encrypted queue has more of its key than it uses.

    Args:
        role: That of a function whose failures are dead-lettered by Lambda.
    """
    explain(
        role,
        "AwsSolutions-IAM5[Action::kms:GenerateDataKey*]",
        "AwsSolutions-IAM5[Action::kms:ReEncrypt*]",
        reason="the CDK's own grant for what Lambda dead-letters, on our own key",
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
        attribute: The attribute that is used of it.
        before: What stands before it.
        after: What stands after it, with the wildcard.
        seen_from: Who uses it, where that may be another stack: it then has it as an import.
    """
    home = Stack.of(resource)
    child = cast("CfnElement", resource.node.default_child)
    name = f"<{home.get_logical_id(child)}.{attribute}>"
    if seen_from and Stack.of(seen_from) != home:
        exported = home.export_value(cast("CfnResource", child).get_att(attribute))
        name = home.resolve(exported)["Fn::ImportValue"]
    return f"AwsSolutions-IAM5[Resource::{before}{name}{after}]"
