"""No command sends a bearer token to another than its API, prints one, or ends in a traceback."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from recourse.cli import command, main, upload
from recourse.cli.api import Api
from recourse.cli.exits import ERRORS
from recourse.cli.names import LONGEST, file_name

API, ELSEWHERE, S3 = "http://api.test", "https://elsewhere.test", "http://s3.test"
Answers = Callable[[Callable[[httpx.Request], httpx.Response]], list[httpx.Request]]
COMMANDS = (
    ["list"],
    ["show", "s1"],
    ["watch", "s1"],
    ["events"],
    ["cancel", "s1"],
    ["reverse", "s1", "--reason", "ill"],
    ["resolve", "s1", "hotel", "--action", "retry"],
    ["redrive"],
    ["start", "order", "--request", "order.json"],
    ["valet", "put", "order.json"],
    ["valet", "get", "order.json", "--output", "new.json"],
    ["valet", "issue", "order.json"],
    ["valet", "revoke", "k1"],
    ["valet", "show"],
    ["valet", "show", "k1"],
)


def jwt(**claims: Any) -> str:
    packed = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "ES256"}, claims)
    ]
    return ".".join([*packed, "c2lnbmF0dXJl"])


BEARER = jwt(sub="asha", scope="sagas:read", iss="https://issuer.test", aud="recourse")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answers:
    """Let the API and S3 answer so; what they are asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("recourse.cli.api.time.sleep", lambda seconds: None)
    monkeypatch.setattr("recourse.cli.upload.pause", lambda *_: None)
    monkeypatch.setattr("recourse.cli.download.pause", lambda *_: None)
    Path("order.json").write_text('{"order_id": "o-1"}')

    def let(answer: Callable[[httpx.Request], httpx.Response]) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return answer(request)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        monkeypatch.setattr(upload, "client", lambda: httpx.Client(transport=transport))
        return asked

    return let


def run(*asked: str, token: str | None = BEARER, api: str = API) -> Result:
    options = ["--api", api, *(["--token", token] if token is not None else [])]
    return CliRunner().invoke(main.app, [*asked, *options])


def failed(*asked: str, token: str | None = BEARER, api: str = API) -> str:
    ended = run(*asked, token=token, api=api)
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code in ERRORS
    assert BEARER not in ended.output
    assert ended.stderr.startswith("recourse: ")
    return ended.stderr


def lends(request: httpx.Request) -> httpx.Response:
    """An API that redeems whatever it is given, and its S3."""
    if request.url.host == "s3.test":
        return httpx.Response(200, stream=httpx.ByteStream(b"text"))
    signed = {"method": "GET", "url": f"{S3}/x", "headers": {}}
    return httpx.Response(200, json=signed | {"token": "t" * 20, "key_id": "k1"})


@pytest.mark.parametrize("token", ["x", "x.y.z", jwt(jti="k1"), jwt(object="a.pdf")])
def test_a_link_gets_no_bearer_whatever_its_token_is(answers: Answers, token: str) -> None:
    asked = answers(lends)
    assert run("valet", "get", f"{ELSEWHERE}/v/{token}").exit_code == 0
    assert {one.url.host for one in asked} == {"elsewhere.test", "s3.test"}
    assert asked[0].url.path == "/valet-keys/redeem"
    assert not any("authorization" in one.headers for one in asked)


@pytest.mark.parametrize(
    "link",
    [
        f"{ELSEWHERE}/",
        f"{ELSEWHERE}/v/",
        "https:///v/x",
        "https://a:b@api.test/v/x",
        "http://[/v/x",
    ],
)
def test_what_is_no_link_of_a_key_is_refused_unasked(answers: Answers, link: str) -> None:
    asked = answers(lends)
    assert "must be that of a key" in failed("valet", "get", link)
    assert asked == []


def test_a_key_with_a_line_break_is_not_taken_for_a_name(answers: Answers) -> None:
    asked = answers(lends)
    key = jwt(object="a.pdf")
    said = failed("valet", "get", f"{key}\n")
    assert "must be one line of visible ASCII" in said and key not in said
    assert "U+000A" in failed("valet", "get", f"{ELSEWHERE}/v/{key}%0A")
    assert asked == []


@pytest.mark.parametrize(
    "scope", ["sagas:wirte", "sagas:read operators", "", " ", "sagas:read,operator"]
)
def test_a_scope_that_there_is_not_is_refused_with_those_that_there_are(scope: str) -> None:
    ended = CliRunner().invoke(main.app, ["token", "--subject", "asha", "--scope", scope])
    assert ended.exit_code == 2 and not ended.stdout
    assert " ".join(ended.stderr.split()) == (
        "recourse: --scope must be some of sagas:write, sagas:read, valet:issue, webhooks:write, "
        f"insurer, operator, separated by spaces, got {scope!r}"
    )


@pytest.mark.parametrize("at", ["\n", "\r\nx: y", " ", "é", "\x00"])
def test_a_token_that_cannot_be_sent_is_refused_and_never_printed(
    answers: Answers, at: str
) -> None:
    asked = answers(lambda _: httpx.Response(200, json={}))
    said = failed("list", token=f"{BEARER}{at}")
    assert f"must be one line of visible ASCII without spaces; it has U+{ord(at[0]):04X}" in said
    assert asked == []


def test_what_an_api_echoes_is_printed_without_the_token(answers: Answers) -> None:
    answers(lambda request: httpx.Response(400, text=request.headers["authorization"]))
    assert "400: Bearer <token>" in failed("list")
    opaque = "0123456789abcdef"
    assert opaque not in failed("list", token=opaque)


@pytest.mark.parametrize("asked", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_not_followed(
    answers: Answers, asked: list[str], status: int
) -> None:
    there = {"location": f"{ELSEWHERE}/next?secret=1"}
    requests = answers(lambda _: httpx.Response(status, headers=there))
    said = failed(*asked)
    assert f"redirects to {ELSEWHERE}/next ({status})" in said and "secret" not in said
    assert {one.url.host for one in requests} == {"api.test"}


@pytest.mark.parametrize("asked", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(200, text="<html>welcome</html>"),
        lambda _: httpx.Response(200),
        lambda _: httpx.Response(200, json=[1]),
        lambda _: httpx.Response(200, json={}),
        lambda _: httpx.Response(200, content=b"[" * 100_000),
        lambda _: httpx.Response(200, content=b'{"items": "\xff"}'),
        lambda _: httpx.Response(204),
        lambda _: httpx.Response(400, json=[1]),
        lambda _: httpx.Response(422, json={"title": 5, "errors": [1, {"field": None}, {}]}),
        lambda _: httpx.Response(429, text="", headers={"retry-after": "²"}),
        lambda _: httpx.Response(503, headers={"retry-after": "Thu, 01 Jan 1970 00:00:00 -0000"}),
        lambda _: httpx.Response(503, headers={"retry-after": "9" * 5000}),
    ],
)
def test_whatever_an_api_answers_ends_in_a_line(
    answers: Answers, asked: list[str], answer: Callable[[httpx.Request], httpx.Response]
) -> None:
    answers(answer)
    ended = run(*asked)
    if asked[:2] == ["valet", "revoke"] and ended.exit_code == 0:
        return  # its answer has no body to read
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code in ERRORS
    assert ended.stderr.count("recourse: ") == 1


@pytest.mark.parametrize("asked", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "problem",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("garbage"),
        httpx.DecodingError("no gzip"),
        httpx.StreamConsumed(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_an_api_that_cannot_be_reached_ends_in_a_line(
    answers: Answers, asked: list[str], problem: Exception
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise problem

    answers(answer)
    assert f"cannot reach the API at {API}" in failed(*asked)


@pytest.mark.parametrize(
    "api", ["", "api.test", "ftp://api.test", "http://", "http://[", "http://a:b@api.test", "\x1b"]
)
@pytest.mark.parametrize("asked", [["list"], ["token", "--subject", "asha"]], ids=" ".join)
def test_an_address_that_is_none_is_refused(answers: Answers, api: str, asked: list[str]) -> None:
    ended = CliRunner().invoke(main.app, [*asked, "--api", api])
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == 2
    assert "--api must be an address like https://api.example.com" in ended.stderr
    assert "a:b" not in ended.stderr


@pytest.mark.parametrize("id", ["a/b", "a?b", "a#b", "€5", "%2e", "नमस्ते", "../x"])
def test_an_id_stays_one_segment_of_the_path(answers: Answers, id: str) -> None:
    asked = answers(lambda _: httpx.Response(404, json={"title": "Not found"}))
    failed("show", id)
    assert asked[0].url.path == f"/sagas/{id}"
    assert asked[0].url.raw_path.count(b"/") == 2


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_would_be_another_path_is_refused(answers: Answers, id: str) -> None:
    asked = answers(lambda _: httpx.Response(200, json={}))
    for command_line in (["show", id], ["cancel", id], ["valet", "revoke", id]):
        assert "an id or a name must not be" in failed(*command_line)
    assert asked == []


@pytest.mark.parametrize("key", ["", "schlüssel", "a\nb", "x" * 256])
def test_a_key_that_the_api_does_not_take_is_refused(answers: Answers, key: str) -> None:
    asked = answers(lambda _: httpx.Response(202, json={}))
    said = failed("start", "order", "--request", "order.json", "--key", key)
    assert "--key must be 1 to 255 printable characters of ASCII" in said
    assert asked == []


@pytest.mark.parametrize("body", ['{"a": "\\ud800"}', '{"a": NaN}', "[" * 100_000, "\xff"])
def test_a_request_that_cannot_be_sent_ends_in_a_line(answers: Answers, body: str) -> None:
    answers(lambda _: httpx.Response(202, json={}))
    Path("order.json").write_bytes(body.encode("latin-1"))
    failed("start", "order", "--request", "order.json")
    failed("start", "order", "--request", "order.json", "--chaos", "hôtel=reject")


# What a 401 says.


def refused(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, json={"message": "Unauthorized"})


@pytest.mark.parametrize(
    ("claims", "api", "said"),
    [
        (
            {"iss": "http://127.0.0.1:8000/_issuer"},
            "http://127.0.0.1:8001",
            "the token is for the API at http://127.0.0.1:8000, this is http://127.0.0.1:8001",
        ),
        (
            {"iss": "http://127.0.0.1:8000/_issuer"},
            "https://api.test",
            "the token is for the API at http://127.0.0.1:8000, this is https://api.test",
        ),
        (
            {"iss": "http://127.0.0.1:8000/_issuer", "exp": time.time() - 5},
            "http://localhost:8000",
            "the token expired at ",
        ),
        (
            {"iss": "http://127.0.0.1:8000/_issuer", "exp": 1e308},
            "http://localhost:8000",
            "perhaps of another checkout",
        ),
        (
            {"iss": "https://issuer.test", "aud": ["billing"]},
            "https://api.test",
            "its issuer is https://issuer.test, its audience ['billing']",
        ),
        ({"iss": "http://[/_issuer", "exp": -1e308}, API, "the token is for the API at http://["),
        ({"iss": 5, "aud": "\x1b[2J", "exp": "soon"}, API, "its issuer is 5, its audience �[2J"),
    ],
)
def test_a_refused_token_is_compared_with_the_api(
    answers: Answers, claims: dict[str, Any], api: str, said: str
) -> None:
    answers(refused)
    token = jwt(**claims)
    told = failed("list", token=token, api=api)
    assert said in told and token not in told


def test_without_a_token_or_with_none_that_is_a_jwt_it_says_so(answers: Answers) -> None:
    answers(refused)
    local = "http://127.0.0.1:8000"
    assert f"needs a bearer token (401): get one with `recourse token --api {local}" in failed(
        "list", token=None, api=local
    )
    assert "which is not a JWT" in failed("list", token="opaque", api=local)


@pytest.mark.parametrize(
    "claimed",
    [
        {"scope": "sagas:read valet:issue"},
        {"scope": ["sagas:read", "valet:issue"]},
        {"scp": "valet:issue sagas:read"},
        {"scope": "", "scp": ["sagas:read", "valet:issue"]},
        {"scope": ["sagas:read"], "scp": "valet:issue"},
    ],
)
def test_a_forbidden_call_says_which_scopes_the_token_has(
    answers: Answers, claimed: dict[str, Any]
) -> None:
    answers(lambda _: httpx.Response(403, json={"message": "Forbidden"}))
    said = failed("list", token=jwt(sub="asha", iss="https://issuer.test", **claimed))
    assert "403: Forbidden (the token has the scopes 'sagas:read valet:issue')" in said


def test_a_local_token_is_for_loopback_by_any_of_its_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("recourse.local.issuer.folder", lambda: tmp_path)
    ended = CliRunner().invoke(
        main.app, ["token", "--subject", "asha", "--api", "http://localhost:8000/"]
    )
    assert ended.exit_code == 0
    assert ended.stdout.count(".") == 2 and ended.stdout.strip().isprintable()
    assert "issuer http://127.0.0.1:8000/_issuer, audience recourse" in ended.stderr
    assert "for asha at http://localhost:8000" in ended.stderr
    assert "webhooks:write" in ended.stderr and ended.stdout.strip() not in ended.stderr


# Names of files.


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("passports/asha.pdf", "asha.pdf"),
        ("पासपोर्ट/आशा.pdf", "आशा.pdf"),
        (".envrc", "envrc"),
        ("..", "document"),
        ("", "document"),
        ("a/", "document"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:evil.exe", "C_evil.exe"),
        ("CON", "_CON"),
        ("lpt1.txt", "_lpt1.txt"),
        ("-rf", "rf"),
        ("a\x1b[2J\n.pdf", "a_[2J_.pdf"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("trailing. .", "trailing"),
        ("\ud800.pdf", "_.pdf"),
        ("ア" * 100 + ".pdf", "ア" * 65 + ".pdf"),
    ],
)
def test_a_documents_name_becomes_a_safe_one(name: str, file: str) -> None:
    assert file_name(name) == file


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_no_name_is_a_path_or_hidden_or_too_long(name: str) -> None:
    made = file_name(name)
    assert 1 <= len(made.encode()) <= LONGEST + 1
    assert made == Path(made).name and made[0] not in ".-~ " and made[-1] not in ". "
    assert not set(made) & set('<>:"/\\|?*') and not any(ord(one) < 32 for one in made)
    assert file_name(made) == made


@pytest.mark.parametrize("name", [".envrc", "../.envrc", "/root/.ssh/authorized_keys", ".."])
def test_a_download_writes_a_safe_new_file_here_and_says_so(
    answers: Answers, tmp_path: Path, name: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    answers(lends)
    ended = run("valet", "get", jwt(object=name))
    assert ended.exit_code == 0, ended.output
    (made,) = {path.name for path in tmp_path.iterdir()} - before
    assert not made.startswith(".") and made in ended.stdout
    assert ("is no safe name for a file" in ended.stderr) == (made != name.rpartition("/")[2])
    assert "exists already" in failed("valet", "get", jwt(object=name))


def test_a_file_that_appears_meanwhile_is_not_replaced(answers: Answers, tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        Path("a.pdf").write_text("mine")
        return lends(request)

    answers(answer)
    assert "exists already" in failed("valet", "get", jwt(object="a.pdf"))
    assert Path("a.pdf").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a.pdf", "order.json"}


def test_a_file_that_cannot_be_written_is_named(answers: Answers) -> None:
    answers(lends)
    assert "cannot write missing/a.pdf: No such file" in failed(
        "valet", "get", jwt(object="a.pdf"), "--output", "missing/a.pdf"
    )
