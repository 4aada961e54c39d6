"""Each view as people see it: accessible by axe's rules in light, dark and narrow, and pictured.

    RECOURSE_PICTURES=docs/images/console pytest tests/e2e/console/test_views.py

takes the pictures of the guide anew.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from recourse.cli.api import Api
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests import ROOT
from tests.e2e.conftest import Trip
from tests.e2e.console.conftest import Person, fill_in, listen
from tests.e2e.visits import Visit
from tests.patience import PATIENCE, until

AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = os.environ.get("RECOURSE_PICTURES")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
expect.set_options(timeout=PATIENCE * 1000)


@dataclass(frozen=True)
class Shown:
    """What there is to see.

    Attributes:
        places: Where each view is, by the name of its picture.
        ready: What is on the page when all of it is there.
        start: Starts one more saga, whose events are seen arriving.
    """

    places: dict[str, str]
    ready: dict[str, str]
    start: Callable[[], str]


@pytest.fixture(scope="module")
def shown(inside: LocalCloud | None) -> Iterator[Shown]:
    """Something of everything, of somebody who has nothing else."""
    if inside is None:
        pytest.skip("needs the inside of a local cloud")
    with Api(inside.api_url, inside.token("vera", EVERY_SCOPE)) as api:
        trip = Trip(api).stocked()
        ok, failed = trip.start(), trip.start(chaos="payment=reject")
        stuck = trip.start(chaos="capture=reject, hotel.undo=reject:5")
        visit = Visit(api, "orchestration").stocked().start()
        key = api.ask(
            "POST", "/valet-keys", json={"operation": "download", "object": "papers/visa.pdf"}
        )
        hook = {"url": "http://127.0.0.1:9/hooks"}
        api.call("POST", "/webhooks", json=hook)
        trip.ended(ok, "SUCCEEDED")
        trip.ended(failed, "COMPENSATED")
        trip.ended(stuck, "COMPENSATION_FAILED")
        yield Shown(
            {
                "sagas": "sagas",
                "saga": f"sagas/{failed}",
                "saga-stuck": f"sagas/{stuck}",
                "saga-waits": f"sagas/{visit}",
                "start": "start/travel-booking",
                "decisions": "decisions",
                "valet-keys": "valet-keys",
                "valet-key": f"valet-keys/{key['key_id']}",
                "push-and-pull": "push-and-pull",
                "webhooks": "webhooks",
                "imports": "imports",
                "holdings": f"holdings/accounts/{trip.name}",
                "dead-letters": "dead-letters",
            },
            {
                "sagas": trip.name,
                "saga": "Because payment failed",
                "saga-stuck": "Retry the undo of hotel",
                "saga-waits": "Approve claim",
                "start": "Traveller",
                "decisions": visit,
                "valet-keys": "papers/visa.pdf",
                "valet-key": "papers/visa.pdf",
                "push-and-pull": "succeeded",
                "webhooks": "http://127.0.0.1:9/hooks",
                "imports": "Begin an import",
                "holdings": "available",
                "dead-letters": "empty queue",
            },
            trip.start,
        )


@pytest.fixture(scope="module", params=LOOKS)
def look(
    request: pytest.FixtureRequest, browser: Browser, inside: LocalCloud | None
) -> Iterator[tuple[str, Person]]:
    """Somebody who is signed in, by the look of their window."""
    assert inside
    context = browser.new_context(locale="en-GB", timezone_id="UTC", **LOOKS[request.param])
    context.set_default_timeout(PATIENCE * 1000)
    person = Person(context.new_page(), inside.api_url)
    listen(person)
    person.page.goto(inside.api_url)
    person.page.get_by_role("button", name="Sign in").click()
    fill_in(person.page, "vera")
    person.page.get_by_text("live by WebSocket").wait_for()
    yield request.param, person
    context.close()


def test_every_view_is_accessible(look: tuple[str, Person], shown: Shown) -> None:
    name, person = look
    found = {}
    for view, place in shown.places.items():
        page = person.at(place)
        if view == "push-and-pull":
            page.get_by_label("Delay since").wait_for()
            shown.start()
        page.locator("main").get_by_text(shown.ready[view]).first.wait_for()
        if flaws := violations(page):
            found[view] = flaws
        if name == "narrow":
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if wide > 0:
                found[f"{view} is too wide"] = [wide]
        picture(page, name, view)
    assert not found, json.dumps(found, indent=1)
    assert person.said == []


def test_every_view_is_reached_by_the_keyboard(
    signed_in: Callable[..., Person],
) -> None:
    page = signed_in().page
    # The last to be there: what is decided is read of the API's description.
    page.get_by_role("navigation").get_by_role("link", name="Decisions").wait_for()
    page.keyboard.press("Tab")
    seen = set()
    for _ in range(30):
        seen.add(page.evaluate("document.activeElement.textContent"))
        page.keyboard.press("Tab")
    views = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert {*views} <= seen
    page.get_by_role("link", name="Start", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Start a saga").wait_for()
    assert page.evaluate("document.activeElement.id") == "main"


def violations(page: Page) -> list[Any]:
    """What axe finds, in few words."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]


def picture(page: Page, look: str, view: str) -> None:
    """Keep a picture for the guide, where one is asked for."""
    if PICTURES and look == "light":
        page.screenshot(path=Path(PICTURES) / f"{view}.png")


def test_ten_thousand_sagas_scroll(signed_in: Callable[..., Person]) -> None:
    person = signed_in(f"many-{uuid.uuid4().hex[:8]}", "customer")
    page = person.page

    def answer(route: Any) -> None:
        """A page of a list of 10,000, as the API would answer it."""
        at = int(
            dict(part.split("=") for part in route.request.url.split("?")[1].split("&")).get(
                "cursor", 0
            )
        )
        items = [saga(number) for number in range(at, min(at + 100, 10_000))]
        cursor = str(at + 100) if at + 100 < 10_000 else None
        route.fulfill(json={"items": items, "cursor": cursor})

    page.route("**/api/sagas?*", answer)
    page.goto(f"{person.url}/#/sagas?saga=travel-booking")
    table = page.get_by_role("table", name="Sagas")
    expect(table).to_be_visible()

    def rows() -> int:
        return int(table.get_attribute("aria-rowcount") or 0)

    while (before := rows()) < 10_001:
        table.evaluate("(table) => table.scrollTo(0, table.scrollHeight)")
        until(rows, "more sagas", lambda now: now > before)
    table.evaluate("(table) => table.scrollTo(0, table.scrollHeight)")
    expect(page.get_by_role("link", name="trip-9999", exact=True)).to_be_visible()
    assert page.get_by_role("row").count() < 100


def saga(number: int) -> dict[str, Any]:
    """The newest is the first."""
    at = (datetime(2026, 11, 30, tzinfo=UTC) - timedelta(seconds=number)).isoformat()
    return {
        "saga_id": f"saga-{number}",
        "saga": "travel-booking",
        "coordination": "orchestration",
        "status": "SUCCEEDED",
        "reason": None,
        "owner": "many",
        "business_key": f"trip-{number}",
        "started_at": at,
        "ended_at": at,
        "steps": [],
        "stuck": [],
        "links": {},
    }
