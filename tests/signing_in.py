"""`recourse login` as a process, and somebody who signs in on its page in a headless Chromium."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT
from tests.browser import Tab
from tests.patience import PATIENCE, until


class Person:
    """Somebody at a terminal, with a folder of their own for logins.

    Args:
        folder: An empty folder.
        api: The address of their API.
        where: The project in whose folder they are.
    """

    def __init__(self, folder: Path, api: str, where: Path = ROOT) -> None:
        self.state, self._page, self._where = folder / "state", folder / "page", where
        opener = folder / "open"
        page = shlex.quote(str(self._page))
        opener.write_text(f'#!/bin/sh\nprintf %s "$1" >{page}.draft && mv {page}.draft {page}\n')
        opener.chmod(0o700)
        ours = {
            "BROWSER": f"{opener} %s",
            "RECOURSE_API": api,
            "XDG_STATE_HOME": str(self.state),
            "PYTHONPATH": str(ROOT),
        }
        kept = {name: text for name, text in os.environ.items() if name != "RECOURSE_TOKEN"}
        self.environment: Mapping[str, str] = kept | ours

    def run(self, *line: str) -> subprocess.CompletedProcess[str]:
        """A command of theirs, which ends."""
        return subprocess.run(
            [sys.executable, "-m", "recourse", *line],
            env=self.environment,
            cwd=self._where,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    @contextmanager
    def logging_in(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The command, and the page that it has opened in the browser."""
        self._page.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-m", "recourse", "login", *options],
            env=self.environment,
            cwd=self._where,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                until(lambda: self._page.exists() or process.poll() is not None, "the page is open")
                yield process, self._page.read_text() if self._page.exists() else ""
            finally:
                process.kill()

    @property
    def files(self) -> list[Path]:
        """What is kept of their logins."""
        return sorted(self.state.rglob("*.json"))


def sign_in(
    browser: Tab, url: str, *, subject: str, groups: list[str], cancel: bool = False
) -> str:
    """Fill in the page at an address; the text of the page on which that ends."""
    browser.open(url)
    fill_in(browser, subject=subject, groups=groups, answer="cancel" if cancel else "sign-in")
    ended = "location.pathname == '/callback' && document.readyState == 'complete'"
    until(lambda: browser.run(ended), "the browser is sent back")
    return str(browser.run("document.body.innerText"))


def fill_in(
    browser: Tab, *, subject: str, groups: list[str], passcode: str = "", answer: str = "sign-in"
) -> None:
    """Fill in the page that the browser is on its way to, and answer it."""
    ready = "document.readyState == 'complete' && document.querySelector('form') != null"
    until(lambda: browser.run(ready), "the sign-in page")
    browser.run(f"document.querySelector('[name=subject]').value = {subject!r}")
    browser.run(
        "for (const box of document.querySelectorAll('[name=group]')) "
        f"box.checked = {groups!r}.includes(box.value)"
    )
    if passcode:
        browser.run(f"document.querySelector('[name=passcode]').value = {passcode!r}")
    browser.run(f"document.querySelector('[value={answer}]').click()")
