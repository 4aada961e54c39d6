"""An app as it is synthesised, read by type of resource and by construct path, never by hash."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recourse.cdk import console_settings
from recourse.declare.saga import Saga

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("page")
"""What is deployed in place of the console's page: nothing here waits for npm."""
console_settings.BUILT = PAGE
# What the CLI adds of its own, and no bundling: what the functions carry is tested by itself.
CLI = {"aws:cdk:enable-path-metadata": True, "aws:cdk:bundling-stacks": []}

LISTED: dict[str, Saga] = {}
"""The sagas of the app that is synthesised, if they are not the deployment's own."""
CDKS_OWN = "Custom::CDKBucketDeployment"
"""The function by which the CDK copies files into a bucket: its code is not ours."""
STARTERS = ("Api", "Sweeper")
"""The functions that begin sagas, or move them on."""


@dataclass(frozen=True)
class Resource:
    """A resource of a template.

    Attributes:
        stack: The short name of its stack, such as `Events`.
        name: Its construct path in there.
        type: CloudFormation's name of its type.
        body: What the template says of it.
    """

    stack: str
    name: str
    type: str
    body: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.body.get("Properties", {})
        return found


class Assembly:
    """A synthesised app.

    Args:
        folder: Where it was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.glob("*.template.json"))
        self.templates: dict[str, dict[str, Any]] = {
            path.name.split(".")[0]: json.loads(path.read_text()) for path in self.files
        }

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """All but the CDK's own function, which `test_console.py` judges."""
        return tuple(
            Resource(_short(stack), name, body["Type"], body)
            for stack, template in self.templates.items()
            for logical, body in template["Resources"].items()
            if CDKS_OWN not in (name := _path(body, logical))
        )

    def every(self, kind: str) -> list[Resource]:
        """Every resource of a type; there has to be one, else a test of all would test none."""
        found = [one for one in self.resources if one.type == kind]
        assert found, f"there is no {kind}"
        return found

    def one(self, kind: str, name: str) -> Resource:
        """The resource of a type and a name."""
        (found,) = [one for one in self.every(kind) if one.name == name]
        return found

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The outputs that somebody may read; those between stacks are not among them."""
        return {
            name: self.plain(_short(stack), output["Value"])
            for stack, template in self.templates.items()
            for name, output in template.get("Outputs", {}).items()
            if "Export" not in output
        }

    def plain(self, stack: str, value: Any) -> Any:
        """A value with its references spelt out as `<name.attribute>`, across stacks too."""
        if isinstance(value, list):
            return [self.plain(stack, one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            ((how, what),) = value.items()
            if how == "Ref":
                return f"<{self._named(stack, what)}>"
            if how == "Fn::GetAtt":
                return f"<{self._named(stack, what[0])}.{what[1]}>"
            if how == "Fn::Join":
                return what[0].join(str(one) for one in self.plain(stack, what[1]))
            if how == "Fn::Select":
                return self.plain(stack, what[1])[what[0]]
            if how == "Fn::Split":
                return _split(what[0], self.plain(stack, what[1]))
            if how == "Fn::ImportValue":
                return self._exported[what]
        return {key: self.plain(stack, one) for key, one in value.items()}

    @cached_property
    def _logical(self) -> dict[str, dict[str, str]]:
        return {
            _short(stack): {
                logical: _path(body, logical) for logical, body in template["Resources"].items()
            }
            for stack, template in self.templates.items()
        }

    def _named(self, stack: str, logical: str) -> str:
        return self._logical[stack].get(logical, logical)

    @cached_property
    def _exported(self) -> dict[str, Any]:
        return {
            output["Export"]["Name"]: self.plain(_short(stack), output["Value"])
            for stack, template in self.templates.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What functions read from SSM, by kind and by the name of a saga or a service."""
        return {
            "/".join(one.properties["Name"].split("/")[3:]): self.plain(
                one.stack, one.properties["Value"]
            )
            for one in self.every("AWS::SSM::Parameter")
        }

    @cached_property
    def named_by_arn(self) -> set[str]:
        """The resources whose `Ref` is their ARN."""
        kinds = ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine", "AWS::IAM::ManagedPolicy")
        return {one.name for one in self.resources if one.type in kinds}

    # The order in which CloudFormation comes to it.

    def before(self, last: Resource) -> set[tuple[str, str]]:
        """What is deployed, by stack and name, before a resource is, or is updated.

        That is what it refers to or depends on, in its own stack, and all of earlier stacks.
        """
        earlier, found = self._stacks_before(last.stack), {last.name}
        template = next(t for name, t in self.templates.items() if _short(name) == last.stack)
        more = found
        while more:
            bodies = [b for b in template["Resources"].values() if _path(b, "") in more]
            named = {one for body in bodies for one in _references(body)}
            more = {self._named(last.stack, one) for one in named} - found
            found = found | more
        others = {(one.stack, one.name) for one in self.resources if one.stack in earlier}
        return others | {(last.stack, name) for name in found - {last.name}}

    def _stacks_before(self, stack: str) -> set[str]:
        manifest = json.loads((self.folder / "manifest.json").read_text())["artifacts"]
        direct = {
            _short(name): {_short(one) for one in about.get("dependencies", ())}
            for name, about in manifest.items()
            if about["type"] == "aws:cloudformation:stack"
        }
        found: set[str] = set()
        more = {stack}
        while more:
            more = {one for name in more for one in direct.get(name, ())} - found
            found |= more
        return found

    # What functions may do.

    def role_of(self, function: Resource) -> str:
        role: str = self.plain(function.stack, function.properties["Role"])
        return role

    def rights(self, function: Resource) -> dict[str, set[str]]:
        """The actions that a function is allowed, by resource; conditions after a `?`."""
        found: dict[str, set[str]] = {}
        for action, resource in self._allowed(self.role_of(function)):
            found.setdefault(resource, set()).add(action)
        return found

    def _allowed(self, role: str) -> Iterator[tuple[str, str]]:
        kinds = ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
        for policy in [one for one in self.resources if one.type in kinds]:
            roles = self.plain(policy.stack, policy.properties.get("Roles", []))
            if [f"{one[:-1]}.Arn>" for one in roles] == [role]:
                for statement in policy.properties["PolicyDocument"]["Statement"]:
                    yield from self._spelt(policy.stack, statement)

    def _spelt(self, stack: str, statement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        assert statement["Effect"] == "Allow"
        condition = (
            json.dumps(self.plain(stack, statement["Condition"]))
            if ("Condition" in statement)
            else ""
        )
        for action in listed(statement["Action"]):
            for resource in listed(self.plain(stack, statement["Resource"])):
                yield action + (f"?{condition}" if condition else ""), resource

    def environment(self, function: Resource) -> dict[str, Any]:
        found: dict[str, Any] = self.plain(
            function.stack, function.properties["Environment"]["Variables"]
        )
        return found

    def findings(self) -> list[str]:
        """What cdk-nag found."""
        report = json.loads((self.folder / "validation-report.json").read_text())
        return [
            f"{violation['ruleName']} at {construct['constructPath']}"
            for plugin in report["pluginReports"]
            for violation in plugin["violations"]
            for construct in violation["violatingConstructs"]
        ]


def must_come_first(assembly: Assembly, kinds: tuple[str, ...], names: Iterable[str]) -> None:
    """Resources of each kind are deployed before whoever starts sagas: all of these names."""
    for name in STARTERS:
        (starter,) = [
            one
            for one in assembly.every("AWS::Lambda::Function")
            if one.name.rpartition("/")[2] == name
        ]
        before = assembly.before(starter)
        for kind in kinds:
            every = {(one.stack, one.name) for one in assembly.every(kind)}
            for wanted in names:
                found = {one for one in every if wanted in one[1].split("/")}
                assert found, f"{wanted} has no {kind}"
                assert found <= before, f"{name} may start sagas before {found - before} is there"


def must_hear_first(assembly: Assembly, consumers: Iterable[str]) -> None:
    """Messages arrive at each of these consumers, and are handled, before a saga begins."""
    for one in consumers:
        hears = ("AWS::SNS::Subscription", "AWS::SQS::QueuePolicy")
        must_come_first(assembly, hears, [f"{one}Events"])
        function = one if one.endswith("Confirm") else f"{one}Queue"
        must_come_first(assembly, ("AWS::Lambda::EventSourceMapping",), [function])


def _references(value: Any) -> Iterator[str]:
    """The logical ids that a part of a template names."""
    if isinstance(value, list):
        for one in value:
            yield from _references(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key in ("Ref", "DependsOn"):
                yield from listed(one)
            elif key == "Fn::GetAtt":
                yield one[0]
            else:
                yield from _references(one)


def listed(value: Any) -> list[Any]:
    """A value of a policy, which may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def synthesise(
    folder: Path,
    context: Mapping[str, str],
    sagas: dict[str, Saga] | None = None,
    *,
    listed: str = f"{__name__}:LISTED",
    judged: bool = True,
) -> Assembly:
    """Synthesise the app as the CLI would, with cdk.json's context and more.

    Args:
        folder: Where it is written.
        context: More context.
        sagas: The declarations; the deployment's own by default.
        listed: Where they are listed: the shapes of sagas in flight are beside that module.
        judged: Whether CloudFormation's rules and cdk-nag's judge it, a third of the time; what
            has nothing that `dev`, `prod` and `local` have not is judged there.
    """
    from aws_cdk import App, Validations
    from cdk_nag import AwsSolutionsChecks

    from infra.app import build
    from recourse.cdk.stage import Stage
    from recourse.project import Project

    settings = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = App(
        context=settings | CLI | context,
        outdir=str(folder),
        analytics_reporting=False,
        builtin_cloud_formation_validation=judged,
    )
    project = Project.find(ROOT)
    if sagas is not None:
        LISTED.clear()
        LISTED.update(sagas)
        project = project._replace(sagas=listed)
    build(app, Stage.from_context(app.node, project=project), sagas)
    if judged:
        Validations.of(app).add_plugins(AwsSolutionsChecks())
    app.synth()
    return Assembly(folder)


def _split(separator: str, text: str) -> list[str]:
    """The parts of a text in which references are spelt out, as CloudFormation takes it apart."""
    text = re.sub(r"<([^<>]+)\.FunctionUrl>", r"https://<\1>/", text)
    return re.split(f"{re.escape(separator)}(?![^<]*>)", text)


def _short(stack: str) -> str:
    return stack.rpartition("-")[2]


def _path(body: Mapping[str, Any], logical: str) -> str:
    path = str(body.get("Metadata", {}).get("aws:cdk:path", logical))
    return path.partition("/")[2].removeprefix("Default/").removesuffix("/Resource")
