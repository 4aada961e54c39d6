"""Deploys the app, in two steps where one is not enough, and destroys a stage with its data.

    recourse deploy --context stage=dev     # `make deploy`
    recourse destroy --context stage=dev    # `make destroy`

Stacks are deployed in the order of their references, so a stack that no longer exports a value is
deployed before those that no longer import it, and CloudFormation refuses: it does not delete an
export in use. This happens whenever a saga, a step or a service is removed from the app. A copy of
the assembly is therefore deployed first, in which such exports remain, as outputs with their
current values; when no stack imports them any more, the assembly itself is deployed. The KMS
keys of these stacks remain as well: until then other stacks' queues are encrypted with them.

The console's URL is known once it is deployed, and the issuer of tokens, the bucket of valet keys
and the API have to know it. So the app is synthesised with the URL that the stage has at present,
and where it has none yet it is deployed twice: the output `ConsoleUrl` says it.

This module uses AWS and the assembly that the CDK wrote, and does not import the CDK.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from recourse import tools
from recourse.cdk.idle import idle_month
from recourse.errors import RecourseError
from recourse.project import Project

Say = Callable[[str], None]


CONSOLE_URL = "ConsoleUrl"
"""The output with the console's URL."""


class DeployError(RecourseError):
    """The app cannot be deployed or destroyed; the message says what to do first."""


@dataclass(frozen=True)
class Export:
    """An export of a deployed stack that the app's template of it no longer has.

    Attributes:
        stack: The stack.
        key: The output's name in its template.
        name: The name that it is imported by.
        value: Its value.
    """

    stack: str
    key: str
    name: str
    value: str


@dataclass(frozen=True)
class Template:
    """A stack's template in an assembly.

    Attributes:
        path: Its file.
        asset: The hash under which it is uploaded.
    """

    path: Path
    asset: str

    @property
    def body(self) -> dict[str, Any]:
        """Its content."""
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


def templates(assembly: Path) -> dict[str, Template]:
    """The templates of an assembly, by the names of their stacks."""
    manifest = json.loads((assembly / "manifest.json").read_text())
    return {
        artifact["properties"].get("stackName", name): Template(
            assembly / artifact["properties"]["templateFile"],
            Path(artifact["properties"]["stackTemplateAssetObjectUrl"]).stem,
        )
        for name, artifact in manifest["artifacts"].items()
        if artifact["type"] == "aws:cloudformation:stack"
    }


def vanishing(assembly: Path, cloudformation: Any) -> list[Export]:
    """The exports that deployed stacks import, and that the assembly no longer has.

    Raises:
        DeployError: One is imported by a stack that is no longer in the app.
    """
    app = templates(assembly)
    found = []
    for stack, template in app.items():
        own = template.body.get("Outputs", {}).values()
        kept = {output["Export"]["Name"] for output in own if "Export" in output}
        for output in outputs(cloudformation, stack):
            name = output.get("ExportName", "")
            if not name or name in kept:
                continue
            importers = _importers(cloudformation, name)
            if left := sorted(importers - app.keys()):
                raise DeployError(
                    f"{', '.join(left)} is no longer in the app, but still imports {name}, which "
                    f"{stack} no longer exports: delete that stack first"
                )
            if importers:
                found.append(Export(stack, output["OutputKey"], name, output["OutputValue"]))
    return found


def outputs(cloudformation: Any, stack: str) -> list[dict[str, str]]:
    """The outputs of a deployed stack; empty if it is not deployed."""
    try:
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as problem:
        if "does not exist" in str(problem):
            return []
        raise
    told: list[dict[str, str]] = found.get("Outputs", [])
    return told


def _importers(cloudformation: Any, export: str) -> set[str]:
    pages = cloudformation.get_paginator("list_imports").paginate(ExportName=export)
    try:
        return {stack for page in pages for stack in page["Imports"]}
    except ClientError as problem:
        if "is not imported by any stack" in str(problem):
            return set()
        raise


def vanishing_keys(
    assembly: Path, exports: Iterable[Export], cloudformation: Any
) -> dict[str, dict[str, Any]]:
    """The KMS keys that the assembly no longer has, of the stacks with such exports, by stack."""
    app = templates(assembly)
    found = {}
    for stack in {one.stack for one in exports}:
        deployed = cloudformation.get_template(StackName=stack)["TemplateBody"]["Resources"]
        kept = app[stack].body["Resources"]
        found[stack] = {
            logical: body
            for logical, body in deployed.items()
            if body["Type"] == "AWS::KMS::Key" and logical not in kept
        }
    return found


def carry_over(
    assembly: Path,
    exports: Iterable[Export],
    *,
    keys: Mapping[str, Mapping[str, Any]],
    into: Path,
) -> None:
    """Copy an assembly, and add exports to the copy as outputs with their current values.

    Args:
        assembly: The assembly.
        exports: What `vanishing` found.
        keys: What `vanishing_keys` found, which the copy keeps.
        into: Where the copy is made.
    """
    shutil.copytree(assembly, into)
    by_stack: dict[str, dict[str, Any]] = {}
    for one in exports:
        output = {"Value": one.value, "Export": {"Name": one.name}}
        by_stack.setdefault(one.stack, {})[one.key] = output
    found = templates(into)
    for stack, added in by_stack.items():
        template = found[stack]
        body = template.body
        body["Outputs"] = body.get("Outputs", {}) | added
        body["Resources"] |= keys.get(stack, {})
        text = json.dumps(body, indent=1)
        template.path.write_text(text)
        # Under its previous hash, the CDK CLI would deploy the template without the exports.
        asset = hashlib.sha256(text.encode()).hexdigest()
        assets = template.path.with_name(template.path.name.replace(".template.", ".assets."))
        for file in (into / "manifest.json", assets):
            file.write_text(file.read_text().replace(template.asset, asset))


def lead(assembly: Path, *, cloudformation: Any, deploy: Callable[[Path], None], say: Say) -> None:
    """Deploy an assembly: in one step, or in two if it removes exports that stacks import.

    Args:
        assembly: The assembly.
        cloudformation: A CloudFormation client.
        deploy: Deploys all stacks of an assembly.
        say: Called with lines of progress.

    Raises:
        DeployError: A removed export is imported by a stack that is no longer in the app.
    """
    exports = vanishing(assembly, cloudformation)
    if exports:
        stacks = ", ".join(sorted({one.stack for one in exports}))
        say(f"deploying, step 1 of 2: {stacks} keep {len(exports)} exports that are still in use")
        with TemporaryDirectory() as folder:
            carried = Path(folder) / "cdk.out"
            keys = vanishing_keys(assembly, exports, cloudformation)
            carry_over(assembly, exports, keys=keys, into=carried)
            deploy(carried)
        say("deploying, step 2 of 2: removing these exports, which are no longer in use")
    deploy(assembly)


def console_of(assembly: Path) -> str | None:
    """The stack of a console whose URL the assembly does not know; None if there is none."""
    for stack, template in templates(assembly).items():
        output = template.body.get("Outputs", {}).get(CONSOLE_URL)
        if output and not isinstance(output["Value"], str):
            return stack
    return None


def console_url(cloudformation: Any, stack: str) -> str | None:
    """The console's URL, of the deployed stack; None if it is not deployed."""
    told = outputs(cloudformation, stack)
    return next((one["OutputValue"] for one in told if one["OutputKey"] == CONSOLE_URL), None)


def lead_console(
    assembly: Path,
    *,
    cloudformation: Any,
    synthesise: Callable[[str], None],
    deploy: Callable[[], None],
    say: Say,
) -> None:
    """Deploy an assembly that has the console's URL, once more if it is only known then.

    Args:
        assembly: The assembly.
        cloudformation: A CloudFormation client.
        synthesise: Writes the assembly anew, with a URL.
        deploy: Deploys it.
        say: Called with lines of progress.
    """
    stack = console_of(assembly)
    if stack and (url := console_url(cloudformation, stack)):
        say(f"the console is at {url}")
        synthesise(url)
        stack = None
    deploy()
    if stack and (url := console_url(cloudformation, stack)):
        say(f"the console is at {url}: deploying once more, so that people can sign in to it")
        synthesise(url)
        deploy()


def empty(assembly: Path, *, cloudformation: Any, s3: Any, say: Say) -> None:
    """Delete every version of every object in the app's buckets, so that they can be deleted.

    Raises:
        DeployError: The stage keeps its data. Nothing was deleted.
    """
    buckets = [
        (stack, logical, body.get("DeletionPolicy"))
        for stack, template in templates(assembly).items()
        for logical, body in template.body["Resources"].items()
        if body["Type"] == "AWS::S3::Bucket"
    ]
    if kept := sorted({stack for stack, _, policy in buckets if policy != "Delete"}):
        raise DeployError(f"{', '.join(kept)}: this stage keeps its data, so it is not destroyed")
    for stack, logical, _ in buckets:
        name = _deployed(cloudformation, stack, logical)
        if name is None:
            continue
        say(f"emptying {name}")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            versions = [
                {"Key": one["Key"], "VersionId": one["VersionId"]}
                for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ]
            if versions:
                doomed = {"Objects": versions, "Quiet": True}
                answer = s3.delete_objects(Bucket=name, Delete=doomed)
                if failed := answer.get("Errors"):
                    raise DeployError(f"{name} cannot be emptied: {failed[0]['Message']}")


def _deployed(cloudformation: Any, stack: str, logical: str) -> str | None:
    """The physical id of a resource; None if it is not deployed."""
    try:
        found = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical)
    except ClientError as problem:
        if "does not exist" in str(problem):
            return None
        raise
    detail = found["StackResourceDetail"]
    return None if detail["ResourceStatus"] == "DELETE_COMPLETE" else detail["PhysicalResourceId"]


class App:
    """The project's CDK app, in one region, as the CDK CLI is asked about it.

    Args:
        profile: A profile of the AWS configuration, if it is not that of the environment.

    Attributes:
        root: The folder of the project.
        region: The region.
        session: Whose credentials are used.

    Raises:
        DeployError: There is no region.
        ProjectError: There is no project here.
    """

    def __init__(self, profile: str | None = None) -> None:
        self.session = botocore.session.Session(profile=profile)
        self.region = os.environ.get("AWS_REGION") or self.session.get_config_variable("region")
        if not self.region:
            raise DeployError("no AWS region: set AWS_REGION, or a region in the profile")
        self.root = Project.find().root
        self._profile = ("--profile", profile) if profile else ()

    def cdk(self, command: str, *options: str, stdout: Any = None) -> None:
        """Run a command of the CDK CLI.

        Raises:
            CalledProcessError: It failed, and has printed why.
        """
        path = f"{tools.BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = os.environ | {"AWS_REGION": self.region, "PATH": path}
        line = (tools.NODE, tools.CDK, command, *options, *self._profile)
        subprocess.run(line, cwd=self.root, env=environment, check=True, stdout=stdout)

    def synthesise(self, out: Path, context: Iterable[str], stdout: Any = None) -> None:
        """Write the assembly of a stage; `context` has its pairs, `key=value`."""
        pairs = [part for pair in context for part in ("--context", pair)]
        self.cdk("synth", "--quiet", "--output", str(out), *pairs, stdout=stdout)

    def client(self, service: str, **options: Any) -> Any:
        """A botocore client in the region."""
        return self.session.create_client(service, region_name=self.region, **options)


def main(arguments: Sequence[str], look: Callable[[App, Path], None] | None = None) -> None:
    """Deploy or destroy the stage that the context names; all other options are the CDK CLI's.

    Args:
        arguments: The command and its options.
        look: Looks at the assembly before it is deployed, and raises an error to stop that.

    Raises:
        DeployError: The stage cannot be deployed or destroyed.
        ProjectError: There is no project here.
        ToolError: The CDK CLI cannot be installed.
        CalledProcessError: The CDK CLI failed, and has printed why.
    """
    parser = argparse.ArgumentParser(prog="recourse", allow_abbrev=False)
    parser.add_argument("command", choices=("deploy", "destroy"))
    parser.add_argument("--context", "-c", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--profile", help="profile of the AWS configuration")
    asked, others = parser.parse_known_args(arguments)
    app = App(asked.profile)
    out = app.root / "cdk.out"
    tools.install(print)
    app.synthesise(out, asked.context)
    if asked.command == "deploy":
        print(idle_month(one.body for one in templates(out).values()).said)
        if look:
            look(app, out)
        cloudformation = app.client("cloudformation")

        def deploy(assembly: Path) -> None:
            app.cdk("deploy", "--all", "--app", str(assembly), *others)

        lead_console(
            out,
            cloudformation=cloudformation,
            synthesise=lambda url: app.synthesise(out, [*asked.context, f"console_url={url}"]),
            deploy=lambda: lead(out, cloudformation=cloudformation, deploy=deploy, say=print),
            say=print,
        )
        return
    if "--force" not in others:
        if input(f"Destroy {', '.join(templates(out))} and all their data? (y/n) ") != "y":
            raise DeployError("nothing was destroyed")
        others.append("--force")
    empty(out, cloudformation=app.client("cloudformation"), s3=app.client("s3"), say=print)
    app.cdk("destroy", "--all", "--app", str(out), *others)
