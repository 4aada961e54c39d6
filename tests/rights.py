"""What the roles of a running cloud may do, and which of it was ever needed.

A right is one action on one resource for one role, as the policies spell them: however the CDK
groups them into statements, each of these pairs is either used or one too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from recourse.local.cloud import LocalCloud
from tests.decisions import Decision

SHORTEST = 6
"""Characters of an id that is nobody else's part."""


class Right(NamedTuple):
    """One action on one resource, for one role, in IAM's own names."""

    role: str
    action: str
    resource: str


def listed(value: str | list[str]) -> list[str]:
    """A value of a policy, which may stand alone or in a list."""
    return [value] if isinstance(value, str) else value


def policies_of(cloud: LocalCloud, role: str) -> Iterator[Mapping[str, Any]]:
    """The documents of a role's policies: its own, then the managed ones."""
    iam = cloud.client("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    for one in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        if not one["PolicyArn"].startswith("arn:aws:iam::aws:"):
            (made,) = iam.list_policy_versions(PolicyArn=one["PolicyArn"])["Versions"]
            found = iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=made["VersionId"])
            yield found["PolicyVersion"]["Document"]


def granted(cloud: LocalCloud) -> set[Right]:
    """Every right of every role of the app."""
    pages = cloud.client("iam").get_paginator("list_roles").paginate()
    roles = [one["RoleName"] for page in pages for one in page["Roles"]]
    return {
        Right(role, action, resource)
        for role in roles
        if role.startswith("Recourse-")
        for policy in policies_of(cloud, role)
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def used(decisions: Iterable[Decision]) -> set[Right]:
    """Every right by which something was allowed."""
    return {
        Right(one["who"].split("/")[1], *one["by"])
        for one in decisions
        if one.get("by") and ":assumed-role/" in one["who"]
    }


class Names:
    """Names that stay the same from one deployment to the next.

    Args:
        cloud: Where the stacks are deployed.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        formation = cloud.client("cloudformation")
        stacks = formation.get_paginator("describe_stacks").paginate()
        self._names = {
            physical: re.sub("([0-9A-F]{8})$", "", one["LogicalResourceId"])
            for page in stacks
            for stack in page["Stacks"]
            if stack["StackName"].startswith("Recourse-")
            for found in formation.get_paginator("list_stack_resources").paginate(
                StackName=stack["StackName"]
            )
            for one in found["StackResourceSummaries"]
            if one["ResourceType"] != "AWS::SSM::Parameter"  # its name ends in a saga's own
            for physical in [re.split("[:/]", one["PhysicalResourceId"])[-1]]
            if len(physical) >= SHORTEST
        }
        longest_first = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._any = re.compile("|".join(longest_first))

    def of(self, right: Right) -> str:
        """A right in a line: whose, what, on what; such as `Park dynamodb:PutItem LedgerTable`."""
        role, resource = (self._any.sub(lambda m: self._names[m[0]], one) for one in right[::2])
        name = re.sub("^arn:aws:[a-z0-9-]+:[^:]*:[^:]*:", "", resource)
        name = re.sub("^(table|function|stateMachine|execution|log-group|key)[/:]", "", name)
        return f"{role.removesuffix('Role')} {right.action} {re.sub('/stream/.*', '/stream', name)}"
