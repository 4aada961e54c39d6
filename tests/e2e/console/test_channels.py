"""Events by every channel at once, a webhook's log, and an upload that goes on where it failed."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from playwright.sync_api import BrowserContext, Route, expect

from tests.e2e.conftest import Receiver
from tests.e2e.console.conftest import Signing
from tests.e2e.console.test_acts import act
from tests.patience import PATIENCE

expect.set_options(timeout=PATIENCE * 1000)


def test_each_event_comes_by_every_channel_of_the_page(signed_in: Signing) -> None:
    page = signed_in(uuid.uuid4().hex, "customer").at("push-and-pull")
    channels = page.get_by_role("table", name="Channels")
    for name in ("WebSocket", "Server-sent events"):
        expect(channels.get_by_role("row", name=name)).to_contain_text("open")
    page.get_by_role("button", name="Start one").click()
    latest = page.get_by_role("table", name="The latest events")
    ended = latest.get_by_role("row", name=re.compile(r"\.(succeeded|compensated)"))
    expect(ended).to_have_text(re.compile(r"(\d+ ms){4}$"))  # by each of the four
    page.get_by_role("button", name="Stop").click()
    expect(channels.get_by_role("row", name="WebSocket")).to_contain_text("stopped")


def test_a_webhooks_log_says_what_was_answered(signed_in: Signing, receiver: Receiver) -> None:
    page = signed_in(uuid.uuid4().hex, "customer").at("webhooks")
    receiver.status = 418
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_role("button", name="Register").click()
    secret = page.get_by_role("region", name="The secret")
    expect(secret.get_by_label("Secret", exact=True)).to_have_value(re.compile("^whsec_"))
    page.get_by_role("link", name=receiver.url).click()
    act(page, "Send a test event")
    row = page.get_by_role("table", name="Deliveries").get_by_role("row").last
    expect(row).to_contain_text("recourse.webhook.test")
    expect(row).to_contain_text("failed418")
    act(page, "Delete")
    expect(page.get_by_text("There is no webhook yet")).to_be_visible()


def test_an_upload_goes_on_where_s3_was_out_of_reach(
    signed_in: Signing, context: BrowserContext, tmp_path: Path
) -> None:
    """Its first part is stored; of the second nothing arrives for a while."""
    paper = tmp_path / f"{uuid.uuid4().hex[:8]}.bin"
    paper.write_bytes(b"\0" * (9 * 1024 * 1024))
    page = signed_in("dora", "documents").at("valet-keys")
    sent = []

    def second(route: Route) -> None:
        sent.append(route.request.url)
        if "partNumber=2" in route.request.url:
            route.abort()
        else:
            route.continue_()

    parts = re.compile("[?&]partNumber=")
    context.route(parts, second)
    page.get_by_label("Drag files here, or choose them").set_input_files(paper)
    page.get_by_role("button", name="Upload 9").click()
    uploads = page.get_by_role("list", name="Uploads")
    expect(uploads.get_by_role("alert")).to_contain_text("S3 cannot be reached")
    context.unroute(parts, second)
    uploads.get_by_role("button", name="Go on").click()
    expect(uploads).to_contain_text("Uploaded, and checked")
    assert len([url for url in sent if "partNumber=1&" in url]) == 1
