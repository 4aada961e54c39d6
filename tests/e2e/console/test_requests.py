"""What people send by the console: starts, decisions, changes of holdings, and imports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from recourse.cli.api import Api, ApiError
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests.e2e.conftest import Trip
from tests.e2e.console.conftest import Person, Signing, fill_in, listen
from tests.patience import PATIENCE, until

expect.set_options(timeout=PATIENCE * 1000)
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


@pytest.fixture
def own(cloud: LocalCloud) -> Iterator[Trip]:
    """A trip of somebody who does nothing else."""
    with Api(cloud.api_url, cloud.token("sender", EVERY_SCOPE)) as api:
        yield Trip(api).stocked()


def filled(page: Page, trip: Trip) -> None:
    """Fill in the form of a trip, by hand."""
    asked = trip.request
    page.get_by_label("Trip id").fill(asked["trip_id"])
    for group, fields in asked.items():
        if not isinstance(fields, dict):
            continue
        box = page.get_by_role("group", name=group.capitalize(), exact=True)
        if group == "car":
            page.get_by_role("switch", name="Car").check()
        for name, value in fields.items():
            box.get_by_label(name.capitalize().replace("_", " "), exact=True).fill(str(value))


def start(page: Page) -> None:
    page.get_by_role("button", name="Start", exact=True).click()


def started(page: Page) -> str:
    """The saga whose page is shown."""
    page.wait_for_url("**/#/sagas/*")
    return page.url.rpartition("/")[2]


def keys(page: Page) -> list[str | None]:
    """The Idempotency-Keys of what is sent from now on."""
    sent: list[str | None] = []

    def note(request: Request) -> None:
        if request.method == "POST" and "/api/sagas/" in request.url:
            sent.append(request.headers.get("idempotency-key"))

    page.on("request", note)
    return sent


def forgive(person: Person, *what: str) -> None:
    """Forget that Chromium says of an answer that it was one of these."""
    person.said[:] = [one for one in person.said if not any(word in one for word in what)]


def test_a_form_of_the_schema_starts_a_saga_with_its_faults(signed_in: Signing, own: Trip) -> None:
    page = signed_in("sender").at("start")
    page.get_by_role("link", name="travel-booking").click()
    filled(page, own)
    page.get_by_text("Faults").click()
    page.get_by_label("Fault of hotel", exact=True).select_option("reject")
    page.get_by_label("Fault of the undo of flight", exact=True).select_option("error")
    page.get_by_label("Attempts of the undo of flight that meet it").fill("1")
    start(page)
    saga = own.ended(started(page), "COMPENSATED")
    assert saga["business_key"] == own.name
    undone = {step["name"]: step["undo_attempts"] for step in saga["steps"]}
    assert undone["flight"] == 2


def test_what_the_api_refuses_is_said_at_its_field_and_by_its_line(
    signed_in: Signing, own: Trip
) -> None:
    person = signed_in("sender")
    page = person.at("start/travel-booking")
    filled(page, own)
    page.get_by_label("Email").fill("nobody")
    start(page)
    field = page.get_by_label("Email")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("must be an address such as asha@example.com")
    page.get_by_role("button", name="JSON").click()
    page.get_by_text(re.compile(r"line \d+: traveller.email: must be an address")).wait_for()
    text = page.get_by_label("Request")
    text.fill('{"trip_id": "a",\n "flight": [1 2]}')
    page.get_by_text('line 2: a comma or ] is due here, not "2]}"').wait_for()
    text.fill(json.dumps(own.request, indent=1))
    start(page)
    own.ended(started(page), "SUCCEEDED")
    forgive(person, "422")


def test_a_start_without_an_answer_is_tried_again_with_the_same_key(
    signed_in: Signing, own: Trip
) -> None:
    person = signed_in("sender")
    page = person.at("start/travel-booking")
    filled(page, own)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.route("**/api/sagas/travel-booking", lose, times=1)
    sent = keys(page)
    start(page)
    page.get_by_text("It may have been started.").wait_for()
    page.get_by_role("button", name="Try again").click()
    first = started(page)
    page.go_back()
    page.get_by_text("This has been started").wait_for()
    start(page)
    assert started(page) == first
    assert len(set(sent)) == 1
    page.go_back()
    page.get_by_label("Trip id").fill(f"{own.name}-more")
    start(page)
    more = started(page)
    assert more != first
    assert len(set(sent)) == 2
    for one in (first, more):
        own.ended(one, "SUCCEEDED")
    forgive(person, "ERR_")


def test_a_sign_in_that_runs_out_keeps_the_form_and_its_key(signed_in: Signing, own: Trip) -> None:
    person = signed_in("sender")
    page = person.at("start/travel-booking")
    filled(page, own)
    sent = keys(page)
    page.route("**/api/sagas/travel-booking", _fulfil(401, {}), times=1)
    page.route("**/token", _fulfil(400, {"error": "invalid_grant"}), times=1)
    start(page)
    again = page.get_by_role("dialog", name="Your sign-in has run out")
    with page.expect_popup() as opened:
        again.get_by_role("button", name="Sign in again").click()
    fill_in(opened.value, "sender")
    own.ended(started(page), "SUCCEEDED")
    assert len(sent) == 2
    assert len(set(sent)) == 1
    forgive(person, "40")


def test_a_form_outlives_a_reload_and_no_sign_out(signed_in: Signing, own: Trip) -> None:
    page = signed_in("sender").at("start/travel-booking")
    filled(page, own)
    page.reload()
    expect(page.get_by_label("Trip id")).to_have_value(own.name)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    assert page.evaluate("JSON.stringify({...sessionStorage})") == "{}"


def test_text_of_the_description_is_never_markup(signed_in: Signing) -> None:
    page = signed_in("sender").at("imports")

    def spoil(route: Route) -> None:
        answer = route.fetch()
        said = answer.json()
        for schema in said["components"]["schemas"].values():
            schema["description"] = MARKUP
            for one in schema.get("properties", {}).values():
                one |= {"title": MARKUP, "description": MARKUP}
        route.fulfill(response=answer, json=said)

    page.route("**/api/openapi.json", spoil)
    page.reload()
    page.goto(page.url.replace("imports", "start/travel-booking"))
    expect(page.get_by_role("group", name=MARKUP).first).to_be_visible()
    assert page.locator("main img, main b").count() == 0
    assert page.title() != "owned"


def test_after_a_sign_in_the_place_is_shown_that_was_asked_for(
    context: BrowserContext, url: str
) -> None:
    person = Person(context.new_page(), url)
    listen(person)
    page = person.at("imports")
    page.get_by_role("button", name="Sign in").click()
    fill_in(page, "sender")
    page.get_by_role("heading", name="Imports").wait_for()
    assert person.said == []


@pytest.fixture
def claim(own: Trip) -> str:
    """A claim that somebody must decide."""
    price = {"amount": 150_000, "currency": "INR"}
    own.api.call("PUT", own.path("slots"), json={"total": 1, "price": price})
    own.api.call("PUT", own.path("policies"), json={"decision": "manual"})
    asked = {
        "visit_id": own.name,
        "patient": {"name": MARKUP, "email": "asha@example.com"},
        "slot_id": own.name,
        "policy_id": own.name,
        "payment": {"account_id": own.name},
    }
    saga_id = str(own.api.start("visit", asked, key=own.name)["saga_id"])

    def is_open() -> bool:
        try:
            return bool(own.api.get(f"/claims/{saga_id}")["status"] == "open")
        except ApiError:
            return False

    until(is_open, "the claim")
    return saga_id


def test_a_question_is_decided_once_and_who_was_first_is_said(
    signed_in: Signing, own: Trip, claim: str
) -> None:
    person = signed_in("sender")
    page = person.at("decisions")
    shown = page.get_by_role("article", name=claim)
    expect(shown).to_contain_text(MARKUP)
    expect(shown).to_contain_text("₹1,200.00")
    shown.get_by_role("button", name="Reject").click()
    asked = page.get_by_role("dialog", name="Reject")
    asked.get_by_label("Reason").fill("not on this policy")
    own.api.call("POST", f"/claims/{claim}/decision", json={"decision": "approve"})
    asked.get_by_role("button", name="Reject").click()
    page.get_by_text("Closed in this tab (1)").wait_for()
    expect(shown).to_contain_text("yours does not count: sender has approved it")
    own.ended(claim, "SUCCEEDED")
    forgive(person, "409")


def test_a_decision_without_an_answer_is_looked_at_before_another(
    signed_in: Signing, own: Trip, claim: str
) -> None:
    person = signed_in("sender")
    page = person.at(f"decisions/claims/{claim}")
    page.route("**/decision", lambda route: route.abort("connectionreset"), times=1)
    page.get_by_role("button", name="Approve").click()
    asked = page.get_by_role("dialog", name="Approve")
    asked.get_by_role("button", name="Approve").click()
    asked.get_by_text("it is still open: it was not decided").wait_for()
    asked.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("article")).to_contain_text("sender has approved it")
    own.ended(claim, "SUCCEEDED")
    forgive(person, "ERR_")


def test_who_decides_nothing_sees_no_decisions_and_is_told_who_does(signed_in: Signing) -> None:
    page = signed_in("reader", "customer").at("decisions")
    page.get_by_text("Whoever has the scope insurer decides").wait_for()
    assert page.get_by_role("link", name="Decisions").count() == 0


def test_an_account_is_looked_up_created_and_seen_to_change(signed_in: Signing, own: Trip) -> None:
    person = signed_in("sender")
    page = person.at("holdings")
    name = f"made-{own.name}"
    box = page.get_by_role("region", name="accounts")
    box.get_by_label("Id").fill(name)
    box.get_by_role("button", name="Look up").click()
    page.get_by_text(f"There is no {name} among the accounts").wait_for()
    page.get_by_role("button", name="Create it").click()
    page.get_by_label("Currency").fill("inr")
    page.get_by_label("Balance").fill("10000000")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_label("Currency")).to_be_focused()
    page.get_by_label("Currency").fill("INR")
    page.get_by_role("button", name="Create", exact=True).click()
    state = page.get_by_role("group", name="As it is now")
    expect(state).to_contain_text("₹100,000.00 balance")
    asked = own.request | {"payment": {"account_id": name}}
    saga = own.api.start("travel-booking", asked, key=name)
    own.ended(saga["saga_id"], "SUCCEEDED")
    expect(state).to_contain_text("₹99,553.00 balance")
    page.get_by_role("link", name="Holdings").last.click()
    page.get_by_role("link", name=name).wait_for()
    forgive(person, "404", "422")


def test_a_change_made_meanwhile_is_said_before_it_is_replaced(
    signed_in: Signing, own: Trip
) -> None:
    person = signed_in("sender")
    page = person.at(f"holdings/flights/{own.name}")
    page.get_by_role("button", name="Change it").click()
    page.get_by_label("Total").fill("1")
    own.api.call(
        "PUT",
        own.path("flights"),
        json={"total": 12, "price": {"amount": 4800, "currency": "INR"}},
    )
    page.get_by_text("It has changed since you began").wait_for()
    page.get_by_role("button", name="Begin with what it is now").click()
    expect(page.get_by_label("Total")).to_have_value("12")


def test_a_file_is_uploaded_and_its_rows_are_started(
    signed_in: Signing, own: Trip, tmp_path: Path
) -> None:
    page = signed_in("sender").at("imports")
    bad = {**own.request, "trip_id": f"{own.name}-bad", "flight": {"id": own.name, "seats": "two"}}
    file = tmp_path / f"{own.name}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (own.request, bad)))
    page.get_by_text("Begin an import").click()
    page.get_by_label("File").set_input_files(file)
    page.get_by_label("Saga of each row").select_option("travel-booking")
    page.get_by_label("Tolerated failures").fill("10")
    page.get_by_role("button", name="Upload and begin").click()
    page.get_by_role("button", name="Resume").click()
    asked = page.get_by_role("dialog", name="Resume")
    asked.get_by_label("Tolerated failures").fill("100")
    asked.get_by_role("button", name="Resume").click()
    page.get_by_text("All of its rows were tried.").wait_for()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuetext", "2 of 2 rows")
    row = page.get_by_role("row").filter(has_text="flight.seats")
    expect(row).to_contain_text("Input should be a valid integer")
    link = page.get_by_role("link", name="What became of each row").get_attribute("href")
    assert link
    lines = httpx.get(link, follow_redirects=True, timeout=PATIENCE).text.splitlines()
    outcomes = [json.loads(one) for one in lines]
    assert sorted(one["outcome"] for one in outcomes) == ["bad", "started"]
    saga_id = next(one["saga_id"] for one in outcomes if one["outcome"] == "started")
    own.ended(saga_id, "SUCCEEDED")


def _fulfil(status: int, body: dict[str, Any]) -> Any:
    return lambda route: route.fulfill(status=status, json=body)
