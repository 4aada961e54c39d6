"""A headless Chromium: a page that tries what it can do to other ports, or a tab that is driven.

::

    with page() as visit:
        told = visit([Attempt("fetch", "http://127.0.0.1:8000/health")])
    with tab() as browser:
        browser.open("http://127.0.0.1:8000/docs")
        browser.run("document.title")
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.patience import PATIENCE, until

NAMES = ("chromium", "chromium-headless-shell", "google-chrome")
PAGE = """<!doctype html><title>A page</title><body><script>
const within = (promise) => Promise.race([
  promise, new Promise((done) => setTimeout(() => done("no answer"), 30000)),
]);
const element = (tag, attributes) => {
  const made = Object.assign(document.createElement(tag), attributes);
  document.body.append(made);
  return made;
};
const ways = {
  async fetch(url, init) {
    try {
      const answer = await fetch(url, init);
      return answer.type === "opaque" ? "opaque" : `read ${answer.status} ${await answer.text()}`;
    } catch { return "failed"; }
  },
  form: (url, fields) => new Promise((done) => {
    const frame = element("iframe", { name: `frame${Math.random()}` });
    const form = element("form", { action: url, target: frame.name, method: "post" });
    for (const [name, value] of Object.entries(fields))
      form.append(Object.assign(document.createElement("input"), { name, value }));
    form.submit();
    frame.onload = () => done("sent");
  }),
  element: (url, { tag }) => new Promise((done) => element(tag, {
    src: url, onload: () => done("loaded"), onerror: () => done("failed"),
  })),
  socket: (url, { protocols }) => new Promise((done) => {
    const opened = new WebSocket(url, protocols ?? []);
    opened.onopen = () => done("opened");
    opened.onerror = () => done("failed");
  }),
  stream: (url) => new Promise((done) => {
    const stream = new EventSource(url);
    stream.onopen = () => { stream.close(); done("opened"); };
    stream.onerror = () => { stream.close(); done("failed"); };
  }),
};
(async () => {
  const attempts = await (await fetch("/attempts")).json();
  const told = [], left = attempts.keys();
  const some = async () => {
    for (const at of left) {
      const { way, url, how } = attempts[at];
      told[at] = await within(ways[way](url, how));
    }
  };
  // No more at once than a browser has connections to a host, or some would wait for others.
  await Promise.all([some(), some(), some(), some()]);
  await fetch("/told", { method: "POST", body: JSON.stringify(told) });
})();
</script>"""


@dataclass(frozen=True)
class Attempt:
    """Something that the page tries: `fetch`, `form`, `element`, `socket` or `stream`."""

    way: str
    url: str
    how: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """A page that is served by a port of its own."""

    origin: str
    _browser: str
    _attempts: list[Attempt]
    _told: queue.Queue[list[str]]

    def __call__(self, attempts: Sequence[Attempt]) -> list[str]:
        """What came of each attempt: `read …`, `opened`, `loaded`, or what tells a page nothing.

        That is `opaque`, `sent` or `failed`; `no answer` is for what hangs.
        """
        self._attempts[:] = attempts
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [*launched(self._browser, profile), self.origin]
            quiet = subprocess.DEVNULL
            with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
                try:
                    return self._told.get(timeout=PATIENCE)
                finally:
                    process.terminate()


def chromium() -> str:
    """Where Chromium is; the test is skipped where there is none."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        if "NEEDS_CHROMIUM" in os.environ:
            pytest.fail("there is no Chromium")
        pytest.skip("needs Chromium: on Debian, apt-get install chromium")
    return browser


class Tab:
    """A tab of a headless Chromium, driven by its DevTools protocol.

    Attributes:
        problems: What it has said of scripts and styles that it refused, and of errors.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.problems: list[str] = []
        for one in ("Page.enable", "Runtime.enable", "Log.enable"):
            self._ask(one)

    def open(self, url: str) -> None:
        """Go to an address."""
        self._ask("Page.navigate", url=url)

    def ignore_policy(self) -> None:
        """Let what is run here do what the next page's security policy forbids its own scripts."""
        self._ask("Page.setBypassCSP", enabled=True)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; None where there is no page now."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("result", {}).get("value")

    def insert(self, text: str) -> None:
        """Type a text where the focus is, in place of what is selected there."""
        self._ask("Input.insertText", text=text)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            said: dict[str, Any] = json.loads(self._connection.recv(timeout=PATIENCE))
            if said.get("method") == "Log.entryAdded":
                self.problems.append(said["params"]["entry"]["text"])
            if said.get("id") == self._number:
                return said


@contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a new Chromium; the test is skipped where there is none."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        quiet = subprocess.DEVNULL
        command = [*launched(chromium(), profile), "--remote-debugging-port=0", "about:blank"]
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
            try:
                told = Path(profile, "DevToolsActivePort")
                written = until(lambda: told.exists() and told.read_text(), "Chromium's port")
                port = str(written).split()[0]
                with httpx.Client(trust_env=False, timeout=PATIENCE) as http:
                    pages = until(
                        lambda: [
                            one
                            for one in http.get(f"http://127.0.0.1:{port}/json").json()
                            if one["type"] == "page"
                        ],
                        "a tab",
                    )
                where = pages[0]["webSocketDebuggerUrl"]
                with connect(where, proxy=None, open_timeout=PATIENCE) as connection:
                    yield Tab(connection)
            finally:
                process.terminate()


def launched(browser: str, profile: str) -> list[str]:
    """The command of a Chromium that reaches this machine alone."""
    return [browser, *flags(), f"--user-data-dir={profile}"]


def flags() -> list[str]:
    """What makes a Chromium reach this machine alone."""
    return [
        *("--headless", "--disable-gpu", "--no-first-run", "--no-proxy-server"),
        *("--disable-background-networking", "--disable-component-update"),
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]


@contextmanager
def page() -> Iterator[Visit]:
    """A page to visit other ports from; the test is skipped where there is no Chromium."""
    browser = chromium()
    attempts: list[Attempt] = []
    told: queue.Queue[list[str]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = json.dumps([asdict(one) for one in attempts])
            self._answer(found if self.path == "/attempts" else PAGE)

        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer("")

        def _answer(self, content: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Visit(f"http://127.0.0.1:{server.server_port}", browser, attempts, told)
        server.shutdown()
