"""The frame round every view: signing in, the live list, what goes wrong, and what is let in."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from recourse.cli.api import Api
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests.e2e.conftest import Trip
from tests.e2e.console.conftest import Signing, fill_in
from tests.patience import PATIENCE

expect.set_options(timeout=PATIENCE * 1000)
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


@pytest.fixture
def newcomer() -> str:
    """Somebody who has no saga yet."""
    return f"newcomer-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def own(cloud: LocalCloud, newcomer: str) -> Iterator[Trip]:
    """A trip of theirs."""
    with Api(cloud.api_url, cloud.token(newcomer, EVERY_SCOPE)) as api:
        yield Trip(api).stocked()


def row(page: Page, text: str) -> Any:
    return page.get_by_role("row").filter(has_text=text)


def test_who_has_no_saga_is_told_and_a_new_one_appears_by_itself(
    signed_in: Signing, own: Trip, newcomer: str
) -> None:
    page = signed_in(newcomer, "customer").at("sagas")
    page.get_by_text("There is no saga yet.").wait_for()
    own.ended(own.start(), "SUCCEEDED")
    expect(row(page, own.name)).to_contain_text("SUCCEEDED")


def test_the_list_is_filtered_and_searched_by_its_address(
    signed_in: Signing, own: Trip, newcomer: str
) -> None:
    good, bad = own.start(), own.start(chaos="hotel=reject")
    own.ended(good, "SUCCEEDED")
    own.ended(bad, "COMPENSATED")
    page = signed_in(newcomer, "customer").at("sagas")
    page.get_by_label("Status").select_option("COMPENSATED")
    expect(row(page, "hotel")).to_be_visible()
    expect(row(page, "SUCCEEDED")).to_have_count(0)
    assert page.url.endswith("#/sagas?status=COMPENSATED")
    page.get_by_label("Business key").fill("no such key")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("No saga is like that.").wait_for()
    page.reload()
    page.get_by_text("No saga is like that.").wait_for()


def test_text_of_a_saga_is_never_markup(signed_in: Signing, own: Trip, newcomer: str) -> None:
    request = own.request | {"trip_id": MARKUP, "traveller": {"name": MARKUP, "email": "a@b.co"}}
    saga = own.api.start("travel-booking", request, key="markup", chaos="flight=reject")
    own.ended(saga["saga_id"], "COMPENSATED")
    page = signed_in(newcomer, "customer").at("sagas")
    expect(row(page, MARKUP)).to_be_visible()
    page.get_by_role("link", name=MARKUP).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(MARKUP)
    assert page.locator("main img, main b").count() == 0
    assert page.title() != "owned"


def test_while_the_api_is_away_the_view_stays_and_then_goes_on(
    signed_in: Signing, own: Trip, newcomer: str
) -> None:
    own.ended(own.start(), "SUCCEEDED")
    person = signed_in(newcomer, "customer")
    page = person.at("sagas")
    expect(row(page, own.name).first).to_be_visible()
    with away(page):
        page.get_by_text("offline: trying again").wait_for()
        expect(row(page, own.name).first).to_be_visible()
        page.get_by_label("Status").select_option("COMPENSATED")
        page.get_by_text("Loading sagas").wait_for()
    page.get_by_text("No saga is like that.").wait_for()
    page.get_by_text("live by").wait_for()


@contextmanager
def away(page: Page) -> Iterator[None]:
    """Nothing of the API is reached."""

    def refuse(route: Route) -> None:
        route.abort("connectionrefused")

    page.route("**/api/**", refuse)
    yield
    page.unroute("**/api/**", refuse)


def test_events_come_by_a_lesser_channel_where_the_better_one_is_cut_off(
    signed_in: Signing, own: Trip, newcomer: str, context: BrowserContext
) -> None:
    context.route_web_socket("**/events/ws*", lambda socket: socket.close())
    page = signed_in(newcomer, "customer").at("sagas")
    page.get_by_text("live by server-sent events").wait_for()
    context.route("**/api/events/stream", lambda route: route.abort("connectionreset"))
    page.reload()
    page.get_by_text("live by polling").wait_for()
    own.ended(own.start(), "SUCCEEDED")
    expect(row(page, own.name)).to_contain_text("SUCCEEDED")


def test_a_sign_in_that_runs_out_leaves_the_view_and_goes_on_after_another(
    signed_in: Signing, own: Trip, newcomer: str
) -> None:
    own.ended(own.start(), "SUCCEEDED")
    person = signed_in(newcomer, "customer")
    page = person.at("sagas")
    expect(row(page, own.name).first).to_be_visible()
    page.get_by_label("Business key").fill("half written")
    page.route("**/api/sagas*", lambda route: route.fulfill(status=401, json={}), times=1)
    page.route(
        "**/token",
        lambda route: route.fulfill(status=400, json={"error": "invalid_grant"}),
        times=1,
    )
    again = page.get_by_role("dialog", name="Your sign-in has run out")
    again.wait_for()
    with page.expect_popup() as opened:
        again.get_by_role("button", name="Sign in again").click()
    fill_in(opened.value, newcomer)
    expect(again).to_have_count(0)
    expect(page.get_by_label("Business key")).to_have_value("half written")
    own.ended(own.start(chaos="hotel=reject"), "COMPENSATED")
    expect(row(page, "COMPENSATED").first).to_be_visible()


def test_a_reload_needs_no_sign_in_and_signing_out_ends_it(signed_in: Signing) -> None:
    page = signed_in("asha").page
    page.reload()
    page.get_by_text("live by WebSocket").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    page.reload()
    page.get_by_role("button", name="Sign in").wait_for()
    assert page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})") == "{}"


def test_no_token_is_in_an_address(signed_in: Signing, context: Any) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = signed_in("asha").page
    page.reload()
    page.get_by_text("live by WebSocket").wait_for()
    assert asked
    assert not [url for url in asked if "eyJ" in url or "refresh" in url or "token=" in url]


def test_scopes_decide_which_views_are_shown(signed_in: Signing) -> None:
    page = signed_in("reader", "reader").page
    shown = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert "Sagas" in shown
    assert not {"Start", "Valet keys", "Dead letters"} & {*shown}
    page.goto(page.url.split("#")[0] + "#/dead-letters")
    page.get_by_text("You are signed in without the scope operator.").wait_for()


def test_the_first_view_needs_less_than_100_kb_of_compressed_script(
    signed_in: Signing, context: Any
) -> None:
    got: dict[str, int] = {}

    def count(answer: Response) -> None:
        if answer.request.resource_type == "script":
            got[answer.url] = len(gzip.compress(answer.body()))

    context.on("response", count)
    page = signed_in("asha").at("sagas")
    page.get_by_label("Status").wait_for()
    assert 0 < sum(got.values()) < 100_000, got
