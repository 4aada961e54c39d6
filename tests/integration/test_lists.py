"""Lists of sagas and of unfinished ones: right by a model, bounded, and sharing no partition."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recourse.declare.ids import SagaId
from recourse.errors import ContentionError
from recourse.ledger import queries as queries_module
from recourse.ledger.history import STATUSES
from recourse.ledger.ledger import Ledger
from recourse.ledger.listing import BY_STATUS, SHARDS, UNDER_WAY
from recourse.ledger.record import Record
from recourse.ledger.reindex import main, reindex
from recourse.store.items import encode, encode_item
from recourse.store.table import Table
from recourse.testing.capacity import Meter, metered
from recourse.testing.ground import LEDGER
from tests.ground import Ground, ground
from tests.integration.trips import TRIP, stock

OWNERS = ("asha", "अशा", "a", "a#b")
KEYS = ("t-1", "b#t-1", "予約-1", "ß")
EMPTY: dict[str, Any] = {"entered": [], "waiting": [], "resolutions": []}
TIMES = [f"2026-11-28T10:00:0{second}.000Z" for second in range(3)]
records = st.builds(
    lambda number, owner, key, saga, status, started: Record(
        saga_id=SagaId(f"{number:032x}"),
        saga=saga,
        owner=owner,
        business_key=key,
        coordination="orchestration",
        request={},
        body="",
        started_at=started,
        status=status,
        **EMPTY,
    ),
    st.integers(0, 2**128 - 1),
    st.sampled_from(OWNERS),
    st.sampled_from(KEYS),
    st.sampled_from(["order", "transfer"]),
    st.sampled_from(STATUSES),
    st.sampled_from(TIMES),
)
some_records = st.lists(records, max_size=25, unique_by=lambda one: one.saga_id)


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as made:
        yield made


def filled(place: Ground, some: list[Record]) -> Ledger:
    """The ledger with these rows, and no others."""
    place._tables[LEDGER].items.clear()
    for record in some:
        place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(record.to_row()))
    return place.ledger


def pages(ledger: Ledger, limit: int, **asked: Any) -> list[list[Record]]:
    found, cursor = [], None
    for _ in range(200):
        page, cursor = ledger.queries.page(**asked, cursor=cursor, limit=limit)
        found.append(page)
        if cursor is None:
            return found
    raise AssertionError("the pages have no end")


@settings(max_examples=60, deadline=None)
@given(
    some=some_records,
    owner=st.sampled_from([None, *OWNERS]),
    key=st.sampled_from([None, *KEYS]),
    saga=st.sampled_from([None, "order"]),
    status=st.sampled_from([None, "RUNNING", "SUCCEEDED"]),
    limit=st.integers(1, 7),
    most=st.integers(1, 40),
)
def test_pages_are_the_sagas_asked_for_once_and_the_newest_first(
    place: Ground,
    some: list[Record],
    owner: str | None,
    key: str | None,
    saga: str | None,
    status: Any,
    limit: int,
    most: int,
) -> None:
    ledger = filled(place, some)
    wanted = [
        one
        for one in some
        if owner in (None, one.owner)
        and key in (None, one.business_key)
        and saga in (None, one.saga)
        and status in (None, one.status)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries_module, "MOST_EXAMINED", most)
        found = pages(ledger, limit, owner=owner, business_key=key, saga=saga, status=status)
    assert list(itertools.chain(*found)) == sorted(wanted, key=lambda r: r.place, reverse=True)
    assert all(len(page) <= limit for page in found)


@settings(max_examples=40, deadline=None)
@given(some=some_records, before=st.sampled_from([*TIMES, "2026-11-29"]), stop=st.integers(0, 25))
def test_unfinished_sagas_come_oldest_first_and_go_on_after_any_of_them(
    place: Ground, some: list[Record], before: str, stop: int
) -> None:
    ledger = filled(place, some)
    wanted = sorted(
        (one for one in some if one.status in UNDER_WAY and one.place < before),
        key=lambda one: one.place,
    )
    first = list(itertools.islice(ledger.queries.unfinished(before), stop))
    rest = ledger.queries.unfinished(before, first[-1].place if first else None)
    assert [*first, *rest] == wanted


def test_a_row_that_an_index_shows_late_is_judged_as_it_is(place: Ground) -> None:
    """A saga ended after the index was read: nobody lists it as running, or looks after it."""
    one = next(iter(some_running(1)))
    ledger = filled(place, [one])
    row = replace(one, status="SUCCEEDED").to_row()
    for shard in range(SHARDS):
        place.dynamodb.put_item(
            TableName=LEDGER,
            Item=encode_item(row | {BY_STATUS.attribute: f"RUNNING#{shard}"}),
        )
        assert ledger.queries.page(status="RUNNING") == ([], None)
        assert list(ledger.queries.unfinished("2027")) == []


def some_running(count: int) -> Iterator[Record]:
    for number in range(count):
        yield Record(
            saga_id=SagaId(f"{number:032x}"),
            saga="order",
            owner="asha",
            business_key="t-1",
            coordination="orchestration",
            request={"padding": "x" * 5000},
            body="",
            started_at=TIMES[0],
            **EMPTY,
        )


@pytest.mark.parametrize(
    "asked",
    [{}, {"owner": "asha"}, {"business_key": "t-1"}, {"owner": "asha", "business_key": "t-1"}],
)
def test_what_a_page_reads_is_bounded_whatever_there_is(
    place: Ground, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that matches nothing among 200 sagas: entries are read, as many as a page may."""
    monkeypatch.setattr(queries_module, "MOST_EXAMINED", 60)
    ledger = filled(place, list(some_running(200)))
    read = Counter[str]()

    def note(parsed: Any, model: Any, **_: Any) -> None:
        rows = parsed.get("Items", parsed.get("Responses", {}).get(LEDGER, []))
        read[model.name] += len(rows)

    place.dynamodb.meta.events.register("after-call.dynamodb.*", note)
    try:
        page, cursor = ledger.queries.page(saga="transfer", limit=2, **asked)
        assert (page, read["BatchGetItem"]) == ([], 0)
        assert cursor is not None and read["Query"] <= 60 + 7 * SHARDS
        read.clear()
        page, cursor = ledger.queries.page(limit=5, **asked)
        assert (len(page), read["BatchGetItem"]) == (5, 5)
        assert cursor is not None and read["Query"] <= 6 + 6 * SHARDS
        read.clear()
        assert next(iter(ledger.queries.unfinished("2027"))).saga_id == f"{0:032x}"
        assert read["BatchGetItem"] <= 25
    finally:
        place.dynamodb.meta.events.unregister("after-call.dynamodb.*", note)


def test_rows_that_a_throttled_table_leaves_out_are_asked_for_again(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = filled(place, list(some_running(3)))
    whole = place.dynamodb.batch_get_item

    def one_at_a_time(RequestItems: Any) -> Any:
        ((table, asked),) = RequestItems.items()
        first, *rest = asked["Keys"]
        got = whole(RequestItems={table: {**asked, "Keys": [first]}})
        got["UnprocessedKeys"] = {table: {**asked, "Keys": rest}} if rest else {}
        return got

    monkeypatch.setattr(place.dynamodb, "batch_get_item", one_at_a_time)
    assert len(ledger.queries.page(owner="asha")[0]) == 3
    nothing = {"Responses": {}, "UnprocessedKeys": {LEDGER: {"Keys": [{"pk": {"S": "x"}}]}}}
    monkeypatch.setattr(place.dynamodb, "batch_get_item", lambda RequestItems: nothing)
    monkeypatch.setattr("recourse.store.contention.time.sleep", lambda seconds: None)
    with pytest.raises(ContentionError, match=f"1 rows of {LEDGER} could not be read"):
        ledger.queries.page(owner="asha")


def test_what_was_written_before_these_indexes_is_put_into_them(
    place: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = some_running(2)
    ledger = filled(place, [new])
    former = {k: v for k, v in old.to_row().items() if not k.startswith("listed_")}
    place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(former))
    place.dynamodb.put_item(TableName=LEDGER, Item={"pk": encode("outbox#1"), "event": encode("")})
    assert list(ledger.queries.unfinished("2027")) == [new]
    monkeypatch.setattr("sys.argv", ["reindex", LEDGER])
    main()
    assert capsys.readouterr().out.startswith("1 sagas ")
    assert list(ledger.queries.unfinished("2027")) == [old, new]
    assert [len(ledger.queries.page(business_key=key)[0]) for key in (None, "t-1")] == [2, 2]
    assert ledger.queries.page(owner="asha", business_key="t-1")[0] == [new, old]
    assert ledger.get(old.saga_id) == old
    assert list(reindex(Table(place.dynamodb, LEDGER))) == []


def test_a_saga_that_moves_on_while_it_is_indexed_is_left_to_whoever_moved_it(
    place: Ground,
) -> None:
    (old,) = some_running(1)
    ledger = filled(place, [])
    former = {k: v for k, v in old.to_row().items() if not k.startswith("listed_")}
    place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(former))
    update = place.dynamodb.update_item

    def overtaken(**asked: Any) -> Any:
        moved = replace(old, status="SUCCEEDED", version=2).to_row()
        place.dynamodb.put_item(TableName=LEDGER, Item=encode_item(moved))
        return update(**asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place.dynamodb, "update_item", overtaken)
        assert list(reindex(Table(place.dynamodb, LEDGER))) == [old.saga_id]
    assert list(ledger.queries.unfinished("2027")) == []
    assert [one.status for one in ledger.queries.page(status="SUCCEEDED")[0]] == ["SUCCEEDED"]


# What a saga costs an index, and where.


@pytest.fixture(scope="module")
def meter(place: Ground) -> Iterator[tuple[Ground, Meter]]:
    stock(place)
    with metered(place.dynamodb) as counts:
        yield place, counts


def run(place: Ground, meter: Meter, key: str, **options: Any) -> str:
    meter.of = key
    place.stream.fetch()
    saga_id = place.start("travel-booking", TRIP | {"trip_id": key}, key=key, **options)
    one_by_one(place)
    return saga_id


def one_by_one(place: Ground) -> None:
    """Deliver everything, each event by itself, as it comes where nothing waits."""
    while place.relay(most=1):
        for name in place.queues:
            while place.waiting(name):
                place.deliver(name, most=1)


@pytest.mark.parametrize(
    ("faults", "status", "changes"),
    [({}, "SUCCEEDED", 1), ({"payment": "reject"}, "COMPENSATED", 2)],
)
def test_an_index_is_written_when_a_saga_begins_and_when_its_status_changes(
    meter: tuple[Ground, Meter], faults: dict[str, str], status: str, changes: int
) -> None:
    """Each event rewrote the whole row in each index before."""
    place, counts = meter
    counts.forget()
    saga_id = run(place, counts, f"one-{status}", faults=faults)
    assert place.view(saga_id)["status"] == status
    taken = Counter[str]()
    for partition, use in counts.found().items():
        if partition.table == LEDGER and partition.within:
            taken[partition.within] += int(use.writes)
    assert taken == {
        "listed-by-status": 1 + 2 * changes,  # it leaves one partition for another
        "listed-by-owner": 1 + changes,
        "listed-by-owner-key": 1 + changes,
        "listed-by-key": 1 + changes,
        "listed-by-owner-status": 1 + 2 * changes,
    }
    assert counts.records[LEDGER, "MODIFY "] > 2 + changes, "of all the writes of its row"


def test_sagas_share_no_partition_but_shards_and_what_is_their_owner_s(
    meter: tuple[Ground, Meter],
) -> None:
    place, counts = meter
    counts.forget()
    sagas = 20
    for number in range(sagas):
        run(place, counts, f"shared-{number}")
    mine = {"listed-by-owner", "listed-by-owner-status"}
    shared = {
        partition: use
        for partition, use in counts.found().items()
        if partition.table == LEDGER and partition.within not in mine and len(use.by) > 1
    }
    assert {partition.within for partition in shared} == {"listed-by-status"}
    assert len(shared) > SHARDS, "running, and succeeded; some have one saga of so few"
    assert max(use.writes for use in shared.values()) <= 2 * sagas / 4
