"""What the console's page may do in a real browser: sign in, call its API, its socket and S3.

A page stands in for the console, under the policy that the console has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websocket_server
from websockets.typing import Subprotocol

from recourse.local.aws import KEY_ID, REGION, client, root_secret
from recourse.local.emulator import Emulator
from recourse.local.issuer import Issuer, issuer_of
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from tests.browser import Tab, tab
from tests.local.test_proxy import upstream
from tests.patience import until
from tests.signing_in import fill_in

__all__ = ["upstream"]

pytestmark = pytest.mark.xdist_group("emulator")

INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A console</title>
<link rel="stylesheet" href="/assets/style-b2.css">
<script type="module" crossorigin src="/assets/index-a1.js"></script>
<script>window.inline = true;</script>
<body onclick="window.inline = true" style="color: red"></body></html>"""
SCRIPT = """
const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const config = await (await fetch("/console.json")).json();
const ask = (url, fields) => fetch(url, { method: "POST", body: new URLSearchParams(fields) });
const redirect_uri = `${location.origin}/`;

window.signIn = async () => {
  const verifier = base64(crypto.getRandomValues(new Uint8Array(32)));
  const state = base64(crypto.getRandomValues(new Uint8Array(16)));
  sessionStorage.setItem("asked", JSON.stringify({ verifier, state }));
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  location.assign(`${config.authorize}?${new URLSearchParams({
    response_type: "code", client_id: config.client_id, redirect_uri, state,
    scope: config.scopes.join(" "),
    code_challenge: base64(hash), code_challenge_method: "S256",
  })}`);
};

const back = new URLSearchParams(location.search);
if (back.has("code")) {
  const { verifier, state } = JSON.parse(sessionStorage.getItem("asked"));
  history.replaceState(null, "", "/");
  const answer = await ask(config.token, {
    grant_type: "authorization_code", client_id: config.client_id, redirect_uri,
    code: back.get("code"), code_verifier: verifier,
  });
  const granted = await answer.json();
  const call = await fetch(`${config.api}/sagas`, {
    headers: { authorization: `Bearer ${granted.access_token}` },
  });
  const reached = Object.fromEntries((await call.json()).headers);
  const again = await (await ask(config.token, {
    grant_type: "refresh_token", client_id: config.client_id, refresh_token: granted.refresh_token,
  })).json();
  const revoked = await ask(config.revoke, {
    client_id: config.client_id, token: again.refresh_token,
  });
  window.signedIn = {
    right: back.get("state") === state && back.get("iss") === config.issuer,
    scope: granted.scope, bearer: reached.authorization === `Bearer ${granted.access_token}`,
    referer: reached.referer ?? null, refreshed: Boolean(again.access_token),
    revoked: revoked.status,
  };
}

window.tried = (promise) => {
  window.told = null;
  promise.then((found) => { window.told = found; }, () => { window.told = "failed"; });
};
window.send = (url, how) => window.tried(fetch(url, how).then(
  async (answer) => [answer.status, answer.headers.get("etag"), await answer.text()]));
window.open_socket = (url) => window.tried(new Promise((done, fail) => {
  const socket = new WebSocket(url, ["v1", "bearer.x"]);
  socket.onmessage = ({ data }) => { socket.close(); done(data); };
  socket.onerror = fail;
}));
window.draw = () => window.tried(Promise.resolve().then(() => {
  document.body.innerHTML = "<b>text of somebody</b>";
}));
window.ready = true;
"""
TWICE = pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
PUT = {
    "method": "PUT",
    "headers": {"content-type": "application/pdf", "if-none-match": "*"},
    "body": "of a page",
}


@pytest.fixture
def proxy(tmp_path: Path, closed: Emulator, upstream: str) -> Iterator[Proxy]:
    assets = tmp_path / "console" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text(INDEX)
    (assets / "index-a1.js").write_text(SCRIPT)
    (assets / "style-b2.css").write_text("body { margin: 7px }")
    port = free_port(0)
    proxy = Proxy(
        port=port,
        issuer=Issuer(issuer_of(f"http://127.0.0.1:{port}"), tmp_path / "key.pem"),
        secret=root_secret(),
        aws_endpoint=closed.url,
        console=assets.parent,
    )
    proxy.start()
    proxy.target = upstream
    yield proxy
    proxy.stop()


def at(proxy: Proxy, name: str) -> str:
    return proxy.url.replace("127.0.0.1", name)


@pytest.fixture
def browser() -> Iterator[Tab]:
    with tab() as made:
        yield made


def opened(browser: Tab, url: str) -> None:
    browser.open(f"{url}/")
    until(lambda: browser.run("window.ready"), "the page's script has run")


def came_of(browser: Tab, script: str) -> Any:
    browser.run(script)
    return until(lambda: browser.run("window.told"), "what came of it")


def refused_by_policy(browser: Tab) -> list[str]:
    return [one for one in browser.problems if "Content Security Policy" in one]


@TWICE
def test_somebody_signs_in_with_the_passcode_and_calls_the_api(
    browser: Tab, proxy: Proxy, name: str
) -> None:
    opened(browser, at(proxy, name))
    browser.run("window.signIn()")
    passcode = proxy._issuer.passcode.text
    fill_in(browser, subject="asha", groups=["customer"], passcode="wrong")
    until(lambda: "is wrong" in (browser.run("document.body.innerText") or ""), "it is refused")
    fill_in(browser, subject="asha", groups=["reader"], passcode=passcode)
    until(lambda: browser.run("window.ready"), "the browser is sent back")
    assert browser.run("window.signedIn") == {
        "right": True,
        "scope": "sagas:read",
        "bearer": True,
        "referer": None,
        "refreshed": True,
        "revoked": 200,
    }
    assert browser.run("location.href") == f"{at(proxy, name)}/"


def test_the_page_runs_no_script_or_style_but_its_own(browser: Tab, proxy: Proxy) -> None:
    opened(browser, proxy.url)
    assert browser.run("getComputedStyle(document.body).marginTop") == "7px"
    assert browser.run("document.body.click(), window.inline ?? null") is None
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert came_of(browser, "window.draw()") == "failed", "text is never markup"
    assert refused_by_policy(browser)


@pytest.fixture
def echo(proxy: Proxy) -> Iterator[None]:
    """A WebSocket API that says by which path it was opened."""

    def serve(connection: ServerConnection) -> None:
        assert connection.request
        connection.send(connection.request.path)
        for _ in connection:
            pass

    with websocket_server(serve, "127.0.0.1", 0, subprotocols=[Subprotocol("v1")]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy.websocket = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/stage"
        yield
        server.shutdown()


@TWICE
@pytest.mark.usefixtures("echo")
def test_the_page_opens_its_socket(browser: Tab, proxy: Proxy, name: str) -> None:
    opened(browser, at(proxy, name))
    url = at(proxy, name).replace("http", "ws", 1) + "/api/events/ws?after=1"
    assert came_of(browser, f"window.open_socket({url!r})") == "/stage?after=1"


# S3.


def presigned(emulator: Emulator, way: str, bucket: str, key: str) -> str:
    signer = boto3.client(
        "s3",
        endpoint_url=emulator.url,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=root_secret(),
        config=Config(signature_version="s3v4"),
    )
    url: str = signer.generate_presigned_url(way, Params={"Bucket": bucket, "Key": key})
    return url


@pytest.fixture
def s3(closed: Emulator, proxy: Proxy) -> Any:
    """A bucket that lets the page in, as that of valet keys does, and one that does not."""
    root = client("s3", closed.url)
    rule = {
        "AllowedOrigins": [proxy.url, at(proxy, "localhost")],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["content-type", "if-none-match"],
        "ExposeHeaders": ["etag"],
    }
    for bucket in ("documents", "others"):
        root.create_bucket(Bucket=bucket)
    root.put_bucket_cors(Bucket="documents", CORSConfiguration={"CORSRules": [rule]})
    root.put_object(Bucket="others", Key="down", Body=b"of somebody")
    return root


@TWICE
def test_the_page_uploads_and_downloads_by_the_urls_that_it_was_given(
    browser: Tab, proxy: Proxy, closed: Emulator, s3: Any, name: str
) -> None:
    opened(browser, at(proxy, name))
    before = refused_by_policy(browser)
    up, down = (presigned(closed, way, "documents", "a") for way in ("put_object", "get_object"))
    status, etag, _ = came_of(browser, f"window.send({up!r}, {json.dumps(PUT)})")
    assert status == 200 and etag
    assert s3.get_object(Bucket="documents", Key="a")["Body"].read() == b"of a page"
    assert came_of(browser, f"window.send({down!r})") == [200, etag, "of a page"]
    assert refused_by_policy(browser) == before
    for way, how in (("get_object", "{}"), ("put_object", json.dumps(PUT))):
        url = presigned(closed, way, "others", "down")
        assert came_of(browser, f"window.send({url!r}, {how})") == "failed"
    assert s3.get_object(Bucket="others", Key="down")["Body"].read() == b"of somebody"


def test_the_page_calls_nobody_else(browser: Tab, proxy: Proxy) -> None:
    opened(browser, proxy.url)
    for url in (f"http://127.0.0.1:{free_port(0)}/", "https://evil.example/"):
        assert came_of(browser, f"window.send({url!r}, {{ mode: 'no-cors' }})") == "failed"
        assert any("connect-src" in one and url in one for one in refused_by_policy(browser)), url


def test_a_page_of_another_origin_gets_neither_the_page_nor_its_uploads(
    browser: Tab, proxy: Proxy, closed: Emulator, s3: Any, tmp_path: Path
) -> None:
    """Another console, of this machine too: one port further is another origin."""
    port = free_port(0)
    other = Proxy(
        port=port,
        issuer=Issuer(issuer_of(f"http://127.0.0.1:{port}"), tmp_path / "key.pem"),
        secret=root_secret(),
        aws_endpoint=f"{closed.url} {proxy.url}",
        console=tmp_path / "console",
    )
    other.start()
    try:
        opened(browser, other.url)
        up = presigned(closed, "put_object", "documents", "a")
        for url, how in (
            (up, PUT),
            (f"{proxy.url}/console.json", {}),
            (f"{proxy.url}/api/sagas", {}),
            (f"{proxy.url}/_issuer/token", {"method": "POST", "body": "client_id=x"}),
        ):
            assert came_of(browser, f"window.send({url!r}, {json.dumps(how)})") == "failed"
    finally:
        other.stop()
    assert "Contents" not in s3.list_objects_v2(Bucket="documents")
