import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websocket_server
from websockets.typing import Subprotocol

from recourse.local.callers import proxy_pass
from recourse.local.issuer import Issuer
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from recourse.problems import HEADERS
from samples.provider import served
from tests.patience import PATIENCE


class Upstream(BaseHTTPRequestHandler):
    """Says what reached it, under headers that a proxy likes to meddle with."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        said = json.dumps(
            {
                "method": self.command,
                "path": self.path,
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "body": self.rfile.read(length).decode(),
            }
        ).encode()
        self.send_response(409)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("ETag", 'W/"7"')
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer("http://127.0.0.1/_issuer", tmp_path_factory.mktemp("issuer") / "key.pem")


@pytest.fixture
def proxy(issuer: Issuer) -> Iterator[Proxy]:
    proxy = Proxy(
        port=free_port(0),
        issuer=issuer,
        secret="secret",
        stand_ins={"payment_provider": served()},
    )
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def api(proxy: Proxy, upstream: str) -> str:
    proxy.target = f"{upstream}/_aws/execute-api/abc/$default"
    return proxy.url


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_call_goes_through_untouched(api: str, method: str) -> None:
    headers = {"Authorization": "Bearer x", "Idempotency-Key": "k-1", "Prefer": "wait=20"}
    answer = httpx.request(
        method,
        f"{api}/sagas/a%2Fb%20c?cursor=%3D&limit=2",
        headers=headers,
        content=b'{"a": 1}',
        timeout=PATIENCE,
    )
    said = answer.json()
    assert said["method"] == method
    assert said["path"] == "/_aws/execute-api/abc/$default/sagas/a%2Fb%20c?cursor=%3D&limit=2"
    assert said["body"] == '{"a": 1}'
    passed = dict(said["headers"])
    assert [passed[name.lower()] for name in headers] == list(headers.values())


def test_an_answer_comes_back_untouched(api: str) -> None:
    answer = httpx.get(f"{api}/sagas", timeout=PATIENCE)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["etag"] == 'W/"7"'
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert httpx.head(f"{api}/sagas", timeout=PATIENCE).headers["content-length"] != "0"


def test_a_call_without_a_body_gets_none(api: str) -> None:
    said = httpx.get(f"{api}/sagas", timeout=PATIENCE).json()
    assert "content-length" not in dict(said["headers"])
    assert said["body"] == ""


def test_before_the_api_is_there_it_says_so(proxy: Proxy) -> None:
    answer = httpx.get(f"{proxy.url}/health", timeout=PATIENCE)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_when_the_api_is_gone_it_says_so(proxy: Proxy) -> None:
    proxy.target = f"http://127.0.0.1:{free_port(0)}"
    assert httpx.get(f"{proxy.url}/health", timeout=PATIENCE).status_code == 502


def test_it_serves_the_issuers_documents(proxy: Proxy) -> None:
    discovery = httpx.get(
        f"{proxy.url}/_issuer/.well-known/openid-configuration", timeout=PATIENCE
    ).json()
    assert discovery["issuer"] == "http://127.0.0.1/_issuer"
    assert (
        httpx.get(f"{proxy.url}/_issuer/jwks.json", timeout=PATIENCE).json()["keys"][0]["alg"]
        == "RS256"
    )


# WebSockets.


@pytest.fixture
def echo(proxy: Proxy) -> Iterator[str]:
    """A WebSocket API that says what reached it, repeats what it is told, and can close."""

    def serve(connection: ServerConnection) -> None:
        request = connection.request
        assert request
        told = {"path": request.path, "authorization": request.headers.get("authorization")}
        connection.send(json.dumps(told))
        for message in connection:
            if message == "close":
                connection.close(4001, "as you say")
            else:
                connection.send(message)

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("authorization") == "wrong":
            return connection.respond(401, "no")
        return None

    with websocket_server(
        serve,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("v1")],
        process_request=refuse,
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy.websocket = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/stage"
        yield proxy.url.replace("http", "ws", 1) + "/events/ws"
        server.shutdown()


def test_a_websocket_goes_through_with_its_headers_query_and_subprotocol(echo: str) -> None:
    with connect(
        f"{echo}?after=%3D",
        additional_headers={"Authorization": "Bearer x"},
        subprotocols=[Subprotocol("v1"), Subprotocol("bearer.x")],
        proxy=None,
        open_timeout=PATIENCE,
    ) as opened:
        assert opened.subprotocol == "v1"
        said = json.loads(opened.recv(timeout=PATIENCE))
        assert said == {"path": "/stage?after=%3D", "authorization": "Bearer x"}
        for message in ("hello", b"bytes", "x" * 100_000):
            opened.send(message)
            assert opened.recv(timeout=PATIENCE) == message


def test_a_websocket_is_closed_as_the_api_closes_it(echo: str) -> None:
    with connect(
        echo, subprotocols=[Subprotocol("v1")], proxy=None, open_timeout=PATIENCE
    ) as opened:
        opened.recv(timeout=PATIENCE)
        opened.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            opened.recv(timeout=PATIENCE)
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you say")


def test_a_refused_handshake_is_refused_as_the_api_does_it(
    echo: str,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)

    def refusal() -> int:
        headers = {"Authorization": "wrong"}
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(echo, additional_headers=headers, proxy=None, open_timeout=PATIENCE),
        ):
            pytest.fail("it was opened")
        status: int = refused.value.response.status_code
        return status

    assert refusal() == 401
    proxy.websocket = None
    assert refusal() == 503
    proxy.stop()
    assert caplog.messages == [], "a refusal is no failure of the proxy"


def test_before_there_is_a_stream_it_says_so(proxy: Proxy) -> None:
    assert httpx.get(f"{proxy.url}/events/stream", timeout=PATIENCE).status_code == 503


def test_an_open_stream_ends_in_order_when_the_proxy_stops(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    proxy.stream = endless
    with httpx.stream("GET", f"{proxy.url}/events/stream", timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "begun"
        proxy.stop()
        assert list(lines) == []
    assert not caplog.records


def test_a_connection_that_was_idle_for_a_while_is_still_open(proxy: Proxy) -> None:
    # Clients keep theirs for 5 s or longer (httpx: 5, the web's common servers: 60 and more).
    idle = 6
    with closing(HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]))) as connection:
        connection.request("GET", "/_issuer/jwks.json")
        connection.getresponse().read()
        first = connection.sock
        time.sleep(idle)
        connection.request("GET", "/_issuer/jwks.json")
        assert connection.getresponse().status == 200
        assert connection.sock is first


# What it answers itself.


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("it fails")


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (403, "GET", "/sagas", {"origin": "https://evil.example"}),
        (405, "TRACE", "/sagas", {}),
        (421, "GET", "/sagas", {"host": "evil.example"}),
        (500, "GET", "/events/stream", {}),
        (502, "GET", "/sagas", {}),
        (503, "GET", "/sagas", {}),
    ],
)
def test_what_it_answers_itself_is_a_problem_that_no_page_draws_or_frames(
    proxy: Proxy, status: int, method: str, path: str, headers: dict[str, str]
) -> None:
    proxy.stream = failing
    if status == 502:
        proxy.target = f"http://127.0.0.1:{free_port(0)}"
    answer = httpx.request(method, proxy.url + path, headers=headers, timeout=PATIENCE)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert HEADERS.items() <= dict(answer.headers).items()
    assert ("allow" in answer.headers) == (status == 405)


def test_a_handshake_that_it_refuses_itself_has_these_headers(proxy: Proxy) -> None:
    for target, status in ((None, 503), (f"ws://127.0.0.1:{free_port(0)}", 502)):
        proxy.websocket = target
        address = proxy.url.replace("http", "ws", 1) + "/events/ws"
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(address, proxy=None, open_timeout=PATIENCE),
        ):
            pytest.fail("it was opened")
        answer = refused.value.response
        assert answer.status_code == status
        assert (
            HEADERS.items() <= {name.lower(): text for name, text in answer.headers.items()}.items()
        )


@pytest.mark.parametrize(
    "path", ["/sagas", "/_issuer/jwks.json", "/_payment_provider/books", "/events/stream"]
)
def test_what_comes_through_it_has_these_headers_beside_its_own(
    http: httpx.Client, path: str
) -> None:
    answer = http.get(path)
    assert HEADERS.items() <= dict(answer.headers).items()
    assert not any(answer.headers.get_list(name)[1:] for name in HEADERS)


def test_a_policy_of_the_apis_own_stays_the_only_one(proxy: Proxy) -> None:
    async def strict(scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"Content-Security-Policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    proxy.stream = strict
    answer = httpx.get(f"{proxy.url}/events/stream", timeout=PATIENCE)
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"what is this\r\n\r\n", 400),
        (b"GET /sagas HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n", 400),
        (b"GET /events/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\n"
         b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_asked_has_these_headers(
    echo: str, proxy: Proxy, sent: bytes, status: int
) -> None:
    head, _, body = raw(proxy, sent).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first.split()[1] == str(status)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert HEADERS.items() <= headers.items()
    assert int(headers["content-length"]) == len(body)
    if headers["content-type"] == "application/problem+json":
        assert json.loads(body)["status"] == status
    else:
        assert "upgrade" in sent.decode()


# An app without live channels.


def test_without_live_channels_the_stream_is_the_apis_own(http: httpx.Client) -> None:
    answer = http.get("/events/stream")
    assert answer.status_code == 409 and answer.json()["path"].endswith("/events/stream")


def test_without_live_channels_there_is_no_websocket(proxy: Proxy, api: str) -> None:
    address = proxy.url.replace("http", "ws", 1) + "/events/ws"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(address, proxy=None, open_timeout=PATIENCE),
    ):
        pytest.fail("it was opened")
    assert refused.value.response.status_code == 404
    assert b"no live channels" in refused.value.response.body


# Who may call it.

HOME = "https://app.example.com"


@pytest.fixture
def http(api: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api, timeout=PATIENCE, trust_env=False) as made:
        yield made


def test_it_shows_the_emulator_that_it_is_the_proxy(http: httpx.Client) -> None:
    passes = [
        [value for name, value in answer.json()["headers"] if name == "x-recourse-proxy"]
        for answer in (
            http.get("/sagas"),
            http.get("/sagas", headers={"x-recourse-proxy": "mine"}),
        )
    ]
    assert passes == [[proxy_pass("secret").decode()]] * 2


@pytest.mark.parametrize("path", ["/health", "/_issuer/jwks.json", "/_payment_provider/books"])
def test_it_answers_by_its_own_names_alone(http: httpx.Client, path: str) -> None:
    port = http.base_url.port
    assert http.get(path, headers={"host": f"localhost:{port}"}).status_code != 421
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "0.0.0.0"):
        assert http.get(path, headers={"host": host}).status_code == 421


OTHER_PAGES: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://localhost"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
]


@pytest.mark.parametrize("page", OTHER_PAGES)
def test_a_page_of_another_origin_gets_nothing(
    http: httpx.Client, proxy: Proxy, page: dict[str, str]
) -> None:
    proxy.origins = [HOME]
    for path in ("/sagas", "/events/stream", "/_issuer/jwks.json", "/_payment_provider/books"):
        assert http.get(path, headers=page).status_code == 403
    charge = {"reference": "r", "amount": 1, "currency": "INR", "card": "c"}
    key = {"idempotency-key": "k"}
    assert (
        http.post("/_payment_provider/payments", headers=page | key, json=charge).status_code == 403
    )
    assert http.get("/_payment_provider/books").json() == {"journal": []}
    assert http.options("/sagas", headers=page).status_code == 403


def test_its_own_pages_and_those_of_the_stages_origins_call_the_api(
    http: httpx.Client, proxy: Proxy
) -> None:
    proxy.origins = [HOME]
    for origin in (HOME, proxy.url):
        page = {"origin": origin}
        said = http.post("/sagas", headers=page)
        assert said.status_code == 409 and ["origin", origin] in said.json()["headers"]
        assert http.options("/sagas", headers=page).status_code == 409
    # But what is no part of the API is nobody's.
    assert http.get("/_payment_provider/books", headers={"origin": HOME}).status_code == 403
    assert http.get("/_issuer/jwks.json", headers={"origin": HOME}).status_code == 403
    assert http.get("/_payment_provider/books", headers={"origin": proxy.url}).status_code == 200


def test_a_link_is_followed_from_anywhere(http: httpx.Client) -> None:
    link = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    assert http.get("/v/token", headers=link).status_code == 409
    assert http.post("/v/token", headers=link).status_code == 403


@pytest.mark.parametrize("page", [one for one in OTHER_PAGES if "origin" in one])
def test_a_page_of_another_origin_opens_no_websocket(
    echo: str, proxy: Proxy, page: dict[str, str]
) -> None:
    proxy.origins = [HOME]
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(echo, additional_headers=page, proxy=None, open_timeout=PATIENCE),
    ):
        pytest.fail("it was opened")
    assert refused.value.response.status_code == 403
    for origin in (HOME, proxy.url):
        with connect(
            echo,
            additional_headers={"origin": origin},
            subprotocols=[Subprotocol("v1")],
            proxy=None,
            open_timeout=PATIENCE,
        ) as opened:
            assert opened.recv(timeout=PATIENCE)


# What nobody sends by accident.


def raw(proxy: Proxy, request: bytes) -> bytes:
    """All that is answered until the connection ends."""
    address = "127.0.0.1", int(proxy.url.rpartition(":")[2])
    answer = b""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(request)
        while piece := connection.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../../../../_ministack/reset",
        "/../../../_ministack/reset",
        "/..",
        "/%2e%2e/%2E%2E/%2e./_ministack/reset",
        "/..%2f..%2f..%2f_ministack/reset",
        "//..//../../_ministack/reset",
        "/\\..\\..\\..\\_ministack\\reset",
        "/./a/.",
        "//evil.example/a",
        "/%252e%252e/a",
        "/a;/../b",
    ],
)
def test_no_path_leads_out_of_the_api(proxy: Proxy, api: str, path: str) -> None:
    head = f"POST {path}?a=/../.. HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = raw(proxy, head.encode())
    said = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert said["path"] == f"/_aws/execute-api/abc/$default{path}?a=/../.."


@pytest.mark.parametrize(
    "target", ["*", "_ministack/reset", "http://127.0.0.1/../../../_ministack/reset", "a:1"]
)
def test_a_target_that_is_no_path_leads_nowhere_else(proxy: Proxy, api: str, target: str) -> None:
    head = f"OPTIONS {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = raw(proxy, head.encode())
    status = answer.split()[1]
    if status == b"409":  # it reached the API
        said = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert said["path"].startswith("/_aws/execute-api/abc/$default/")
    else:
        assert status in (b"400", b"404")


HANDSHAKE = (
    "GET /events/ws{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


@pytest.mark.parametrize(
    ("query", "more", "status"),
    [
        ("", "Authorization: Bearer " + "x" * 9000 + "\r\n", b"431"),
        ("", "".join(f"X-{number}: y\r\n" for number in range(200)), b"431"),
        ("?after=" + "x" * 9000, "", b"414"),
    ],
)
def test_a_handshake_that_is_too_long_is_refused_at_once(
    echo: str, proxy: Proxy, query: str, more: str, status: bytes
) -> None:
    handshake = HANDSHAKE.format(query=query, more=more).encode()
    assert raw(proxy, handshake).split()[1] == status


def test_where_no_websocket_answers_it_says_so(proxy: Proxy) -> None:
    proxy.websocket = f"ws://127.0.0.1:{free_port(0)}/stage"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            proxy.url.replace("http", "ws", 1) + "/events/ws",
            proxy=None,
            open_timeout=PATIENCE,
        ),
    ):
        pytest.fail("it was opened")
    assert refused.value.response.status_code == 502
