"""Sagas on the local cloud, beside a machine of four tasks that do nothing on the same emulator."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from bench import memory
from bench.figures import Figure, alternated, say
from bench.samples import sample, things
from cli.api import Api
from local import LOCAL, ROOT
from local.aws import ACCOUNT
from local.cloud import EVERY_SCOPE, LocalCloud
from recourse.saga import Coordination
from statemachines.travel_booking import TRAVEL_BOOKING

SIZES = {1: 40, 8: 80, 32: 160}
"""How many are run in all, by how many are under way at once."""
ROUNDS = 2
MANY, MANY_AT_ONCE = 1000, 8
TASKS = 4
LOOK = 0.05
"""Seconds between two looks at what has ended."""
PATIENCE = 120

Start = Callable[[], str]
Ended = Callable[[Collection[str]], Collection[str]]


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
    folder = LOCAL / "bench" / "cloud"
    with (
        LocalCloud(
            port=0, aws_port=0, state_dir=folder, fresh=True, seed_file=None, say=say
        ) as cloud,
        Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
    ):
        for (kind, thing), body in things().items():
            api.call("PUT", f"/{kind}/{thing}", json=body)
        ours, bare = trips(cloud, api, "orchestration"), _bare(cloud)
        for side in (ours, bare):
            side.run(2 * MANY_AT_ONCE, MANY_AT_ONCE)
        figures = [_rates(ours, bare, at_once, count) for at_once, count in SIZES.items()]
        return figures + _many(ours, bare)


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


def _many(sagas: Side, bare: Side) -> list[Figure]:
    took, held = [], []
    for name, side in (("trips", sagas), ("bare runs", bare)):
        before, _ = memory.below()
        took.append(0.0)
        for done in range(0, MANY, MANY // 10):
            took[-1] += side.run(MANY // 10, MANY_AT_ONCE)
            say(f"{done + MANY // 10} of {MANY} {name} after {took[-1]:.0f} s")
        after, processes = memory.below()
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
            what="memory of the emulator and its workers that they added",
            size=size,
            figure=f"{our_growth:+.0f} MB, to {our_end:.0f} MB in {our_count} processes",
            alternative=f"bare machine: {their_growth:+.0f} MB, to {their_end:.0f} MB in "
            f"{their_count} processes",
            ratio=our_growth / their_growth,
        ),
    ]


def trips(cloud: LocalCloud, api: Api, coordination: Coordination) -> Side:
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


def _bare(cloud: LocalCloud) -> Side:
    """A machine of four tasks, each a function of its own that passes on what comes in."""
    functions, sfn = cloud.client("lambda"), cloud.client("stepfunctions")
    role = f"arn:aws:iam::{ACCOUNT}:role/bare"
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


def _code() -> bytes:
    """The local cloud's runtime, which runs this very checkout."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, (ROOT / "local" / "runtime" / "bootstrap").read_bytes())
    return packed.getvalue()
