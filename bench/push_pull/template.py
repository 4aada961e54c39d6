"""What a path takes to deploy, counted in the templates as the CDK has written them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NO_SETTINGS = frozenset(
    {"Code", "PolicyDocument", "AssumeRolePolicyDocument", "KeyPolicy", "Tags"}
)


class UnknownPartError(LookupError):
    """A part that a path is said to need is in no template."""


@dataclass(frozen=True)
class Part:
    """A construct with all that is below it, or beside it under a name that begins the same.

    Attributes:
        stack: The last part of its stack's name.
        path: What construct paths in that stack begin with.
    """

    stack: str
    path: str


@dataclass(frozen=True)
class Complexity:
    """What some parts come to.

    Attributes:
        resources: Resources.
        rights: Actions on resources, one by one, that their roles and policies allow.
        settings: Values that somebody has decided on: the leaves of their properties, without
            policies, code and tags.
    """

    resources: int
    rights: int
    settings: int


def complexity(assembly: Path, parts: Sequence[Part]) -> Complexity:
    """Count what some parts of a synthesised app come to.

    Raises:
        UnknownPartError: One of them is in no template.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        mine = {
            f"{part.stack}/{path}": body
            for file in sorted(assembly.glob(f"*-{part.stack}.template.json"))
            for path, body in _resources(file)
            if path.startswith(part.path) and body["Type"] != "AWS::CDK::Metadata"
        }
        if not mine:
            raise UnknownPartError(f"{part.path} in the stack {part.stack}")
        found |= mine
    return Complexity(
        resources=len(found),
        rights=sum(_rights(body) for body in found.values()),
        settings=sum(
            _leaves(body.get("Properties", {}))
            for body in found.values()
            if not body["Type"].startswith("AWS::IAM::")
        ),
    )


def _resources(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for logical, body in json.loads(file.read_text())["Resources"].items():
        path = str(body.get("Metadata", {}).get("aws:cdk:path", logical))
        yield path.partition("/")[2].removeprefix("Default/"), body


def _rights(body: Mapping[str, Any]) -> int:
    if body["Type"] not in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        return 0
    return sum(
        len(_listed(statement["Action"])) * len(_listed(statement["Resource"]))
        for statement in body["Properties"]["PolicyDocument"]["Statement"]
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _leaves(value: Any) -> int:
    match value:
        case {"Ref": _} | {"Fn::GetAtt": _} | {"Fn::ImportValue": _} | {"Fn::Join": _}:
            return 1
        case Mapping():
            return sum(_leaves(inner) for key, inner in value.items() if key not in _NO_SETTINGS)
        case list():
            return sum(_leaves(inner) for inner in value)
    return 1
