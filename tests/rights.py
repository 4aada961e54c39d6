"""What the roles of a running cloud may do, and which of it was ever needed.

A right is one action on one resource for one role, as the policies spell them: however the CDK
groups them into statements, each of these pairs is either used or one too many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from recourse.local.cloud import LocalCloud
from tests.decisions import Decision
from tests.infra.assembly import listed

SHORTEST = 6
"""Characters of an id that is nobody else's part."""


class Right(NamedTuple):
    """One action on one resource, for one role, in IAM's own names."""

    role: str
    action: str
    resource: str


def own_policies(cloud: LocalCloud, role: str) -> dict[str, dict[str, Any]]:
    """The documents of the policies that are a role's own, by name."""
    iam = cloud.client("iam")
    return {
        name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
    }


def managed_policies(cloud: LocalCloud, role: str) -> Iterator[dict[str, Any]]:
    """The documents of the managed policies that a role has attached, but for AWS's own."""
    iam = cloud.client("iam")
    for one in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        if not one["PolicyArn"].startswith("arn:aws:iam::aws:"):
            (made,) = iam.list_policy_versions(PolicyArn=one["PolicyArn"])["Versions"]
            found = iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=made["VersionId"])
            yield found["PolicyVersion"]["Document"]


def granted(cloud: LocalCloud, *, managed: bool = True) -> set[Right]:
    """Every right of every role of the app, by its own policies and by the managed ones."""
    pages = cloud.client("iam").get_paginator("list_roles").paginate()
    roles = [one["RoleName"] for page in pages for one in page["Roles"]]
    return {
        Right(role, action, resource)
        for role in roles
        if role.startswith("Recourse-")
        for policy in (
            *own_policies(cloud, role).values(),
            *(managed_policies(cloud, role) if managed else ()),
        )
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


@contextmanager
def taken(cloud: LocalCloud, role: str, action: str, resource: str | None = None) -> Iterator[None]:
    """Take an action, on one resource or on all, from a role's own policies during the block."""
    iam, policies = cloud.client("iam"), own_policies(cloud, role)
    has = [
        (one, on)
        for policy in policies.values()
        for statement in policy["Statement"]
        for one in listed(statement["Action"])
        for on in listed(statement["Resource"])
    ]
    assert any(one == action and resource in (None, on) for one, on in has), f"{role}: {action}"

    def without(statement: dict[str, Any]) -> Iterator[dict[str, Any]]:
        actions, resources = listed(statement["Action"]), listed(statement["Resource"])
        if action not in actions or (resource and resource not in resources):
            yield statement
            return
        if others := [one for one in actions if one != action]:
            yield statement | {"Action": others}
        if resource and (elsewhere := [one for one in resources if one != resource]):
            yield statement | {"Action": action, "Resource": elsewhere}

    def put(name: str, statements: list[dict[str, Any]]) -> None:
        document = json.dumps(policies[name] | {"Statement": statements})
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document)

    for name, policy in policies.items():
        put(name, [less for one in policy["Statement"] for less in without(one)])
    try:
        yield
    finally:
        for name, policy in policies.items():
            put(name, policy["Statement"])


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
