"""Sagas without a coordinator beside the same with one: rate, messages, price, thousands."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from itertools import pairwise
from typing import Any, get_args

from bench import LOCAL, memory
from bench.apart import apart
from bench.cloud import Side, trips
from bench.figures import Figure, alternated, say
from bench.samples import STARTED, sample, things
from recourse.cdk.prices import cost
from recourse.choreography.routing import listeners
from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.declare.saga import Saga
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from recourse.testing.ground import LEDGER
from statemachines import SAGAS
from statemachines.travel_booking import TRAVEL_BOOKING
from tests.ground import Ground, ground

SIZES = {1: 40, 8: 120}
"""How many are run in all, by how many are under way at once."""
ROUNDS = 4
COORDINATIONS: tuple[Coordination, ...] = get_args(Coordination)
COUNTED = 100
WINDOW, WINDOWS, PART = 1000, 5, 50
COUNTED_PRICES = (
    "state transitions",
    "SNS publishes",
    "SQS requests",
    "Lambda requests",
    "DynamoDB writes",
)
"""What is charged, without time, transfer and reads. A write in a transaction is two, and each is
taken for one of at most 1 KB."""


def measure() -> list[Figure]:
    """Run trips in both coordinations on the local cloud, and count what a saga costs in each."""
    return _beside_orchestration() + apart(_counted) + apart(_thousands)


def _beside_orchestration() -> list[Figure]:
    folder = LOCAL / "bench" / "choreography"
    with (
        LocalCloud(
            port=0, aws_port=0, state_dir=folder, fresh=True, seed_file=None, say=say
        ) as cloud,
        Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
    ):
        for (kind, thing), body in things().items():
            api.call("PUT", f"/{kind}/{thing}", json=body)
        without = trips(cloud, api, "choreography")
        beside = trips(cloud, api, "orchestration")
        for side in (without, beside):
            side.run(24, 8)
        return [_rates(without, beside, at_once, count) for at_once, count in SIZES.items()]


def _rates(without: Side, beside: Side, at_once: int, count: int) -> Figure:
    say(f"{count} of each, {at_once} at once")
    part = count // ROUNDS
    ours, theirs = alternated(
        [lambda: part / without.run(part, at_once), lambda: part / beside.run(part, at_once)],
        rounds=ROUNDS,
    )
    return Figure(
        what=f"choreographed trips a second, {at_once} at once",
        size=f"{count} of each, in {ROUNDS} rounds",
        figure=f"{ours:.2f} trips/s",
        alternative=f"orchestrated in the same run: {theirs:.2f} trips/s",
        ratio=ours / theirs,
        least=0.5,
    )


class Requests:
    """Counts, at the clients, what AWS would charge for."""

    def __init__(self, place: Ground) -> None:
        self.found: Counter[str] = Counter()
        self._place = place
        self._deliver = place.deliver
        place.deliver = self.deliver  # type: ignore[method-assign]
        place.sns.meta.events.register("before-parameter-build.sns.PublishBatch", self._published)
        place.dynamodb.meta.events.register("before-parameter-build.dynamodb.*", self._written)

    def deliver(self, name: str, *args: Any, **options: Any) -> int:
        """Deliver as the ground does, and count."""
        taken = self._deliver(name, *args, **options)
        if name in self._place.listeners:
            self.found["messages to steps"] += taken
        # Each message is sent; a batch of them is received and deleted, by one function.
        self.found["SQS requests"] += taken + 2 * bool(taken)
        self.found["Lambda requests"] += bool(taken)
        return taken

    def _published(self, params: dict[str, Any], **_: Any) -> None:
        self.found["SNS publishes"] += len(params["PublishBatchRequestEntries"])

    def _written(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name == "TransactWriteItems":
            self.found["DynamoDB writes"] += 2 * len(params["TransactItems"])
        elif model.name in ("PutItem", "UpdateItem"):
            self.found["DynamoDB writes"] += 1


def _counted() -> list[Figure]:
    """What a saga costs in messages, one saga at a time: nothing shares a batch with another."""
    figures = []
    with ground() as place:
        stock(place)
        counter = Requests(place)
        for saga in STARTED:
            each = {}
            for coordination in COORDINATIONS:
                counter.found.clear()
                for number in range(COUNTED):
                    key = f"{coordination}-{number}"
                    place.start(saga.name, sample(saga), key=key, coordination=coordination)
                    place.settle()
                each[coordination] = {what: n / COUNTED for what, n in counter.found.items()}
            figures += _figures(saga, each["choreography"], each["orchestration"])
    return figures


def _figures(saga: Saga, ours: dict[str, float], theirs: dict[str, float]) -> list[Figure]:
    size = f"{COUNTED} sagas, one at a time"
    groups = [len(group) for group in saga.groups]
    least_told = len(saga.all) + 1
    # `started` to each of the first group, then each step's `done` to each of the next.
    least_heard = groups[0] + sum(before * after for before, after in pairwise(groups))
    transitions = len(saga.all) + sum(members > 1 for members in groups) + 1
    theirs = {
        **theirs,
        "state transitions": transitions,
        "Lambda requests": theirs["Lambda requests"] + len(saga.all),
    }
    prices = [
        cost({what: charged.get(what, 0) * 1e6 for what in COUNTED_PRICES})
        for charged in (ours, theirs)
    ]

    def said(charged: dict[str, float]) -> str:
        return ", ".join(
            f"{charged[what]:.1f} {what}" for what in COUNTED_PRICES if what in charged
        )

    return [
        Figure(
            what=f"SNS publishes a {saga.name}",
            size=size,
            figure=f"{ours['SNS publishes']:.2f}",
            alternative=f"least possible, {least_told}: `started` and one event a step",
            ratio=ours["SNS publishes"] / least_told,
            most=1,
        ),
        Figure(
            what=f"messages to the steps of a {saga.name}",
            size=size,
            figure=f"{ours['messages to steps']:.2f}",
            alternative=f"least possible, {least_heard}: one from each step that a step awaits",
            ratio=ours["messages to steps"] / least_heard,
            most=1,
        ),
        Figure(
            what=f"SQS requests a {saga.name}, with the ledger's and the confirmers'",
            size=size,
            figure=f"{ours['SQS requests']:.1f}",
            alternative=f"orchestrated: {theirs['SQS requests']:.1f}",
            ratio=ours["SQS requests"] / theirs["SQS requests"],
        ),
        Figure(
            what=f"list price of a million of {saga.name}, without time and reads",
            size=size,
            figure=f"${prices[0]:.0f}: {said(ours)}",
            alternative=f"orchestrated: ${prices[1]:.0f}: {said(theirs)}",
            ratio=prices[0] / prices[1],
        ),
    ]


def _thousands() -> list[Figure]:
    rates, sizes = [], []
    with ground() as place:
        stock(place)
        for window in range(WINDOWS):
            parts, held = [], []
            for part in range(WINDOW // PART):
                began = time.process_time()
                _many(place, window, part)
                parts.append(PART / (time.process_time() - began))
                place.forget()
                held.append(memory.own())
            rates.append(statistics.median(parts))
            sizes.append(statistics.median(held))
            say(f"to the {(window + 1) * WINDOW}th: {rates[-1]:.1f} choreographed trips/s")
    size = f"{WINDOW * WINDOWS} choreographed trips one after another, forgotten every {PART}"
    return [
        Figure(
            what="choreographed trips a processor second, late in a long run",
            size=size,
            figure=f"{rates[-1]:.1f}; by thousand: " + ", ".join(f"{one:.1f}" for one in rates),
            alternative=f"the second thousand: {rates[1]:.1f}",
            ratio=rates[-1] / rates[1],
            least=0.85,
        ),
        Figure(
            what="memory of the process, late in a long run",
            size=size,
            figure=f"{sizes[-1]:.0f} MB; by thousand: " + ", ".join(f"{one:.0f}" for one in sizes),
            alternative=f"the second thousand: {sizes[1]:.0f} MB",
            ratio=sizes[-1] / sizes[1],
            least=0.9,
            most=1.1,
        ),
    ]


def _many(place: Ground, window: int, part: int) -> None:
    body = sample(TRAVEL_BOOKING)
    for number in range(PART):
        key = f"many-{window}-{part}-{number}"
        saga_id = place.start(TRAVEL_BOOKING.name, body, key=key, coordination="choreography")
        place.settle()
        assert place.view(saga_id)["status"] == "SUCCEEDED"


def stock(place: Ground) -> None:
    """Put everything into a ground that sagas of the samples need."""
    assert set(listeners(SAGAS.values())) | {LEDGER} <= set(place.queues)
    for (kind, thing), body in things().items():
        place.put(kind, thing, body)
