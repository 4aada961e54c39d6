"""The console as the local cloud serves it: its files, its configuration, the API behind `/api`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from recourse.local.callers import PROXY_HEADER
from recourse.local.console import BUILT
from recourse.local.issuer import Issuer, issuer_of
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from recourse.problems import HEADERS
from tests.local.test_proxy import OTHER_PAGES, Upstream, echo, raw, upstream
from tests.patience import PATIENCE

__all__ = ["Upstream", "echo", "upstream"]

AWS = "http://127.0.0.1:4566"
INDEX = "<!doctype html><title>The console</title><script src=/assets/index-a1B2.js></script>"
SCRIPT = "document.title = 'It runs';"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    url = issuer_of(f"http://127.0.0.1:{free_port(0)}")
    return Issuer(url, tmp_path_factory.mktemp("issuer") / "key.pem", own=["approver"])


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A page that stands in for the built one, with what must not be served in and beside it."""
    assets = tmp_path / "console" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text(INDEX)
    (assets / "index-a1B2.js").write_text(SCRIPT)
    (assets / "style-c3.css").write_text("body{}")
    (assets / "mark-d4.svg").write_text("<svg/>")
    (assets / "font-e5.woff2").write_bytes(b"wOF2\x00\xff")
    for name in ("notes.txt", ".hidden.js"):
        (assets / name).write_text("a secret")
    (tmp_path / "secret.js").write_text("a secret")
    (assets.parent / "secret.js").write_text("a secret")
    (assets / "linked-f6.js").symlink_to(tmp_path / "secret.js")
    (assets / "folder.js").mkdir()
    os.mkfifo(assets / "pipe.js")
    return assets.parent


@pytest.fixture
def proxy(issuer: Issuer, built: Path) -> Iterator[Proxy]:
    proxy = Proxy(
        port=free_port(0), issuer=issuer, secret="secret", aws_endpoint=AWS, console=built
    )
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=PATIENCE, trust_env=False) as made:
        yield made


@pytest.fixture
def api(proxy: Proxy, upstream: str) -> str:
    proxy.target = f"{upstream}/_aws/execute-api/abc/$default"
    return proxy.url


# The page.


def test_the_page_is_there_before_the_api_is(http: httpx.Client) -> None:
    answer = http.get("/")
    assert (answer.status_code, answer.text) == (200, INDEX)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert http.get("/", params={"code": "any", "state": "any"}).text == INDEX
    for path in ("/api/health", "/health"):
        assert http.get(path).status_code == 503


def test_the_page_runs_its_own_scripts_alone_and_calls_what_it_needs(
    http: httpx.Client, proxy: Proxy
) -> None:
    headers = http.get("/").headers
    port = proxy.url.rpartition(":")[2]
    policy = dict(one.split(" ", 1) for one in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": f"'self' ws://127.0.0.1:{port} ws://localhost:{port} {AWS}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    for name in ("referrer-policy", "x-content-type-options"):
        assert headers.get_list(name) == [HEADERS[name]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index-a1B2.js", "text/javascript; charset=utf-8"),
        ("style-c3.css", "text/css; charset=utf-8"),
        ("mark-d4.svg", "image/svg+xml"),
        ("font-e5.woff2", "font/woff2"),
    ],
)
def test_an_asset_is_kept_for_a_year_and_is_of_its_type(
    http: httpx.Client, built: Path, name: str, kind: str
) -> None:
    answer = http.get(f"/assets/{name}")
    assert answer.content == (built / "assets" / name).read_bytes()
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    # What is opened by itself (a drawing can have scripts) runs nothing.
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("path", ["/", "/assets/index-a1B2.js"])
def test_what_a_browser_has_is_not_sent_again(http: httpx.Client, path: str) -> None:
    whole = http.get(path)
    tag = whole.headers["etag"]
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == whole.headers
    for said in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        again = http.get(path, headers={"if-none-match": said})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("etag", "cache-control", "content-security-policy"):
            assert again.headers[name] == whole.headers[name]
    assert http.get(path, headers={"if-none-match": '"another"'}).status_code == 200


def test_what_is_built_anew_is_served_at_once(http: httpx.Client, built: Path) -> None:
    tag = http.get("/").headers["etag"]
    (built / "index.html").write_text("<!doctype html><title>Another</title>")
    answer = http.get("/", headers={"if-none-match": tag})
    assert answer.status_code == 200 and "Another" in answer.text


def test_a_page_of_before_whose_policy_has_changed_is_sent_again(
    issuer: Issuer, built: Path, http: httpx.Client
) -> None:
    tag = http.get("/").headers["etag"]
    other = Proxy(port=free_port(0), issuer=issuer, secret="secret", console=built)
    other.start()
    try:
        answer = httpx.get(f"{other.url}/", headers={"if-none-match": tag}, timeout=PATIENCE)
    finally:
        other.stop()
    assert answer.status_code == 200
    assert AWS not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/none-a1.js",
        "/assets/.hidden.js",
        "/assets/notes.txt",
        "/assets/linked-f6.js",
        "/assets/folder.js",
        "/assets/pipe.js",
        "/assets/../secret.js",
        "/assets/../index.html",
        "/assets/..%2fsecret.js",
        "/assets/..%2f..%2fsecret.js",
        "/assets/%2e%2e/%2e%2e/secret.js",
        "/assets/..%5csecret.js",
        "/assets/%2e%2e%2fassets%2findex-a1B2.js",
        "/assets//index-a1B2.js",
        "/assets/./index-a1B2.js",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/index-a1B2.js%00",
        "/assets/index-a1B2.js%00.js",
        "/assets/%00",
        "/assets/index-a1B2.js%0a",
        "/assets/index-a1B2.js/",
        "/assets/%ff%fe.js",
        pytest.param(f"/assets/{'a' * 300}.js", id="long"),
        pytest.param(f"/assets/{'a' * 5000}.js", id="longer"),
    ],
)
def test_nothing_else_is_a_file_of_the_page(proxy: Proxy, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = raw(proxy, head.encode())
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.split()[1] == "404", head
    assert json.loads(body)["status"] == 404
    assert "cache-control: no-store" in head.lower()


def test_where_it_is_not_built_the_page_says_how_to_build_it(
    http: httpx.Client, built: Path
) -> None:
    for gone in (built / "index.html", built / "assets" / "index-a1B2.js"):
        gone.unlink()
    answer = http.get("/")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "`make setup` builds it" in answer.text
    assert HEADERS.items() <= dict(answer.headers).items()
    assert http.get("/assets/index-a1B2.js").status_code == 404
    assert http.get("/console.json").status_code == 200


def test_by_itself_it_is_where_the_build_puts_it() -> None:
    assert BUILT.parts[-2:] == ("recourse", "console")


# What the page is configured by.


def test_the_page_knows_its_api_and_where_to_sign_in_by_paths_of_its_own_origin(
    http: httpx.Client, issuer: Issuer
) -> None:
    answer = http.get("/console.json")
    assert answer.headers["cache-control"] == "no-store"
    scopes = http.get("/_issuer/.well-known/openid-configuration").json()["scopes_supported"]
    assert "approver" in scopes
    assert answer.json() == {
        "api": "/api",
        "sse": "/api/events/stream",
        "ws": "/api/events/ws",
        "issuer": issuer.url,
        "authorize": "/_issuer/authorize",
        "token": "/_issuer/token",
        "revoke": "/_issuer/revoke",
        "client_id": "recourse-console",
        "scopes": scopes,
        "scope_prefix": "",
    }


def test_an_app_without_live_channels_has_no_websocket(
    http: httpx.Client, proxy: Proxy, api: str
) -> None:
    said = http.get("/console.json").json()
    assert (said["ws"], said["sse"]) == (None, "/api/events/stream")
    proxy.websocket = "ws://127.0.0.1:1/stage"
    assert http.get("/console.json").json()["ws"] == "/api/events/ws"


# The API behind `/api`.


@pytest.mark.parametrize(
    ("path", "reaches"),
    [
        ("/api/sagas/a%2Fb%20c?cursor=%3D&limit=2", "/sagas/a%2Fb%20c?cursor=%3D&limit=2"),
        ("/api/", "/"),
        ("/api//evil.example/a", "//evil.example/a"),
        ("/api/../../../_ministack/reset", "/../../../_ministack/reset"),
        ("/api/%2e%2e/_ministack/reset", "/%2e%2e/_ministack/reset"),
        ("/api/..%2f..%2f_ministack/reset", "/..%2f..%2f_ministack/reset"),
        ("/api/_issuer/token", "/_issuer/token"),
        ("/api/api/health", "/api/health"),
        ("/api/assets/x", "/assets/x"),
        ("/api/console.json", "/console.json"),
        # What is no `/api/…` is a path of the API's own, as before.
        ("/api", "/api"),
        ("/apix", "/apix"),
        ("/apix/health", "/apix/health"),
        ("/API/health", "/API/health"),
        ("/%61pi/health", "/%61pi/health"),
        ("/api%2fhealth", "/api%2fhealth"),
        ("/./api/health", "/./api/health"),
        ("//api/health", "//api/health"),
        ("/sagas/api/x", "/sagas/api/x"),
        ("/assetsx", "/assetsx"),
        ("/console.jsonx", "/console.jsonx"),
        ("/health", "/health"),
    ],
)
def test_the_api_is_behind_its_prefix_and_without_it(
    proxy: Proxy, api: str, path: str, reaches: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    said = json.loads(raw(proxy, head.encode()).partition(b"\r\n\r\n")[2])
    assert said["path"] == f"/_aws/execute-api/abc/$default{reaches}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_call_behind_the_prefix_goes_through_untouched(
    http: httpx.Client, api: str, method: str
) -> None:
    headers = {"Authorization": "Bearer x", "Idempotency-Key": "k", "If-Match": '"7"'}
    answer = http.request(method, "/api/sagas/x", headers=headers, content=b'{"a": 1}')
    assert (answer.status_code, answer.headers["etag"]) == (409, 'W/"7"')
    if method != "HEAD":
        said = answer.json()
        assert (said["method"], said["body"]) == (method, '{"a": 1}')
        passed = dict(said["headers"])
        assert [passed[name.lower()] for name in headers] == list(headers.values())
        assert PROXY_HEADER.decode() in passed


def test_the_stream_behind_the_prefix_is_the_stream(http: httpx.Client, proxy: Proxy) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        said = f"{scope['path']}?{scope['query_string'].decode()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said})

    assert http.get("/api/events/stream").status_code == 503
    proxy.stream = stream
    assert http.get("/api/events/stream?after=%3D").text.endswith("/events/stream?after=%3D")


def test_the_websocket_behind_the_prefix_is_the_websocket(echo: str, proxy: Proxy) -> None:
    url = proxy.url.replace("http", "ws", 1) + "/api/events/ws?after=%3D"
    protocols = [Subprotocol("v1"), Subprotocol("bearer.x")]
    with connect(url, subprotocols=protocols, proxy=None, open_timeout=PATIENCE) as opened:
        assert opened.subprotocol == "v1"
        assert json.loads(opened.recv(timeout=PATIENCE))["path"] == "/stage?after=%3D"
    for page in (one for one in OTHER_PAGES if "origin" in one):
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(url, additional_headers=page, proxy=None, open_timeout=PATIENCE),
        ):
            pytest.fail("it was opened")
        assert refused.value.response.status_code == 403


# Who may call it.


@pytest.mark.parametrize("page", OTHER_PAGES)
def test_a_page_of_another_origin_gets_nothing_of_it(
    http: httpx.Client, api: str, page: dict[str, str]
) -> None:
    for path in ("/", "/assets/index-a1B2.js", "/console.json", "/api/sagas"):
        assert http.get(path, headers=page).status_code == 403
    assert http.post("/api/sagas", headers=page).status_code == 403
    assert http.options("/api/sagas", headers=page).status_code == 403


def test_the_page_is_reached_by_a_link_and_by_both_of_its_names(
    http: httpx.Client, proxy: Proxy
) -> None:
    link = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    named = {"host": proxy.url.removeprefix("http://").replace("127.0.0.1", "localhost")}
    for headers in (link, named, link | named):
        assert http.get("/", headers=headers).text == INDEX
    for path in ("/", "/console.json", "/api/health"):
        assert http.get(path, headers={"host": "evil.example"}).status_code == 421
