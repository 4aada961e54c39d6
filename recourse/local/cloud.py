"""The local cloud from end to end: emulator, deployment, proxy, issuer and seed."""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from recourse import tools
from recourse.cdk.local_cloud import CONSTRUCT, Kind, told
from recourse.feed.feed import Feed
from recourse.feed.watch import Watch
from recourse.functions.bearer import Bearers
from recourse.functions.limits import limit
from recourse.functions.sse import Stream
from recourse.functions.users import SCOPES, own_scopes
from recourse.local import LocalCloudError, folder, private
from recourse.local.aws import client, root_secret, write_config
from recourse.local.boot import GAPS
from recourse.local.deploy import Deployment
from recourse.local.emulator import Emulator
from recourse.local.issuer import AUDIENCE, Issuer, issuer_of
from recourse.local.ports import free_port, must_be_free
from recourse.local.proxy import Proxy, stand_in_path
from recourse.local.seed import by_token, seed
from recourse.local.signals import STOP
from recourse.project import Project
from recourse.store.slots import Slots
from recourse.store.table import Table

PORT = 8000
AWS_PORT = 4566
TIMESCALE = 0.1
QUICK, SLOW = 0.1, 0.5
"""Seconds between two polls of a feed: after an event, and when idle."""
LONGEST_STREAM = 870
"""Seconds that a stream lasts, as on AWS."""
EVERY_SCOPE = " ".join(SCOPES)
CONSTRUCTS: Mapping[Kind, str] = {"Api": "SagaApi", "Live": "LiveChannels"}


def say_at_once(line: str) -> None:
    """Print a line, into a file or a pipe too while it is being waited for."""
    print(line, flush=True)


IMPORTED = 8
"""Sagas of an import in flight: more would wait for a worker, till their steps' time is up."""


class LocalCloud:
    """The app, running on this machine while the ``with`` block lasts.

    ::

        with LocalCloud(port=0, aws_port=0) as cloud:
            httpx.get(f"{cloud.api_url}/health")

    ``port`` is the API's, ``aws_port`` the AWS endpoint's; 0 takes a free one, the last one if that
    is still free. ``state_dir`` keeps everything between runs, by default `.local/cloud` of the
    project; ``fresh`` deletes the emulator's state first. ``seed_file`` is one of its samples, or
    None. ``context`` is additional CDK context. ``say`` is called with lines of progress.
    """

    def __init__(
        self,
        *,
        port: int = PORT,
        aws_port: int = AWS_PORT,
        state_dir: Path | None = None,
        timescale: float = TIMESCALE,
        fresh: bool = False,
        seed_file: Path | None = Path("seed.json"),
        project: Project | None = None,
        context: Mapping[str, str] | None = None,
        gaps: Iterable[str] = GAPS,
        say: Callable[[str], None] = say_at_once,
    ) -> None:
        """Configure it; entering the context starts it."""
        self._wanted = {"port": port, "aws_port": aws_port}
        self.project = project or Project.find()
        self._folder = state_dir or folder() / "cloud"
        self._timescale = timescale
        self._fresh = fresh
        self._seed_file = seed_file
        self._more_context = dict(context or {})
        self._gaps = tuple(gaps)
        self._say = say
        self._lock: IO[str] | None = None
        self._emulator: Emulator | None = None
        self._proxy: Proxy | None = None
        self.api_url = ""
        self.aws_endpoint = ""
        self.outputs: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start it, and return when the API answers.

        Raises:
            LocalCloudError: It cannot run here: the folder, a port or the emulator says why.
        """
        began = time.monotonic()
        try:
            self._start()
        except OSError as problem:
            self.__exit__(None, None, None)
            about = f"{problem.filename}: " if problem.filename else ""
            raise LocalCloudError(f"{about}{problem.strerror or problem}") from problem
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._say(f"ready in {time.monotonic() - began:.0f} s: {self.api_url}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what was started here, and nothing else."""
        if self._proxy:
            self._proxy.stop()
        if self._emulator:
            self._emulator.stop()
            shutil.rmtree(self._folder / "emulator" / "tmp", ignore_errors=True)
        if self._lock:
            self._lock.close()
        self._proxy = self._emulator = self._lock = None

    def deploy_again(self) -> None:
        """Deploy the app as it is now into the cloud of this folder, which runs on meanwhile.

        It may run in another process: sagas in flight are not interrupted, as by a deploy to AWS.

        Raises:
            LocalCloudError: None runs there, or the app could not be deployed.
        """
        if not self._is_held():
            raise LocalCloudError(
                f"no local cloud runs in {self._folder}: `recourse up` starts one, with the app as "
                "it is now"
            )
        ports = json.loads((self._folder / "ports.json").read_text())
        self._know(ports)
        self._deploy()

    def say_how_to_sign_in(self) -> None:
        """Say where the console is, and with what its owner signs in there."""
        self._say(f"the console: {self.api_url}/")
        self._say(f"its passcode: {self.issuer.passcode.text}")

    def wait(self) -> None:
        """Wait until the emulator stops or the process is interrupted.

        Raises:
            LocalCloudError: The emulator stopped.
        """
        while self._emulator and self._emulator.is_running:
            time.sleep(0.5)
        raise LocalCloudError(f"the emulator stopped unexpectedly; its log is {self.log}")

    def token(self, subject: str, scope: str, *, lifetime: int = 3600) -> str:
        """A bearer token of the local issuer."""
        return self.issuer.token(subject, scope, lifetime=lifetime)

    def client(self, service: str) -> Any:
        """A boto3 client of the emulator, for tests and demos."""
        return client(service, self.aws_endpoint)

    @property
    def log(self) -> Path:
        """The emulator's log, which also names the function of each worker process."""
        return self._folder / "emulator" / "emulator.log"

    @property
    def aws_config(self) -> Path:
        """The AWS_CONFIG_FILE that makes AWS's own tools root here."""
        return self._folder / "aws.config"

    @property
    def decisions(self) -> Path:
        """The log of authorization decisions, one JSON object a line."""
        return self._folder / "emulator" / "decisions.jsonl"

    @property
    def deployment(self) -> Deployment:
        """The app as it is deployed to the emulator, to deploy again or destroy."""
        return Deployment(
            endpoint=self.aws_endpoint, folder=self._folder, project=self.project, say=self._say
        )

    def context(self) -> dict[str, str]:
        """The CDK context in which the app runs locally."""
        return {
            "runtime": "local",
            "chaos": "on",
            "timescale": str(self._timescale),
            "issuer": self.issuer.url,
            "audience": AUDIENCE,
            "public_url": self.api_url,
            "console_url": self.api_url,
            **{one: f"{self.api_url}{stand_in_path(one)}" for one in self.project.stand_ins},
            "connections_url": f"{self.aws_endpoint}/_aws/execute-api/{{api}}/{{stage}}",
            "owner_limits": f"imported={IMPORTED}",
            **self._more_context,
        }

    def _start(self) -> None:
        self._lock_folder()
        ports = self._choose_ports()
        self._know(ports)
        self._hold(f"{os.getpid()} on {self.api_url}")

        tools.install(self._say)
        self._proxy = Proxy(
            port=ports["port"],
            issuer=self.issuer,
            secret=root_secret(),
            aws_endpoint=self.aws_endpoint,
            stand_ins=self.project.standing_in(),
        )
        self._proxy.start()
        self._say(f"starting ministack, an AWS emulator, on {self.aws_endpoint}")
        write_config(self.aws_config, self.aws_endpoint)
        self._say(f"to use AWS's own tools with it: export AWS_CONFIG_FILE={self.aws_config}")
        self._emulator = Emulator(
            port=ports["aws_port"],
            folder=self._folder / "emulator",
            timescale=self._timescale,
            gaps=self._gaps,
            checkout=self.project.root,
            packages=self.project.packages,
        )
        self._emulator.start()
        self._deploy()
        api, live = self._the_one("Api"), self._the_one("Live")
        if api is None:
            raise LocalCloudError(
                "the app has no SagaApi for the local cloud to serve: it needs one, whose stage is "
                "made by Stage.from_context"
            )
        if live:
            self._proxy.websocket = live["connections_url"].replace("http", "ws", 1)
            self._proxy.stream = self._stream(live)
        self._proxy.origins = self._origins(api["api_id"])
        self._proxy.target = f"{self.aws_endpoint}/_aws/execute-api/{api['api_id']}/$default"
        file = self._seed_file and self.project.samples / self._seed_file
        if file and file.exists():
            with httpx.Client(base_url=self.api_url, timeout=30, trust_env=False) as http:
                put = sum(
                    new for _, new in seed(by_token(http, self.token("seed", EVERY_SCOPE)), file)
                )
            if put:
                self._say(f"seeded the services with {put} holdings from {file.name}")

    def _know(self, ports: Mapping[str, int]) -> None:
        """Know the addresses that follow from the ports."""
        self.api_url = f"http://127.0.0.1:{ports['port']}"
        self.aws_endpoint = f"http://127.0.0.1:{ports['aws_port']}"
        own = own_scopes(self.project.declared().values())
        self.issuer = Issuer(issuer_of(self.api_url), own=own)

    def _the_one(self, kind: Kind) -> dict[str, str] | None:
        """What the app's one construct of a kind tells, if it has one.

        Raises:
            LocalCloudError: It has more, and there is one port.
        """
        found = told(kind, self.outputs)
        if len(found) > 1:
            raise LocalCloudError(
                f"the local cloud serves one {CONSTRUCTS[kind]}, the app has {len(found)}: "
                f"{', '.join(one[CONSTRUCT] for one in found)}; make one alone where stage.local"
            )
        return found[0] if found else None

    def _origins(self, api_id: str) -> list[str]:
        """The origins whose pages may call the API."""
        api = self.client("apigatewayv2").get_api(ApiId=api_id)
        origins: list[str] = api.get("CorsConfiguration", {}).get("AllowOrigins", [])
        return origins

    def _stream(self, live: Mapping[str, str]) -> Stream:
        """The stream of events on the emulator's feed, by the code of the function on AWS."""
        feed = Feed(self.client("dynamodb"), live["feed_table"])
        bearers = Bearers(self.issuer.url, [AUDIENCE], keys=lambda: self.issuer.jwks)
        table = Table(self.client("dynamodb"), live["connections_table"], ("pk", "connection"))
        most = limit("streams").most
        slots = Slots(table, "streams", most=most, seconds=LONGEST_STREAM, sort="slots")
        watch = Watch(feed, min_interval=QUICK, max_interval=SLOW)
        return Stream(watch, bearers, slots, seconds=LONGEST_STREAM)

    def _deploy(self) -> None:
        deployment = self.deployment
        deployment.log.unlink(missing_ok=True)
        fingerprint = deployment.fingerprint(self.context())
        if deployment.is_current(fingerprint):
            self._say("the app is deployed already: nothing changed")
        else:
            if not deployment.is_synthesised(fingerprint):
                self._say("synthesizing the CDK app (10 to 20 s, after each change)")
                deployment.synthesise(self.context(), fingerprint)
            self._say("deploying the app with the CDK CLI")
            deployment.deploy(fingerprint)
        self.outputs = deployment.outputs()

    def _lock_folder(self) -> None:
        try:
            private.make_folder(self._folder)
            self._lock = (self._folder / "lock").open("a+")
        except OSError as problem:
            raise LocalCloudError(
                f"cannot write {problem.filename} ({problem.strerror}): the local cloud keeps its "
                "data there; give the folder to this user, or use a checkout of your own"
            ) from problem
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip()
            number = holder.partition(" ")[0]
            stop = f"`kill {number}`" if number.isdecimal() else "Ctrl-C there"
            raise LocalCloudError(
                f"another local cloud is using {self._folder}"
                + (f" (process {holder})" if holder else "")
                + f": use that one, or stop it with {stop}"
            ) from None
        self._hold(str(os.getpid()))

    def _is_held(self) -> bool:
        """Whether a local cloud runs in the folder."""
        try:
            with (self._folder / "lock").open("a+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def _hold(self, holder: str) -> None:
        """Write into the lock who holds it, for those who find it locked."""
        assert self._lock
        self._lock.truncate(0)
        self._lock.write(holder)
        self._lock.flush()

    def _choose_ports(self) -> dict[str, int]:
        file = self._folder / "ports.json"
        last: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        for name, wanted in self._wanted.items():
            must_be_free(wanted, name.upper())
        ports = {
            name: wanted or free_port(last.get(name, 0)) for name, wanted in self._wanted.items()
        }
        if ports["port"] == ports["aws_port"]:
            raise LocalCloudError(f"PORT and AWS_PORT must differ, got {ports['port']} for both")
        # The emulator's state contains its own address (every queue's URL), so it cannot move.
        if self._fresh or last.get("aws_port", ports["aws_port"]) != ports["aws_port"]:
            shutil.rmtree(self._folder / "emulator", ignore_errors=True)
        private.write(file, json.dumps(ports).encode())
        return ports


def run(
    *,
    ready: Callable[[LocalCloud], None] = lambda _: None,
    say: Callable[[str], None] = say_at_once,
    **options: Any,
) -> None:
    """Run in the foreground until Ctrl-C or SIGTERM, with the options of ``LocalCloud``.

    ``ready`` is called once its API answers.
    """
    # Also where the shell has started it in the background, with SIGINT ignored; what it starts
    # inherits neither handler.
    for one in STOP:
        signal.signal(one, signal.default_int_handler)
    try:
        with LocalCloud(say=say, **options) as cloud:
            cloud.say_how_to_sign_in()
            try:
                ready(cloud)
                cloud.wait()
            finally:
                # From here on it shuts down in order: a second Ctrl-C must not interrupt that.
                for one in STOP:
                    signal.signal(one, signal.SIG_IGN)
    except KeyboardInterrupt:
        say("stopped")
