"""What a stage costs idle, and a million sagas in each coordination, at list prices.

The idle month is counted in the templates (`recourse.cdk.idle`), a saga on the test ground: every
message and every row comes alone, so it is the most that a saga can cost, and under load batches
make it less. Assumed is how long a call takes and how much it logs. Left out are transfer, traces,
storage, and what KMS is asked: at most once in five minutes for each queue and who uses it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.apart import apart
from bench.choreography import COORDINATIONS, Requests, stock
from bench.figures import Figure, say
from bench.samples import sample
from recourse.cdk.idle import Month, idle_month
from recourse.cdk.prices import PRICES, cost
from recourse.declare.declaration import Coordination
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.queues.called import redriven_queues
from recourse.testing.capacity import Meter, metered
from statemachines import SAGAS
from tests.feeding import Feeding
from tests.ground import Ground, ground
from tests.infra.assembly import synthesise

HOUSE, EACH = 4.30, 0.283
"""Dollars a month for an idle development stage without sagas, and for each queue that they bring:
each step listens, and each service whose holds are confirmed."""
AT_MOST = HOUSE + EACH * len(redriven_queues(SAGAS.values(), choreography=True))
STAGES: Mapping[str, Mapping[str, str]] = {"dev": {}, "prod": {"stage": "prod"}}
COUNTED = 20
"""How many of each saga are counted, in each coordination."""
CALL_SECONDS, MEMORY = 0.05, 0.5
"""What a call of a function is taken to last, and the GB that it has."""
CALL_LOGS, TRANSITION_LOGS = 1_000, 2_000
"""Bytes that a call and a state transition are taken to log."""
EVERY_EVENT = 2
"""The queues that get every event of the feed: webhooks' and WebSockets'."""


def measure() -> list[Figure]:
    """Count what a stage costs idle, and a million of each saga in each coordination."""
    months = apart(_months)
    return [*_idle(months), *apart(_a_million)]


def _months() -> dict[str, Month]:
    with tempfile.TemporaryDirectory() as folder:
        return {
            stage: idle_month(synthesise(Path(folder) / stage, context).templates.values())
            for stage, context in STAGES.items()
        }


def _idle(months: Mapping[str, Month]) -> Iterator[Figure]:
    for stage, month in months.items():
        for line in month.lines:
            yield Figure(
                what=f"an idle month of {stage}: {line.what}",
                size=f"{line.count} of them",
                figure=f"${line.dollars:.2f}: {_said(line.charged)}",
                alternative=f"the whole month: ${month.dollars:.2f}",
                ratio=line.dollars / month.dollars,
            )
        free = ", ".join(f"{count} {what}" for what, count in month.free.items())
        yield Figure(
            what=f"an idle month of {stage}",
            size=f"and for nothing {free}",
            figure=f"${month.dollars:.2f}",
            alternative=f"${AT_MOST:.2f}",
            ratio=month.dollars / AT_MOST,
            most=1 if stage == "dev" else None,
        )


def _a_million() -> list[Figure]:
    figures = []
    with ground() as place, metered(place.dynamodb) as meter:
        feeding = Feeding(place)
        stock(place)
        requests = Requests(place)
        for saga in SAGAS.values():
            say(f"{COUNTED} of {saga.name} in each coordination")
            each = {
                coordination: _counted(saga, coordination, place, feeding, meter, requests)
                for coordination in COORDINATIONS
            }
            for coordination, charged in each.items():
                other = next(one for name, one in each.items() if name != coordination)
                figures.append(
                    Figure(
                        what=f"a million of {saga.name}, {coordination}",
                        size=f"{COUNTED} sagas, one at a time",
                        figure=f"${cost(charged):.0f}: {_said(charged)}",
                        alternative=f"the other coordination: ${cost(other):.0f}",
                        ratio=cost(charged) / cost(other),
                    )
                )
    return figures


def _counted(
    saga: Saga,
    coordination: Coordination,
    place: Ground,
    feeding: Feeding,
    meter: Meter,
    requests: Requests,
) -> dict[str, float]:
    """What a million sagas are charged for; of one that reverses another, that one excepted."""
    firsts = [
        place.start(one.name, sample(one), key=f"{saga.name}-{coordination}-first-{number}")
        for one in reversed_by(SAGAS).get(saga.name, [])[:1]
        for number in range(COUNTED)
    ]
    place.settle()
    feeding.settle()
    meter.forget()
    requests.found.clear()
    found: Counter[str] = Counter()
    for number in range(COUNTED):
        key = f"{saga.name}-{coordination}-{number}"
        if firsts:
            saga_id = place.reverse(firsts[number], coordination=coordination)
        else:
            saga_id = place.start(saga.name, sample(saga), key=key, coordination=coordination)
        place.settle()
        found["events"] += feeding.settle()
        assert place.view(saga_id)["status"] == "SUCCEEDED"
        if coordination == "orchestration":
            found["state transitions"] += sum(place.entered(saga_id).values())
            found["steps"] += len(saga.all)
    asked, events, publishes = requests.found, found["events"], requests.found["SNS publishes"]
    # The API's call; steps; consumers; the relay of each event, twice; the feeder; for every event
    # of the feed a function of webhooks and one of WebSockets.
    calls = COUNTED + found["steps"] + asked["Lambda requests"] + publishes
    calls += events * (1 + EVERY_EVENT)
    transitions = found["state transitions"]
    total = {
        "HTTP API requests": COUNTED,
        "state transitions": transitions,
        "SNS publishes": publishes,
        "SQS requests": asked["SQS requests"] + events * EVERY_EVENT * 2,
        "Lambda requests": calls,
        "Lambda GB-seconds": calls * CALL_SECONDS * MEMORY,
        "DynamoDB writes": sum(one.writes for one in meter.found().values()),
        "DynamoDB reads": sum(one.reads for one in meter.found().values())
        + events * EVERY_EVENT / 2,
        "log GB": (calls * CALL_LOGS + transitions * TRANSITION_LOGS) / 1e9,
    }
    return {what: count / COUNTED * 1e6 for what, count in total.items()}


def _said(charged: Mapping[str, float]) -> str:
    """What it is made of, the dearest first."""
    each = {what: PRICES[what].dollars(count) for what, count in charged.items()}
    dearest = sorted(each.items(), key=lambda one: -one[1])
    return ", ".join(f"{what} ${dollars:.2f}" for what, dollars in dearest if dollars >= 0.005)
