"""One person's data are erased everywhere, sums still add up, and nothing begins again."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recourse.erasure.erase import Erasure
from recourse.erasure.report import Change, NotAtRestError, Report
from recourse.ledger.ledger import ErasedError
from recourse.ledger.record import ERASED, Record
from recourse.store.table import Table
from recourse.testing import checks
from recourse.testing.ground import LEDGER
from services.holdings import HOLDINGS
from statemachines import SAGAS
from tests import sagas as invariants
from tests.integration.erasing import (
    MARK,
    NOTIFIER,
    OTHER,
    PERSON,
    WEBHOOKS,
    Deployment,
    deployed,
    live,
    planted,
)
from tests.integration.lending import DOCUMENTS

TRIP, VISIT = SAGAS["travel-booking"], SAGAS["visit"]


class Killed(BaseException):
    """The process of the command dies."""


@pytest.fixture
def made() -> Iterator[Deployment]:
    with deployed() as found:
        yield found


def amounts(made: Deployment) -> Counter[tuple[str, str, str]]:
    """What payments sum to, by owner, currency and status."""
    found: Counter[tuple[str, str, str]] = Counter()
    for service in ("payments", "cards"):
        for row in made.ground.rows(service, "payment#"):
            amount = row["amount"]
            found[row["owner"], amount["currency"], row["status"]] += amount["amount"]
    return found


def must_add_up(made: Deployment) -> None:
    for name, invariant in vars(invariants).items():
        if name.startswith("invariant_"):
            invariant(made.ground)
    for kind, holding in HOLDINGS.items():
        for row in made.ground.rows(holding.service, f"{holding.noun}#"):
            shown = holding.show(row)
            if "total" in shown:
                parts = shown["available"] + shown["held"] + shown["confirmed"]
                assert shown["total"] == parts, (kind, shown)
    posted: Counter[str] = Counter()
    for movement in made.ground.rows("payments", "movement#"):
        posted.update(movement["postings"])
    for row in made.ground.rows("payments", "account#"):
        assert posted[f"{row['id']}:available"] == row["available"], row
        assert posted[f"{row['id']}:held"] == row["held"], row


def test_everything_of_a_person_goes_and_all_of_others_stays(
    made: Deployment,
) -> None:
    others = live(made, OTHER, "other-")
    mine = live(made, PERSON, MARK)
    told = {saga: records(made)[saga].entered for saga in mine}
    all_mine = [saga for saga, record in records(made).items() if record.owner == PERSON]
    before, objects, mails = made.rows(), made.objects(), len(made.mails)
    assert made.traces() and made.parts()
    sums, numbers = amounts(made), checks.figures(made.ground.business_rows(), frozenset())

    dry = made.erasure.run(PERSON)
    assert made.rows() == before and made.objects() == objects, "a dry run changes nothing"
    report = made.erasure.run(PERSON, dry_run=False)
    assert dry.counts == report.counts, "a dry run says what is done"
    assert MARK not in str(report.to_json())

    assert made.traces() == []
    assert [one for one in made.parts() if "other" not in str(one)] == made.parts()[:1]
    after = made.rows()
    for where, row in before.items():
        if MARK not in repr(row) and not any(saga in repr(row) for saga in all_mine):
            assert after[where] == row, "what is not the person's is as it was"
    kept = {where: body for where, body in objects.items() if where[0] == DOCUMENTS}
    assert kept and kept.items() <= made.objects().items(), "invoices are kept by law"
    assert not [row for row in made.ground.rows(LEDGER, "erasure#")]

    assert report.pseudonym is not None
    renamed = {report.pseudonym if who == PERSON else who: who for who, _, _ in sums}
    assert {(renamed[who], c, s): n for (who, c, s), n in amounts(made).items()} == sums
    assert checks.figures(made.ground.business_rows(), frozenset()) == numbers
    must_add_up(made)

    for saga in (*mine, *others):
        view = made.ground.view(saga)
        assert list(checks.of_saga(made.ground, SAGAS[view["saga"]], saga)) == []
    assert made.ground.sweep() == {}
    for saga, events in told.items():
        made.ground.ledger.record_events(saga, events)
        if made.ground.view(saga)["coordination"] == "orchestration":
            assert made.ground.hear_of_end(saga) == {}
    made.settle()
    assert made.traces() == [] and len(made.mails) == mails, "nothing is mailed to nobody"

    again = made.erasure.run(PERSON, dry_run=False)
    assert again.counts == Counter() and made.rows().items() >= after.items(), (
        "once more changes nothing"
    )


def test_what_a_consumer_keeps_stays_and_its_other_text_goes(made: Deployment) -> None:
    saga = made.start(TRIP, 1, PERSON)
    row = {"pk": f"complaint#{saga}", "airline": f"{MARK}AI", "said": f"{MARK}late", "times": 2}
    table = Table(made.ground.dynamodb, NOTIFIER)
    table.put(row)
    keeps = {"notifier": {"airline": "complaints are counted by it"}}
    places = replace(made.places, keeps=keeps)
    erasure = Erasure(made.ground.dynamodb, made.valet.s3, places, made.ground.sagas.values())
    report = erasure.run(PERSON, dry_run=False)
    assert table.get(row["pk"]) == row | {"said": ERASED}
    assert report.to_json()["keeps"].items() >= keeps.items()


def test_the_api_has_nothing_of_the_person_and_the_same_key_starts_nothing(
    made: Deployment,
) -> None:
    mine = live(made, PERSON, MARK)
    made.erasure.run(PERSON, dry_run=False)
    before = made.rows()
    for path in ("/sagas", "/valet-keys"):
        assert made.call("GET", path).json["items"] == []
    for saga in mine:
        for part in ("", "/events", "/declaration"):
            assert made.call("GET", f"/sagas/{saga}{part}").status == 404
        seen = made.call("GET", f"/sagas/{saga}", subject="olga", scope="operator")
        assert seen.status == 200 and MARK not in seen.text
    assert made.call("GET", "/sagas?business_key=zq-key-1").json["items"] == []
    assert made.feeding.feed.read(PERSON, None) == []
    for key, (saga, body) in made.bodies.items():
        answer = made.call("POST", f"/sagas/{saga}", body, idempotency_key=key)
        assert answer.status == 410, answer
        assert answer.json["type"] == "urn:recourse:problem:saga-erased"
    made.settle()
    # That they have just called is counted until the minute ends, as anybody's starts are.
    counted = {key for key in made.rows() if key[1].startswith(f"slots#starts#{PERSON}/")}
    assert {key: row for key, row in made.rows().items() if key not in counted} == before


def test_the_person_may_begin_anew(made: Deployment) -> None:
    live(made, PERSON, MARK, sagas=False)
    made.start(TRIP, 1, PERSON)
    made.erasure.run(PERSON, dry_run=False)
    started = made.start(TRIP, 2, PERSON)
    assert made.ground.view(started)["status"] == "SUCCEEDED"
    listed = made.call("GET", "/sagas").json["items"]
    assert [one["saga_id"] for one in listed] == [started]
    told = [entry.event.kind for entry in made.feeding.feed.read(PERSON, None)]
    assert (told[0], told[-1]) == ("started", "succeeded")


@pytest.mark.parametrize("fault", [{"payment.undo": "error", "capture": "reject"}, {}])
def test_a_saga_that_is_not_at_rest_is_refused_and_nothing_is_changed(
    made: Deployment, fault: Mapping[str, str]
) -> None:
    saga = made.ground.start(
        TRIP.name, planted(TRIP, 1), key="k", owner=PERSON, faults=fault, run=bool(fault)
    )
    made.settle()
    status = made.ground.view(saga)["status"]
    assert status == ("COMPENSATION_FAILED" if fault else "RUNNING")
    before = made.rows()
    assert made.erasure.run(PERSON).not_at_rest == {saga: status}
    with pytest.raises(NotAtRestError, match=f"{saga} {status}.*cancel or resolve"):
        made.erasure.run(PERSON, dry_run=False)
    assert made.rows() == before
    if fault:
        made.ground.resolve(saga, "payment", skip=True)
        made.settle()
        made.erasure.run(PERSON, dry_run=False)
        assert made.traces() == [] and made.ground.view(saga)["status"] == "COMPENSATED"


def test_a_hold_that_becomes_a_booking_after_it_is_counted_as_ever(made: Deployment) -> None:
    saga = made.ground.start(TRIP.name, planted(TRIP, 1), key="k", owner=PERSON)
    made.ground.settle(without="flights-confirm")
    assert made.ground.view(saga)["status"] == "SUCCEEDED"
    made.erasure.run(PERSON, dry_run=False)
    made.settle()
    (booking,) = made.ground.rows("flights", "booking#")
    assert booking["status"] == "CONFIRMED"
    must_add_up(made)


def test_what_is_delivered_again_is_answered_as_before_and_has_no_effect(
    made: Deployment,
) -> None:
    """Every message of a choreography comes once more after it, with what was carried then."""
    for number, fault in enumerate(({}, {"capture": "reject"})):
        saga = made.ground.start(
            TRIP.name,
            planted(TRIP, number),
            key=f"k{number}",
            owner=PERSON,
            coordination="choreography",
            faults=fault,
        )
        kept = list(made.ground.rows("flights", "outbox#") + made.ground.rows(LEDGER, "outbox#"))
        made.settle()
        kept += [one for name in made.ground.services for one in made.ground.rows(name, "outbox#")]
        made.erasure.run(PERSON, dry_run=False)
        before = made.ground.business_rows()
        for row in kept:
            made.ground.sns.publish(TopicArn=made.ground.topic, **_message(row["event"]))
        made.settle()
        assert made.ground.business_rows() == before
        assert list(checks.of_saga(made.ground, TRIP, saga)) == []
        shown = str(made.call("GET", f"/sagas/{saga}", subject="olga", scope="operator").json)
        assert MARK not in shown


def _message(text: str) -> dict[str, Any]:
    from recourse.events import Event

    event = Event.parse(text)
    return {
        "Message": text,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value}
            for name, value in event.attributes().items()
        },
    }


def test_what_the_person_did_as_an_operator_does_not_name_them(made: Deployment) -> None:
    faults = {"payment.undo": "error", "capture": "reject"}
    saga = made.start(TRIP, 1, OTHER, faults=faults)
    opened = made.ground.ledger.resolve(saga, "payment", skip=True, reason="a test", by=PERSON)
    made.ground.runs.start(opened)
    made.settle()
    view = made.ground.view(saga)
    report = made.erasure.run(PERSON, dry_run=False)
    (decision,) = records(made)[saga].resolutions
    assert decision["by"] == report.pseudonym and decision["reason"] == "a test"
    assert made.ground.view(saga) == view and made.traces() == []


def insured_by(made: Deployment, insurer: str) -> None:
    """The policy of the sample of a visit has its insurer asked."""
    body = {"covers": {"percent": 75}, "decision": "manual", "insurer": insurer}
    made.ground.put("policies", "gold-plus", body)


def visits(made: Deployment) -> list[str]:
    """Visits of another's, of which the person has approved, rejected and not decided some."""
    insured_by(made, PERSON)
    found = []
    for number, (coordination, decides) in enumerate(
        itertools.product(("orchestration", "choreography"), (True, False, None))
    ):
        saga = made.start(VISIT, number, OTHER, coordination=coordination)
        if decides is None:
            assert made.ground.cancel(saga)
        else:
            made.ground.decide(saga, "claim", approved=decides, reason="a test", by=PERSON)
        made.settle()
        found.append(saga)
    return found


def test_what_the_person_decided_about_others_does_not_name_them(made: Deployment) -> None:
    sagas = visits(made)
    insured_by(made, "another")
    theirs = made.start(VISIT, 9, OTHER)  # waits for another's decision, and is left as it is
    before, views = made.rows(), {saga: made.ground.view(saga) for saga in (*sagas, theirs)}
    told = {saga: records(made)[saga].entered for saga in sagas}
    assert {views[saga]["status"] for saga in sagas} == {"SUCCEEDED", "COMPENSATED"}
    assert len(made.traces()) > 4 * len(sagas), "rows of the claims, the ledger and the feeds"

    dry = made.erasure.run(PERSON)
    assert made.rows() == before, "a dry run changes nothing"
    report = made.erasure.run(PERSON, dry_run=False)
    assert dry.counts == report.counts and report.sagas == 0
    assert report.counts["ledger", "decision on another's saga", ERASED, ""] == len(sagas)
    assert made.traces() == []
    assert {saga: made.ground.view(saga) for saga in views} == views
    decided = [one.answer for saga in sagas for one in records(made)[saga].entered if one.answer]
    assert {(one["by"], one["reason"]) for one in decided} == {(report.pseudonym, "a test")}
    assert len(decided) == 4
    after = made.rows()
    for where, row in before.items():
        if MARK not in repr(row):
            assert after[where] == row, "what does not name the person is as it was"
        elif where in after and row.get("owner") != PERSON:
            said = {**row, "version": 0}, {**after[where], "version": 0}
            assert repr(said[0]).replace(PERSON, str(report.pseudonym)) == repr(said[1])
    must_add_up(made)
    for saga, events in told.items():  # what comes again finds the markers it knows
        made.ground.ledger.record_events(saga, events)
    made.settle()
    assert made.ground.sweep() == {} and made.traces() == []
    assert {saga: made.ground.view(saga) for saga in views} == views
    again = made.erasure.run(PERSON, dry_run=False)
    assert again.counts == Counter(), "once more changes nothing"


def test_what_the_person_is_still_asked_is_to_be_decided_first(made: Deployment) -> None:
    insured_by(made, PERSON)
    saga = made.start(VISIT, 1, OTHER)
    before = made.rows()
    assert made.erasure.run(PERSON).not_at_rest == {saga: "RUNNING"}
    with pytest.raises(NotAtRestError, match=f"{saga} RUNNING"):
        made.erasure.run(PERSON, dry_run=False)
    assert made.rows() == before
    made.ground.decide(saga, "claim", approved=True, by=PERSON)
    made.settle()
    insured_by(made, "another")
    made.erasure.run(PERSON, dry_run=False)
    assert made.traces() == []


@pytest.mark.parametrize("kill", [1, 4, 9, 14])
def test_an_erasure_of_who_decided_may_be_stopped_and_goes_on(made: Deployment, kill: int) -> None:
    sagas = visits(made)
    insured_by(made, "another")
    stopped(made, kill, after=True)
    assert made.traces()
    made.erasure.run(PERSON, dry_run=False)
    assert made.traces() == []
    answers = [one.answer for saga in sagas for one in records(made)[saga].entered if one.answer]
    assert len({one["by"] for one in answers}) == 1, "under one pseudonym"


def test_what_reversed_a_saga_is_erased_with_it_and_names_nobody_who_asked(
    made: Deployment,
) -> None:
    others, mine = made.start(TRIP, 1, OTHER), made.start(TRIP, 2, PERSON)
    kept = made.start(TRIP, 3, PERSON)
    asked = made.ground.reverse(others, reason="theirs", by=PERSON)
    back = made.ground.reverse(mine, reason=f"{MARK}ill", by=OTHER)
    made.settle()
    report = made.erasure.run(PERSON, dry_run=False)
    found = records(made)
    assert found[asked].reverses == {
        "saga_id": others,
        "reason": "theirs",
        "by": report.pseudonym,
    }
    assert found[back].reverses == {"saga_id": mine, "reason": ERASED, "by": OTHER}
    assert found[back].is_erased and found[mine].reversed_by == back
    assert made.traces() == []
    must_add_up(made)
    with pytest.raises(ErasedError):
        made.ground.reverse(kept)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kills=st.lists(st.integers(1, 60), max_size=6), after=st.booleans())
def test_it_may_be_stopped_anywhere_and_goes_on(kills: list[int], after: bool) -> None:
    with deployed() as made:
        live(made, PERSON, MARK, sagas=False)
        mine = [made.start(TRIP, 1, PERSON), made.start(SAGAS["order"], 2, PERSON)]
        numbers = checks.figures(made.ground.business_rows(), frozenset())
        for kill in kills:
            stopped(made, kill, after=after)
        report = made.erasure.run(PERSON, dry_run=False)
        assert made.traces() == [] and MARK not in str(made.parts())
        assert {records(made)[saga].owner for saga in mine} <= _pseudonyms(made)
        assert len(_pseudonyms(made)) <= 1 or report.sagas == 0
        assert checks.figures(made.ground.business_rows(), frozenset()) == numbers
        assert not made.ground.rows(LEDGER, "erasure#")


def stopped(made: Deployment, at: int, *, after: bool) -> Report | None:
    """An erasure whose process dies at a change, or after it was made."""
    dead = at + 1 if after else at

    def progress(change: Change, number: int) -> None:
        if number == dead:
            raise Killed

    try:
        return made.erasure.run(PERSON, dry_run=False, progress=progress)
    except Killed:
        return None


def _pseudonyms(made: Deployment) -> set[str]:
    return {
        row["owner"]
        for row in made.rows().values()
        if str(row.get("owner", "")).startswith(f"{ERASED}-")
    }


def records(made: Deployment) -> dict[str, Record]:
    """Every saga of the ledger."""
    rows = [row for row in made.ground.rows(LEDGER, "") if "saga" in row]
    return {row["pk"]: Record.from_row(row) for row in rows}


def test_webhooks_are_counted_anew(made: Deployment) -> None:
    live(made, PERSON, MARK, sagas=False)
    made.erasure.run(PERSON, dry_run=False)
    assert made.ground.rows(WEBHOOKS, "") == []
