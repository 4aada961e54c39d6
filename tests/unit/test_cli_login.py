"""`recourse login`: what comes back to its port, what an issuer answers, how tokens are kept."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from typer.testing import CliRunner, Result

from recourse.cli import command, logins, main
from recourse.cli.api import Api
from recourse.cli.callback import Callback, listening
from recourse.cli.logins import Login, Logins, bearer_of, place
from recourse.cli.oauth import Client, Endpoints, InvalidGrantError, LoginError, Request, Tokens
from recourse.local.ports import free_port
from tests.patience import PATIENCE

API, ISSUER = "https://api.test", "https://issuer.test"
ENDPOINTS = Endpoints(ISSUER, f"{ISSUER}/authorize", f"{ISSUER}/token", f"{ISSUER}/revoke")
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": ENDPOINTS.authorization,
    "token_endpoint": ENDPOINTS.token,
    "revocation_endpoint": ENDPOINTS.revocation,
}
SCRIPT = "<script>alert(1)</script>\x1b[2J"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which logins are kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("RECOURSE_API", "RECOURSE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "recourse" / "logins"


# What comes back to the port.


@pytest.fixture
def callback() -> Iterator[Callback]:
    with listening([f"http://127.0.0.1:{free_port(0)}/callback"]) as callback:
        yield callback


@pytest.fixture
def request_(callback: Callback) -> Request:
    return Request("client", callback.redirect_uri, "")


class Waiting:
    """A login that waits for its code, in a thread."""

    def __init__(self, callback: Callback, request: Request, endpoints: Endpoints) -> None:
        self.port = urlsplit(callback.redirect_uri).port
        self.state = request.state
        self._pool = ThreadPoolExecutor(1)
        callback.expects(request, endpoints)
        self._code = self._pool.submit(callback.code, seconds=PATIENCE)

    def send(
        self, query: Any, *, path: str = "/callback", method: str = "GET", host: str | None = None
    ) -> tuple[int, str, dict[str, str]]:
        with closing(HTTPConnection("127.0.0.1", self.port or 0, timeout=PATIENCE)) as http:
            target = f"{path}?{query if isinstance(query, str) else urlencode(query)}"
            http.request(method, target, headers={"Host": host or f"127.0.0.1:{self.port}"})
            answer = http.getresponse()
            headers = {name.lower(): text for name, text in answer.getheaders()}
            return answer.status, answer.read().decode(), headers

    @property
    def waits(self) -> bool:
        return not self._code.done()

    def code(self) -> str:
        return self._code.result(PATIENCE)


@pytest.fixture
def waiting(callback: Callback, request_: Request) -> Waiting:
    return Waiting(callback, request_, ENDPOINTS)


def test_the_code_of_the_login_is_taken_once(waiting: Waiting) -> None:
    good = {"code": "c1", "state": waiting.state}
    status, text, headers = waiting.send(good)
    assert (status, waiting.code()) == (200, "c1")
    assert "You may close this page" in text
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert waiting.send({**good, "code": "c2"})[0] == 400
    assert waiting.code() == "c1"


def test_nothing_that_others_send_ends_or_steers_a_login(waiting: Waiting) -> None:
    good = {"code": "evil", "state": waiting.state}
    assert waiting.send({"code": "evil"})[0] == 400
    assert waiting.send({"code": "evil", "state": "guessed"})[0] == 400
    assert waiting.send({"error": "access_denied"})[0] == 400
    assert (
        waiting.send({"error": SCRIPT, "error_description": SCRIPT, "state": "guessed"})[0] == 400
    )
    assert waiting.send({"state": waiting.state})[0] == 400
    assert waiting.send([*good.items(), ("state", "guessed")])[0] == 400
    assert waiting.send([*good.items(), ("code", "good")])[0] == 400
    assert waiting.send({**good, "iss": "https://evil.example"})[0] == 400
    assert waiting.send(f"code=%ff&state={waiting.state}")[0] == 400
    assert waiting.send(good, path="/")[0] == 404
    assert waiting.send(good, path="/callback/x")[0] == 404
    for host in ("evil.example", f"evil.example:{waiting.port}", f"localhost:{waiting.port}"):
        assert waiting.send(good, host=host)[0] == 421
    for method in ("POST", "HEAD", "PUT", "OPTIONS", "TRACE"):
        assert waiting.send(good, method=method)[0] == 405
    assert waiting.send({**good, "x": "y" * 9000})[0] == 414
    assert waiting.send({**good, "x": "y" * 70000})[0] == 414
    with closing(socket.create_connection(("127.0.0.1", waiting.port or 0))) as raw:
        raw.sendall(b"\x16\x03\x01 not http\r\n\r\n")
    with closing(socket.create_connection(("127.0.0.1", waiting.port or 0))):
        assert waiting.waits
        assert waiting.send({"code": "right", "state": waiting.state})[0] == 200
    assert waiting.code() == "right"


def test_nothing_that_is_sent_is_in_a_page(waiting: Waiting) -> None:
    for query in ({"error": SCRIPT, "state": waiting.state}, {"code": SCRIPT, "state": SCRIPT}):
        for path in ("/callback", f"/{SCRIPT.replace(chr(27), '')}"):
            assert "alert" not in waiting.send(query, path=path.replace(" ", ""))[1]


def test_an_error_of_the_issuer_is_told_in_words(waiting: Waiting) -> None:
    said = {"error": "access_denied", "error_description": f"no, {SCRIPT}"}
    assert waiting.send({**said, "state": waiting.state})[0] == 200
    with pytest.raises(LoginError) as told:
        waiting.code()
    assert "refused: access_denied: no, <script>" in str(told.value)
    assert "\x1b" not in str(told.value)


def test_where_the_issuer_names_itself_its_name_is_required(
    callback: Callback, request_: Request
) -> None:
    """Otherwise another issuer could have its code taken for this one's (RFC 9207)."""
    waiting = Waiting(callback, request_, Endpoints(ISSUER, "", "", "", names_itself=True))
    assert waiting.send({"code": "evil", "state": waiting.state})[0] == 400
    assert waiting.send({"code": "good", "state": waiting.state, "iss": ISSUER})[0] == 200
    assert waiting.code() == "good"


def test_what_nobody_answers_ends_in_time(callback: Callback, request_: Request) -> None:
    callback.expects(request_, ENDPOINTS)
    with pytest.raises(LoginError, match="nobody signed in within"):
        callback.code(seconds=0.05)


def test_the_first_free_port_is_taken_and_none_is_said() -> None:
    addresses = [f"http://127.0.0.1:{free_port(0)}/callback" for _ in range(2)]
    with listening(addresses) as one, listening(addresses) as other:
        assert [one.redirect_uri, other.redirect_uri] == addresses
        with (
            pytest.raises(LoginError, match="must be free, and all are in use"),
            listening(addresses),
        ):
            pytest.fail("it listens")


def test_a_request_has_a_state_and_a_verifier_of_its_own() -> None:
    one, other = (Request("client", "http://127.0.0.1/callback", "a b") for _ in range(2))
    assert one.state != other.state and one.verifier != other.verifier
    query = parse_qs(urlsplit(one.url(ENDPOINTS)).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["a b"]
    assert one.verifier not in one.url(ENDPOINTS)
    assert 43 <= len(one.verifier) <= 128
    assert one.verifier not in repr(one) and one.state not in repr(one)


# What an issuer answers.


def calls(answer: Answer) -> Client:
    return Client("client", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "https://evil.example"}, "are of another issuer: https://evil.example"),
        ({"issuer": None}, "are of another issuer"),
        (
            {"authorization_endpoint": "http://issuer.test/a"},
            "authorization_endpoint must be an https",
        ),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint must be"),
        ({"authorization_endpoint": "file:///etc/passwd"}, "authorization_endpoint must be"),
        ({"authorization_endpoint": "https://a:b@issuer.test"}, "authorization_endpoint must be"),
        ({"authorization_endpoint": "https://issuer.test/ --x"}, "authorization_endpoint must be"),
        ({"authorization_endpoint": "https://[/"}, "authorization_endpoint must be"),
        ({"token_endpoint": None}, "token_endpoint must be"),
        ({"token_endpoint": f"http://evil.test/{SCRIPT}"}, "token_endpoint must be"),
        ({"revocation_endpoint": "http://issuer.test/r"}, "revocation_endpoint must be"),
        ({"code_challenge_methods_supported": ["plain"]}, "does not support PKCE with S256"),
        ({"code_challenge_methods_supported": "S256"}, "does not support PKCE with S256"),
    ],
)
def test_metadata_that_lead_elsewhere_are_refused(changed: dict[str, Any], said: str) -> None:
    with (
        calls(lambda _: httpx.Response(200, json=METADATA | changed)) as client,
        pytest.raises(LoginError, match=said) as told,
    ):
        client.discover(ISSUER)
    assert "\x1b" not in str(told.value)


def test_the_metadata_of_an_issuer_are_found_beside_it() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"{ISSUER}/.well-known/openid-configuration"
        return httpx.Response(200, json=METADATA)

    with calls(answer) as client:
        assert client.discover(ISSUER) == ENDPOINTS
        for issuer in ("http://issuer.test", "issuer.test", "", "https://"):
            with pytest.raises(LoginError, match="--issuer must be an https address"):
                client.discover(issuer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(200, text="<html>"),
        lambda _: httpx.Response(200, json=[1]),
        lambda _: httpx.Response(200, json={}),
        lambda _: httpx.Response(200, json={"access_token": "a b", "token_type": "Bearer"}),
        lambda _: httpx.Response(200, json={"access_token": 5, "token_type": "Bearer"}),
        lambda _: httpx.Response(200, json={"access_token": "a", "token_type": "DPoP"}),
        lambda _: httpx.Response(200, content=b"[" * 100_000),
        lambda _: httpx.Response(302, headers={"location": "https://evil.example/"}),
        lambda _: httpx.Response(400, json={"error": SCRIPT, "error_description": [SCRIPT]}),
        lambda request: httpx.Response(400, text=request.content.decode()),
        lambda request: httpx.Response(400, json={"error": request.content.decode()}),
        lambda _: httpx.Response(500),
    ],
)
def test_whatever_an_issuer_answers_ends_in_a_line_without_a_token(answer: Answer) -> None:
    request = Request("client", "http://127.0.0.1/callback", "")
    with calls(answer) as client:
        attempts = (
            partial(client.exchange, ENDPOINTS.token, request, "the-secret-code"),
            partial(client.refresh, ENDPOINTS.token, "the-secret-refresh-token"),
        )
        for attempt in attempts:
            with pytest.raises(LoginError) as told:
                attempt()
            assert "the-secret" not in str(told.value) and request.verifier not in str(told.value)
            assert "\x1b" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("seconds", [None, "soon", -1, 0, 1e300])
def test_a_lifetime_that_is_none_is_a_short_one(seconds: Any) -> None:
    made = {"access_token": "a", "token_type": "bearer", "expires_in": seconds}
    with calls(lambda _: httpx.Response(200, json=made)) as client:
        assert client.refresh(ENDPOINTS.token, "r") == Tokens("a", "r", 300)


# How tokens are kept.


def login(*, lasts: float = 3600, access: str = "access-1", refresh: str = "refresh-1") -> Login:
    where = ENDPOINTS.token, ENDPOINTS.revocation
    until = time.time() + lasts
    return Login(place(API), ISSUER, "client", "", *where, access, refresh, until)


def keep(made: Login, api: str = API) -> Path:
    kept = Logins(api)
    with kept.locked():
        kept.write(made)
    return kept._path


def test_a_login_is_its_owners_alone(state: Path) -> None:
    file = keep(login())
    assert Logins(API).read() == Login(**json.loads(file.read_text()))
    assert file.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert {one.suffix for one in state.iterdir()} == {".json", ".lock"}
    assert "access-1" not in repr(login()) and "refresh-1" not in repr(login())


def test_a_file_that_others_may_have_read_or_put_there_is_refused(state: Path) -> None:
    file = keep(login())
    for mode in (0o640, 0o604, 0o620, 0o666):
        file.chmod(mode)
        with pytest.raises(LoginError, match=f"has mode {mode:04o}"):
            Logins(API).read()
    keep(login())
    assert file.stat().st_mode & 0o777 == 0o600, "a login made anew replaces it"
    moved = file.with_name("elsewhere")
    file.rename(moved)
    file.symlink_to(moved)
    with pytest.raises(LoginError, match="cannot be read"):
        Logins(API).read()
    before = moved.read_text()
    keep(login(access="access-2"))
    assert not file.is_symlink() and moved.read_text() == before, "no link is written through"
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(LoginError, match="must be a file of this user"):
        Logins(API).read()


def test_a_folder_or_a_lock_that_is_a_link_is_refused(state: Path, tmp_path: Path) -> None:
    file = keep(login())
    file.with_suffix(".lock").unlink()
    file.with_suffix(".lock").symlink_to(tmp_path / "made-by-the-lock")
    with pytest.raises(LoginError), Logins(API).locked():
        pytest.fail("it is locked")
    assert not (tmp_path / "made-by-the-lock").exists()
    state.rename(tmp_path / "elsewhere")
    state.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(LoginError, match="a folder of this user"),
        Logins(API).locked(),
    ):
        pytest.fail("it is locked")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"api": 5}', "\xff", "[" * 100_000])
def test_a_file_that_is_no_login_is_said(state: Path, content: str) -> None:
    file = keep(login())
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(LoginError, match="is not a login to"):
        Logins(API).read()


def test_a_login_is_for_one_api_by_any_way_to_write_its_address() -> None:
    same = "https://api.test", "https://API.test/", "https://api.test:443"
    assert len({place(one) for one in same}) == 1
    assert place("http://localhost:8000/") == place("http://127.0.0.1:8000")
    others = "https://api.test:444", "https://api.test/v1", "https://api.test.evil.example"
    assert len({place(one) for one in (*same, *others)}) == 4
    with pytest.raises(LoginError, match="a login is for an https address"):
        place("http://api.test")
    file = keep(login())
    file.rename(Logins("https://evil.example")._path)
    with pytest.raises(LoginError, match="is not a login to"):
        bearer_of("https://evil.example")


class Issuer:
    """An issuer that refreshes each token once, and counts; each code is exchanged."""

    def __init__(self) -> None:
        self.number, self.fails = 1, 0
        self.revoked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        said = {name: value for name, (value,) in parse_qs(request.content.decode()).items()}
        if request.method == "GET":
            return httpx.Response(200, json=METADATA)
        if said.get("code"):
            made = {"access_token": "access-new", "refresh_token": "refresh-new"}
            return httpx.Response(200, json=made | {"token_type": "Bearer", "expires_in": 3600})
        if self.fails:
            return httpx.Response(self.fails, json={"error": "server_error"})
        if request.url.path == "/revoke":
            self.revoked.append(said["token"])
            return httpx.Response(200)
        if said["refresh_token"] != f"refresh-{self.number}":
            return httpx.Response(400, json={"error": "invalid_grant"})
        self.number += 1
        made = {"access_token": f"access-{self.number}", "refresh_token": f"refresh-{self.number}"}
        return httpx.Response(200, json=made | {"token_type": "Bearer", "expires_in": 3600})


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    issuer = Issuer()
    transport = httpx.MockTransport(issuer)
    for module in ("logins", "login"):
        monkeypatch.setattr(
            f"recourse.cli.{module}.Client",
            lambda client, secret="": Client(client, secret, transport=transport),
        )
    return issuer


def test_of_many_that_find_a_token_expired_one_refreshes_it(issuer: Issuer) -> None:
    keep(login(lasts=5))
    bearers = [bearer_of(API) for _ in range(8)]
    together = threading.Barrier(8)

    def ask(bearer: Callable[[], str] | None) -> str:
        assert bearer
        together.wait(PATIENCE)
        return bearer()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, bearers)) == {"access-2"}
    assert issuer.number == 2
    kept = Logins(API).read()
    assert kept and (kept.access, kept.refresh) == ("access-2", "refresh-2")


def test_a_command_that_runs_for_long_goes_on_with_the_next_token(issuer: Issuer) -> None:
    keep(login(lasts=logins.EARLY + 5))
    bearer = bearer_of(API)
    assert bearer and bearer() == "access-1"
    keep(login(lasts=5))
    assert (again := bearer_of(API)) and again() == "access-2"


def test_who_signed_out_meanwhile_is_not_signed_in_again(issuer: Issuer) -> None:
    file = keep(login(lasts=5))
    bearer = bearer_of(API)
    file.unlink()
    assert bearer
    with pytest.raises(LoginError, match="you were signed out"):
        bearer()
    assert not file.exists() and issuer.number == 1


@pytest.mark.parametrize("lasts", [30, -30])
@pytest.mark.parametrize("how", ["down", "ended", "never"])
def test_a_token_that_cannot_be_refreshed_serves_until_it_ends(
    issuer: Issuer, lasts: float, how: str
) -> None:
    issuer.fails = 503 if how == "down" else 0
    keep(login(lasts=lasts, refresh="" if how == "never" else f"refresh-{how}"))
    bearer = bearer_of(API)
    assert bearer
    if lasts > 0:
        assert bearer() == "access-1"
        return
    with pytest.raises(LoginError) as told:
        bearer()
    assert isinstance(told.value, InvalidGrantError) is False
    if how == "down":
        assert "answered 503: server_error" in str(told.value)
    else:
        assert "has ended" in str(told.value) and "`recourse login --api https://api.test`" in str(
            told.value
        )


# Commands.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """What the API is asked by commands."""
    found: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found.append(request)
        return httpx.Response(200, json={"items": [], "cursor": None})

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    return found


def run(*line: str) -> Result:
    ended = CliRunner().invoke(main.app, line)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert "access-" not in ended.output and "refresh-" not in ended.output
    return ended


def test_a_command_sends_the_token_to_the_api_of_the_login_alone(
    asked: list[httpx.Request], issuer: Issuer
) -> None:
    keep(login())
    for api in ("https://api.test/", "https://other.test", "http://api.test", "http://127.0.0.1:1"):
        assert run("list", "--api", api).exit_code == 0
    sent = [one.headers.get("authorization") for one in asked]
    assert sent == ["Bearer access-1", None, None, None]


def test_a_token_that_is_given_comes_first(asked: list[httpx.Request]) -> None:
    keep(login())
    run("list", "--api", API, "--token", "given")
    run("list", "--api", API, "--token", "")
    assert [one.headers.get("authorization") for one in asked] == ["Bearer given", None]


def test_a_command_refreshes_what_has_expired(asked: list[httpx.Request], issuer: Issuer) -> None:
    keep(login(lasts=-5))
    assert run("list", "--api", API).exit_code == 0
    assert asked[0].headers["authorization"] == "Bearer access-2"


def login_again(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> Result:
    """`recourse login`, in whose browser somebody signs in."""

    def sign_in(page: str) -> bool:
        meanwhile()
        asked = parse_qs(urlsplit(page).query)
        sent = urlencode({"code": "c1", "state": asked["state"][0]})
        return httpx.get(f"{asked['redirect_uri'][0]}?{sent}", trust_env=False).is_success

    monkeypatch.setattr("webbrowser.open", sign_in)
    return run("login", "--api", API, "--timeout", str(PATIENCE))


def test_a_login_revokes_the_one_that_it_replaces_as_it_is_by_then(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = keep(login(refresh="refresh-0"))
    ended = login_again(monkeypatch, lambda: keep(login(refresh="refresh-1")))
    assert ended.exit_code == 0 and "revoked" not in ended.stderr
    assert issuer.revoked == ["refresh-1"]
    assert json.loads(file.read_text())["refresh"] == "refresh-new"


def test_a_login_stands_where_the_one_before_cannot_be_revoked_and_says_so(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.fails = 503
    file = keep(login())
    ended = login_again(monkeypatch, lambda: None)
    assert ended.exit_code == 0 and "signed in to https://api.test" in ended.stdout
    assert "the login before this one was not revoked: the issuer at" in ended.stderr
    assert json.loads(file.read_text())["refresh"] == "refresh-new"


def test_logout_revokes_and_deletes(issuer: Issuer) -> None:
    file = keep(login())
    ended = run("logout", "--api", API)
    assert ended.exit_code == 0 and "signed out of https://api.test" in ended.stdout
    assert "would be valid for 60 more minutes" in ended.stderr
    assert issuer.revoked == ["refresh-1"] and not file.exists()
    assert "nobody is signed in" in run("logout", "--api", API).stdout


def test_logout_deletes_where_the_issuer_cannot_be_told(issuer: Issuer) -> None:
    issuer.fails = 503
    file = keep(login())
    ended = run("logout", "--api", API)
    assert ended.exit_code == 1 and not file.exists()
    assert "signed out here, but the issuer was not told" in ended.stderr


def test_logout_deletes_what_cannot_be_used(issuer: Issuer) -> None:
    file = keep(login())
    file.chmod(0o644)
    assert run("logout", "--api", API).exit_code == 5
    assert not file.exists() and issuer.revoked == []


@pytest.mark.parametrize("options", [[], ["--issuer", ISSUER], ["--client", "c"]])
def test_the_first_login_needs_to_know_the_issuer_and_the_client(options: list[str]) -> None:
    ended = run("login", "--api", API, *options)
    assert ended.exit_code == 2
    assert "must have --issuer and --client: the output LoginCommand" in ended.stderr


@pytest.mark.parametrize(
    ("api", "code"), [("http://api.test", 5), ("ftp://x", 2), ("https://a:b@api.test", 2)]
)
def test_nobody_signs_in_to_an_address_in_the_clear(api: str, code: int) -> None:
    for line in ("login", "logout"):
        assert run(line, "--api", api).exit_code == code
