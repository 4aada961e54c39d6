"""What the templates of a stage ask of an account: counted, and held against fixed quotas.

::

    planned = Planned.of(Path("cdk.out"))
    planned.count("AWS::DynamoDB::Table")     # 14
    list(planned.findings())                  # what comes near to a quota that nobody can raise
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from recourse.cdk.deploy import templates
from recourse.doctor.finding import Finding, error, ok, warning

NEAR = 0.8
"""The share of a quota from which on it is said."""
CLOSE = 0.9
"""The same of one that nobody can raise: what counts is this stage's own, and grows slowly."""
LENGTHS = {"Arn": 120, "Queue": 110, "": 64}
"""Characters of what is not known before the deploy, by what its reference names: an ARN, the
address of a queue, a name."""
FIXED: Mapping[str, tuple[int, str, str]] = {
    "resources": (500, "resources in one stack", "move a capability to a stack of its own"),
    "outputs": (200, "outputs of one stack", "move a capability to a stack of its own"),
    "template": (10**6, "bytes of one template", "move a capability to a stack of its own"),
    "environment": (
        4096,
        "bytes of environment of one function",
        "shorten names, or read settings from a parameter of SSM",
    ),
    "inline policies": (
        10_240,
        "characters of inline policies of one role",
        "give the rights of several functions by one resource policy, or split the function",
    ),
    "managed policy": (
        6144,
        "characters of one managed policy",
        "divide the policy into two",
    ),
    "filter policies": (
        200,
        "filter policies of one topic",
        "let several consumers share a queue",
    ),
    "stream readers": (
        2,
        "readers of one table's stream",
        "read the topic `feed` instead of the stream",
    ),
}
"""Quotas that nobody can raise: the number, of what, and what helps."""
_SENDER = re.compile(r':identity/([^"*]+)"')


class Resource(NamedTuple):
    """A resource of a template.

    Attributes:
        stack: The name of its stack.
        name: Its logical id there.
        properties: What the template says of it.
    """

    stack: str
    name: str
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Planned:
    """The stacks of a stage, as they are to be.

    Attributes:
        stacks: The template of each, by its name.
        bootstrap: The version that each bootstrap must have, by its parameter of SSM.
    """

    stacks: Mapping[str, Mapping[str, Any]]
    bootstrap: Mapping[str, int]

    @classmethod
    def of(cls, assembly: Path) -> Planned:
        """What an assembly says, nested stacks included."""
        stacks = {name: one.body for name, one in templates(assembly).items()}
        for file in sorted(assembly.glob("*.nested.template.json")):
            stacks[file.name.partition(".")[0]] = json.loads(file.read_text())
        bootstrap: dict[str, int] = {}
        for artifact in json.loads((assembly / "manifest.json").read_text())["artifacts"].values():
            said = artifact.get("properties", {})
            if parameter := said.get("bootstrapStackVersionSsmParameter"):
                needed = int(said.get("requiresBootstrapStackVersion", 0))
                bootstrap[parameter] = max(needed, bootstrap.get(parameter, 0))
        return cls(stacks, bootstrap)

    def every(self, kind: str) -> Iterator[Resource]:
        """Every resource of a type."""
        for stack, template in self.stacks.items():
            for name, body in template.get("Resources", {}).items():
                if body["Type"] == kind:
                    yield Resource(stack, name, body.get("Properties", {}))

    def count(self, kind: str, *, without: Collection[str] = ()) -> int:
        """How many resources of a type there are, but for those of some stacks."""
        return sum(one.stack not in without for one in self.every(kind))

    @property
    def senders(self) -> list[str]:
        """The addresses from which mail is to be sent."""
        policies = [one.properties for one in self.every("AWS::IAM::Policy")]
        return sorted({*_SENDER.findall(json.dumps(policies))})

    def findings(self) -> Iterator[Finding]:
        """What comes near to a quota that nobody can raise, or a line that nothing does."""
        near = False
        for what, (quota, of, remedy) in FIXED.items():
            for where, count in sorted(self._counts(what).items()):
                if count < CLOSE * quota or (count <= quota and quota < 10):
                    continue
                near = True
                level = error if count > quota else warning
                why = f"AWS refuses more than {quota:,}, and nobody can raise that"
                yield level("templates", f"{where}: {count:,} {of}", why, remedy)
        if not near:
            most = max(self._counts("resources").values(), default=0)
            yield ok("templates", f"{len(self.stacks)} stacks, of {most} resources at the most")

    def _counts(self, what: str) -> Counter[str]:
        """How much of a fixed quota there is, by where."""
        found: Counter[str] = Counter()
        for stack, template in self.stacks.items():
            resources = template.get("Resources", {})
            match what:
                case "resources":
                    found[stack] = len(resources)
                case "outputs":
                    found[stack] = len(template.get("Outputs", {}))
                case "template":
                    found[stack] = len(json.dumps(template, separators=(",", ":")).encode())
                case _:
                    for name, body in resources.items():
                        self._measure(found, what, stack, name, body)
        return found

    def _measure(
        self, found: Counter[str], what: str, stack: str, name: str, body: Mapping[str, Any]
    ) -> None:
        said = body.get("Properties", {})
        match what, body["Type"]:
            case "environment", "AWS::Lambda::Function":
                variables = said.get("Environment", {}).get("Variables", {})
                lengths = [
                    len(one.encode()) + len(str(_plain(variables[one])).encode())
                    for one in variables
                ]
                found[f"{stack} {name}"] = sum(lengths)
            case "inline policies", "AWS::IAM::Policy":
                for role in said.get("Roles", ()):
                    found[f"{stack} {_named(role)}"] += size(said.get("PolicyDocument", {}))
            case "inline policies", "AWS::IAM::Role":
                own = [one.get("PolicyDocument", {}) for one in said.get("Policies", ())]
                found[f"{stack} {name}"] += sum(map(size, own))
            case "managed policy", "AWS::IAM::ManagedPolicy":
                found[f"{stack} {name}"] = size(said.get("PolicyDocument", {}))
            case "filter policies", "AWS::SNS::Subscription" if "FilterPolicy" in said:
                found[f"topic {_named(said.get('TopicArn'))}"] += 1
            case "stream readers", "AWS::Lambda::EventSourceMapping" if "StartingPosition" in said:
                found[f"stream {_named(said.get('EventSourceArn'))}"] += 1


def size(value: Any) -> int:
    """The bytes of a value as JSON, with what is not known yet taken to be a name or an ARN."""
    return len(json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((how, what),) = value.items()
        if how == "Fn::Join" and isinstance(what, list) and len(what) == 2:
            parts = what[1] if isinstance(what[1], list) else [what[1]]
            return str(what[0]).join(str(_plain(one)) for one in parts)
        if how == "Ref" and str(what).startswith("AWS::"):
            return "x" * 12
        if how == "Ref" or how.startswith("Fn::"):
            named = json.dumps(what)
            return "x" * next(length for name, length in LENGTHS.items() if name in named)
    return {name: _plain(one) for name, one in value.items()}


def _named(value: Any) -> str:
    """The logical id that a reference names, or the export's name."""
    text = json.dumps(value)
    found: list[str] = re.findall(r'"([^"]+)"', text)
    names = [one for one in found if one not in ("Ref", "Fn::GetAtt", "Fn::ImportValue")]
    return names[0] if names else text
