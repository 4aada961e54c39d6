"""A table: what is written is read, what must hold is asked, and others are waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.step import AtLeast, Item, Put, Update
from recourse.errors import ContentionError, TransientError
from recourse.store.contention import (
    MAX_TRIES,
    Backoff,
    ConditionFailedError,
    ConflictError,
    InvalidItemError,
)
from recourse.store.cursors import BadCursorError
from recourse.store.expressions import (
    ABSENT,
    PRESENT,
    Append,
    AtMost,
    Attribute,
    Between,
    FewerThan,
    IfAbsent,
    LessThan,
    MoreThan,
    Not,
    Presence,
    When,
)
from recourse.store.table import MAX_BATCH_GET, Table
from recourse.testing import calls

SEAT = {"pk": "seat#1", "free": 2, "status": "OPEN"}


# Rows.


def test_a_row_that_was_put_is_read_and_another_is_not_there(table: Table) -> None:
    table.put(SEAT)
    assert table.get("seat#1") == SEAT
    assert table.get("seat#2") is None
    table.delete("seat#1")
    assert table.get("seat#1") is None


def test_rows_come_in_the_order_of_their_keys_however_many_they_are(table: Table) -> None:
    for number in range(MAX_BATCH_GET + 20):
        table.put({"pk": f"seat#{number}", "number": number})
    keys = [f"seat#{number}" for number in range(MAX_BATCH_GET + 20)]
    asked = [*reversed(keys), "none", "seat#3"]
    with calls.recorded() as made, calls.disordered():
        rows = table.get_many(asked)
    assert [row and row["pk"] for row in rows] == [*reversed(keys), None, "seat#3"]
    assert [call.operation for call in made] == ["BatchGetItem"] * 2
    assert not calls.stale(made)
    assert table.get_many([]) == []


def test_a_row_of_a_table_with_a_sort_key_has_two_keys(in_order: Table) -> None:
    rows = [{"pk": "a", "position": position, "owner": "asha"} for position in (0, 1)]
    for row in rows:
        in_order.put(row, when=ABSENT)
    assert in_order.get(("a", 1)) == rows[1]
    assert in_order.get_many([("a", 1), ("b", 0), ("a", 0)]) == [rows[1], None, rows[0]]
    assert in_order.update(("a", 1), set={"position_of": "x"})["position_of"] == "x"


def test_whoever_replaces_a_row_learns_what_was_there(table: Table) -> None:
    assert table.replace(SEAT) is None
    assert table.replace(SEAT | {"free": 1}, when={"free": 2}) == SEAT
    with pytest.raises(ConditionFailedError) as failed:
        table.replace(SEAT, when=[ABSENT, {"free": 7}])
    assert failed.value.rows == {0: SEAT | {"free": 1}}


# Expressions, against a model of them.

NUMBERS = ("free", "size", "count")
"""Reserved words, all of them."""
OTHERS = ("status", "name", "from#a step")
values = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"])
others = values | st.lists(values, max_size=2) | st.dictionaries(st.sampled_from("xy"), values)
small = st.integers(-3, 3)
rows = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NUMBERS, small) | dict.fromkeys(OTHERS, others)
)
operands = small | st.sampled_from(NUMBERS).map(Attribute)
of_numbers = st.one_of(
    small,
    st.sampled_from(Presence),
    *(st.builds(kind, operands) for kind in (LessThan, AtMost, MoreThan)),
    *(st.builds(kind, small) for kind in (AtLeast, Not)),
    st.builds(Between, small, small).filter(lambda one: one.low <= one.high),
)
known = others.filter(lambda one: one is not None)
"""What is compared with; moto takes what is not there for null."""
of_others = known | st.sampled_from(Presence) | st.builds(Not, known)
mappings = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NUMBERS, of_numbers) | dict.fromkeys(OTHERS, of_others)
).filter(bool)
whens = st.none() | st.sampled_from(Presence) | mappings
whens |= st.lists(st.sampled_from(Presence) | mappings, min_size=1, max_size=3)


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What an update does, each attribute at one place."""
    made: dict[str, Any] = {"set": {}, "add": {}, "remove": []}
    for name in draw(st.sets(st.sampled_from(NUMBERS + OTHERS), min_size=1)):
        how = draw(st.sampled_from(("set", "keep", "remove", "add")))
        if how == "remove":
            made["remove"].append(name)
        elif how == "add" and name in NUMBERS:
            made["add"][name] = draw(small)
        else:
            new = draw(small if name in NUMBERS else others)
            made["set"][name] = IfAbsent(new) if how == "keep" else new
    return made


def holds(when: When | None, row: Item | None) -> bool:
    """Whether something holds of a row, in plain Python."""
    if when is None:
        return True
    if isinstance(when, Presence):
        return (row is None) == (when is ABSENT)
    if isinstance(when, Mapping):
        return all(held(row or {}, name, wanted) for name, wanted in when.items())
    return any(holds(one, row) for one in when)


def held(row: Item, name: str, wanted: Any) -> bool:
    """Whether something holds of an attribute."""
    if isinstance(wanted, Presence):
        return (name in row) == (wanted is PRESENT)
    other = getattr(wanted, "value", wanted)
    if isinstance(other, Attribute):
        other = row.get(str(other.path))
        if other is None and name in row:
            return isinstance(wanted, Not)
    if name not in row:
        return isinstance(wanted, Not)
    found = row[name]
    match wanted:
        case LessThan():
            return bool(found < other)
        case AtMost():
            return bool(found <= other)
        case MoreThan():
            return bool(found > other)
        case AtLeast():
            return bool(found >= other)
        case Between(low, high):
            return bool(low <= found <= high)
        case Not():
            return not same(found, other)
    return same(found, other)


def same(one: Any, other: Any) -> bool:
    """Whether two values are one in DynamoDB, where true is no number."""
    return repr(one) == repr(other) or (isinstance(one, dict) and one == other)


def changed(row: Item, change: Mapping[str, Any]) -> Item:
    """A row after an update, in plain Python."""
    new = dict(row)
    for name, value in change["set"].items():
        new[name] = row.get(name, value.value) if isinstance(value, IfAbsent) else value
    for name, more in change["add"].items():
        new[name] = row.get(name, 0) + more
    for name in change["remove"]:
        new.pop(name, None)
    return new


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a transaction"])
@given(row=st.none() | rows, change=changes(), when=whens)
def test_an_update_is_made_where_it_may_be_and_does_what_it_says(
    table: Table, together: bool, row: Item | None, change: dict[str, Any], when: When | None
) -> None:
    table.delete("seat#1")
    before = None if row is None else row | {"pk": "seat#1"}
    if before is not None:
        table.put(before)
    after = changed(before or {"pk": "seat#1"}, change)
    try:
        if together:
            table.transact([table.update_request("seat#1", **change, when=when)])
        else:
            assert table.update("seat#1", **change, when=when) == after
    except ConditionFailedError as failed:
        assert not holds(when, before)
        assert failed.rows == {0: before}
        assert table.get("seat#1") == before
    else:
        assert holds(when, before)
        assert table.get("seat#1") == after


@given(row=st.none() | rows, when=whens)
def test_a_check_and_a_put_hold_to_the_same(table: Table, row: Item | None, when: When) -> None:
    table.delete("seat#1")
    before = None if row is None else row | {"pk": "seat#1"}
    if before is not None:
        table.put(before)
    if when is not None:
        try:
            table.transact([table.check_request("seat#1", when=when)])
        except ConditionFailedError as failed:
            assert failed.rows == {0: before} and not holds(when, before)
        else:
            assert holds(when, before)
    try:
        table.put(SEAT, when=when)
    except ConditionFailedError as failed:
        assert failed.rows == {0: before} and not holds(when, before)
    else:
        assert holds(when, before) and table.get("seat#1") == SEAT


def test_an_attribute_within_another_is_set_and_asked_for(table: Table) -> None:
    table.put({"pk": "w", "slots": {"s0": 5, "s1": 9}})
    row = table.update("w", set={("slots", "s0"): 7}, when={("slots", "s0"): LessThan(6)})
    assert row["slots"] == {"s0": 7, "s1": 9}
    with pytest.raises(ConditionFailedError):
        table.update("w", set={("slots", "s0"): 8}, when={("slots", "s0"): LessThan(6)})


def test_strings_go_into_sets_and_out_and_are_counted(table: Table) -> None:
    room: When = [{"webhooks": ABSENT}, {"webhooks": FewerThan(2)}]
    for one in "ab":
        row = table.update("owner", add={"webhooks": {one}}, when=room)
    assert row["webhooks"] == {"a", "b"}
    with pytest.raises(ConditionFailedError):
        table.update("owner", add={"webhooks": {"c"}}, when=room)
    assert table.update("owner", discard={"webhooks": {"a", "z"}})["webhooks"] == {"b"}
    assert "webhooks" not in table.update("owner", discard={"webhooks": {"b"}})


def test_values_are_added_at_the_end_of_a_list_that_may_not_be_there(table: Table) -> None:
    assert table.update("probe", set={"done": Append([1])})["done"] == [1]
    assert table.update("probe", set={"done": Append([2, {"a": None}])})["done"][1:] == [
        2,
        {"a": None},
    ]


def test_what_a_step_puts_is_new_and_what_it_changes_is_there(table: Table) -> None:
    table.transact([table.write_request(Put(SEAT))])
    for write in (Put(SEAT), Update("seat#2", put={"status": "HELD"})):
        with pytest.raises(ConditionFailedError):
            table.transact([table.write_request(write)])
    take = Update("seat#1", add={"free": -2}, put={"status": "SOLD"}, when={"free": AtLeast(2)})
    table.transact([table.write_request(take)])
    assert table.get("seat#1") == SEAT | {"free": 0, "status": "SOLD"}
    with pytest.raises(ConditionFailedError):
        table.transact([table.write_request(take)])


# Lists.


def filled(in_order: Table) -> list[Item]:
    """Five rows of Asha's, the oldest first."""
    made = [
        {"pk": "a", "position": n, "owner": "asha", "started": f"2026-11-2{n}T00:00:00Z#{n:032x}"}
        for n in range(5)
    ]
    for row in made:
        in_order.put(row)
    in_order.put({**made[0], "pk": "b", "owner": "ravi"})
    return made


def test_the_rows_of_a_partition_come_in_order_however_many_pages_they_take(
    in_order: Table,
) -> None:
    made = filled(in_order)
    assert list(in_order.query({"pk": "a"}, size=2, consistent=True)) == made
    assert list(in_order.query({"pk": "a"}, size=2, newest_first=True)) == made[::-1]
    assert list(in_order.query({"pk": "a", "position": AtLeast(3)})) == made[3:]
    assert list(in_order.query({"pk": "a", "position": Between(1, 2)})) == made[1:3]
    assert list(in_order.query({"owner": "asha"}, index="by-owner", size=1)) == made
    assert list(in_order.query({"pk": "none"})) == []


def test_no_page_is_asked_for_before_it_is_needed_nor_more_than_were_allowed(
    in_order: Table,
) -> None:
    made = filled(in_order)
    with calls.recorded() as asked:
        rows = in_order.query({"pk": "a"}, size=2)
        assert not asked
        assert [next(rows), next(rows)] == made[:2] and len(asked) == 1
        assert next(rows) == made[2] and len(asked) == 2
        assert list(in_order.query({"pk": "a"}, size=2, pages=1)) == made[:2]
        assert len(asked) == 3


def test_pages_follow_one_another_by_their_cursors(in_order: Table) -> None:
    made = filled(in_order)
    seen: list[Item] = []
    cursor = None
    for size in (2, 2, 1):
        with calls.recorded() as asked:
            page, cursor = in_order.page("by-owner", {"owner": "asha"}, cursor=cursor, limit=2)
        assert len(asked) == 1
        assert (len(page), cursor is None) == (size, size == 1)
        seen += page
    assert seen == made[::-1]
    with pytest.raises(BadCursorError):
        in_order.page("by-owner", {"owner": "asha"}, cursor="x", limit=2)


def test_a_scan_finds_every_row_of_which_something_holds(in_order: Table) -> None:
    made = filled(in_order)
    with calls.recorded() as asked:
        found = list(in_order.scan({"owner": PRESENT, "position": MoreThan(0)}))
    assert sorted(row["position"] for row in found) == [row["position"] for row in made[1:]]
    assert [call.operation for call in asked] == ["Scan"]


# Others in the way.


def test_a_transaction_is_all_or_nothing_and_shows_what_did_not_hold(table: Table) -> None:
    table.put(SEAT)
    with pytest.raises(ConditionFailedError) as failed:
        table.transact(
            [
                table.put_request({"pk": "hold#1"}, when=ABSENT),
                table.update_request("seat#1", add={"free": -3}, when={"free": AtLeast(3)}),
                table.check_request("seat#2", when=PRESENT),
            ]
        )
    assert failed.value.rows == {1: SEAT, 2: None}
    assert table.get("hold#1") is None


@pytest.mark.parametrize(
    "reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"]
)
def test_a_transaction_that_meets_another_is_made_again_until_it_is_said_that_it_failed(
    table: Table, naps: list[float], reason: str
) -> None:
    write = [table.put_request(SEAT, when=ABSENT)]
    met = calls.cancelled(reason)
    with calls.answered(met, "TransactWriteItems", times=MAX_TRIES) as hit:
        with pytest.raises(
            ContentionError, match=f"conflict or throttling, {MAX_TRIES} times in a row"
        ):
            table.transact(write)
        assert (len(hit), len(naps)) == (MAX_TRIES, MAX_TRIES - 1)
        assert table.get("seat#1") is None
    with calls.answered(met, "TransactWriteItems", times=MAX_TRIES - 1):
        table.transact(write)
    assert table.get("seat#1") == SEAT


def test_what_dynamodb_never_takes_is_not_tried_again(table: Table, naps: list[float]) -> None:
    with (
        calls.answered(calls.cancelled("ValidationError"), "TransactWriteItems") as hit,
        pytest.raises(InvalidItemError),
    ):
        table.transact([table.put_request(SEAT)])
    assert (len(hit), naps) == (1, [])


def test_a_transaction_that_is_cancelled_for_another_reason_may_work_later(table: Table) -> None:
    other = calls.cancelled("ItemCollectionSizeLimitExceeded")
    with (
        calls.answered(other, "TransactWriteItems") as hit,
        pytest.raises(TransientError, match="ItemCollectionSizeLimitExceeded"),
    ):
        table.transact([table.put_request(SEAT)])
    assert len(hit) == 1


@pytest.mark.parametrize("name", [*calls.THROTTLES, *calls.CONFLICT])
def test_a_call_that_may_have_taken_effect_is_its_callers_to_make_again(
    table: Table, naps: list[float], name: str
) -> None:
    answer = {**calls.THROTTLES, **calls.CONFLICT}[name]
    deeds: dict[str, Callable[[], Any]] = {
        "GetItem": lambda: table.get("seat#1"),
        "PutItem": lambda: table.put(SEAT),
        "UpdateItem": lambda: table.update("seat#1", set={"free": 1}),
        "TransactWriteItems": lambda: table.transact([table.put_request(SEAT)]),
    }
    for operation, deed in deeds.items():
        with calls.answered(answer, operation) as hit, pytest.raises(ClientError, match=name):
            deed()
        assert len(hit) == 1
    assert not naps


def test_rows_that_were_left_unread_are_asked_for_again_after_a_pause(
    table: Table, naps: list[float]
) -> None:
    table.put(SEAT)
    with calls.unread(3) as hit:
        assert table.get_many(["seat#1", "none"]) == [SEAT, None]
    assert (len(hit), len(naps)) == (3, 3)
    naps.clear()
    with (
        calls.unread(MAX_TRIES) as hit,
        pytest.raises(ContentionError, match="2 rows of things could"),
    ):
        table.get_many(["seat#1", "none"])
    assert (len(hit), len(naps)) == (MAX_TRIES, MAX_TRIES - 1)


def test_rows_too_large_for_one_answer_are_asked_for_without_a_pause(
    table: Table, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"seat#{number}" for number in range(MAX_TRIES + 5)]
    for key in keys:
        table.put({"pk": key})
    whole: Any = table.dynamodb.batch_get_item

    def one_at_a_time(RequestItems: Any) -> Any:
        ((name, asked),) = RequestItems.items()
        first, *rest = asked["Keys"]
        got = whole(RequestItems={name: {**asked, "Keys": [first]}})
        return got | {"UnprocessedKeys": {name: {**asked, "Keys": rest}} if rest else {}}

    monkeypatch.setattr(table.dynamodb, "batch_get_item", one_at_a_time)
    assert table.get_many(keys) == [{"pk": key} for key in keys]
    assert not naps


def test_what_others_have_changed_is_read_and_decided_again(table: Table) -> None:
    table.put({"pk": "seat#1", "version": 1})

    def attempt() -> Item:
        version = (table.get("seat#1") or {})["version"]
        return table.update("seat#1", set={"version": version + 1}, when={"version": version})

    with calls.before(lambda: table.put({"pk": "seat#1", "version": 7}), "UpdateItem"):
        assert table.retry(attempt, what="seat 1")["version"] == 8


def test_what_others_always_change_is_said_to_be_contention(
    table: Table, naps: list[float]
) -> None:
    tried = []

    def attempt() -> None:
        tried.append(1)
        raise ConditionFailedError({0: None})

    text = f"seat 1: a row has changed since it was read, {MAX_TRIES} times in a row"
    with pytest.raises(ContentionError, match=text):
        table.retry(attempt, what="seat 1")
    assert (len(tried), len(naps)) == (MAX_TRIES, MAX_TRIES - 1)


def test_neither_contention_within_an_attempt_nor_any_other_error_is_tried_again(
    table: Table,
) -> None:
    for problem in (ContentionError("within"), ValueError("other")):

        def attempt(problem: Exception = problem) -> None:
            raise problem

        with pytest.raises(type(problem), match=str(problem)):
            table.retry(attempt, what="seat 1")


def test_pauses_have_full_jitter_and_grow_to_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "recourse.store.contention.random.uniform", lambda least, most: (least, most)
    )
    naps: list[Any] = []
    assert list(Backoff(tries=9, sleep=naps.append)) == list(range(1, 10))
    assert naps == [
        (0, 0.02),
        (0, 0.04),
        (0, 0.08),
        (0, 0.16),
        (0, 0.32),
        (0, 0.64),
        (0, 1),
        (0, 1),
    ]


def test_no_pause_goes_beyond_the_time_that_there_is() -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    patient = Backoff(tries=None, until=110, sleep=sleep, clock=lambda: now)
    assert len(list(patient)) > 10
    assert 108 < now <= 110
    assert list(Backoff(until=0)) == [1], "there is always one try"


def test_a_conflict_that_a_caller_has_found_is_tried_again(table: Table) -> None:
    answers = iter([ConflictError("busy"), None])

    def attempt() -> str:
        if problem := next(answers):
            raise problem
        return "done"

    assert table.retry(attempt, what="seat 1") == "done"
