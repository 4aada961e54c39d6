"""People at the console, in Debian's Chromium, driven by Playwright.

A test's person is signed in by the page, as anybody is. Whatever a page says of scripts or styles
that it refused, or of an error, fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from recourse.local import folder
from tests.browser import chromium, flags
from tests.patience import PATIENCE

EVERYTHING = ("customer", "documents", "insurer", "operator")


@dataclass
class Person:
    """Somebody at a browser.

    Attributes:
        page: Their page.
        said: What it has said of errors, which must be nothing when the test is done.
    """

    page: Page
    url: str
    said: list[str] = field(default_factory=list)

    def at(self, place: str) -> Page:
        """Go to a view, such as `sagas/<id>`."""
        self.page.goto(f"{self.url}/#/{place}")
        return self.page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A browser; while it is there the thread has an event loop, so it goes with these tests."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=flags())
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(locale="en-GB", timezone_id="UTC")
    made.set_default_timeout(PATIENCE * 1000)
    yield made
    made.close()


Signing = Callable[..., Person]


@pytest.fixture
def signed_in(context: BrowserContext, url: str) -> Iterator[Signing]:
    """Sign somebody in: `signed_in("asha", "customer")`, by default in every group."""
    people: list[Person] = []

    def sign(subject: str = "asha", *groups: str) -> Person:
        person = Person(context.new_page(), url)
        people.append(person)
        listen(person)
        person.page.goto(url)
        person.page.get_by_role("button", name="Sign in").click()
        fill_in(person.page, subject, groups or EVERYTHING)
        person.page.get_by_role("button", name="Sign out").wait_for()
        return person

    yield sign
    for person in people:
        assert person.said == [], person.page.url


def fill_in(page: Page, subject: str, groups: tuple[str, ...] = EVERYTHING) -> None:
    """Answer the issuer's page."""
    page.locator("[name=subject]").fill(subject)
    page.locator("[name=passcode]").fill((folder() / "console-passcode").read_text())
    for box in page.locator("[name=group]").all():
        box.set_checked(box.get_attribute("value") in groups)
    page.get_by_role("button", name="Sign in").click()


def listen(person: Person) -> None:
    """Note what a page says of errors."""

    def said(message: ConsoleMessage) -> None:
        # Chromium itself says of every answer from 400 on that it has failed.
        of_the_page = not message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and of_the_page:
            person.said.append(message.text)

    person.page.on("console", said)
    person.page.on("pageerror", lambda error: person.said.append(str(error)))
