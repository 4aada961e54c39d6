"""What people do at the console: book, cancel, resolve, decide, upload, revoke, redrive."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from recourse.cli.api import Api
from recourse.local.cloud import LocalCloud
from tests.e2e.conftest import Trip
from tests.e2e.console.conftest import Signing
from tests.e2e.visits import Visit
from tests.patience import PATIENCE, until

expect.set_options(timeout=PATIENCE * 1000)


def act(page: Page, name: str, reason: str | None = None, *, inside: Locator | None = None) -> None:
    """Press a button, and again in the dialog that asks whether one means it."""
    (inside or page.locator("main")).get_by_role("button", name=name, exact=True).first.click()
    dialog = page.get_by_role("dialog", name=name, exact=True)
    if reason is not None:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).to_be_hidden()


def must_be(page: Page, status: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(status)


def test_a_trip_is_booked_by_its_form(signed_in: Signing, orchestrated: Trip) -> None:
    page = signed_in().at("start/travel-booking")
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("Request").fill(json.dumps(orchestrated.request))
    page.get_by_role("button", name="Form").click()
    expect(page.get_by_label("Trip id")).to_have_value(orchestrated.name)
    page.get_by_role("button", name="Start", exact=True).click()
    must_be(page, "SUCCEEDED")
    assert orchestrated.counts()["flights"]["available"] == 8


def test_a_trip_that_fails_is_undone_before_ones_eyes(
    signed_in: Signing, orchestrated: Trip
) -> None:
    page = signed_in().at("start/travel-booking")
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("Request").fill(json.dumps(orchestrated.request))
    page.get_by_text("Faults", exact=True).click()
    page.get_by_label("Fault of payment", exact=True).select_option("reject")
    page.get_by_role("button", name="Start", exact=True).click()
    must_be(page, "COMPENSATED")
    expect(page.get_by_text("Because payment failed")).to_be_visible()
    # The events are there without a reload, the last one last.
    told = page.get_by_role("list", name="Events").get_by_role("listitem")
    expect(told.last).to_contain_text("compensated")
    assert orchestrated.counts()["flights"]["available"] == 10


def test_a_request_that_is_wrong_says_so_at_its_field(
    signed_in: Signing, orchestrated: Trip
) -> None:
    page = signed_in().at("start/travel-booking")
    page.get_by_role("button", name="JSON").click()
    person = {"name": "Asha Rao", "email": "nobody"}
    page.get_by_label("Request").fill(json.dumps(orchestrated.request | {"traveller": person}))
    page.get_by_role("button", name="Form").click()
    page.locator("form.schema").evaluate("(form) => { form.noValidate = true; }")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("traveller.email")
    expect(page.get_by_label("Email")).to_be_focused()


def test_a_start_whose_answer_is_lost_is_done_once(signed_in: Signing, orchestrated: Trip) -> None:
    person = signed_in()
    page = person.at("start/travel-booking")
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("Request").fill(json.dumps(orchestrated.request))

    def lose(route: object) -> None:
        route.fetch()  # type: ignore[attr-defined]
        route.abort()  # type: ignore[attr-defined]

    page.route("**/api/sagas/travel-booking*", lose, times=1)
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("It may have been started.").wait_for()
    page.get_by_role("button", name="Try again").click()
    must_be(page, "SUCCEEDED")
    found = orchestrated.api.get("/sagas", business_key=orchestrated.name)["items"]
    assert len(found) == 1


def test_a_visit_that_waits_is_cancelled(signed_in: Signing, api: Api) -> None:
    visit = Visit(api, "orchestration").stocked()
    saga_id = visit.start()
    page = signed_in().at(f"sagas/{saga_id}")
    act(page, "Cancel")
    must_be(page, "COMPENSATED")
    assert visit.slot() == (1, 0, 0)


def test_an_undo_that_failed_is_resolved(signed_in: Signing, orchestrated: Trip) -> None:
    saga_id = orchestrated.start("capture=reject, hotel.undo=reject:5")
    orchestrated.ended(saga_id, "COMPENSATION_FAILED")
    page = signed_in().at(f"sagas/{saga_id}")
    must_be(page, "COMPENSATION FAILED")
    act(page, "Retry the undo of hotel", "the hotel answers again")
    must_be(page, "COMPENSATED")
    assert orchestrated.counts()["hotels"]["available"] == 10


def test_a_claim_is_decided_once(signed_in: Signing, api: Api) -> None:
    visit = Visit(api, "choreography").stocked()
    saga_id = visit.start()
    page = signed_in("ines", "insurer").at("decisions")
    card = page.get_by_role("article").filter(has_text=saga_id)
    act(page, "Approve", "covered", inside=card)
    expect(card.first).to_contain_text("ines has approved it")
    *_, saga = api.follow(saga_id)
    assert saga["status"] == "SUCCEEDED"


def test_a_booked_order_is_reversed(signed_in: Signing, api: Api) -> None:
    name = uuid.uuid4().hex[:12]
    price = {"amount": 900, "currency": "INR"}
    api.call("PUT", f"/stock/{name}", json={"total": 3, "price": price})
    api.call("PUT", f"/accounts/{name}", json={"currency": "INR", "balance": 5000})
    request = {
        "order_id": name,
        "customer": {"name": "Asha Rao", "email": "asha@example.com"},
        "lines": [{"sku": name, "quantity": 2}],
        "payment": {"account_id": name},
    }
    *_, saga = api.follow(api.start("order", request, key=name)["saga_id"])
    assert saga["status"] == "SUCCEEDED"
    page = signed_in().at(f"sagas/{saga['saga_id']}")
    act(page, "Reverse", "she sent it back")
    expect(page.get_by_text("she sent it back")).to_be_visible()
    must_be(page, "SUCCEEDED")
    until(lambda: api.get(f"/accounts/{name}")["balance"] == 5000, "the money is back")


def test_a_file_goes_up_and_its_key_is_revoked(signed_in: Signing, tmp_path: Path) -> None:
    paper = tmp_path / f"{uuid.uuid4().hex[:8]}.txt"
    paper.write_text("a paper\n" * 1000)
    page = signed_in("dora", "documents").at("valet-keys")
    page.get_by_label("Drag files here, or choose them").set_input_files(paper)
    page.get_by_role("button", name="Upload 8").click()
    expect(page.get_by_role("list", name="Uploads")).to_contain_text("Uploaded, and checked")

    lend = page.get_by_role("region", name="Lend a document")
    lend.get_by_label("Object").fill(paper.name)
    lend.get_by_label("Uses").fill("5")
    lend.get_by_role("button", name="Issue a download key").click()
    issued = page.get_by_role("region", name="The key that was issued")
    issued.get_by_role("button", name="Try the link").click()
    expect(page.get_by_role("list", name="Tries")).to_contain_text("200")
    issued.get_by_role("link", name="Its uses, and revoking it").click()
    act(page, "Revoke")
    page.get_by_role("button", name="Try the link").click()
    expect(page.get_by_role("list", name="Tries")).to_contain_text("410 key-revoked")


def test_dead_letters_are_looked_at_and_redriven(
    signed_in: Signing, cloud: LocalCloud, orchestrated: Trip
) -> None:
    saga_id = orchestrated.start()
    orchestrated.ended(saga_id, "SUCCEEDED")
    sqs = cloud.client("sqs")
    names = [url.rpartition("/")[2] for url in sqs.list_queues()["QueueUrls"]]
    (lost,) = [one for one in names if one.endswith("-Ledger-deadletters")]
    url = sqs.get_queue_url(QueueName=lost)["QueueUrl"]
    told = {"type": "recourse.nowhere.done", "subject": saga_id}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(told))
    page = signed_in("olga", "operator").at("dead-letters")
    ledger = page.get_by_role("region", name="Ledger", exact=True)
    ledger.get_by_role("button", name="Look").click()
    expect(ledger).to_contain_text(saga_id)
    act(page, "Redrive all", inside=ledger)
    expect(ledger).to_contain_text("1 message redriven")
    until(
        lambda: (
            next(
                one["waiting"]
                for one in orchestrated.api.get("/deadletters")["items"]
                if one["name"] == "Ledger"
            )
            >= 1
        ),
        "it is no event still, so it is dead-lettered again",
    )
    sqs.purge_queue(QueueUrl=url)


def test_a_files_name_is_never_markup(signed_in: Signing, tmp_path: Path) -> None:
    hostile = '"><img src=x onerror="document.title=1">.txt'
    paper = tmp_path / hostile
    paper.write_text("a paper")
    page = signed_in("dora", "documents").at("valet-keys")
    page.get_by_label("Drag files here, or choose them").set_input_files(paper)
    page.get_by_role("button", name="Upload 7 bytes").click()
    expect(page.get_by_text(hostile).first).to_be_visible()
    assert page.locator("main img").count() == 0
    assert page.title() != "1"
