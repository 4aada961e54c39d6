"""The results as the tables of docs/push-and-pull.md, and what they say of the notes' claims.

It is longer than other modules: one function a section of the page, in its order, with its text.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from bench.push_pull import consumer, plots
from bench.push_pull.measure import BACKLOG_PATIENCE, DOWN, FAULTS, IDLE_EVERY, SLO, Results, Sizes
from bench.push_pull.paths import NOTHING, PATHS, Path
from bench.push_pull.report import table
from bench.push_pull.stats import Latencies, milliseconds, percentile
from bench.push_pull.template import complexity
from lambdas import probe
from recourse.cdk.idle import POLLERS, POLLS
from recourse.cdk.prices import DATE, MONTH_HOURS, cost

LOADS = ("idle", "50 %", "90 %", "burst")
CALL_SECONDS = 0.025
"""What a call of a function is taken to last where it waits for nothing: an assumption."""
WORKER = {"Fargate vCPU-hours": 0.25, "Fargate GB-hours": 0.5, "public IPv4 hours": 1}
"""What a worker takes in an hour."""
LOOKS = 1.0
"""Seconds between two looks of an idle stream at its feed."""


@dataclass(frozen=True, kw_only=True)
class Charged:
    """What a path is charged for besides the feed.

    Attributes:
        event: Requests an event that comes alone.
        hour: Requests in an hour in which nothing comes, one consumer listening.
        gb_seconds: Lambda's time in that hour, times its memory, beyond single calls.
        worker: Whether a worker runs.
    """

    event: Mapping[str, float]
    hour: Mapping[str, float]
    gb_seconds: float = 0.0
    worker: bool = False


CHARGED = {
    "sns-lambda": Charged(event={"SNS publishes": 1, "Lambda requests": 1}, hour={}),
    # Counted at the clients on the conformance suite's bed, as the WebSocket's: into the owner's
    # queue and out, into a lane and out, and into the delivery log.
    "webhook": Charged(
        event={
            "SNS publishes": 1,
            "SQS requests": 5,
            "Lambda requests": 2,
            "DynamoDB writes": 16,
            "DynamoDB reads": 10,
        },
        hour={"SQS requests": 2 * POLLERS * POLLS * 60},
    ),
    "websocket": Charged(
        event={
            "SNS publishes": 1,
            "SQS requests": 2,
            "Lambda requests": 1,
            "WebSocket messages": 1,
            "DynamoDB writes": 2,
            "DynamoDB reads": 2,
        },
        hour={"WebSocket connection minutes": 60, "SQS requests": POLLERS * POLLS * 60},
    ),
    "sse": Charged(
        event={"DynamoDB reads": 1},
        hour={"DynamoDB reads": 3600 / LOOKS},
        gb_seconds=0.5 * 3600,
    ),
    "sqs-lambda": Charged(
        event={"SNS publishes": 1, "SQS requests": 2, "Lambda requests": 1},
        hour={"SQS requests": POLLERS * POLLS * 60},
    ),
    "worker": Charged(
        event={"SNS publishes": 1, "SQS requests": 2}, hour={"SQS requests": 180}, worker=True
    ),
    "long-poll": Charged(
        event={"HTTP API requests": 1, "Lambda requests": 1, "DynamoDB reads": 2},
        hour={"HTTP API requests": 180, "Lambda requests": 180, "DynamoDB reads": 2 * 3600},
        gb_seconds=1.0 * 3600,
    ),
    "poll": Charged(
        event={},
        hour={"HTTP API requests": 3600, "Lambda requests": 3600, "DynamoDB reads": 2 * 3600},
    ),
}
"""By path. Only what has to do with one path: appending to the feed is the same for all."""
WRITTEN: Mapping[str, Callable[..., Any]] = {
    "sns-lambda": probe.pushed,
    "sqs-lambda": probe.pulled,
    "webhook": consumer.webhook,
    "websocket": consumer.websocket,
    "sse": consumer.sse,
    "worker": consumer.worker,
    "long-poll": consumer._pull,
    "poll": consumer._pull,
}
"""The code that the consumer of each path consists of."""


@dataclass(frozen=True)
class Report:
    """Everything that is printed and written.

    Args:
        results: By path.
        sizes: How much was measured.
        place: Where, in words.
        date: When, in words.
        seconds: How long it took.
        assembly: The synthesised app; None where there is none to count in.
    """

    results: Mapping[str, Results]
    sizes: Sizes
    place: str
    date: str
    seconds: float
    assembly: File | None

    @property
    def _measured(self) -> list[tuple[Path, Results]]:
        return [
            (path, self.results[path.key])
            for path in PATHS
            if path.key in self.results and self.results[path.key].latencies
        ]

    def _of(self, kind: str) -> list[tuple[Path, Results]]:
        return [(path, one) for path, one in self._measured if path.kind == kind]

    @property
    def text(self) -> str:
        """All of it as Markdown."""
        sizes = self.sizes
        parts = [
            f"Measured {self.date} on {self.place}, in {self.seconds / 60:.0f} minutes.",
            f"Sizes: {sizes.repeats} repeats, the order of the paths turned each time; idle, one "
            f"event every {IDLE_EVERY:g} s for {sizes.idle:g} s; {sizes.load:g} s at each load; a "
            f"burst is {sizes.burst:g} s at ten times the 50 % rate. A rate is held where the 99th "
            f"percentile stays within {SLO:g} s, and one more where a path polls each second, over "
            f"{sizes.search:g} s. An event has some 350 bytes; sagas have 8 events.",
            "### The notes' table",
            self._claims(),
            "### Latency, ms from the intended send to the committed effect",
            self._latency(),
            "![Latency at idle](push-and-pull-latency.svg)",
            "### Rate, backlog and memory",
            self._rates(),
            "### Bandwidth",
            self._bandwidth(),
            "![Requests in an idle hour](push-and-pull-idle.svg)",
            "### Faults",
            self._faults(),
            "### Complexity",
            self._complexity(),
            f"### Cost, list prices of us-east-1, {DATE}",
            self._cost(),
            self._not_measured(),
        ]
        return "\n\n".join(part for part in parts if part)

    # Each table.

    def _latency(self) -> str:
        rows = []
        for path, one in self._measured:
            row = [path.name]
            for load in LOADS:
                some = Latencies(tuple(one.latencies.get(load, ())))
                rate = one.rates.get(load)
                row += [
                    some.said(50) + (f" at {_rate(rate)}/s" if rate and load != "idle" else ""),
                    f"{some.said(99)} (worst {some.worst})",
                ]
            every = Latencies(tuple(x for load in LOADS[:3] for x in one.latencies.get(load, ())))
            row += [every.said(99.9), f"{100 * one.overtaken:.1f} %"]
            rows.append(row)
        head = ["path"]
        head += [f"{load} {what}" for load in LOADS for what in ("p50", "p99")]
        return table([*head, "p99.9 without the burst", "overtaken within a saga, at most"], rows)

    def _rates(self) -> str:
        counts = self.sizes.consumers
        rows = []
        for path, one in self._measured:
            rates = [_rate(one.highest[n]) if n in one.highest else "" for n in counts]
            if not path.scales:
                rates[1:] = ["the platform's"] * (len(counts) - 1)
            back = one.backlog
            drained = ""
            if back and math.isinf(back["drained in"]):
                drained = f"{back['waiting']:.0f} not within {BACKLOG_PATIENCE:g} s"
            elif back:
                drained = f"{back['waiting']:.0f} in {back['drained in']:.1f} s"
            lost = f"{back['lost']:.0f}" if back else ""
            peak = f"{back['peak']:.0f} MB" if "peak" in back else ""
            rows.append([path.name, *rates, drained, lost, peak])
        head = ["path", *(f"events/s with {n}" for n in counts)]
        stop = f"drained after {self.sizes.stop:g} s without the consumer"
        return table([*head, stop, "lost", "peak memory of the consumer"], rows)

    def _bandwidth(self) -> str:
        rows = []
        for path, one in self._measured:
            if path == NOTHING:
                continue
            wire = one.wire
            idle = self._idle_requests(path, one)
            rows.append(
                [
                    path.name,
                    _number(wire.get("requests an event"), "within AWS"),
                    _number(wire.get("bytes an event"), "within AWS"),
                    _number(one.calls.get("highest"), ""),
                    _number(idle, ""),
                    _number(wire.get("idle bytes an hour"), "within AWS"),
                ]
            )
        head = ["path", "requests an event", "bytes an event", "calls of the consumer an event"]
        return table(
            [*head, "requests in an idle hour, within AWS too", "bytes in an idle hour"], rows
        )

    def _idle_requests(self, path: Path, one: Results) -> float:
        """What was counted; and within AWS, where queues are polled too, what is documented."""
        within = 0.0 if path.key == "worker" else CHARGED[path.key].hour.get("SQS requests", 0.0)
        return one.wire.get("idle requests an hour", 0.0) + within

    def _faults(self) -> str:
        rows = []
        for path, one in self._measured:
            if not one.faults:
                continue
            row: list[object] = [path.name]
            for fault in FAULTS:
                came = one.faults[fault]
                said = f"{came['lost']:.0f} missing, {came['duplicates']:.0f} twice"
                if not math.isinf(came["slowest"]):
                    said += f", slowest {milliseconds(came['slowest'])} ms"
                row.append(said)
            rows.append(row)
        explained = {
            "consumer killed": "killed twice, before a commit and after one",
            "endpoint down": f"for {DOWN:g} s",
            "duplicates injected": "every event delivered twice",
            "random failures": "a quarter fail once",
        }
        head = [f"{fault}: {explained[fault]}" for fault in FAULTS]
        missing = f"Missing is what had no effect within {self.sizes.faults_patience:g} s."
        return table([f"path, {self.sizes.faulty} events each", *head], rows) + f"\n\n{missing}"

    def _complexity(self) -> str:
        rows: list[Sequence[object]] = []
        for path, _ in self._measured:
            if path == NOTHING:
                continue
            lines = len(inspect.getsource(WRITTEN[path.key]).splitlines())
            if self.assembly is None:
                rows.append([path.name, "", "", "", lines])
                continue
            counted = complexity(self.assembly, path.parts)
            rows.append([path.name, counted.resources, counted.rights, counted.settings, lines])
        head = ["path", "resources of its own", "rights", "settings", "lines of its consumer"]
        return table(head, rows)

    def _cost(self) -> str:
        rows = []
        for path, _ in self._measured:
            if path == NOTHING:
                continue
            rows.append([path.name, f"${_million(path):,.2f}", f"${_month(path):,.2f}"])
        return table(
            ["path", "a million events, one by one", "an idle month, one consumer listening"], rows
        )

    def _not_measured(self) -> str:
        lines = [
            f"- {path.name}, {what}: {why}"
            for path in PATHS
            if path.key in self.results
            for what, why in self.results[path.key].not_measured.items()
        ]
        return "### Not measured\n\n" + "\n".join(lines) if lines else ""

    # What it says of the notes.

    def _claims(self) -> str:
        claims = [
            ("latency", "push is immediate, pull waits for the poll interval", self._on_latency),
            ("complexity", "push is harder, pull is simple", self._on_complexity),
            ("bandwidth", "push sends only news, pull wastes requests", self._on_bandwidth),
            ("scalability", "push overloads consumers, pull scales", self._on_scalability),
            (
                "message flow",
                "the producer sets the pace of push, the consumer of pull",
                self._flow,
            ),
            ("use", "push for real time, pull for batch", self._on_use),
        ]
        rows = [(name, said, *judge()) for name, said, judge in claims]
        return table(["row", "the notes say", "verdict", "by these figures"], rows)

    def _p50(self, key: str, load: str = "idle") -> float:
        samples = self.results[key].latencies.get(load, ()) if key in self.results else ()
        return percentile(samples, 50) if samples else math.nan

    def _on_latency(self) -> tuple[str, str]:
        push = {path.name: self._p50(path.key) for path, _ in self._of("push")}
        pull = {path.name: self._p50(path.key) for path, _ in self._of("pull")}
        if not push or not pull:
            return "not measured", ""
        quickest, slowest = min(pull.values()), max(push.values())
        verdict = "confirmed" if quickest > slowest else "conditional"
        if all(one <= min(push.values()) for one in pull.values()):
            verdict = "refuted"
        said = "idle p50: " + _joined(push) + " against " + _joined(pull)
        return verdict, f"{said}; pull that waits is not pull that polls"

    def _on_complexity(self) -> tuple[str, str]:
        if self.assembly is None:
            return "not measured", "no template was synthesised here"
        found = {
            path.name: complexity(self.assembly, path.parts).resources
            for path, _ in self._measured
            if path != NOTHING
        }
        push = [found[path.name] for path, _ in self._of("push")]
        pull = [found[path.name] for path, _ in self._of("pull")]
        if not push or not pull:
            return "not measured", ""
        verdict = "confirmed" if min(push) > max(pull) else "conditional"
        said = ", ".join(f"{name} {count}" for name, count in found.items())
        return verdict, f"resources: {said}"

    def _on_bandwidth(self) -> tuple[str, str]:
        push = {p.name: self._idle_requests(p, one) for p, one in self._of("push")}
        pull = {p.name: self._idle_requests(p, one) for p, one in self._of("pull")}
        if not push or not pull:
            return "not measured", ""
        verdict = "confirmed" if max(push.values()) < min(pull.values()) else "conditional"
        both = push | pull
        said = ", ".join(f"{name} {count:,.0f}" for name, count in both.items())
        return verdict, f"requests in an idle hour: {said}"

    def _on_scalability(self) -> tuple[str, str]:
        grown = {
            path.name: one.highest[max(one.highest)] / one.highest[1]
            for path, one in self._measured
            if path != NOTHING and len(one.highest) > 1 and one.highest.get(1)
        }
        push, pull = (sum(map(_lost_in_a_burst, self._results(kind))) for kind in ("push", "pull"))
        verdict = "confirmed" if push and not pull else "conditional" if push else "refuted"
        said = ", ".join(f"{name} {ratio:.1f} times" for name, ratio in grown.items())
        most = max(self.sizes.consumers)
        return (
            verdict,
            f"in bursts of ten times, push lost {push} and pull {pull}; the rate with {most} "
            f"consumers against one: {said or 'not measured'} (they share two cores, the feed and "
            "its relay)",
        )

    def _flow(self) -> tuple[str, str]:
        drained = {
            kind: {
                path.name: one.backlog["drained in"] for path, one in self._of(kind) if one.backlog
            }
            for kind in ("push", "pull")
        }
        if not drained["push"] or not drained["pull"]:
            return "not measured", ""
        is_slower = max(drained["push"].values()) > max(drained["pull"].values())
        both = drained["push"] | drained["pull"]
        said = ", ".join(
            f"{name} {'later' if math.isinf(took) else f'{took:.1f} s'}"
            for name, took in both.items()
        )
        return (
            "confirmed" if is_slower else "conditional",
            f"what waited for a consumer that was away has come, once it is back, after: {said}",
        )

    def _on_use(self) -> tuple[str, str]:
        quickest = {
            kind: min((self._p50(path.key) for path, _ in self._of(kind)), default=math.nan)
            for kind in ("push", "pull")
        }
        is_apart = quickest["pull"] > 2 * quickest["push"]
        listed = [
            f"{path.name} ${_million(path):,.2f} and ${_month(path):,.2f}"
            for path, _ in self._measured
            if path != NOTHING
        ]
        return (
            "confirmed" if is_apart else "conditional",
            f"idle p50 of the quickest push {milliseconds(quickest['push'])} ms, of the quickest "
            f"pull {milliseconds(quickest['pull'])} ms; a million events and an idle month cost: "
            + ", ".join(listed),
        )

    def _results(self, kind: str) -> list[Results]:
        return [one for _, one in self._of(kind)]

    # The plots.

    def plots(self) -> dict[str, str]:
        """The plots, by the name of their files."""
        rows = []
        for path, one in self._measured:
            idle = [1000 * x for x in one.latencies.get("idle", ())]
            if idle:
                rows.append((path.name, path.kind, percentile(idle, 50), percentile(idle, 99)))
        requests = [
            (path.name, path.kind, self._idle_requests(path, one))
            for path, one in self._measured
            if path != NOTHING
        ]
        return {
            "push-and-pull-latency.svg": plots.ranges(
                "Idle: p50 and p99, from the intended send to the effect",
                "ms",
                rows,
                low=1,
                high=10_000,
            ),
            "push-and-pull-idle.svg": plots.bars("Requests in an idle hour", "", requests),
        }


def _lost_in_a_burst(one: Results) -> int:
    return sum(math.isinf(latency) for latency in one.latencies["burst"])


def _million(path: Path) -> float:
    """Dollars for a million events that come one by one."""
    charged = CHARGED[path.key].event
    calls = charged.get("Lambda requests", 0)
    million = {what: count * 1e6 for what, count in charged.items()}
    return cost(million | {"Lambda GB-seconds": calls * 1e6 * CALL_SECONDS * 0.5})


def _month(path: Path) -> float:
    """Dollars for a month in which one consumer listens and nothing comes."""
    found = CHARGED[path.key]
    calls = found.hour.get("Lambda requests", 0) if not found.gb_seconds else 0
    hourly = found.gb_seconds + calls * CALL_SECONDS
    month = {**found.hour, "Lambda GB-seconds": hourly, **(WORKER if found.worker else {})}
    return cost({what: count * MONTH_HOURS for what, count in month.items()})


def _joined(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {milliseconds(one)} ms" for name, one in found.items())


def _number(value: float | None, absent: str) -> str:
    if value is None:
        return absent
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2f}"


def _rate(events: float) -> str:
    """Events a second, to three digits."""
    return f"{events:,.0f}" if events >= 100 else f"{events:.3g}"
