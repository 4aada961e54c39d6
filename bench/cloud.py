"""Sagas on the local cloud, beside a machine of four tasks that do nothing on the same emulator.

Time-outs are as long as on AWS: as short as the local cloud has them, 32 trips at once on a slow
machine meet some while they wait for a worker, and are undone.

With a commit in `BENCH_BEFORE` (`BENCH_BEFORE=main~3 python -m bench cloud`) it also runs that
one's local cloud in the same run, and says how many times its trips a second these are.

It is longer than other modules: both sides of the comparison are in it, ours and the bare machine.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from bench import LOCAL, ROOT, memory
from bench.figures import Figure, alternated, say
from bench.samples import sample, things
from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.local import folder as data
from recourse.local.aws import client, root_secret
from statemachines.travel_booking import TRAVEL_BOOKING

SIZES = {1: 40, 8: 80, 32: 160}
"""How many are run in all, by how many are under way at once."""
ROUNDS = 2
MANY, MANY_AT_ONCE = 1000, 8
TASKS = 4
LOOK = 0.05
"""Seconds between two looks at what has ended."""
PATIENCE = 120
FIRST = 2
"""Seconds that the first trip after `make up` may take."""
AFTER_ONE, AFTER_MANY = 600, 1200
"""MB that the local cloud may take after one trip, and after many."""
FASTER = 1.5
"""How many times the trips a second of the commit before there should be, 8 at once."""
FOREGROUND = """
import json, sys
from pathlib import Path
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
say = lambda text: print(" ", text, file=sys.stderr, flush=True)
folder, seed = map(Path, sys.argv[1:])
with LocalCloud(
    port=0, aws_port=0, state_dir=folder, timescale=1, fresh=True, seed_file=seed, say=say
) as cloud:
    print(json.dumps({
        "api_url": cloud.api_url,
        "aws_endpoint": cloud.aws_endpoint,
        "outputs": cloud.outputs,
        "token": cloud.token("asha", EVERY_SCOPE),
    }), flush=True)
    sys.stdin.read()
"""

Start = Callable[[], str]
Ended = Callable[[Collection[str]], Collection[str]]


class Cloud(Protocol):
    """A local cloud that runs, in this process or another."""

    outputs: dict[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client of its emulator."""


@dataclass
class Apart:
    """The local cloud of a checkout, in a process of its own."""

    pid: int
    api_url: str
    aws_endpoint: str
    outputs: dict[str, str]
    token: str

    def client(self, service: str) -> Any:
        """A boto3 client of its emulator."""
        return client(service, self.aws_endpoint)


@contextmanager
def running(checkout: Path, folder: Path) -> Iterator[Apart]:
    """The local cloud of a checkout, with plenty of what trips need, as ready as `make up` is."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, dict[str, Any]] = {}
    for (kind, thing), body in things().items():
        kinds.setdefault(kind, {})[thing] = body
    seed = folder / "seed.json"
    seed.write_text(json.dumps(kinds))
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(folder), str(seed)],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdin and process.stdout
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"the local cloud of {checkout} has not started")
        yield Apart(process.pid, **json.loads(said))
        process.stdin.close()


@contextmanager
def checked_out(ref: str) -> Iterator[Path]:
    """Another commit, with what this one has installed."""
    checkout = LOCAL / "bench" / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    if checkout.exists():  # a run before was killed
        subprocess.run([*git, "remove", "--force", checkout], check=True)
    subprocess.run([*git, "add", "--quiet", "--detach", checkout, ref], check=True)
    try:
        (checkout / ".local").mkdir()
        root_secret()  # it is there
        (checkout / ".local" / "root-secret").symlink_to(data() / "root-secret")
        yield checkout
    finally:
        subprocess.run([*git, "remove", "--force", checkout], check=True)


class Side:
    """Something that can be started many times, and whose ends can be seen.

    Args:
        start: Starts one; its id.
        ended: Which of these ids have ended as they should.
    """

    def __init__(self, start: Start, ended: Ended) -> None:
        self._start = start
        self._ended = ended

    def run(self, count: int, at_once: int) -> float:
        """Seconds for so many, so many at once.

        Raises:
            TimeoutError: Some did not end.
        """
        under_way: dict[str, threading.Event] = {}
        wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            wanted.put(number)
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK):
                for ended in self._ended(list(under_way)):
                    under_way.pop(ended).set()

        def work() -> None:
            while True:
                try:
                    wanted.get_nowait()
                except queue.Empty:
                    return
                end = threading.Event()
                name = self._start()
                under_way[name] = end
                if not end.wait(PATIENCE):
                    raise TimeoutError(f"{name} did not end within {PATIENCE} s")

        with ThreadPoolExecutor(at_once + 1) as pool:
            watch = pool.submit(look)
            began = time.perf_counter()
            workers = [pool.submit(work) for _ in range(at_once)]
            try:
                for worker in workers:
                    worker.result()
                return time.perf_counter() - began
            finally:
                over.set()
                watch.result()


def measure() -> list[Figure]:
    """Run trips on the local cloud, and the same number of bare machines on its emulator."""
    with ExitStack() as ends:
        cloud, ours, figures = ends.enter_context(_begun("these functions", ROOT))
        if ref := os.environ.get("BENCH_BEFORE"):
            with (
                checked_out(ref) as checkout,
                _begun(ref, checkout) as (_, before, figures_before),
            ):
                figures += figures_before
                figures.append(_against(ours, before, ref))
        bare = _bare(cloud)
        for side in (ours, bare):
            side.run(2 * MANY_AT_ONCE, MANY_AT_ONCE)
        figures += [_rates(ours, bare, at_once, count) for at_once, count in SIZES.items()]
        return figures + _many(cloud, ours, bare)


@contextmanager
def _begun(whose: str, checkout: Path) -> Iterator[tuple[Apart, Side, list[Figure]]]:
    """A local cloud that has run its first trip, and what that took."""
    with (
        running(checkout, LOCAL / "bench" / "cloud" / checkout.name) as cloud,
        Api(cloud.api_url, cloud.token) as api,
    ):
        side = trips(cloud, api, "orchestration")
        first = side.run(1, 1)
        held, processes = memory.below(cloud.pid)
        own = checkout == ROOT
        yield (
            cloud,
            side,
            [
                Figure(
                    what=f"first trip after `make up`, {whose}",
                    size="1 trip",
                    figure=f"{first:.2f} s",
                    alternative=f"{FIRST} s",
                    ratio=first / FIRST,
                    most=1 if own else None,
                ),
                Figure(
                    what=f"memory after it, {whose}",
                    size="1 trip",
                    figure=f"{held:.0f} MB in {processes} processes",
                    alternative=f"{AFTER_ONE} MB",
                    ratio=held / AFTER_ONE,
                    most=1 if own else None,
                ),
            ],
        )


def _against(ours: Side, before: Side, ref: str) -> Figure:
    count = SIZES[MANY_AT_ONCE]
    say(f"{count} of each, {MANY_AT_ONCE} at once, against {ref}")
    part = count // ROUNDS
    now, then = alternated(
        [
            lambda: part / ours.run(part, MANY_AT_ONCE),
            lambda: part / before.run(part, MANY_AT_ONCE),
        ],
        rounds=ROUNDS,
        warmups=1,
    )
    return Figure(
        what=f"trips a second, {MANY_AT_ONCE} at once, against the commit before",
        size=f"{count} of each, in {ROUNDS} rounds",
        figure=f"{now:.2f} trips/s",
        alternative=f"{ref}: {then:.2f} trips/s",
        ratio=now / then,
        least=FASTER,
    )


def _rates(sagas: Side, bare: Side, at_once: int, count: int) -> Figure:
    say(f"{count} of each, {at_once} at once")
    part = count // ROUNDS
    ours, theirs = alternated(
        [lambda: part / sagas.run(part, at_once), lambda: part / bare.run(part, at_once)],
        rounds=ROUNDS,
    )
    return Figure(
        what=f"trips a second, {at_once} at once",
        size=f"{count} of each, in {ROUNDS} rounds",
        figure=f"{ours:.2f} trips/s",
        alternative=f"bare machine of {TASKS} tasks: {theirs:.2f} runs/s",
        ratio=ours / theirs,
    )


def _many(cloud: Apart, sagas: Side, bare: Side) -> list[Figure]:
    took, held = [], []
    for name, side in (("trips", sagas), ("bare runs", bare)):
        before, _ = memory.below(cloud.pid)
        took.append(0.0)
        for done in range(0, MANY, MANY // 10):
            took[-1] += side.run(MANY // 10, MANY_AT_ONCE)
            say(f"{done + MANY // 10} of {MANY} {name} after {took[-1]:.0f} s")
        after, processes = memory.below(cloud.pid)
        held.append((before, after, processes))
    size = f"{MANY} of each, {MANY_AT_ONCE} at once"
    (_, our_end, our_count), (_, their_end, their_count) = held
    our_growth, their_growth = (after - before for before, after, _ in held)
    return [
        Figure(
            what=f"time for {MANY} trips",
            size=size,
            figure=f"{took[0]:.0f} s",
            alternative=f"bare machine: {took[1]:.0f} s",
            ratio=took[0] / took[1],
        ),
        Figure(
            what=f"memory after {MANY} trips",
            size=size,
            figure=f"{our_end:.0f} MB in {our_count} processes",
            alternative=f"{AFTER_MANY} MB",
            ratio=our_end / AFTER_MANY,
            most=1,
        ),
        Figure(
            what="memory of the emulator and its workers that they added",
            size=size,
            figure=f"{our_growth:+.0f} MB, to {our_end:.0f} MB in {our_count} processes",
            alternative=f"bare machine: {their_growth:+.0f} MB, to {their_end:.0f} MB in "
            f"{their_count} processes",
            ratio=our_growth / their_growth,
        ),
    ]


def trips(cloud: Cloud, api: Api, coordination: Coordination) -> Side:
    """Trips, started by the API, and ended when the ledger says so."""
    request = sample(TRAVEL_BOOKING)
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["LedgerTableName"]

    def start() -> str:
        key = uuid.uuid4().hex
        body = request | {"trip_id": key}
        started = api.start(TRAVEL_BOOKING.name, body, key=key, coordination=coordination)
        return str(started["saga_id"])

    def ended(names: Collection[str]) -> Collection[str]:
        if not names:
            return []
        keys = [{"pk": {"S": name}} for name in names]
        rows = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
        found = {row["pk"]["S"]: row["status"]["S"] for row in rows["Responses"][table]}
        wrong = {name: status for name, status in found.items() if status not in _ON_THE_WAY}
        if wrong:
            raise AssertionError(f"trips that should have been booked: {wrong}")
        return [name for name, status in found.items() if status == "SUCCEEDED"]

    return Side(start, ended)


_ON_THE_WAY = ("RUNNING", "SUCCEEDED")


def _bare(cloud: Cloud) -> Side:
    """A machine of four tasks, each a function of its own that passes on what comes in."""
    functions, sfn = cloud.client("lambda"), cloud.client("stepfunctions")
    role = _role(cloud)
    states: dict[str, Any] = {}
    for number in range(TASKS):
        made = functions.create_function(
            FunctionName=f"bare-{number}",
            Runtime="provided.al2023",
            Handler="bench.bare.handler",
            Role=role,
            Code={"ZipFile": _code()},
            Timeout=30,
        )
        last = number + 1 == TASKS
        states[f"task-{number}"] = {"Type": "Task", "Resource": made["FunctionArn"]} | (
            {"End": True} if last else {"Next": f"task-{number + 1}"}
        )
    definition = json.dumps({"StartAt": "task-0", "States": states})
    machine = sfn.create_state_machine(name="bare", definition=definition, roleArn=role)
    arn = machine["stateMachineArn"]
    text = json.dumps(sample(TRAVEL_BOOKING))

    def start() -> str:
        return str(sfn.start_execution(stateMachineArn=arn, input=text)["executionArn"])

    def ended(names: Collection[str]) -> Collection[str]:
        found = {name: sfn.describe_execution(executionArn=name)["status"] for name in names}
        wrong = {name: status for name, status in found.items() if status not in _ON_THE_WAY}
        if wrong:
            raise AssertionError(f"bare runs that should have succeeded: {wrong}")
        return [name for name, status in found.items() if status == "SUCCEEDED"]

    return Side(start, ended)


def _role(cloud: Cloud) -> str:
    """A role under which a machine calls functions, and these do nothing."""
    iam = cloud.client("iam")
    trusted = {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]}
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": trusted}
    calls = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}

    def policy(statement: dict[str, Any]) -> str:
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    made = iam.create_role(RoleName="bare", AssumeRolePolicyDocument=policy(trust))
    iam.put_role_policy(RoleName="bare", PolicyName="calls", PolicyDocument=policy(calls))
    return str(made["Role"]["Arn"])


def _code() -> bytes:
    """The local cloud's runtime, which runs this very checkout."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, (ROOT / "local" / "runtime" / "bootstrap").read_bytes())
    return packed.getvalue()
