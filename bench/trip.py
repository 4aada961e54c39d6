"""Where a trip's time goes on the local cloud, drawn, and the floor below it.

The floor is the AWS calls of one trip, as they reached the emulator, made again by a bare client
while every function is one that does nothing: what the emulator takes for a trip, whoever calls.
With a commit in `BENCH_BEFORE` the trips of that one's local cloud are measured in the same run.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench import LOCAL, ROOT
from bench.cloud import FASTER, LOOK, Side, checked_out, running, trips
from bench.figures import Figure, alternated, say
from bench.samples import things
from bench.timeline import Bar, timeline
from recourse.cli.api import Api
from recourse.local.boot import GAPS
from recourse.local.cloud import EVERY_SCOPE, LocalCloud

SIZES = {1: 20, 8: 96}
"""How many are run in all, by how many are under way at once."""
ROUNDS = 2
WARM = 24
DRAWING = ROOT / "docs" / "trip.svg"
OWNER = "recorded-owner-of-one-trip"
QUIET = 2.0
"""Seconds without a line of the trace after which all that trips have set going has ended."""
DRAWN = 1.5
"""Seconds that are drawn at the most."""
TICKS = os.sysconf("SC_CLK_TCK")
START = "start by the API"
ID = re.compile(
    r"(?<![0-9a-f])(?:[0-9a-f]{32,64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])"
)
FUNCTION = re.compile(r"-([A-Z][A-Za-z]*[a-z])[0-9A-F]*(?:-[0-9A-Z]*)?$")
"""What a function is called in its stack, within its name, whose end may be cut off."""
OURS = "Credential=local/"
"""How the calls of this process are signed."""
SCOPE = re.compile(r"Credential=[^/]+/[0-9]+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
SIGNATURE = ("authorization", "x-amz-date", "x-amz-security-token")
HASH = re.compile("[0-9a-f]{64}")

Thing = dict[str, Any]


def measure() -> list[Figure]:
    """Run trips, draw where their time goes, and repeat their AWS calls with a bare client."""
    with ExitStack() as ends:
        trace = Trace(Path(ends.enter_context(tempfile.TemporaryDirectory()), "trace"))
        os.environ["RECOURSE_TRACE"] = str(trace.path)
        cloud = ends.enter_context(
            LocalCloud(
                port=0,
                aws_port=0,
                state_dir=LOCAL / "bench" / "trip",
                fresh=True,
                seed_file=None,
                gaps=(*GAPS, "bench.trace"),
                say=say,
            )
        )
        api = ends.enter_context(Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)))
        for (kind, thing), body in things().items():
            api.call("PUT", f"/{kind}/{thing}", json=body)
        side = trips(cloud, api, "orchestration")
        side.run(WARM, max(SIZES))
        figures = _against_before(side)
        rates, drawings = {}, {}
        for at_once, number in SIZES.items():
            rates[at_once], drawings[f"{at_once} at once"] = _looked_at(
                side, trace, number, at_once
            )
        DRAWING.write_text(timeline(drawings))
        with Api(cloud.api_url, cloud.token(OWNER, EVERY_SCOPE)) as owner, trace:
            trips(cloud, owner, "orchestration").run(1, 1)
        calls = [one for one in trace.things if one["kind"] == "call" and not _is_ours(one)]
        kinds = Counter(_operation(one) for one in calls)
        say(
            f"{len(calls)} AWS calls of one trip: "
            + ", ".join(f"{n} {k}" for k, n in kinds.items())
        )
        _do_nothing(cloud)
        floor = Floor(cloud, calls)
        floor.rate(WARM, max(SIZES))
        for at_once, number in SIZES.items():
            bare = floor.rate(number, at_once)
            figures.append(
                Figure(
                    what=f"trips a second, {at_once} at once",
                    size=f"{number} of each",
                    figure=f"{rates[at_once]:.2f} trips/s",
                    alternative=f"the floor, {len(calls)} AWS calls: {bare:.2f} /s",
                    ratio=rates[at_once] / bare,
                )
            )
        return figures


def _against_before(side: Side) -> list[Figure]:
    ref = os.environ.get("BENCH_BEFORE")
    if not ref:
        return []
    at_once = max(SIZES)
    part = SIZES[at_once] // ROUNDS
    with (
        checked_out(ref) as checkout,
        running(checkout, LOCAL / "bench" / "trip-before") as cloud,
        Api(cloud.api_url, cloud.token) as api,
    ):
        before = trips(cloud, api, "orchestration")
        before.run(WARM, at_once)
        ours, theirs = alternated(
            [lambda: part / side.run(part, at_once), lambda: part / before.run(part, at_once)],
            rounds=ROUNDS,
        )
    return [
        Figure(
            what=f"trips a second, {at_once} at once, against the commit before",
            size=f"{SIZES[at_once]} of each, in {ROUNDS} rounds",
            figure=f"{ours:.2f} trips/s",
            alternative=f"{ref}: {theirs:.2f} trips/s",
            ratio=ours / theirs,
            least=FASTER,
        )
    ]


class Trace:
    """What the emulator does while a ``with`` block lasts, and until that has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.things: list[Thing] = []

    def __enter__(self) -> None:
        self.path.write_text("")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        while time.time() - self.path.stat().st_mtime < QUIET:
            time.sleep(QUIET / 10)
        read = self.path.rename(self.path.with_suffix(".read"))
        things = map(json.loads, read.read_text().splitlines())
        self.things = sorted(things, key=lambda thing: float(thing["began"]))


def _looked_at(side: Side, trace: Trace, number: int, at_once: int) -> tuple[float, list[Bar]]:
    """Trips a second; says what they took, and hands over what is to be drawn."""
    with trace:
        before = _processor()
        took = side.run(number, at_once)
        after = _processor()
    spent: dict[str, float] = defaultdict(float)
    for name in after:
        spent[f"processor time of {name}"] = after[name] - before[name]
    spent["from start to end"] = took * at_once
    calls = [one for one in trace.things if one["kind"] == "call" and not _is_ours(one)]
    spent["in AWS calls"] = sum(one["ended"] - one["began"] for one in calls)
    for one in trace.things:
        if one["kind"] == "invocation":
            spent["in functions"] += one["ended"] - one["worker"]
            spent["waiting for a worker"] += one["worker"] - one["began"]
        elif one["kind"] == "wait":
            spent[f"waiting in {one['source']}"] += one["ended"] - one["began"]
    invoked = sum(one["kind"] == "invocation" for one in trace.things)
    say(
        f"a trip, {at_once} at once: {len(calls) / number:.1f} AWS calls, "
        f"{invoked / number:.1f} invocations; in ms, over all that runs side by side: "
        + ", ".join(f"{1000 * value / number:.0f} {name}" for name, value in spent.items())
    )
    return number / took, _bars(trace.things)


def _processor() -> dict[str, float]:
    """Seconds of processor time of the emulator, and of all that it has started."""
    processes = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        seconds = (int(fields[11]) + int(fields[12])) / TICKS
        processes[int(path.name)] = int(fields[1]), seconds, b"recourse.local.boot" in command
    found = {"the emulator": 0.0, "functions": 0.0}
    parents = [os.getpid()]
    while parents:
        above = parents.pop()
        for pid, (parent, seconds, is_emulator) in processes.items():
            if parent == above:
                found["the emulator" if is_emulator else "functions"] += seconds
                parents.append(pid)
    return found


def _bars(things: Sequence[Thing]) -> list[Bar]:
    """What went on from the start of the trip in the middle, for as long as is drawn."""
    starts = [one["began"] for one in things if _operation(one) == START]
    zero = starts[len(starts) // 2]
    end = zero + DRAWN
    if starts[len(starts) // 2] != starts[-1] and len(starts) == SIZES[1]:
        end = starts[len(starts) // 2 + 1]
    bars = []
    for one in things:
        if not zero <= one["began"] < end or (one["kind"] == "call" and _is_ours(one)):
            continue
        began, ended = one["began"] - zero, min(one["ended"], end) - zero
        if one["kind"] == "call":
            bars.append(Bar("AWS calls", "AWS call", began, ended))
            continue
        (lane,) = FUNCTION.findall(one["function"])
        if one["kind"] == "wait":
            where = "queue" if one["source"] == "sqs" else "stream"
            bars.append(Bar(lane, f"waits in a {where}", began, ended))
        else:
            worker = min(one["worker"], end) - zero
            bars.append(Bar(lane, "waits for a worker", began, worker))
            bars.append(Bar(lane, "function", worker, ended))
    return bars


def _is_ours(call: Thing) -> bool:
    return OURS in call["headers"].get("authorization", "")


def _operation(thing: Thing) -> str:
    """What kind of call it was; nothing for what is none."""
    if thing["kind"] != "call":
        return ""
    if target := thing["headers"].get("x-amz-target"):
        return str(target.split(".")[-1])
    if "/execute-api/" in thing["path"]:
        return START
    action = re.match("Action=([A-Za-z]+)", thing["body"])
    return action[1] if action else f"{thing['method']} of an object"


def _do_nothing(cloud: LocalCloud) -> None:
    """Let every function of the app be one that hands back what comes in."""
    functions = cloud.client("lambda")
    for page in functions.get_paginator("list_functions").paginate():
        for one in page["Functions"]:
            functions.update_function_configuration(
                FunctionName=one["FunctionName"], Handler="bench.bare.handler"
            )


def _key_of_user(cloud: LocalCloud) -> Credentials:
    """The key of a new user who may do everything."""
    iam = cloud.client("iam")
    iam.create_user(UserName="floor")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": everything})
    iam.put_user_policy(UserName="floor", PolicyName="everything", PolicyDocument=policy)
    key = iam.create_access_key(UserName="floor")["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


class Floor:
    """The AWS calls of a trip, made again by a bare client, each time with ids of their own.

    Each is signed as it is made, as those of the functions were, by somebody who may do everything:
    rights are judged, and buckets deny signatures that are some seconds old.

    Args:
        cloud: Where; its functions do nothing any more.
        calls: As they came, in their order.
    """

    def __init__(self, cloud: LocalCloud, calls: Sequence[Thing]) -> None:
        self._states = cloud.client("stepfunctions")
        self._key = _key_of_user(cloud)
        self._port = int(cloud.aws_endpoint.rpartition(":")[2])
        self._calls = calls
        bodies = " ".join(one["body"] for one in calls if one["body"].startswith("{"))
        self._own = re.compile(
            "|".join(sorted({OWNER, *ID.findall(bodies)}, key=len, reverse=True))
        )
        self._numbers = count()
        self._at = threading.local()

    def rate(self, number: int, at_once: int) -> float:
        """How many trips' calls a second, so many trips at once."""
        made = [self._own_calls(next(self._numbers)) for _ in range(number)]
        with ThreadPoolExecutor(at_once) as pool:
            began = time.perf_counter()
            list(pool.map(self._trip, made))
            return number / (time.perf_counter() - began)

    def _own_calls(self, number: int) -> list[tuple[str, str]]:
        """The path and body of each call."""

        def own(found: re.Match[str]) -> str:
            digest = hashlib.sha256(f"{number} {found[0]}".encode()).hexdigest()
            return digest[: len(found[0])]

        return [
            (self._own.sub(own, one["path"]), self._own.sub(own, one["body"]))
            for one in self._calls
        ]

    def _signed(self, call: Thing, path: str, body: str) -> Any:
        made: Any = AWSRequest(
            call["method"],
            f"http://127.0.0.1:{self._port}{path}",
            headers=call["headers"],
            data=body.encode("latin-1"),
        )
        if scope := SCOPE.search(made.headers.get("authorization", "")):
            for name in SIGNATURE:
                del made.headers[name]
            if HASH.fullmatch(made.headers.get("x-amz-content-sha256", "")):
                del made.headers["x-amz-content-sha256"]
                made.headers["x-amz-content-sha256"] = hashlib.sha256(made.data).hexdigest()
            SigV4Auth(self._key, scope["service"], scope["region"]).add_auth(made)
        return made

    def _trip(self, calls: Sequence[tuple[str, str]]) -> None:
        if not hasattr(self._at, "connection"):
            self._at.connection = http.client.HTTPConnection("127.0.0.1", self._port)
        execution = ""
        for one, (path, body) in zip(self._calls, calls, strict=True):
            made = self._signed(one, path, body)
            self._at.connection.request(made.method, path, made.data, dict(made.headers.items()))
            answer = self._at.connection.getresponse()
            said = answer.read()
            operation = _operation(one)
            # A lease of the sweeper's that was taken within the trip is still held.
            is_held = b"ConditionalCheckFailedException" in said
            if operation != START and one["status"] < 300 <= answer.status and not is_held:
                raise AssertionError(f"{operation}, made again, answered {answer.status}: {said!r}")
            if operation == "StartExecution":
                execution = json.loads(said)["executionArn"]
        while (status := self._status(execution)) == "RUNNING":
            time.sleep(LOOK)
        if status != "SUCCEEDED":
            raise AssertionError(f"the machine of functions that do nothing has {status}")

    def _status(self, execution: str) -> str:
        return str(self._states.describe_execution(executionArn=execution)["status"])
