"""Deploys app.py to the emulator with the CDK CLI, unless nothing has changed."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from recourse import tools
from recourse.cdk import deploy
from recourse.cdk.deploy import empty, lead
from recourse.local import LocalCloudError, signals
from recourse.local.aws import ACCOUNT, REGION, client, environment
from recourse.project import Project

LIBRARY = Path(tools.__file__).parent
FINGERPRINT = "/recourse/local/fingerprint"
Context = Mapping[str, str]


class DeployError(LocalCloudError):
    """The app cannot be deployed; the message ends with the end of the CDK CLI's output, if any."""


class Deployment:
    """The app in the emulator at ``endpoint``; ``folder`` keeps the assembly and the CLI's log.

    ``say`` is called with lines of progress where a deploy takes more than one step.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        folder: Path,
        project: Project | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Configure it; nothing runs yet."""
        self._project = project or Project.find()
        self._endpoint = endpoint
        self._assembly = folder / "cdk.out"
        self._synthesised = folder / "cdk.out.fingerprint"
        self._folder = folder
        self._say = say
        self.log = folder / "cdk.log"

    def fingerprint(self, context: Context) -> str:
        """A hash of the sources and the context: equal fingerprints deploy equal stacks."""
        digest = hashlib.sha256(json.dumps(sorted(context.items())).encode())
        for path in self._sources():
            digest.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def is_current(self, fingerprint: str) -> bool:
        """Whether this deployment is the emulator's current one, by the emulator's own state.

        The assembly must be of it as well: it says which stacks there are.
        """
        ssm = client("ssm", self._endpoint)
        try:
            value: str = ssm.get_parameter(Name=FINGERPRINT)["Parameter"]["Value"]
        except ssm.exceptions.ParameterNotFound:
            return False
        return value == fingerprint and self.is_synthesised(fingerprint)

    def is_synthesised(self, fingerprint: str) -> bool:
        """Whether the assembly on disk was made of these sources and this context."""
        return self._synthesised.exists() and self._synthesised.read_text().strip() == fingerprint

    def synthesise(self, context: Context, fingerprint: str) -> None:
        """Run `cdk synth`, which needs no emulator."""
        self._synthesised.unlink(missing_ok=True)
        pairs = [part for key, value in context.items() for part in ("-c", f"{key}={value}")]
        self._cdk(
            "synth", "--quiet", "--output", str(self._assembly), *pairs, cwd=self._project.root
        )
        self._synthesised.write_text(fingerprint)

    def deploy(self, fingerprint: str) -> None:
        """Run `cdk bootstrap` if necessary, and `cdk deploy` for every stack.

        As on AWS (`recourse.cdk.deploy`) this takes two deploys if an export in use was removed.
        """
        ssm = client("ssm", self._endpoint)
        if not self._has_toolkit():
            self._cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=self._folder)
        try:
            lead(
                self._assembly,
                cloudformation=client("cloudformation", self._endpoint),
                deploy=self._deploy,
                say=self._say,
            )
        except deploy.DeployError as problem:
            raise DeployError(str(problem)) from problem
        ssm.put_parameter(Name=FINGERPRINT, Value=fingerprint, Type="String", Overwrite=True)

    def destroy(self) -> None:
        """Empty the buckets and run `cdk destroy` for every stack."""
        empty(
            self._assembly,
            cloudformation=client("cloudformation", self._endpoint),
            s3=client("s3", self._endpoint),
            say=self._say,
        )
        self._cdk("destroy", "--all", "--force", "--app", str(self._assembly), cwd=self._folder)
        client("ssm", self._endpoint).delete_parameter(Name=FINGERPRINT)

    def _deploy(self, assembly: Path) -> None:
        self._cdk(
            "deploy",
            "--all",
            "--app",
            str(assembly),
            "--method=direct",
            "--require-approval=never",
            cwd=self._folder,
        )

    def outputs(self) -> dict[str, str]:
        """The outputs of all of the app's stacks, by name.

        A stack that is no longer in the app stays deployed, and is none of them.
        """
        cloudformation = client("cloudformation", self._endpoint)
        return {
            output["OutputKey"]: output["OutputValue"]
            for stack in deploy.templates(self._assembly)
            for output in deploy.outputs(cloudformation, stack)
        }

    def _has_toolkit(self) -> bool:
        cloudformation = client("cloudformation", self._endpoint)
        stacks = cloudformation.describe_stacks()["Stacks"]
        return any(stack["StackName"] == "CDKToolkit" for stack in stacks)

    def _sources(self) -> Iterator[Path]:
        """What `cdk synth` reads: the app, and all code that is deployed with it."""
        project = self._project
        own = ("cdk.json", "pyproject.toml", *project.app, *project.packages)
        for path in (LIBRARY, project.requirements, *(project.root / name for name in own)):
            files = path.rglob("*") if path.is_dir() else [path]
            yield from sorted(
                file for file in files if file.is_file() and "__pycache__" not in file.parts
            )

    def _cdk(self, command: str, *arguments: str, cwd: Path) -> None:
        if not tools.CDK.exists():
            raise DeployError("the CDK CLI is not installed: run `python -m recourse.tools`")
        binaries = Path(sys.executable).parent
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        with self.log.open("ab") as log, contextlib.ExitStack() as stack:
            at = log.tell()
            with signals.deferred():
                process = subprocess.Popen(
                    [tools.NODE, tools.CDK, command, *arguments, "--no-notices", "--no-color"],
                    cwd=cwd,
                    env=inherited
                    | {
                        # The environment's node and python, for the CLI, jsii and cdk.json.
                        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                        **environment(self._endpoint),
                        "AWS_REGION": REGION,
                        "AWS_ENDPOINT_URL_S3": self._endpoint,
                        "NO_PROXY": "127.0.0.1,localhost",
                        "no_proxy": "127.0.0.1,localhost",
                        "CI": "true",
                        "CDK_DISABLE_CLI_TELEMETRY": "true",
                        "CDK_HOME": str(self._folder / "cdk"),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # its group is all that it has started
                )
                stack.callback(_end, process)
            code = process.wait()
        if code:
            said = self.log.read_bytes()[at:].decode(errors="replace").strip().splitlines()
            tail = "\n".join(said[-30:])
            raise DeployError(f"`cdk {command}` failed; its output is in {self.log}:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
