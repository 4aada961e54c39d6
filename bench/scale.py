"""1,000 sagas a second, by counting: every partition, table, queue and quota against its limit.

Sagas run on the test ground one after another, every event delivered by itself: nothing shares a
batch with another, so what is counted is the most that it can be. What a saga takes of each
partition, queue and API is then scaled to 1,000 of them a second and held against what AWS allows.

Each saga has an owner, an account and things of its own: what is touched by two of them is shared
by all. Others then share one owner, one account and the same things, which says how much of each
one bears.

It is longer than other modules: a verdict is a function of a few lines, there is one for each
kind of limit, and all of them read the same counts.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.apart import apart
from bench.figures import Figure, say
from bench.samples import sample, things
from lambdas.consumers.tally import OUTCOMES, Tally
from recourse.declare.declaration import Coordination
from recourse.events import Event
from recourse.testing.capacity import Meter, Partition, Use, metered
from recourse.testing.ground import LEDGER
from statemachines.travel_booking import TRAVEL_BOOKING
from tests.feeding import Feeding
from tests.ground import Ground, ground

RATE = 1000
"""Sagas a second."""
SAGAS, SHARING = 48, 6
"""Sagas of each kind: with everything of their own, and all sharing what there is."""
KINDS: dict[str, tuple[Coordination, dict[str, str]]] = {
    "booked": ("orchestration", {}),
    "undone": ("orchestration", {"capture": "reject"}),
    "booked without a coordinator": ("choreography", {}),
    "undone without a coordinator": ("choreography", {"capture": "reject"}),
}
PARTITION_WRITES, PARTITION_READS = 1000, 3000
"""Units a second that one partition of DynamoDB bears."""
TABLE_UNITS = 40_000
"""Units a second of a table, or of an index, on demand: the account's default for each."""
NEW_WRITES, NEW_READS = 4000, 12_000
"""Units a second that a new table on demand bears at once."""
STARTS, TRANSITIONS, DESCRIBES = 300, 5000, 15
"""Step Functions a second, once the bucket is empty: us-east-1, us-west-2 and eu-west-1."""
SWEEPER_DESCRIBES = 10
"""What the sweeper asks for a second at the most."""
CONCURRENCY, PER_FUNCTION = 1000, 1000
"""Lambda: functions at once in an account, and how many more of one may begin within 10 s."""
PUBLISHES = 30_000
"""SNS messages a second of an account, in us-east-1."""
REQUESTS = 10_000
"""HTTP API requests a second of an account."""
IN_FLIGHT = 120_000
"""Messages of a standard queue that may be taken at the same time."""
STEP_SECONDS, BATCH_SECONDS = 0.1, 0.3
"""What a function is taken to need for one step or request, and for a batch. Not measured: no
emulator can; a deployment's own are in its metrics."""
TALLY, EVERY_EVENT = "Tally", "every event of the feed"


@dataclass
class Counts:
    """What sagas of one kind have taken, all together.

    Attributes:
        sagas: How many.
        capacity: What DynamoDB has counted.
        records: Changes in the tables' streams, as `Meter` has them.
        messages: Messages taken from queues, by queue.
        found: Everything else.
    """

    sagas: int
    capacity: Mapping[Partition, Use]
    records: Mapping[tuple[str, str], int]
    messages: Mapping[str, int]
    found: Mapping[str, int]

    def rate(self, count: float) -> float:
        """A count of these sagas, at the rate."""
        return count / self.sagas * RATE


@dataclass
class _Place:
    """A ground with feed and tally, on which everything is counted."""

    ground: Ground
    meter: Meter
    messages: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.feeding = Feeding(self.ground)
        self.ground.dynamodb.create_table(
            TableName=TALLY,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.tally = Tally(self.ground.dynamodb, TALLY)
        self.fed = self.feeding.subscribe(TALLY)
        self.ground.mishap = self._step
        self.ground.sns.meta.events.register(
            "before-parameter-build.sns.PublishBatch", self._published
        )

    def run(self, kind: str, sagas: int, *, shared: bool) -> Counts:
        """Run sagas of a kind, and count."""
        coordination, faults = KINDS[kind]
        bodies = [self._stocked(f"{kind} {n}", shared=shared) for n in range(sagas)]
        self.meter.forget()
        self.messages.clear()
        self.found.clear()
        for number, body in enumerate(bodies):
            self.meter.of = f"{kind} {number} {shared}"
            owner = f"owner of {kind}" if shared else f"owner of {kind} {number}"
            saga_id = self.ground.start(
                TRAVEL_BOOKING.name,
                body,
                key=self.meter.of,
                faults=faults,
                coordination=coordination,
                owner=owner,
            )
            self._settle()
            status = self.ground.view(saga_id)["status"]
            assert status == ("COMPENSATED" if faults else "SUCCEEDED"), status
            if coordination == "orchestration":
                self.found["starts"] += 1
                self.found["transitions"] += sum(self.ground.entered(saga_id).values())
        return Counts(
            sagas,
            self.meter.found(),
            Counter(self.meter.records),
            Counter(self.messages),
            Counter(self.found),
        )

    def _stocked(self, name: str, *, shared: bool) -> dict[str, Any]:
        """A trip, and what it needs: the sample's, or things of its own."""
        own = "" if shared else re.sub(r"\W", "-", name)
        body = json.loads(json.dumps(sample(TRAVEL_BOOKING)))
        for service in ("flight", "hotel", "car"):
            body[service]["id"] += own
        body["payment"]["account_id"] += own
        body["trip_id"] += own
        needed = {body[s]["id"] for s in ("flight", "hotel", "car")}
        needed.add(body["payment"]["account_id"])
        for (kind, thing), made in things().items():
            if thing + own in needed:
                self.ground.put(kind, thing + own, made)
        return dict(body)

    def _settle(self) -> None:
        """Deliver everything, each message and each change by itself."""
        moved = True
        while moved:
            moved = bool(self.ground.relay(most=1)) or bool(self.feeding.settle())
            for name in self.ground.queues:
                while self.ground.waiting(name):
                    self.messages[name] += self.ground.deliver(name, most=1)
                    self.feeding.settle()
                    moved = True
            moved = self._counted() or moved or self.ground.pass_time()

    def _counted(self) -> bool:
        """Have the tally count what has come to the feed's topic."""
        if not self.ground.waiting(TALLY):
            return False
        got = self.ground.sqs.receive_message(QueueUrl=self.fed, MaxNumberOfMessages=10)
        for message in got.get("Messages", []):
            self.messages[EVERY_EVENT] += 1
            event = Event.parse(message["Body"])
            self.messages[TALLY] += event.kind in OUTCOMES
            self.tally.count(event)
            self.ground.sqs.delete_message(
                QueueUrl=self.fed, ReceiptHandle=message["ReceiptHandle"]
            )
        return bool(got.get("Messages"))

    def _step(self, function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        self.found["steps"] += 1
        return run()

    def _published(self, params: dict[str, Any], **_: Any) -> None:
        self.found["publishes"] += len(params["PublishBatchRequestEntries"])


def measure() -> list[Figure]:
    """Count what a saga needs of each resource, and compare 1,000 a second with AWS's limits."""
    return apart(_measure)


def _measure() -> list[Figure]:
    apart_, together = {}, {}
    with ground() as place, metered(place.dynamodb) as meter:
        made = _Place(place, meter)
        for kind in KINDS:
            say(f"{SAGAS} {kind}, and {SHARING} that share an owner, an account and things")
            apart_[kind] = made.run(kind, SAGAS, shared=False)
            together[kind] = made.run(kind, SHARING, shared=True)
    return [
        *_partitions(apart_),
        *_tables(apart_),
        *_streams(apart_),
        *_step_functions(apart_),
        *_functions(apart_),
        *_topics(apart_),
        *_queues(apart_),
        *_ones(together),
    ]


# Verdicts.


def _hard(what: str, taken: str, use: float, limit: float, unit: str, least: str = "") -> Figure:
    """What cannot be raised."""
    return Figure(
        what=what,
        size=_size(),
        figure=f"{use:,.0f} {unit}{taken}",
        alternative=f"{limit:,.0f} {unit}{least}",
        ratio=use / limit,
        most=1,
    )


def _quota(what: str, taken: str, use: float, default: float, unit: str) -> Figure:
    """What an account can have raised."""
    above = use > default
    verdict = f"raise it to {_round(use):,.0f}" if above else "enough"
    return Figure(
        what=what,
        size=_size(),
        figure=f"{use:,.0f} {unit}{taken}",
        alternative=f"default quota {default:,.0f} {unit}: {verdict}",
        ratio=use / default,
    )


def _round(use: float) -> float:
    """A quota to ask for: a fifth above the use, on two digits."""
    step: int = 10 ** max(0, math.floor(math.log10(use)) - 1)
    return float(math.ceil(use * 1.2 / step) * step)


def _size() -> str:
    return f"{SAGAS} sagas of each kind, as if {RATE:,} a second"


def _worst(counts: Mapping[str, Counts], use: Callable[[Counts], float]) -> tuple[str, float]:
    """The kind of saga that takes the most, and how much it is at the rate."""
    kind = max(counts, key=lambda one: counts[one].rate(use(counts[one])))
    return f" ({kind})", counts[kind].rate(use(counts[kind]))


def _name(partition: Partition) -> str:
    return f"{partition.table}/{partition.within}" if partition.within else partition.table


def _partitions(counts: Mapping[str, Counts]) -> list[Figure]:
    """Partitions that sagas share which have nothing in common, and those of one saga."""
    shared: dict[str, list[tuple[float, float, str, Partition]]] = defaultdict(list)
    own: list[tuple[float, str, Partition]] = []
    for kind, one in counts.items():
        for partition, use in one.capacity.items():
            if len(use.by) > 1:
                rates = one.rate(use.writes), one.rate(use.reads)
                shared[_name(partition)].append((*rates, kind, partition))
            else:
                own.append((use.writes, kind, partition))
    figures = []
    for name, found in sorted(shared.items()):
        writes, _, kind, partition = max(found)
        reads = max(one[1] for one in found)
        figures.append(
            _hard(
                f"the hottest of {len({one[3] for one in found})} partitions of {name} that sagas "
                f"share, {_plain(partition.key)}",
                f", {reads:,.0f} read ({kind})",
                writes,
                PARTITION_WRITES,
                "write units/s",
            )
        )
        if reads:
            figures.append(
                _hard(f"the same, read, of {name}", "", reads, PARTITION_READS, "read units/s")
            )
    most, kind, partition = max(own)
    figures.append(
        _hard(
            f"the hottest partition of one saga, {_name(partition)}, were it all in one second",
            f" ({kind})",
            most,
            PARTITION_WRITES,
            "write units",
        )
    )
    return figures


def _plain(key: str) -> str:
    """A key without what is one saga's."""
    return re.sub(r"[0-9a-f]{32}", "…", key)


def _tables(counts: Mapping[str, Counts]) -> list[Figure]:
    """Every table and index as a whole."""
    above: list[Figure] = []
    warm: dict[str, tuple[float, float]] = {}
    small: dict[str, tuple[float, float]] = {}
    for side, new in (("writes", NEW_WRITES), ("reads", NEW_READS)):
        for name in sorted({_name(p) for one in counts.values() for p in one.capacity}):
            kind, use = _worst(counts, partial(_units, name, side))
            if use > TABLE_UNITS:
                what = f"{name}, {side}, on demand"
                above.append(_quota(what, kind, use, TABLE_UNITS, f"{side[:-1]} units/s"))
            (warm if use > new else small)[f"{name} {side}"] = use, use / new
    return [*above, _new(warm, "warm it before"), _new(small, "enough")]


def _units(name: str, side: str, counts: Counts) -> float:
    return float(sum(getattr(u, side) for p, u in counts.capacity.items() if _name(p) == name))


def _new(uses: Mapping[str, tuple[float, float]], verdict: str) -> Figure:
    """Tables and indexes beside what one that is new bears."""
    most = max(uses, key=lambda name: uses[name][1])
    names = ", ".join(f"{name} {use:,.0f}" for name, (use, _) in uses.items() if use >= 100)
    return Figure(
        what=f"tables and indexes, units/s: the most, {most}",
        size=_size(),
        figure=names,
        alternative=f"a new one: {NEW_WRITES:,} writes, {NEW_READS:,} reads: {verdict}",
        ratio=uses[most][1],
    )


def _streams(counts: Mapping[str, Counts]) -> list[Figure]:
    """How much of each second a function needs for its batches of one shard of a stream.

    A partition has a shard, and a table has as many partitions as its writes need.
    """
    figures = []
    for function, table, change in (
        ("Feeder", LEDGER, ""),
        ("Relay", LEDGER, "INSERT outbox"),
        ("Relay", "payments", "INSERT outbox"),
        ("FeedRelay", "feed", "INSERT feed"),
    ):
        kind, records = _worst(counts, partial(_records, table, change))
        shards = math.ceil(_worst(counts, partial(_units, table, "writes"))[1] / PARTITION_WRITES)
        figures.append(
            _hard(
                f"of each second {function} works for a shard of the stream of {table}: "
                f"{shards} shards, batches of 100, {BATCH_SECONDS:g} s each",
                f": {records:,.0f} records/s{kind}",
                records / shards / 100 * BATCH_SECONDS * 1000,
                1000,
                "ms",
            )
        )
    return figures


def _records(table: str, change: str, counts: Counts) -> int:
    """Records that a function is called for: such changes, or all of a saga's own row."""
    own = ("INSERT ", "MODIFY ")
    return sum(
        count
        for (name, what), count in counts.records.items()
        if name == table and (what == change or (not change and what in own))
    )


def _step_functions(counts: Mapping[str, Counts]) -> list[Figure]:
    starts = _worst(counts, lambda one: one.found["starts"])
    transitions = _worst(counts, lambda one: one.found["transitions"])
    return [
        _quota("StartExecution", starts[0], starts[1], STARTS, "a second"),
        _quota("state transitions", transitions[0], transitions[1], TRANSITIONS, "a second"),
        _quota(
            "DescribeExecution, by the sweeper alone", "", SWEEPER_DESCRIBES, DESCRIBES, "a second"
        ),
    ]


def _functions(counts: Mapping[str, Counts]) -> list[Figure]:
    """Functions at once, by the times that are taken for granted."""

    def batches(one: Counts) -> float:
        told = sum(_records(table, "INSERT outbox", one) for table in {t for t, _ in one.records})
        told += _records(LEDGER, "", one) + _records("feed", "INSERT feed", one)
        return sum(one.messages.values()) / 10 + told / 100

    def requests(one: Counts) -> float:
        return float(one.sagas + (one.found["steps"] if one.found["starts"] else 0))

    kind, functions = _worst(
        counts, lambda one: requests(one) * STEP_SECONDS + batches(one) * BATCH_SECONDS
    )
    calling, calls = _worst(counts, lambda one: requests(one) + batches(one))
    times = f"{STEP_SECONDS:g} s a step or request, {BATCH_SECONDS:g} s a batch"
    return [
        _quota(f"Lambda functions at once, {times}", kind, functions, CONCURRENCY, "at once"),
        _quota(
            "Lambda invocations, whose quota is ten times that",
            calling,
            calls,
            10 * CONCURRENCY,
            "a second",
        ),
        _hard(
            "one step's function: how many more may begin within 10 s",
            "",
            RATE * STEP_SECONDS,
            PER_FUNCTION,
            "at once",
        ),
        _quota("HTTP API requests: a start each", "", RATE, REQUESTS, "a second"),
    ]


def _topics(counts: Mapping[str, Counts]) -> list[Figure]:
    kind, publishes = _worst(counts, lambda one: one.found["publishes"])
    return [_quota("SNS messages, both topics", kind, publishes, PUBLISHES, "a second")]


def _queues(counts: Mapping[str, Counts]) -> list[Figure]:
    """Every queue: what its function may take at once, as it is deployed, and what is in flight."""
    allowed = _at_once()
    rates = {
        called: _worst(counts, partial(_messages, name))
        for name in sorted({name for one in counts.values() for name in one.messages})
        for called in _called(name)
    }
    batches = {name: rate / 10 * BATCH_SECONDS for name, (_, rate) in rates.items()}
    fullest = max(rates, key=lambda name: batches[name] / allowed[name])
    busiest = max(rates, key=lambda name: rates[name][1])
    return [
        _hard(
            f"batches at once of the fullest of {len(rates)} queues, {fullest}",
            f" of 10, {BATCH_SECONDS:g} s each{rates[fullest][0]}",
            batches[fullest],
            allowed[fullest],
            "batches",
        ),
        _hard(
            f"messages in flight of the busiest queue, {busiest}",
            f" ({rates[busiest][1]:,.0f} messages/s)",
            rates[busiest][1] * BATCH_SECONDS,
            IN_FLIGHT,
            "messages",
        ),
    ]


def _called(name: str) -> list[str]:
    """What operators call the queues that have so many messages as one of the ground's."""
    service, is_confirm, _ = name.partition("-confirm")
    if is_confirm:
        return [f"{service.title()}Confirm"]
    return {EVERY_EVENT: ["WebhookOwners", "Push"], LEDGER: ["Ledger"]}.get(name, [name])


def _at_once() -> dict[str, int]:
    """How many batches of each queue a function may take at once, by the app's own templates."""
    with tempfile.TemporaryDirectory() as folder:
        context = {"runtime": "local", "aws:cdk:enable-path-metadata": True}
        subprocess.run(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, "CDK_OUTDIR": folder, "CDK_CONTEXT_JSON": json.dumps(context)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = {}
        for file in Path(folder).glob("*.template.json"):
            resources = json.loads(file.read_text())["Resources"]
            for one in resources.values():
                scaling = one.get("Properties", {}).get("ScalingConfig")
                if one["Type"] == "AWS::Lambda::EventSourceMapping" and scaling:
                    queue = resources[one["Properties"]["EventSourceArn"]["Fn::GetAtt"][0]]
                    name = queue["Properties"]["QueueName"].rpartition("-")[2]
                    found[name] = int(scaling["MaximumConcurrency"])
    return found


def _messages(name: str, counts: Counts) -> int:
    return counts.messages[name]


def _ones(counts: Mapping[str, Counts]) -> list[Figure]:
    """What one owner, one account and one thing bear: a partition each."""
    found: dict[str, list[tuple[float, str, Partition]]] = defaultdict(list)
    for kind, one in counts.items():
        for partition, use in one.capacity.items():
            if len(use.by) == one.sagas:
                found[_whose(partition)].append((use.writes / one.sagas, kind, partition))
    figures = []
    for whose, uses in sorted(found.items()):
        if not whose:
            continue
        each, kind, partition = max(uses)
        bears = PARTITION_WRITES / each
        figures.append(
            Figure(
                what=f"sagas a second of one {whose}: {_name(partition)} ({kind})",
                size=f"{SHARING} sagas of each kind that share it",
                figure=f"{bears:,.0f} sagas/s, {each:.1f} write units each",
                alternative=f"{RATE:,} sagas/s: {math.ceil(RATE / bears):,} of them at the least",
                ratio=bears / RATE,
            )
        )
    return figures


def _whose(partition: Partition) -> str:
    """Whose a partition is that all sagas of a run share; nothing where it is everybody's."""
    if partition.table == "feed":
        return "owner (feed)"
    if partition.within in ("listed-by-owner", "listed-by-owner-key"):
        return "owner (lists)"
    kind = partition.key.partition("#")[0]
    return kind if kind in ("account", "flight", "hotel", "car") else ""
