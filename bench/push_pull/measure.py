"""The rows of the table, each measured for every path; the results as plain data.

It is longer than other modules: the measurements share their channels, sizes and results.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.figures import say
from bench.push_pull.channels import Channel, UnreachableError, channel
from bench.push_pull.load import Due, poisson
from bench.push_pull.paths import NOTHING, Path
from bench.push_pull.place import FOLDER, Place
from bench.push_pull.runs import Fault, Runner
from bench.push_pull.stats import percentile

SLO = 1.0
"""A rate is held where the 99th percentile stays within so many seconds, and the seconds between
two polls where a path polls."""
FAULTS = ("consumer killed", "endpoint down", "duplicates injected", "random failures")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        repeats: How often the latencies are measured, in an order that is turned each time.
        idle: Seconds of sparse events a repeat; one is sent every `IDLE_EVERY` seconds.
        load: Seconds under 50 % and under 90 % a repeat.
        burst: Seconds of ten times the 50 %.
        search: Seconds at each rate that is tried.
        consumers: How many consumers the highest rate is looked for with.
        stop: Seconds for which the consumer is stopped.
        quiet: Seconds of nothing at all, from which the idle hour is counted.
        faulty: Events a path under each fault.
        patience: Seconds after which what has no effect is lost; under faults, `faults_patience`.
    """

    repeats: int
    idle: float
    load: float
    burst: float
    search: float
    consumers: tuple[int, ...]
    stop: float
    quiet: float
    faulty: int
    patience: float
    faults_patience: float


FULL = Sizes(
    repeats=5,
    idle=2.4,
    load=1.5,
    burst=0.5,
    search=3,
    consumers=(1, 2, 4),
    stop=4,
    quiet=60,
    faulty=12,
    patience=8,
    faults_patience=45,
)
QUICK = Sizes(
    repeats=1,
    idle=2.4,
    load=1,
    burst=0.5,
    search=1,
    consumers=(1,),
    stop=2,
    quiet=8,
    faulty=6,
    patience=5,
    faults_patience=15,
)
IDLE_EVERY = 0.3
FIRST_RATE, LAST_RATE = 16.0, 512.0
FAULTY_RATE = 2.0
DOWN = 3.0
BACKLOG_PATIENCE = 60.0
"""Seconds for which a backlog may drain."""


@dataclass
class Results:
    """What was measured of one path; `not_measured` says why something could not be.

    Attributes:
        highest: The highest rate that holds the SLO, by number of consumers.
        rates: Events a second, by load.
        latencies: Seconds, by load.
        overtaken: The share of events that were committed after a later one of their saga.
        wire: Bytes and requests an event, and in an idle hour.
        calls: Calls of the consumer an event, by load.
        backlog: Events that waited after the stop, the seconds to drain them, the peak of memory.
        faults: Events, losses, duplicates and the slowest event, by fault.
        not_measured: Why something could not be measured.
    """

    highest: dict[int, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    overtaken: float = 0.0
    wire: dict[str, float] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)
    backlog: dict[str, float] = field(default_factory=dict)
    faults: dict[str, dict[str, float]] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)


class Measurement:
    """Measures every path at one place.

    Args:
        place: Where.
        sizes: How much.
        paths: Which.

    Attributes:
        results: What was found, by path.
    """

    def __init__(self, place: Place, sizes: Sizes, paths: Sequence[Path]) -> None:
        self._place = place
        self._sizes = sizes
        self._runner = Runner(place)
        self._paths = list(paths)
        self._began = time.monotonic()
        self._busy: list[float] = []
        self.results = {path.key: Results() for path in paths}

    def all(self) -> None:
        """Measure every row."""
        self._reach()
        self._quiet()
        for path in self._paths:
            self._highest(path)
        self._latencies()
        self._keep()
        for path in self._paths:
            self._backlog(path)
        self._keep()
        self._faults()
        self._keep()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def _keep(self) -> None:
        """Keep what there is so far, for whoever cannot wait."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "results.json").write_text(as_json(self.results))

    @property
    def busy(self) -> str:
        """How busy the machine was meanwhile, by its own work and others', in words."""
        return f"a load of {min(self._busy):.0f} to {max(self._busy):.0f}"

    def _say(self, text: str) -> None:
        self._busy.append(os.getloadavg()[0])
        say(f"{self.seconds:5.0f} s  {text}")

    def _reach(self) -> None:
        """Leave out what cannot be reached from here, and wake up all the rest."""
        reached = []
        for path in self._paths:
            try:
                with self._channel(path, 1) as (found, owners):
                    run = self._runner.run(path, found, owners, [0.0, 0.1, 0.2], patience=30)
                if run.lost:
                    raise UnreachableError(f"{run.lost} of 3 first events had no effect in 30 s")
            except UnreachableError as problem:
                self.results[path.key].not_measured["all"] = str(problem)
                self._say(f"{path.name}: left out: {problem}")
            else:
                reached.append(path)
        self._paths = reached

    @contextmanager
    def _channel(self, path: Path, count: int) -> Iterator[tuple[Channel, list[str]]]:
        owners = self._place.owners(path.key, count)
        if len(owners) < count:
            raise UnreachableError(f"there is a token of {len(owners)} owner only")
        with channel(path, self._place, owners) as found:
            yield found, owners

    # Bytes and requests.

    def _quiet(self) -> None:
        """The idle hour, counted in a shorter time in which all consumers wait at once."""
        with ExitStack() as stack:
            waiting = {
                path.key: stack.enter_context(self._channel(path, 1))[0] for path in self._paths
            }
            time.sleep(3)  # what comes with connecting is not idle
            before = {key: one.traffic() for key, one in waiting.items()}
            self._say(f"nothing at all for {self._sizes.quiet:g} s")
            time.sleep(self._sizes.quiet)
            for key, one in waiting.items():
                then, now = before[key], one.traffic()
                if then is None or now is None:
                    continue
                passed = now - then
                hourly = 3600 / self._sizes.quiet
                self.results[key].wire |= {
                    "idle requests an hour": passed.requests * hourly,
                    "idle bytes an hour": passed.bytes * hourly,
                }

    # The highest rate.

    def _highest(self, path: Path) -> None:
        for count in self._sizes.consumers if path.scales else (1,):
            known = self.results[path.key].highest
            start = max(known.values(), default=FIRST_RATE)
            try:
                with self._channel(path, count) as (found, owners):
                    known[count] = self._search(path, found, owners, start)
            except UnreachableError as problem:
                self.results[path.key].not_measured[f"{count} consumers"] = str(problem)
                return
            self._say(f"{path.name}: {known[count]:.3g} events a second with {count}")

    def _search(self, path: Path, found: Channel, owners: Sequence[str], start: float) -> float:
        held, tried = 0.0, start
        while tried <= LAST_RATE:
            if not self._holds(path, found, owners, tried):
                break
            held, tried = tried, tried * 2
        else:
            return held
        low, high = held, tried
        while not low:  # not even the first: look below
            high, tried = tried, tried / 2
            if tried < 0.5:
                return 0.0
            low = tried if self._holds(path, found, owners, tried) else 0.0
        middle = math.sqrt(low * high)
        return middle if self._holds(path, found, owners, middle) else low

    def _holds(self, path: Path, found: Channel, owners: Sequence[str], rate: float) -> bool:
        moments = poisson(rate, self._sizes.search, seed=round(rate * 1000))
        before = found.traffic()
        run = self._runner.run(path, found, owners, moments, patience=self._sizes.patience)
        result, now = self.results[path.key], found.traffic()
        held = percentile(run.latencies, 99) <= SLO + path.interval
        if held and before and now and len(owners) == 1:
            passed = now - before
            result.wire |= {
                "requests an event": passed.requests / len(moments),
                "bytes an event": passed.bytes / len(moments),
            }
        if held and len(owners) == 1:
            result.calls["highest"] = run.calls / len(moments)
        return held

    # Latencies.

    def _latencies(self) -> None:
        for repeat in range(self._sizes.repeats):
            turn = repeat * len(self._paths) // self._sizes.repeats
            for path in self._paths[turn:] + self._paths[:turn]:
                with self._channel(path, 1) as (found, owners):
                    self._loads(path, found, owners, repeat)
                p50 = percentile(self.results[path.key].latencies["idle"], 50)
                self._say(f"{path.name}, repeat {repeat + 1}: idle p50 {p50 * 1000:.0f} ms")

    def _loads(self, path: Path, found: Channel, owners: Sequence[str], repeat: int) -> None:
        result = self.results[path.key]
        highest = result.highest.get(1, 0.0) or FIRST_RATE
        chance = random.Random(repeat)
        sparse = [
            (number + chance.random()) * IDLE_EVERY
            for number in range(int(self._sizes.idle / IDLE_EVERY))
        ]
        half = highest / 2
        result.rates = {"idle": 1 / IDLE_EVERY, "50 %": half, "90 %": 0.9 * highest}
        result.rates["burst"] = 10 * half
        loads: dict[str, Sequence[float]] = {
            "idle": sparse,
            "50 %": poisson(result.rates["50 %"], self._sizes.load, seed=repeat),
            "90 %": poisson(result.rates["90 %"], self._sizes.load, seed=repeat + 100),
            "burst": poisson(result.rates["burst"], self._sizes.burst, seed=repeat + 200),
        }
        sent = overtaken = 0
        for name, moments in loads.items():
            run = self._runner.run(path, found, owners, moments, patience=3 * self._sizes.patience)
            result.latencies.setdefault(name, []).extend(run.latencies)
            result.calls.setdefault(name, run.calls / len(moments))
            sent, overtaken = sent + len(moments), overtaken + run.overtaken
        result.overtaken = max(result.overtaken, overtaken / sent)

    # Backlog.

    def _backlog(self, path: Path) -> None:
        result, stop = self.results[path.key], self._sizes.stop
        rate = (result.highest.get(1, 0.0) or FIRST_RATE) / 2
        moments = poisson(rate, stop + 1, seed=1)
        try:
            with self._channel(path, 1) as (found, owners):
                found.stop()
                run = self._runner.run(
                    path,
                    found,
                    owners,
                    moments,
                    patience=BACKLOG_PATIENCE,
                    at={stop: found.go_on},
                )
        except UnreachableError as problem:
            result.not_measured["backlog"] = str(problem)
            return
        came = [at + latency for at, latency in zip(moments, run.latencies, strict=True)]
        waiting = [at for at in moments if at <= stop]
        drained = max(came[: len(waiting)], default=stop) - stop
        result.backlog = {
            "stopped": stop,
            "waiting": len(waiting),
            "drained in": drained,
            "lost": run.lost,
            "peak": run.peak,
        }
        self._say(f"{path.name}: {len(waiting)} waited, drained in {drained:.1f} s")

    # Faults.

    def _faults(self) -> None:
        paths = [path for path in self._paths if path != NOTHING]
        for fault in FAULTS:
            with ThreadPoolExecutor(len(paths)) as pool:
                for path, found in zip(
                    paths, pool.map(self._suffer, paths, [fault] * len(paths)), strict=True
                ):
                    self.results[path.key].faults[fault] = found
            self._say(
                f"{fault}: "
                + ", ".join(
                    f"{path.name} {self.results[path.key].faults[fault]['lost']:.0f} lost"
                    for path in paths
                )
            )

    def _suffer(self, path: Path, fault: str) -> dict[str, float]:
        count = self._sizes.faulty
        moments = [number / FAULTY_RATE for number in range(count)]
        chance = random.Random(7)
        failing = set(chance.sample(range(count), count // 4))
        suffers: Mapping[str, Callable[[Due, float], dict[str, Any] | None]] = {
            "consumer killed": lambda due, _: {
                count // 3: {"kind": "die", "when": "before"},
                2 * count // 3: {"kind": "die", "when": "after"},
            }.get(due.number),
            "random failures": lambda due, _: (
                {"kind": "error", "tries": 1} if due.number in failing else None
            ),
        }
        fault_of: Fault | None = suffers.get(fault)
        at: dict[float, Callable[[], object]] = {}
        with self._channel(path, 1) as (found, owners):
            if fault == "endpoint down":
                if found.traffic() is not None:
                    at = {1.0: found.cut, 1.0 + DOWN: found.mend}
                else:
                    fault_of = _down_until(time.time_ns() + int((1 + DOWN) * 1e9))
            run = self._runner.run(
                path,
                found,
                owners,
                moments,
                patience=10 if self._is_never_tried_again(path) else self._sizes.faults_patience,
                fault=fault_of,
                twice=fault == "duplicates injected",
                at=at,
            )
        come = [one for one in run.latencies if not math.isinf(one)]
        return {
            "sent": count,
            "lost": run.lost,
            "duplicates": run.duplicates,
            "slowest": max(come, default=math.inf),
        }

    def _is_never_tried_again(self, path: Path) -> bool:
        """Whether what has failed is lost: the emulator tries no push to a function again."""
        return path.key == "sns-lambda" and self._place.is_local


def _down_until(moment: int) -> Fault:
    return lambda due, _: {"kind": "down", "until": moment}


def as_json(results: Mapping[str, Results]) -> str:
    """Results as text."""
    return json.dumps({key: asdict(one) for key, one in results.items()})


def from_json(text: str) -> dict[str, Results]:
    """Results from their text."""
    found = {key: Results(**one) for key, one in json.loads(text).items()}
    for one in found.values():
        one.highest = {int(count): rate for count, rate in one.highest.items()}
    return found
