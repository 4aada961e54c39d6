"""One owner's ten thousand do not delay another's one: counted on the ground (`docs/limits.md`)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from recourse.events import message_group
from recourse.events.outbox import group_of
from recourse.functions import kit
from recourse.ledger.history import AT_REST
from recourse.store.slots import LimitReachedError, Rate
from recourse.store.table import Table
from recourse.testing.ground import LEDGER
from tests.ground import Ground, ground
from tests.integration.calling import TRAVELLER, Answer, Caller
from tests.integration.test_api import problem, standing
from tests.integration.trips import TRIP, stock
from tests.slots import TABLE

BATCH = 10
"""Messages that one call of a function takes (`Ground.deliver`)."""
asha, ravi = Caller("asha"), Caller("ravi")
both = Caller("olga", f"{TRAVELLER} operator")
keys = itertools.count()
Limited = Callable[..., None]


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    with ground() as made, standing(made):
        made.documents = {}  # nobody looks at them
        yield made


@pytest.fixture
def made(shared: Ground) -> Ground:
    """The API on a ground that is as new."""
    shared.wipe()
    stock(shared)
    rows = shared.dynamodb.scan(TableName=TABLE)["Items"]
    for row in rows:
        key = {name: row[name] for name in ("pk", "connection")}
        shared.dynamodb.delete_item(TableName=TABLE, Key=key)
    return shared


@pytest.fixture
def limited(made: Ground, monkeypatch: pytest.MonkeyPatch) -> Limited:
    """Sets limits by owner; the minute that starts are counted in does not end."""

    def limit(starts: int = 10_000, in_flight: int = 10_000) -> None:
        table = Table(made.dynamodb, TABLE, ("pk", "connection"))
        rate = Rate(table, "starts", most=starts, seconds=60, clock=lambda: 1_800_000_010.0)
        monkeypatch.setattr(kit, "start_rate", lambda: rate)
        monkeypatch.setenv("OWNER_LIMITS", f"starts={starts} in_flight={in_flight}")

    return limit


def must_be_refused(answer: Answer, detail: str) -> None:
    told = problem(answer, 429, "limit-reached")
    assert told["detail"] == detail
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def sagas(made: Ground) -> Counter[str]:
    """How many sagas the ledger has, by owner."""
    return Counter(row["owner"] for row in made.rows(LEDGER, "") if "owner" in row)


# The start rate, and the number in flight.


def test_an_owner_starts_so_many_a_minute_and_takes_none_of_anothers(
    made: Ground, limited: Limited
) -> None:
    limited(starts=3)
    first = [asha.start(key=f"rate-{number}") for number in range(3)]
    assert [one.status for one in first] == [202] * 3
    before = made.rows(LEDGER, "")
    refused = asha.start(key="rate-3")
    must_be_refused(refused, "an owner may have 3 starts within 60 seconds")
    assert refused.headers["retry-after"] == "50", "when the minute ends"
    assert made.rows(LEDGER, "") == before, "nothing is recorded"
    assert ravi.start().status == 202


def test_a_start_that_is_sent_again_is_answered_as_before_and_not_counted(
    made: Ground, limited: Limited
) -> None:
    limited(starts=2)
    first = asha.start(key="again")
    for _ in range(5):
        assert asha.start(key="again").json["saga_id"] == first.json["saga_id"]
    problem(asha.start({**TRIP, "trip_id": "t-2"}, key="again"), 409, "idempotency-key-reused")
    assert asha.start(key="another").status == 202, "only what began was counted"
    must_be_refused(asha.start(key="third"), "an owner may have 2 starts within 60 seconds")
    again = asha.start(key="again")
    assert (again.status, again.json["saga_id"]) == (202, first.json["saga_id"])
    problem(asha.start({**TRIP, "trip_id": "t-2"}, key="again"), 409, "idempotency-key-reused")


def test_as_many_begin_at_once_as_may(made: Ground, limited: Limited) -> None:
    limited(starts=5)
    with ThreadPoolExecutor(8) as threads:
        rate = kit.start_rate()

        def counted(_: int) -> bool:
            try:
                rate.count("asha")
            except LimitReachedError:
                return False
            return True

        assert sum(threads.map(counted, range(40))) == 5


def test_a_new_minute_begins_at_nothing_and_what_is_taken_back_is_of_its_own(made: Ground) -> None:
    now = [1_800_000_010.0]
    table = Table(made.dynamodb, TABLE, ("pk", "connection"))
    rate = Rate(table, "starts", most=2, seconds=60, clock=lambda: now[0])
    rate.take_back("asha")
    rate.count("asha")
    rate.count("asha")
    with pytest.raises(LimitReachedError):
        rate.count("asha")
    now[0] += 50
    rate.take_back("asha")
    rate.count("asha")
    rate.count("asha")
    with pytest.raises(LimitReachedError, match="2 starts within 60 seconds"):
        rate.count("asha")
    rows = made.dynamodb.scan(TableName=TABLE)["Items"]
    ends = sorted(int(row["expires_at"]["N"]) for row in rows)
    assert ends == [1_800_000_120, 1_800_000_180], "each expires a minute after its own end"


def test_an_owner_has_so_many_in_flight_until_they_end(made: Ground, limited: Limited) -> None:
    limited(in_flight=3)
    for _ in range(3):
        assert asha.start().status == 202
    detail = "an owner may have 3 sagas in flight, which wait for nobody"
    must_be_refused(refused := asha.start(key="later"), detail)
    assert refused.headers["retry-after"] == "10"
    assert sagas(made) == {"asha": 3}
    assert ravi.start().status == 202
    made.settle()
    assert asha.start(key="later").status == 202, "the others have ended, and released nothing"


def test_what_waits_for_an_operator_is_not_in_flight(made: Ground, limited: Limited) -> None:
    limited(in_flight=1)
    chaos = {"Recourse_Chaos": "invoice=error"}
    saga = asha.start(**chaos).json["saga_id"]
    made.settle()
    assert made.view(saga)["stuck"] == ["invoice"]
    another = asha.start()
    assert another.status == 202, "an outage does not keep its owners from what works"
    made.settle()
    made.resolve(saga, "invoice", skip=False)
    made.settle()
    queries = made.ledger.queries
    assert made.view(saga)["stuck"] == ["invoice"] and queries.in_flight("asha", 5) == 0


def test_what_an_operator_retries_is_in_flight_again(made: Ground, limited: Limited) -> None:
    saga = asha.start(Recourse_Chaos="invoice=error:16").json["saga_id"]
    made.settle()
    assert made.view(saga)["stuck"] == ["invoice"]
    made.ledger.resolve(saga, "invoice", skip=False, reason="it is back", by="olga")
    assert made.ledger.queries.in_flight("asha", 5) == 1


def test_operators_and_recoveries_are_not_limited(made: Ground, limited: Limited) -> None:
    limited(starts=1, in_flight=1)
    assert [both.start().status for _ in range(3)] == [202] * 3
    saga = asha.start(Recourse_Chaos="invoice=error:16").json["saga_id"]
    made.settle()
    made.resolve(saga, "invoice", skip=False)
    made.settle()
    assert made.view(saga)["status"] == "SUCCEEDED"


def test_a_reversal_is_a_start_of_who_asks_for_it_unless_it_has_begun(
    made: Ground, limited: Limited
) -> None:
    limited(starts=2)
    first, other = (asha.start().json["saga_id"] for _ in range(2))
    made.settle()
    path = f"/sagas/{first}/reverse"
    must_be_refused(asha("POST", path), "an owner may have 2 starts within 60 seconds")
    assert both("POST", path).status == 202
    assert asha("POST", path).status == 202, "it has begun"
    limited(starts=3)
    problem(asha("POST", f"/sagas/{asha.start().json['saga_id']}/reverse"), 429, "limit-reached")
    limited(starts=4)
    assert asha("POST", f"/sagas/{other}/reverse").status == 202


def test_a_limited_start_costs_one_write_and_two_queries_more(
    made: Ground, limited: Limited
) -> None:
    """Than one of an operator, who has no limits."""
    limited()
    seen: list[str] = []
    made.dynamodb.meta.events.register(
        "before-parameter-build.dynamodb", lambda model, **_: seen.append(model.name)
    )

    def calls(who: Caller) -> Counter[str]:
        seen.clear()
        assert who.start().status == 202
        return Counter(seen)

    calls(both)
    theirs, limitless = calls(asha), calls(both)
    assert limitless["TransactWriteItems"] >= 1
    assert theirs - limitless == {"UpdateItem": 1, "Query": 2} and not limitless - theirs


# A flood, and one who is quiet.


def test_quiet_starts_are_admitted_at_once_and_the_flood_as_far_as_it_may(
    made: Ground, limited: Limited
) -> None:
    """Between any two starts of the quiet one are 30 of the flood's; none of its is refused."""
    limited(starts=40, in_flight=20)
    flood, quiet = Counter[int](), Counter[int]()
    for number in range(150):
        flood[asha.start().status] += 1
        if number % 30 == 29:
            quiet[ravi.start().status] += 1
    assert quiet == {202: 5}
    assert flood == {202: 20, 429: 130}
    assert sagas(made) == {"asha": 20, "ravi": 5}
    told = Counter(group for group in map(group_of, images(made)) if group)
    each = told[message_group("ravi")] // 5
    assert told[message_group("asha")] == 20 * each, (
        "all that the relay has of the flood to publish"
    )


def images(made: Ground) -> list[dict[str, Any]]:
    """The rows that a stream has."""
    return [record["dynamodb"]["NewImage"] for record in made.stream.fetch()]


def overtaken(made: Ground, *, fair: bool, flood: int) -> dict[str, int]:
    """How many of a flood's messages go before one quiet owner's, at the most, by queue.

    Both choreographies are relayed as far as they have come before anything is delivered. Counted
    are messages that are taken off a queue while one of the quiet owner's is in it.
    """
    noisy, still = message_group("asha"), message_group("ravi")
    for number in range(flood):
        made.start("travel-booking", TRIP, key=f"f-{number}", coordination="choreography")
    saga = made.start(
        "travel-booking", TRIP, key="quiet", owner="ravi", coordination="choreography"
    )
    passed: dict[str, Counter[str]] = {name: Counter() for name in made.queues}
    while made.view(saga)["status"] not in AT_REST:
        while made.relay(1000):
            pass
        moved = 0
        for name in made.queues:
            held = {one.id: one.group_id for one in made._backend[name].messages}
            moved += made.deliver(name, fair=fair)
            left = {one.id for one in made._backend[name].messages}
            gone = Counter(group for one, group in held.items() if one not in left)
            for one, group in held.items():
                if group == still:
                    passed[name][one] += gone[noisy] if one in left else 0
        assert moved, made.view(saga)
    made.settle()
    return {name: max(counts.values()) for name, counts in passed.items() if counts}


def test_in_a_fair_queue_no_batch_of_the_flood_goes_before_the_quiet_one(made: Ground) -> None:
    found = overtaken(made, fair=True, flood=30)
    assert len(found) > 6, "the ledger, each step, each service that confirms"
    assert set(found.values()) == {0}, "it is in the next batch of each"


def test_where_queues_know_no_groups_the_whole_flood_goes_before(made: Ground) -> None:
    """What the model of fair queues is measured against: moto, as it is."""
    found = overtaken(made, fair=False, flood=30)
    assert min(found[name] for name in ("FlightsHold", "PaymentsAuthorise")) >= 30, found


# The message group, wherever a message about a saga goes.


def groups(made: Ground, queue: str) -> Counter[str | None]:
    return Counter(message.group_id for message in made._backend[queue]._messages)


def test_every_message_about_a_saga_has_its_owner_s_group(
    made: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[str, str | None]] = []
    take = made._take

    def seen(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        for record in records:
            taken.append((name, record["attributes"].get("MessageGroupId")))
        return take(name, records)

    monkeypatch.setattr(made, "_take", seen)
    for coordination in ("orchestration", "choreography"):
        for faults in ({}, {"payment": "reject"}, {"invoice": "error"}, {"car": "error"}):
            made.start(
                "travel-booking",
                TRIP,
                key=f"group-{next(keys)}",
                coordination=coordination,
                faults=faults,
            )
    made.settle()
    assert {name for name, _ in taken} >= {LEDGER, "flights-confirm", "PaymentsAuthorise"}
    assert {group for _, group in taken} == {message_group("asha")}
    assert groups(made, "parked").keys() == {message_group("asha")}


def test_what_is_dead_lettered_and_redriven_keeps_its_group(made: Ground) -> None:
    made.sns.publish(TopicArn=made.topic, Message="no event", MessageGroupId=message_group("asha"))
    made.deliver(LEDGER)
    assert groups(made, f"{LEDGER}-deadletters") == {message_group("asha"): 1}
    made.deadletters[LEDGER].redrive()
    assert groups(made, LEDGER) == {message_group("asha"): 1}


def test_a_record_that_is_never_relayed_is_dead_lettered_in_its_group(made: Ground) -> None:
    made.start("travel-booking", TRIP, key=f"lost-{next(keys)}", run=False)
    (record,) = (one for one in made.stream.fetch() if "group" in one["dynamodb"]["NewImage"])
    made.lose_record(record, "a test")
    assert groups(made, "streams-deadletters") == {message_group("asha"): 1}


def test_a_row_of_a_release_before_is_published_without_a_group(made: Ground) -> None:
    made.start("travel-booking", TRIP, key=f"old-{next(keys)}", run=False)
    (record,) = (one for one in made.stream.fetch() if "group" in one["dynamodb"]["NewImage"])
    del record["dynamodb"]["NewImage"]["group"]
    made.stream.give_back([record])
    assert made.relay() == 1
    assert groups(made, LEDGER) == {None: 1}
    made.settle()
    assert sagas(made) == {"asha": 1}
