"""What AWS gets and what the local cloud gets, side by side: every difference has a name here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.assembly import Assembly

pytestmark = pytest.mark.xdist_group("infra")

FUNCTION = "AWS::Lambda::Function"
MACHINE = "AWS::StepFunctions::StateMachine DefinitionString"
AUTHORIZER = "AWS::ApiGatewayV2::Authorizer JwtConfiguration"
NAMED = {
    f"{FUNCTION} Runtime": "provided.al2023, whose bootstrap runs the project's own interpreter",
    f"{FUNCTION} Code.S3Key": "that bootstrap, in the place of the bundle",
    f"{FUNCTION} Timeout": "the timescale: a step's and the parking function's own",
    f"{FUNCTION} Environment.Variables.TIMESCALE": "the timescale itself",
    f"{FUNCTION} Environment.Variables.CHAOS": "faults on demand are on",
    f"{FUNCTION} Environment.Variables.SCOPE_PREFIX": "the local issuer's scopes have none",
    f"{MACHINE} TimeoutSeconds": "the timescale",
    f"{MACHINE} MaxDelaySeconds": "the timescale",
    f"{AUTHORIZER}.Issuer": "the local issuer",
    f"{AUTHORIZER}.Audience": "the local issuer's audience",
    "AWS::Cognito::UserPool": "the local issuer takes its place",
    "AWS::Cognito::UserPoolClient": "the same",
    "AWS::Cognito::UserPoolDomain": "the same",
    "AWS::Cognito::UserPoolResourceServer": "the same",
    "Output UserPoolId": "the same",
    "Output TokenUrl": "the same",
    "Output ClientId": "the same",
    "Output OperatorId": "the same",
    "Output Chaos": "a stage that carries chaos says so",
}
"""Every difference, and why. The stage's name, `dev-chaos` locally, is taken as `dev`."""


def alike(value: Any) -> Any:
    """A value with the local stage's name as AWS's, and without the hashes made of it."""
    text = json.dumps(value)
    text = re.sub(r"\b([Rr]ecourse-)?dev-chaos\b", r"\1dev", text)
    text = text.replace("Recoursedevchaos", "Recoursedev")
    return json.loads(re.sub(r"(Recoursedev\w*?)[0-9A-F]{8}\b", r"\1", text))


def parts(assembly: Assembly) -> dict[tuple[str, str, str], Any]:
    """Everything in the templates but names of the CDK's own, by type, stack and name."""
    found: dict[tuple[str, str, str], Any] = {}
    for one in assembly.resources:
        body = {name: value for name, value in one.body.items() if name != "Metadata"}
        plain = assembly.plain(one.stack, body)
        if definition := plain.get("Properties", {}).get("DefinitionString"):
            plain["Properties"]["DefinitionString"] = json.loads(definition)
        found[one.type, one.stack, alike(one.name)] = alike(plain)
    for name, value in assembly.outputs.items():
        found[f"Output {alike(name)}", "", ""] = alike(value)
    for stack, template in assembly.templates.items():
        rest = {k: v for k, v in template.items() if k not in ("Resources", "Outputs")}
        found["Template", alike(stack), ""] = alike(rest)
    return found


def apart(one: Any, other: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from apart(one.get(key), other.get(key), (*path, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for mine, theirs in zip(one, other, strict=True):
            yield from apart(mine, theirs, path)
    elif one != other:
        yield path


def named(kind: str, path: tuple[str, ...]) -> str:
    """A difference by the kind of resource and the property, wherever it is."""
    path = tuple(part for part in path if part != "Properties")
    if path[:1] == ("DefinitionString",):
        path = (f"DefinitionString {path[-1]}",)
    return f"{kind} {'.'.join(path)}".strip()


def differences(aws: Assembly, local: Assembly) -> set[str]:
    """The name of every difference between two assemblies."""
    mine, theirs = parts(aws), parts(local)
    only = {kind for kind, _, _ in mine.keys() ^ theirs.keys()}
    both = mine.keys() & theirs.keys()
    return only | {named(key[0], path) for key in both for path in apart(mine[key], theirs[key])}


def test_the_local_template_differs_from_the_one_for_aws_in_what_is_named_here_alone(
    dev: Assembly, local: Assembly
) -> None:
    assert differences(dev, local) == set(NAMED)


def test_a_difference_is_seen_wherever_it_is(dev: Assembly, prod: Assembly) -> None:
    assert differences(dev, dev) == set()
    found = differences(dev, prod)
    assert {"AWS::DynamoDB::Table DeletionPolicy", "AWS::Cognito::UserPool"} <= found
