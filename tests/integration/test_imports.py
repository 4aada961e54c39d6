"""Imports: a saga for each row of a file, each once, and the bad rows by line and field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import EndpointConnectionError

from recourse.errors import ContentionError, NoVersionError, TransientError
from recourse.functions import import_starts, kit
from recourse.imports import runs
from recourse.imports.check import BATCH, Checker
from recourse.imports.finish import UNNOTED
from recourse.imports.machine import LONGEST_WAIT
from recourse.imports.start import Starter
from recourse.ledger.record import Record
from recourse.ledger.shapes import UnknownShapeError
from recourse.orchestration.executions import Runs
from recourse.store.contention import ConditionFailedError
from tests.ground import Ground, ground
from tests.integration import importing
from tests.integration.calling import Caller
from tests.integration.importing import OWNER, begin, imported, result, upload
from tests.integration.test_api import fields, problem, standing
from tests.integration.trips import TRIP, stock

owner = Caller("asha", OWNER)
HEADER = (
    "trip_id,traveller.name,traveller.email,flight.id,flight.seats,"
    "hotel.id,hotel.rooms,hotel.nights,payment.account_id"
)


def trip(number: int | str, seats: int | str = 1) -> str:
    return f"i-{number},Asha Rao,asha@example.com,AI-202,{seats},taj-delhi,1,3,acct-asha"


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows, ""])


@pytest.fixture
def place() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


def test_each_row_is_a_saga(place: Ground) -> None:
    found = imported("trips.csv", csv(*(trip(number) for number in range(1, 4))))
    assert found["status"] == "COMPLETED", found
    assert (found["rows"], found["bad"], found["started"]) == (3, 0, 3)
    lines = result(found)
    assert [(one["line"], one["outcome"]) for one in lines] == [
        (2, "started"),
        (3, "started"),
        (4, "started"),
    ]
    place.settle()
    views = [place.view(one["saga_id"]) for one in lines]
    assert [one["business_key"] for one in views] == ["i-1", "i-2", "i-3"]
    assert {one["status"] for one in views} == {"SUCCEEDED"}


def test_bad_rows_are_named_and_the_good_ones_run(place: Ground) -> None:
    found = imported("trips.csv", csv(trip(1), trip(2, "two"), trip(3), trip(1)))
    assert (found["started"], found["bad"]) == (2, 2), found
    assert found["problems"] == [
        {"line": 3, "field": "flight.seats", "why": "Input should be a valid integer"},
        {"line": 5, "field": "trip_id", "why": "is that of line 2 already"},
    ]


def test_the_same_file_twice_starts_nothing_twice(place: Ground) -> None:
    text = csv(trip(1), trip(2))
    first = imported("trips.csv", text)
    again = begin("trips.csv").json
    assert again["import_id"] == first["import_id"]
    other = imported("copy.csv", text, key="i-2")
    assert (other["started"], other["already_there"]) == (0, 2), other
    assert {one["outcome"] for one in result(other)} == {"already_there"}
    assert len(place.rows("ledger", "")) > 0


def test_what_is_uploaded_later_under_the_same_name_is_another_file(place: Ground) -> None:
    imported("trips.csv", csv(trip(1)))
    other = imported("trips.csv", csv(trip(1), trip(2)), key="i-2")
    # A file with one row more is another file: all of its rows are new.
    assert (other["started"], other["already_there"]) == (2, 0), other


def test_json_lines_start_choreographies(place: Ground) -> None:
    text = "".join(json.dumps(TRIP | {"trip_id": f"j-{n}"}) + "\n" for n in range(100))
    kind = "application/x-ndjson"
    found = imported("trips.jsonl", text, kind=kind, coordination="choreography", concurrency=2)
    assert (found["status"], found["started"]) == ("COMPLETED", 100), found
    views = [place.view(one["saga_id"]) for one in result(found)]
    assert {one["coordination"] for one in views} == {"choreography"}


def test_more_bad_rows_than_are_tolerated_stop_it_before_anything_starts(place: Ground) -> None:
    rows = [trip(number, "two" if number < 3 else 1) for number in range(10)]
    found = imported("trips.csv", csv(*rows), tolerated_failures=20)
    assert (found["status"], found["started"]) == ("STOPPED", 0), found
    assert found["why"] == (
        "3 of 10 rows have failed, more than the 20 % that are tolerated: the others are left"
    )
    assert [one["outcome"] for one in result(found)] == ["bad"] * 3 + ["not_reached"] * 7
    resumed = owner("POST", f"{found['links']['self']}/resume", {"tolerated_failures": 30})
    assert (resumed.json["status"], resumed.json["started"]) == ("COMPLETED", 7), resumed
    problem(owner("POST", f"{found['links']['self']}/resume"), 409, "not-resumable")


def test_what_cannot_be_started_is_said_and_tried_again_by_a_resume(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = place.ledger.start

    def busy(record: Record, **more: Any) -> Any:
        if record.business_key in ("i-2", "i-4"):
            raise TransientError("busy")
        return start(record, **more)

    def conflicts(*_: Any) -> Any:
        raise ConditionFailedError({})

    rows = [trip(number) for number in range(1, 6)]
    with monkeypatch.context() as patch:
        patch.setattr(place.ledger, "start", busy)
        patch.setattr(place.ledger, "start_all", conflicts)
        found = imported("trips.csv", csv(*rows))
    assert (found["status"], found["started"], found["not_started"]) == ("COMPLETED", 3, 2), found
    failed = [one for one in result(found) if one["outcome"] == "not_started"]
    assert [(one["line"], one["why"]) for one in failed] == [
        (3, "TransientError: busy"),
        (5, "TransientError: busy"),
    ]
    again = owner("POST", found["links"]["resume"]).json
    assert (again["status"], again["started"], again["not_started"]) == ("COMPLETED", 5, 0)
    assert [one["outcome"] for one in result(again)] == ["started"] * 5


def test_more_failures_than_are_tolerated_stop_it_and_what_was_started_stays(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_all = place.ledger.start_all

    def fails_after_the_first(records: list[Record], *noting: Any) -> Any:
        if records[0].business_key != "i-0":
            raise RuntimeError("oops")
        return start_all(records, *noting)

    rows = [trip(number) for number in range(200)]
    with monkeypatch.context() as patch:
        patch.setattr(place.ledger, "start_all", fails_after_the_first)
        found = imported("trips.csv", csv(*rows), tolerated_failures=30, concurrency=1)
    assert (found["status"], found["started"]) == ("STOPPED", BATCH), found
    outcomes = Counter(one["outcome"] for one in result(found))
    assert outcomes == {"started": BATCH, "not_started": 2 * BATCH, "not_reached": 200 - 3 * BATCH}
    again = owner("POST", found["links"]["resume"]).json
    assert (again["status"], again["started"], again["not_started"]) == ("COMPLETED", 200, 0)
    assert len(place.rows("ledger", "", "")) > 200


def test_a_batch_that_dies_after_its_sagas_are_recorded_is_counted_once(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = kit.imports()
    count = imports.count
    died: list[int] = []

    def dies(*arguments: Any) -> Any:
        if not died:
            died.append(1)
            raise RuntimeError("the process died")
        return count(*arguments)

    monkeypatch.setattr(imports, "count", dies)
    found = imported("trips.csv", csv(trip(1), trip(2)))
    assert died and (found["started"], found["already_there"]) == (2, 0), found
    assert [one["outcome"] for one in result(found)] == ["started"] * 2
    batch = {"number": 0, "rows": []}
    starter = kit.import_starter(lambda *_: None)
    starter.start({"import_id": found["import_id"], "run": 0, "batch": batch})
    assert owner("GET", found["links"]["self"]).json["started"] == 2


def test_a_try_that_dies_while_it_records_row_by_row_is_counted_as_this_imports(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports, start_all = kit.imports(), place.ledger.start_all
    count = imports.count
    died: list[int] = []

    def dies(*arguments: Any) -> Any:
        if not died:
            died.append(1)
            raise RuntimeError("the process died")
        return count(*arguments)

    conflicts = mock.Mock(side_effect=ConditionFailedError({}))
    monkeypatch.setattr(place.ledger, "start_all", conflicts)
    monkeypatch.setattr(imports, "count", dies)
    found = imported("trips.csv", csv(trip(1), trip(2)))
    assert died and (found["started"], found["already_there"]) == (2, 0), found
    assert [one["outcome"] for one in result(found)] == ["started"] * 2
    monkeypatch.setattr(place.ledger, "start_all", start_all)
    other = imported("copy.csv", csv(trip(1), trip(2)), key="i-2")
    assert (other["started"], other["already_there"]) == (0, 2), other


@pytest.mark.parametrize("coordination", ["orchestration", "choreography"])
def test_no_more_of_them_begin_than_there_is_room_for(
    place: Ground, monkeypatch: pytest.MonkeyPatch, coordination: str
) -> None:
    monkeypatch.setenv("OWNER_LIMITS", "imported=2")
    rows = [trip(number) for number in range(1, 6)]
    found = imported("trips.csv", csv(*rows), coordination=coordination)
    assert (found["status"], found["started"]) == ("COMPLETED", 5), found
    ids = [one["saga_id"] for one in result(found)]
    task = {
        "import_id": found["import_id"],
        "run": 0,
        "phase": "begin",
        "batch": {"number": 0, "rows": [{"line": line} for line in range(2, 7)]},
    }

    def again(seconds: int) -> int:
        waits = task | {"waits": {"seconds": seconds}}
        after: int = import_starts.handler(waits, importing.IN_TIME)["seconds"]
        return after

    def begun() -> int:
        return sum(not one.scheduled for one in place.ledger.get_all(ids))

    assert [again(seconds) for seconds in (0, 1, 2, 16)] == [1, 2, 4, LONGEST_WAIT]
    assert begun() == place.ledger.queries.in_flight("asha", 10) == 2
    # Others of its owner, which may be in flight at all times, never keep it out for good.
    assert (again(LONGEST_WAIT), begun()) == (LONGEST_WAIT, 3)
    place.settle()
    assert (again(LONGEST_WAIT), begun()) == (0, 5)
    place.settle()
    assert {place.view(one)["status"] for one in ids} == {"SUCCEEDED"}


def test_the_sweeper_begins_what_an_import_has_not_as_there_is_room(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER_LIMITS", "imported=2")
    rows = [trip(number) for number in range(1, 6)]
    with monkeypatch.context() as patch:
        patch.setattr(Starter, "begin", mock.Mock(side_effect=RuntimeError("the process died")))
        found = imported("trips.csv", csv(*rows))
    assert (found["status"], found["started"]) == ("COMPLETED", 5), found
    ids = [one["saga_id"] for one in result(found)]
    assert place.sweep() == {}, "it is the import's to begin them"
    assert {place.view(one)["status"] for one in ids} == {"RUNNING"}
    rounds = []
    for _ in range(3):
        place.clock.sleep(3600 + 1)
        rounds.append(place.sweep())
        place.settle()
    why = f"begun, for the import {found['import_id']} has not begun it"
    assert [len(one) for one in rounds] == [2, 2, 1], rounds
    assert {said for one in rounds for said in one.values()} == {why}
    # Hours have passed since they were recorded: their deadlines run from when they begin.
    assert {place.view(one)["status"] for one in ids} == {"SUCCEEDED"}


def test_one_that_is_cancelled_before_it_begins_has_no_effect_and_holds_up_no_other(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_all = place.ledger.begin_all

    def cancelled_meanwhile(records: list[Record], **at: Any) -> Any:
        answer = owner("POST", f"/sagas/{records[1].saga_id}/cancel")
        assert answer.status == 202, answer.text
        return begin_all(records, **at)

    with monkeypatch.context() as patch:
        patch.setattr(place.ledger, "begin_all", cancelled_meanwhile)
        found = imported("trips.csv", csv(trip(1), trip(2), trip(3)))
    place.settle()
    views = [place.view(one["saga_id"]) for one in result(found)]
    assert [one["status"] for one in views] == ["SUCCEEDED", "COMPENSATED", "SUCCEEDED"]
    assert views[1]["reason"]["error"] == "StepCancelledError"
    assert not {one["status"] for one in views[1]["steps"]} & {"DONE", "UNDONE"}, views[1]


def test_one_that_cannot_begin_is_left_to_the_sweeper_and_holds_up_no_other(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_one = place.ledger.begin
    left: list[tuple[str, str]] = []

    def fails(saga_id: str, **at: Any) -> Record:
        if place.view(saga_id)["business_key"] == "i-2":
            raise UnknownShapeError("it is gone")
        return begin_one(saga_id, **at)

    def note(record: Record, problem: BaseException) -> None:
        left.append((record.business_key, str(problem)))

    with monkeypatch.context() as patch:
        patch.setattr(place.ledger, "begin_all", mock.Mock(side_effect=ConditionFailedError({})))
        patch.setattr(place.ledger, "begin", fails)
        patch.setattr(import_starts, "left_to_sweeper", note)
        found = imported("trips.csv", csv(trip(1), trip(2), trip(3)))
    assert left == [("i-2", "it is gone")]
    place.settle()
    views = [place.view(one["saga_id"]) for one in result(found)]
    assert [one["status"] for one in views] == ["SUCCEEDED", "RUNNING", "SUCCEEDED"]
    place.clock.sleep(3601)
    assert [*place.sweep()] == [views[1]["saga_id"]]


def test_those_that_are_busy_begin_with_the_next_look(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for name in ("begin_all", "begin"):
            patch.setattr(place.ledger, name, mock.Mock(side_effect=ContentionError("busy")))
        found = imported("trips.csv", csv(trip(1), trip(2)))
        starter = kit.import_starter(lambda *_: None)
        batch = {"number": 0, "rows": [{"line": 2}, {"line": 3}]}
        task = {"import_id": found["import_id"], "run": 0, "batch": batch}
        assert starter.begin(task, lasts=100) == (0, 2)
    assert starter.begin(task, lasts=100) == (2, 0)


def test_one_that_has_begun_and_not_run_is_run_by_the_next_try(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Starter, "_run", mock.Mock(side_effect=RuntimeError("the process died")))
        found = imported("trips.csv", csv(trip(1)))
    starter = kit.import_starter(lambda *_: None)
    batch = {"number": 0, "rows": [{"line": 2}]}
    task = {"import_id": found["import_id"], "run": 0, "batch": batch}
    assert starter.begin(task, lasts=100) == (0, 0)
    place.settle()
    assert place.view(result(found)[0]["saga_id"])["status"] == "SUCCEEDED"


def test_a_start_with_the_key_of_a_row_is_its_saga_begun_or_not(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = TRIP | {"trip_id": "j-1"}
    monkeypatch.setenv("OWNER_LIMITS", "imported=1")
    text = "".join(json.dumps(body | {"trip_id": f"j-{n}"}) + "\n" for n in (0, 1))
    found = imported("trips.jsonl", text, kind="application/x-ndjson")
    saga_id = result(found)[1]["saga_id"]
    assert "begins_at" not in place.view(saga_id)
    for _ in range(2):
        answer = owner(
            "POST", "/sagas/travel-booking", body, Idempotency_Key=f"import-{found['sha256']}-2"
        )
        assert (answer.status, answer.json["saga_id"]) == (202, saga_id), answer.text
        place.settle()
        monkeypatch.delenv("OWNER_LIMITS", raising=False)
        place.clock.sleep(3601)
        place.sweep()


def test_the_machine_of_a_release_before_has_one_phase(place: Ground) -> None:
    found = imported("trips.csv", csv(trip(1)))
    task = {"import_id": found["import_id"], "run": 0, "batch": {"number": 0, "rows": []}}
    assert import_starts.handler(task, importing.IN_TIME) == {}


def test_runs_that_are_refused_fail_nothing_and_the_sweeper_starts_them(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Runs.start

    def refuse(runs: Runs, record: Record) -> None:
        if record.business_key == "i-1":
            raise TransientError("throttled")
        if record.business_key == "i-2":
            raise NoVersionError("it was deleted")
        start(runs, record)

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "start", refuse)
        found = imported("trips.csv", csv(*(trip(number) for number in range(1, 4))))
    assert (found["status"], found["started"], found["not_started"]) == ("COMPLETED", 3, 0), found
    ids = [one["saga_id"] for one in result(found)]
    place.clock.sleep(61)
    swept = place.sweep()
    assert swept == dict.fromkeys(ids[:2], "started run 0, which was recorded but not started")
    place.settle()
    assert {place.view(one)["status"] for one in ids} == {"SUCCEEDED"}


def test_runs_that_hang_hold_up_nothing_and_the_sweeper_starts_them(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Event()
    left: list[tuple[str, str]] = []

    def note(record: Record, problem: BaseException) -> None:
        left.append((record.business_key, str(problem)))

    in_time = SimpleNamespace(get_remaining_time_in_millis=lambda: 10_500)
    rows = [trip(number) for number in range(1, 21)]
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "start", lambda *_: answer.wait())
        patch.setattr(importing, "IN_TIME", in_time)
        patch.setattr(import_starts, "left_to_sweeper", note)
        try:
            found = imported("trips.csv", csv(*rows))
        finally:
            answer.set()
    assert (found["status"], found["started"], found["not_started"]) == ("COMPLETED", 20, 0), found
    assert sorted(left) == sorted((f"i-{n}", "there was no time left") for n in range(1, 21))
    place.clock.sleep(61)
    assert place.sweep().keys() == {one["saga_id"] for one in result(found)}


def test_a_batch_that_cannot_even_be_given_up_fails_no_import(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = kit.imports()
    count, start_all = imports.count, place.ledger.start_all
    # The first batch is recorded and neither counted nor given up; the second is not recorded.
    failures = Counter({0: 6, 1: 3})

    def fails(import_id: str, number: int, *batch: Any) -> Any:
        if failures[number]:
            failures[number] -= 1
            raise RuntimeError("oops")
        return count(import_id, number, *batch)

    def fails_for_the_second(records: list[Record], *noting: Any) -> Any:
        if records[0].business_key == f"i-{BATCH}":
            raise RuntimeError("oops")
        return start_all(records, *noting)

    rows = [trip(number) for number in range(2 * BATCH + 1)]
    with monkeypatch.context() as patch:
        patch.setattr(imports, "count", fails)
        patch.setattr(place.ledger, "start_all", fails_for_the_second)
        found = imported("trips.csv", csv(*rows), tolerated_failures=60)
    assert not failures.total()
    assert found["status"] == "COMPLETED", found
    assert (found["started"], found["not_started"]) == (BATCH + 1, BATCH), found
    failed = {one["why"] for one in result(found) if one["outcome"] == "not_started"}
    assert failed == {UNNOTED}
    again = owner("POST", found["links"]["resume"]).json
    assert (again["status"], again["started"], again["not_started"]) == (
        "COMPLETED",
        2 * BATCH + 1,
        0,
    )


def test_a_row_that_is_busy_for_a_moment_is_started_by_the_same_import(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = place.ledger.start
    busy = [False, True, True]

    def start_soon(record: Record, **more: Any) -> Any:
        if record.business_key == "i-2" and busy.pop():
            raise ContentionError("busy")
        return start(record, **more)

    conflicts = mock.Mock(side_effect=ConditionFailedError({}))
    monkeypatch.setattr(place.ledger, "start", start_soon)
    monkeypatch.setattr(place.ledger, "start_all", conflicts)
    found = imported("trips.csv", csv(trip(1), trip(2), trip(3)))
    assert (found["started"], found["already_there"], found["not_started"]) == (3, 0, 0), found
    assert not busy


def test_what_may_pass_has_the_name_that_the_machine_retries() -> None:
    task = {"import_id": "i" * 32, "run": 0, "batch": {"number": 0, "rows": []}}
    for raised, name in (
        (ContentionError("busy"), "TransientError"),
        (EndpointConnectionError(endpoint_url="dynamodb"), "TransientError"),
        (ValueError("oops"), "ValueError"),
    ):
        starter = mock.Mock(**{"start.side_effect": raised})
        with (
            mock.patch.object(kit, "import_starter", lambda _, made=starter: made),
            pytest.raises(Exception) as caught,
        ):
            import_starts.handler(task, importing.IN_TIME)
        assert type(caught.value).__name__ == name


def test_one_that_has_died_is_seen_by_whoever_looks_and_goes_on(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise RuntimeError("the process died")

    with monkeypatch.context() as patch:
        patch.setattr(Checker, "check", die)
        found = imported("trips.csv", csv(trip(1)))
    assert found["status"] == "CHECKING", found
    assert owner("GET", found["links"]["self"]).json["status"] == "CHECKING"  # it may be slow
    monkeypatch.setattr(runs, "QUIET", 0)
    (seen,) = owner("GET", "/imports").json["items"]
    assert seen["status"] == "INTERRUPTED" and "FAILED" in seen["why"], seen
    again = owner("POST", seen["links"]["resume"]).json
    assert (again["status"], again["started"]) == ("COMPLETED", 1), again


def test_one_that_was_never_run_is_seen_and_goes_on(
    place: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kit.import_runs()

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="states")

    sfn = SimpleNamespace(
        start_execution=refuse,
        describe_execution=made.sfn.describe_execution,
        exceptions=made.sfn.exceptions,
    )
    with monkeypatch.context() as patch:
        patch.setattr(kit, "import_runs", lambda: replace(made, sfn=sfn))  # type: ignore[arg-type]
        found = imported("trips.csv", csv(trip(1)))
    monkeypatch.setattr(runs, "QUIET", 0)
    seen = owner("GET", found["links"]["self"]).json
    assert (seen["status"], seen["why"]) == ("INTERRUPTED", "its run was never started")
    # The same call again does not go on by itself: its owner says so.
    assert begin("trips.csv").json["status"] == "INTERRUPTED"
    assert owner("POST", seen["links"]["resume"]).json["started"] == 1


def test_a_file_of_which_nothing_can_be_read_says_why(place: Ground) -> None:
    found = imported("trips.csv", "no,such\n1,2\n")
    assert found["status"] == "FAILED" and "each must be a field of travel-booking" in found["why"]
    assert found["rows"] is None and "result" not in found["links"]
    assert imported("empty.csv", HEADER, key="i-2")["rows"] == 0


def test_latin_1_is_told_by_its_lines(place: Ground) -> None:
    text = csv(trip(1), trip(2).replace("Asha Rao", "José")).encode("latin-1")
    found = imported("trips.csv", text, kind="application/octet-stream")
    assert found["started"] == 1 and found["problems"][0]["line"] == 3, found


def test_what_cannot_be_imported_is_refused(place: Ground) -> None:
    upload("trips.csv", csv(trip(1)))
    upload("trips.txt", "hello", kind="text/plain")
    problem(begin("none.csv"), 404, "object-not-found")
    problem(begin("trips.csv", who="ravi"), 404, "object-not-found")
    problem(begin("trips.csv", "none"), 404, "not-found")
    problem(begin("../trips.csv"), 422, "bad-object-name")
    assert fields(begin("trips.txt")) == {"object"}
    assert fields(begin("trips.csv", "trip-refund")) == {"saga"}
    assert fields(begin("trips.csv", tolerated_failures=101)) == {"tolerated_failures"}
    assert fields(begin("trips.csv", concurrency=21)) == {"concurrency"}
    no_key = owner("POST", "/imports", {"saga": "travel-booking", "object": "trips.csv"})
    problem(no_key, 400, "idempotency-key-missing")
    body = {"saga": "travel-booking", "object": "trips.csv"}
    reader = Caller("asha", "sagas:read")
    problem(reader("POST", "/imports", body, Idempotency_Key="k"), 403, "forbidden")


def test_an_import_is_its_owners(place: Ground) -> None:
    found = imported("trips.csv", csv(trip(1)))
    path = found["links"]["self"]
    problem(Caller("ravi", OWNER)("GET", path), 404, "not-found")
    problem(Caller("ravi", OWNER)("POST", f"{path}/resume"), 404, "not-found")
    assert Caller("ravi", OWNER)("GET", "/imports").json["items"] == []
    operator = Caller("olga", "operator")
    assert "result" not in operator("GET", path).json["links"]
    problem(owner("GET", "/imports/none"), 404, "not-found")
    problem(begin("trips.csv", concurrency=2), 409, "idempotency-key-reused")
    link = owner("GET", path).json["links"]["result"]
    assert link == found["links"]["result"] and "/v/" in link
