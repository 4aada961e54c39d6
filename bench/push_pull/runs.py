"""One run: events sent at their moments down one path, and what came of each."""

from __future__ import annotations

import json
import math
import statistics
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.push_pull import load
from bench.push_pull.channels import Channel
from bench.push_pull.load import Due
from bench.push_pull.paths import Path
from bench.push_pull.place import Place
from lambdas.probe import row_key
from recourse.events import attributes, now
from recourse.items import decode_item

LOOK = 0.25
"""Seconds between two looks at what has been committed, once everything is sent."""
A_SAGA = 8
"""Events that a saga has: as many as a trip."""
DRIFT = 5_000_000
"""Nanoseconds by which the wall clock may move against the steady one within a run."""

Fault = Callable[[Due, float], Mapping[str, Any] | None]
"""The fault of an event, by when it is meant to be sent: seconds after the start."""


class ClockError(Exception):
    """The machine's clock was set during a run, so its latencies are worth nothing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of the events of one run.

    Attributes:
        latencies: Seconds from the intended send of each to its committed effect, in the order in
            which they were meant to be sent; infinite for what had no effect.
        deliveries: How often all of them were delivered, effects and duplicates.
        calls: How many calls brought them: some bring several.
        overtaken: How many were committed after a later one of their saga.
        peak: The most memory that any consumer held, in MB.
    """

    latencies: tuple[float, ...]
    deliveries: int
    calls: int
    overtaken: int
    peak: float

    @property
    def lost(self) -> int:
        """How many had no effect."""
        return sum(math.isinf(one) for one in self.latencies)

    @property
    def duplicates(self) -> int:
        """How many deliveries were beyond each event's first."""
        return self.deliveries - (len(self.latencies) - self.lost)


class Runner:
    """Sends events, and reads what came of them.

    Args:
        place: Where.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._dynamodb = place.client("dynamodb")
        self._sns = place.client("sns")
        self._table = place.outputs["ProbeTableName"]

    def run(
        self,
        path: Path,
        channel: Channel,
        owners: Sequence[str],
        moments: Sequence[float],
        *,
        patience: float,
        fault: Fault | None = None,
        twice: bool = False,
        at: Mapping[float, Callable[[], object]] | None = None,
    ) -> Run:
        """Send events at moments, each owner's in turn, and wait for their effects.

        Args:
            path: The path.
            channel: Its consumers.
            owners: To whose feeds.
            moments: Seconds after the start.
            patience: Seconds, once all are sent, after which what has no effect is lost.
            fault: What an event's consumer is to suffer.
            twice: Bring every event to the feed and to its topic a second time.
            at: What is done besides, by seconds after the start.

        Raises:
            ClockError: The clock was set meanwhile.
        """
        run, offset = f"{path.key}-{uuid.uuid4().hex[:12]}", _offset()
        begin = time.time_ns() + 50_000_000
        told: dict[int, dict[str, Any]] = {}

        def append(lane: int, due: list[Due]) -> None:
            events = []
            for one in due:
                suffers = fault(one, (one.at - begin) / 1e9) if fault else None
                events.append(_event(path, run, one, len(owners), suffers))
                told[one.number] = events[-1]
            self._place.feed.append(owners[lane], events)
            for event in events:
                channel.sent(event)
            if twice:
                self._again(owners[lane], events)

        timers = [
            threading.Timer(begin / 1e9 - time.time() + after, work)
            for after, work in (at or {}).items()
        ]
        for timer in timers:
            timer.start()
        due = load.send(moments, len(owners), append, begin=begin)
        for timer in timers:
            timer.join()
        rows = self._wait(run, [one.number for one in due], patience)
        if abs(_offset() - offset) > DRIFT:
            raise ClockError("the clock of this machine was set during a run")
        return _result(due, rows, len(owners))

    def _again(self, owner: str, events: Sequence[Mapping[str, Any]]) -> None:
        self._place.feed.append(owner, events)
        head = self._place.feed.head(owner)
        for position, event in enumerate(events, head - len(events) + 1):
            named = attributes(event) | {"owner": owner, "position": str(position)}
            self._sns.publish(
                TopicArn=self._place.outputs["FeedTopicArn"],
                Message=json.dumps(event),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in named.items()
                },
            )

    def _wait(self, run: str, numbers: Sequence[int], patience: float) -> dict[int, dict[str, Any]]:
        """The rows of a run, once all are there or the patience is over."""
        rows: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + patience
        while True:
            rows |= self._rows(run, [number for number in numbers if number not in rows])
            if len(rows) == len(numbers) or time.monotonic() > deadline:
                break
            time.sleep(LOOK)
        # Once more, for duplicates and for what a process knew of its row before.
        time.sleep(LOOK)
        return self._rows(run, numbers)

    def _rows(self, run: str, numbers: Collection[int]) -> dict[int, dict[str, Any]]:
        keys = [{"pk": {"S": row_key(run, number)}} for number in numbers]
        found: dict[int, dict[str, Any]] = {}
        while keys:
            asked: Any = {self._table: {"Keys": keys[:100], "ConsistentRead": True}}
            keys = keys[100:]
            answer = self._dynamodb.batch_get_item(RequestItems=asked)
            for item in answer["Responses"].get(self._table, ()):
                row = decode_item(item)
                if "began" in row:
                    found[int(row["pk"].rpartition("#")[2])] = row
            keys += answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return found


def _event(
    path: Path, run: str, due: Due, lanes: int, fault: Mapping[str, Any] | None
) -> dict[str, Any]:
    saga, sequence = _place(due.number, lanes)
    data: dict[str, Any] = {"step": path.key, "run": run, "number": due.number}
    return {
        "specversion": "1.0",
        "id": f"{run}.{due.number}",
        "type": f"recourse.probe.{path.key}.done",
        "source": "/sagas/probe",
        "subject": f"{run}.{saga}",
        "time": now(),
        "datacontenttype": "application/json",
        "sequence": sequence,
        "data": data | ({"fault": dict(fault)} if fault else {}),
    }


def _place(number: int, lanes: int) -> tuple[str, int]:
    """The saga of an event, and its sequence: a lane has one saga after another."""
    saga, before = divmod(number // lanes, A_SAGA)
    return f"{number % lanes}.{saga}", before + 1


def _result(due: Sequence[Due], rows: Mapping[int, Mapping[str, Any]], lanes: int) -> Run:
    done = {one["key"]: one["at"] for row in rows.values() for one in row["done"]}
    known = [done[row["pk"]] - row["began"] for row in rows.values() if row["pk"] in done]
    usual = round(statistics.median(known)) if known else 0
    ends = {number: done.get(row["pk"], row["began"] + usual) for number, row in rows.items()}
    latencies = tuple(
        (ends[one.number] - one.at) / 1e9 if one.number in ends else math.inf for one in due
    )
    order: dict[str, list[int]] = defaultdict(list)
    for number in sorted(rows, key=lambda number: rows[number]["began"]):
        order[_place(number, lanes)[0]].append(number)
    overtaken = 0
    for numbers in order.values():
        newest = -1
        for number in numbers:
            overtaken += number < newest
            newest = max(newest, number)
    return Run(
        latencies=latencies,
        deliveries=sum(row["deliveries"] for row in rows.values()),
        calls=len({row["brought_by"] or row["pk"] for row in rows.values()}),
        overtaken=overtaken,
        peak=max((row["peak"] / 1024 for row in rows.values()), default=0.0),
    )


def _offset() -> int:
    """What lies between the wall clock, which processes share, and the steady one."""
    return time.time_ns() - time.monotonic_ns()
