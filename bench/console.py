"""How soon an event is on the console's screen, and what the console's first view weighs.

On the local cloud, in a headless Chromium: the clock of both is this machine's. An event's entering
is when a reader of the feed's table, which does nothing else, first sees it.
"""

from __future__ import annotations

import gzip
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, Response, sync_playwright

from bench import LOCAL
from bench.figures import Figure
from bench.samples import sample, things
from recourse.cli.api import Api
from recourse.feed.feed import Feed
from recourse.local import folder
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from statemachines.travel_booking import TRAVEL_BOOKING
from tests.browser import chromium, flags
from tests.patience import PATIENCE, until

TRIPS = 12
LATEST = 0.3
"""Seconds within which 95 of 100 events are on the screen."""
HEAVIEST = 100_000
"""Bytes of compressed script that the first view may load."""
NOTE = """() => {
  window.seen = {};
  const look = () => {
    for (const item of document.querySelectorAll("ol[aria-label=Events] > li")) {
      const sequence = item.querySelector(".hint").textContent;
      window.seen[sequence] ??= performance.timeOrigin + performance.now();
    }
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true});
  look();
}"""


def measure() -> list[Figure]:
    """See trips happen in a browser."""
    with (
        LocalCloud(
            port=0, aws_port=0, state_dir=LOCAL / "console", fresh=True, say=_quiet
        ) as cloud,
        Api(cloud.api_url, cloud.token("asha", EVERY_SCOPE)) as api,
        _signed_in(cloud.api_url) as (page, weight),
    ):
        for (kind, thing), body in things().items():
            api.call("PUT", f"/{kind}/{thing}", json=body)
        found = [_delays(cloud, api, page, number) for number in range(TRIPS)]
    delays = sorted(delay for one in found for delay in one)
    late = statistics.quantiles(delays, n=20)[-1]
    return [
        Figure(
            what="an event is on the screen after it has entered the feed, p95",
            size=f"{len(delays)} events of {TRIPS} trips, one after another",
            figure=f"{late * 1000:.0f} ms; median {statistics.median(delays) * 1000:.0f} ms",
            alternative=f"{LATEST * 1000:.0f} ms",
            ratio=late / LATEST,
            most=1,
        ),
        Figure(
            what="compressed script of the first view",
            size="the list of sagas, with nothing in the cache",
            figure=f"{weight / 1000:.1f} kB",
            alternative=f"{HEAVIEST / 1000:.0f} kB",
            ratio=weight / HEAVIEST,
            most=1,
        ),
    ]


def _quiet(_line: str) -> None:
    """Say nothing."""


@contextmanager
def _signed_in(url: str) -> Iterator[tuple[Page, int]]:
    """Somebody's page, and how many bytes of script its first view has loaded."""
    loaded: dict[str, int] = {}

    def count(answer: Response) -> None:
        if answer.request.resource_type == "script":
            loaded[answer.url] = len(gzip.compress(answer.body()))

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags())
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("response", count)
        page.goto(url)
        page.get_by_role("button", name="Sign in").click()
        page.locator("[name=passcode]").fill((folder() / "console-passcode").read_text())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("live by WebSocket").wait_for()
        page.get_by_text("There is no saga yet.").wait_for()
        yield page, sum(loaded.values())
        browser.close()


def _delays(cloud: LocalCloud, api: Api, page: Page, number: int) -> list[float]:
    """Seconds from each event's entering the feed to its being on the screen, of one trip."""
    feed = Feed(cloud.client("dynamodb"), cloud.outputs["FeedTableName"])
    entered: dict[str, float] = {}
    over = threading.Event()
    after = feed.head("asha")

    def read() -> None:
        last = after
        while not over.is_set():
            for entry in feed.read("asha", last):
                entered[str(entry.event.sequence)] = time.time()
                last = entry.position
            time.sleep(0.005)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        request = sample(TRAVEL_BOOKING) | {"trip_id": f"seen-{number}"}
        saga = api.start(TRAVEL_BOOKING.name, request, key=f"seen-{number}")
        page.goto(page.url.split("#")[0] + f"#/sagas/{saga['saga_id']}")
        page.get_by_role("list", name="Events").wait_for()
        page.evaluate(NOTE)
        known = len(page.evaluate("Object.keys(window.seen)"))
        page.get_by_role("heading", level=1).get_by_text("SUCCEEDED").wait_for()
        seen = page.evaluate("window.seen")
        until(lambda: {*seen} <= {*entered}, "the reader has seen what the browser has")
    finally:
        over.set()
        reading.join()
    # Those that were there when the page was opened say nothing of how they arrived.
    return [
        max(0.0, at / 1000 - entered[sequence])
        for sequence, at in seen.items()
        if int(sequence) > known
    ]
