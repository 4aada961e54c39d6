"""Receives the browser that an issuer sends back: on loopback, once, with the right state.

What anybody can send to a port of this machine is refused and changes nothing, so that no other
page can end or steer a login: another host name, path or method, another state, a parameter that
comes twice. What a request says is never written into a page.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from recourse.cli.oauth import Endpoints, LoginError, Request, in_words
from recourse.functions.users import CALLBACKS
from recourse.problems import HEADERS

LARGEST_TARGET = 8192
"""Characters of the request's target, beyond which it is refused."""
PATIENCE_WITH_A_CONNECTION = 10
"""Seconds for which a connection may say nothing."""
HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>recourse login</title>"
    "<p style='font:16px/1.5 system-ui,sans-serif'>"
)
STYLED = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class Callback:
    """One port of `CALLBACKS`, while a login lasts.

    ::

        with listening() as callback:
            request = Request(client, callback.redirect_uri, scope)
            callback.expects(request, endpoints)
            ...  # open the page
            code = callback.code(seconds=300)

    Attributes:
        redirect_uri: The registered address.
    """

    def __init__(self, server: _Server, redirect_uri: str) -> None:
        self._server = server
        self.redirect_uri = redirect_uri

    def expects(self, request: Request, endpoints: Endpoints) -> None:
        """Take what comes back for a request of an issuer; before that, nothing is taken."""
        self._server.expected = request, endpoints

    def code(self, *, seconds: float) -> str:
        """Wait for the code of the request that is expected.

        Args:
            seconds: How long to wait.

        Raises:
            LoginError: The issuer answered with an error, or nothing came in time.
        """
        last = time.monotonic() + seconds
        with self._server.changed:
            while (answer := self._server.answer) is None:
                left = last - time.monotonic()
                if left <= 0:
                    raise LoginError(
                        f"nobody signed in within {seconds:g} seconds: run the command again"
                    )
                self._server.changed.wait(left)
        if "error" in answer:
            told = in_words(answer["error"], answer.get("error_description"))
            raise LoginError(f"the issuer refused: {told}")
        return answer["code"]


@contextmanager
def listening(addresses: Sequence[str] = CALLBACKS) -> Iterator[Callback]:
    """Listen on the first port that is free.

    Args:
        addresses: The registered addresses.

    Raises:
        LoginError: None is free.
    """
    for address in addresses:
        port = urlsplit(address).port
        assert port
        try:
            server = _Server(("127.0.0.1", port), _Handler)
        except OSError:
            continue
        break
    else:
        ports = ", ".join(str(urlsplit(one).port) for one in addresses)
        raise LoginError(f"one of the ports {ports} must be free, and all are in use")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Callback(server, address)
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.changed = threading.Condition()
        self.answer: Mapping[str, str] | None = None
        self.expected: tuple[Request, Endpoints] | None = None
        super().__init__(address, handler)

    def handle_error(self, *_: object) -> None:
        """A connection that breaks is no matter of the command's."""

    def take(self, query: str) -> str:
        """Take an authorization response; what is wrong with it, or nothing."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
        except ValueError:
            return "The request cannot be read."
        found = dict(pairs)
        if self.expected is None or len(found) != len(pairs):
            return "The request cannot be read."
        request, endpoints = self.expected
        if not hmac.compare_digest(found.get("state", "").encode(), request.state.encode()):
            return "This does not belong to the login that is under way."
        if found.get("iss", "" if endpoints.names_itself else endpoints.issuer) != endpoints.issuer:
            return "This comes from another issuer."
        if not found.get("error") and not found.get("code"):
            return "The request cannot be read."
        with self.changed:
            if self.answer is not None:
                return "This login has been answered before."
            self.answer = found
            self.changed.notify_all()
        return ""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_WITH_A_CONNECTION
    server_version, sys_version = "recourse", ""

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        path, _, query = self.path.partition("?")
        if self.headers.get_all("host") != [f"127.0.0.1:{port}"]:
            self._answer(421, f"The host must be 127.0.0.1:{port}.")
        elif len(self.path) > LARGEST_TARGET:
            self._answer(414, "The request is too long.")
        elif path != "/callback":
            self._answer(404, "There is nothing here.")
        elif wrong := self.server.take(query):
            self._answer(400, wrong)
        else:
            self._answer(200, "You may close this page: the terminal says whether it has worked.")

    def _answer(self, status: int, text: str) -> None:
        body = f"{HEAD}{text}</p></html>".encode()
        self.send_response(status)
        for name, value in {**HEADERS, "content-security-policy": STYLED}.items():
            self.send_header(name, value)
        self.send_header("cache-control", "no-store")
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no GET, or not HTTP, without a word of what it said."""
        self.close_connection = True
        self._answer(405 if code == 501 else code, "This cannot be answered.")

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing: a log would have the code."""
