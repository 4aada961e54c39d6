"""`recourse valet`, against an API and an S3 that are played."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import lzma
import re
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from recourse.cli import command, journal, main, upload
from recourse.cli.api import Api
from recourse.cli.exits import ERRORS
from recourse.cli.journal import Journal

API, S3 = "http://api.test", "http://s3.test"
PART = 100
PDF = b"%PDF-1.7\n" + bytes(range(200)) * 3
PARTS = 7
EXPIRED = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
Trouble = Callable[[httpx.Request], httpx.Response | None]


def jwt(**claims: Any) -> str:
    packed = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "ES256"}, claims)
    ]
    return ".".join([*packed, "signature"])


BEARER = jwt(sub="asha")


def refusal(status: int, kind: str, title: str = "No", detail: str = "so it is") -> httpx.Response:
    body = {"type": f"urn:recourse:problem:{kind}", "title": title, "detail": detail}
    return httpx.Response(status, json=body)


@dataclass
class Played:
    """The API and S3, of one owner.

    Attributes:
        trouble: What is answered instead, where it is not None.
        said: The keys that were issued, by id: what was asked, and what has become of them.
        landed: What was sent, by key and part.
        sent: How often a part of the last key was sent.
        requests: All there were.
    """

    part_size: int = PART
    trouble: Trouble = lambda request: None
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    landed: dict[str, dict[int, bytes]] = field(default_factory=dict)
    sent: Counter[int] = field(default_factory=Counter)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        request.read()
        instead = self.trouble(request)
        if instead is not None:
            return instead
        return self._s3(request) if request.url.host == "s3.test" else self._api(request)

    def _api(self, request: httpx.Request) -> httpx.Response:
        _, first, *rest = request.url.path.split("/")
        assert first == "valet-keys"
        if rest == ["redeem"]:
            assert "authorization" not in request.headers
            return self._redeem(json.loads(request.content))
        assert request.headers["authorization"] == f"Bearer {BEARER}"
        if request.method == "POST" and not rest:
            return self._issue(json.loads(request.content))
        if not rest:
            items = [self._shown(key) for key in self.said]
            return httpx.Response(200, json={"items": items, "cursor": "next"})
        key = rest[0]
        if key not in self.said:
            return refusal(404, "not-found")
        if rest[1:] == ["complete"]:
            return self._complete(key)
        if request.method == "DELETE":
            self.said[key]["status"] = "REVOKED"
            return httpx.Response(204)
        row = {"time": "t", "action": "issue", "outcome": "allowed", "caller": "[red]asha"}
        row |= {"address": "::1"}
        if not request.url.params.get("cursor"):
            rows = [row | {"outcome": "key-revoked", "count": 1050, "last_time": "later"}]
            return httpx.Response(200, json=self._shown(key) | {"audit": rows, "cursor": "older"})
        return httpx.Response(200, json=self._shown(key) | {"audit": [row], "cursor": None})

    def _issue(self, asked: dict[str, Any]) -> httpx.Response:
        key = f"k{len(self.said)}"
        parts = None
        if asked["operation"] == "upload":
            length = asked["upload"]["content_length"]
            if length >= 2 * self.part_size:
                parts = {"part_size": self.part_size, "parts": -(-length // self.part_size)}
        token = jwt(jti=key, object=asked["object"])
        self.said[key] = asked | {"status": "ACTIVE", "multipart": parts, "uses": 0}
        self.landed[key] = {}
        self.sent.clear()
        answer = {"key_id": key, "token": token, "link": f"{API}/v/{token}", "multipart": parts}
        return httpx.Response(201, json=answer | {"expires_at": "2026-11-24T10:00:00.000Z"})

    def _shown(self, key: str) -> dict[str, Any]:
        return self.said[key] | {"key_id": key, "expires_at": "2026-11-24T10:00:00.000Z"}

    def _redeem(self, asked: dict[str, Any]) -> httpx.Response:
        padded = asked["token"].split(".")[1] + "=="
        key = json.loads(base64.urlsafe_b64decode(padded))["jti"]
        said = self.said[key]
        if said["status"] == "REVOKED":
            return refusal(410, "key-revoked", "The key was revoked")
        if said["operation"] == "download":
            said["uses"] += 1
            if said["uses"] > said["max_uses"]:
                return refusal(410, "key-used-up", "The key is used up")
            signed = {"method": "GET", "url": f"{S3}/{said['object']}", "headers": {}}
            return httpx.Response(200, json=signed)
        part = asked.get("part", {"number": 0, "sha256": said["upload"]["sha256"]})
        headers = {
            "content-length": str(part.get("content_length", said["upload"]["content_length"])),
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(part["sha256"])).decode(),
        }
        url = f"{S3}/{key}?part={part['number']}"
        return httpx.Response(200, json={"method": "PUT", "url": url, "headers": headers})

    def _complete(self, key: str) -> httpx.Response:
        body = b"".join(self.landed[key][number] for number in sorted(self.landed[key]))
        said = self.said[key]
        if said["status"] == "REVOKED":
            return refusal(410, "key-revoked", "The key was revoked")
        assert hashlib.sha256(body).hexdigest() == said["upload"]["sha256"]
        said["status"] = "COMPLETED"
        self.objects[said["object"]] = body
        done = {"key_id": key, "object": said["object"], "version": "v1"} | said["upload"]
        return httpx.Response(200, json=done)

    def _s3(self, request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        if request.method == "GET":
            return self._sent_down(request)
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        own = {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert set(request.headers) - own == {"content-length", "x-amz-checksum-sha256"}
        assert int(request.headers["content-length"]) == len(request.content)
        checksum = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        assert request.headers["x-amz-checksum-sha256"] == checksum
        number = int(request.url.params["part"])
        self.sent[number] += 1
        self.landed[request.url.path[1:]][number] = request.content
        with self._lock:
            self._at_once -= 1
        return httpx.Response(200)

    def _sent_down(self, request: httpx.Request) -> httpx.Response:
        body = self.objects[request.url.path[1:]]
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if not wanted:
            known = {"etag": '"1"', "content-length": str(len(body))}
            return httpx.Response(200, stream=httpx.ByteStream(body), headers=known)
        assert request.headers["if-match"] == '"1"'
        start = int(wanted[1])
        known = {"content-range": f"bytes {start}-{len(body) - 1}/{len(body)}", "etag": '"1"'}
        return httpx.Response(206, stream=httpx.ByteStream(body[start:]), headers=known)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    """Both, and a folder of one's own to remember uploads in."""
    made = Played()
    transport = httpx.MockTransport(made)
    monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
    monkeypatch.setattr(upload, "client", lambda: httpx.Client(transport=transport))
    monkeypatch.setattr(upload, "pause", lambda *_: None)
    monkeypatch.setattr("recourse.cli.download.pause", lambda *_: None)
    monkeypatch.setattr(command.out, "_width", 200)
    monkeypatch.setattr(command.err, "_width", 200)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "asha.pdf"
    path.write_bytes(PDF)
    return path


def ran(*asked: str, bearer: str = BEARER) -> Result:
    options = ["--api", API, *(["--token", bearer] if bearer else [])]
    return CliRunner().invoke(main.app, ["valet", *asked, *options], catch_exceptions=False)


def done(*asked: str, bearer: str = BEARER) -> str:
    ended = ran(*asked, bearer=bearer)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def failed(*asked: str) -> str:
    ended = ran(*asked)
    assert ended.exit_code in ERRORS, ended.output
    return ended.stderr


def remembered() -> list[Path]:
    return list(journal.folder().glob("*"))


def at(number: int) -> Callable[[httpx.Request], bool]:
    return lambda request: request.url.params.get("part") == str(number)


def once(true: Callable[[httpx.Request], bool], answer: Trouble) -> Trouble:
    left = [True]

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if left and true(request):
            left.clear()
            return answer(request)
        return None

    return trouble


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


# Up.


def test_a_small_document_is_one_request(played: Played, file: Path) -> None:
    played.part_size = 10_000
    told = json.loads(done("put", str(file), "--object", "passports/asha.pdf", "--json"))
    assert played.objects == {"passports/asha.pdf": PDF}
    assert told["sha256"] == hashlib.sha256(PDF).hexdigest()
    assert played.said["k0"]["upload"]["content_type"] == "application/pdf"
    assert played.sent == {0: 1}
    assert not remembered()


def test_a_large_one_is_sent_in_parts_and_a_few_at_once(played: Played, file: Path) -> None:
    shown = done("put", str(file))
    assert played.objects == {"asha.pdf": PDF}
    assert played.sent == dict.fromkeys(range(1, PARTS + 1), 1)
    assert played.most_at_once <= upload.PARALLEL_PARTS
    assert f"asha.pdf: {len(PDF)} bytes, application/pdf" in shown
    assert not remembered()


def test_after_an_interruption_only_what_is_missing_is_sent(played: Played, file: Path) -> None:
    played.trouble = lambda request: broken(request) if at(5)(request) else None
    assert "S3 cannot be reached" in failed("put", str(file))
    (path,) = remembered()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first = set(played.sent)
    assert first and 5 not in first
    remembers = {int(line) for line in path.read_text().splitlines()[1:]}
    assert remembers <= first

    played.trouble = lambda request: None
    played.sent.clear()
    done("put", str(file))
    assert set(played.sent) == set(range(1, PARTS + 1)) - remembers
    assert played.objects == {"asha.pdf": PDF}
    assert list(played.said) == ["k0"], "the key of before was used on"
    assert not remembered()


def test_what_a_crash_cut_off_counts_as_not_sent(played: Played, file: Path) -> None:
    played.trouble = lambda request: broken(request) if at(5)(request) else None
    failed("put", str(file))
    (path,) = remembered()
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n1\n2\n3")
    played.landed["k0"] = {1: PDF[:PART], 2: PDF[PART : 2 * PART]}
    played.trouble = lambda request: None
    played.sent.clear()
    done("put", str(file))
    assert set(played.sent) == set(range(3, PARTS + 1))


@pytest.mark.parametrize("status", ["EXPIRED", "gone"])
def test_a_key_that_is_not_good_any_more_is_replaced(
    played: Played, file: Path, status: str
) -> None:
    played.trouble = lambda request: broken(request) if at(5)(request) else None
    failed("put", str(file))
    if status == "gone":
        played.said["other"] = played.said.pop("k0")
    else:
        played.said["k0"]["status"] = status
    played.trouble = lambda request: None
    done("put", str(file))
    assert played.sent == dict.fromkeys(range(1, PARTS + 1), 1)
    assert played.objects == {"asha.pdf": PDF}


def test_what_was_revoked_meanwhile_is_said_once(played: Played, file: Path) -> None:
    played.trouble = lambda request: broken(request) if at(5)(request) else None
    failed("put", str(file))
    played.said["k0"]["status"] = "REVOKED"
    played.trouble = lambda request: None
    assert "interrupted upload has been revoked" in failed("put", str(file))
    assert not remembered()
    done("put", str(file))
    assert list(played.said) == ["k0", "k1"]


def test_another_content_is_another_upload(played: Played, file: Path) -> None:
    played.trouble = lambda request: broken(request) if at(5)(request) else None
    failed("put", str(file))
    played.trouble = lambda request: None
    file.write_bytes(PDF[::-1])
    done("put", str(file))
    assert played.objects == {"asha.pdf": PDF[::-1]}
    assert len(remembered()) == 1, "the one that was interrupted may still go on"


def test_the_same_upload_is_not_made_twice_at_once(played: Played, file: Path) -> None:
    about = (API, "asha", "asha.pdf", "application/pdf", hashlib.sha256(PDF).hexdigest())
    with Journal(*about):
        assert "another process is sending the same upload" in failed("put", str(file))
    done("put", str(file))


@pytest.mark.parametrize("part_size", [PART, 10_000])
def test_a_url_that_has_expired_on_the_way_is_replaced(
    played: Played, file: Path, part_size: int
) -> None:
    played.part_size = part_size
    number = 3 if part_size == PART else 0
    played.trouble = once(at(number), lambda _: httpx.Response(403, text=EXPIRED))
    done("put", str(file))
    assert played.objects == {"asha.pdf": PDF}
    redeems = [one for one in played.requests if one.url.path == "/valet-keys/redeem"]
    assert len(redeems) == len(played.sent) + 1


def test_an_api_that_is_busy_is_asked_again(played: Played, file: Path) -> None:
    def is_redeem(request: httpx.Request) -> bool:
        return request.url.path == "/valet-keys/redeem"

    played.trouble = once(is_redeem, lambda _: refusal(429, "too-often"))
    done("put", str(file))
    assert played.objects == {"asha.pdf": PDF}


def test_an_upload_whose_answer_was_lost_is_completed(played: Played, file: Path) -> None:
    played.part_size = 10_000

    def lost(request: httpx.Request) -> httpx.Response:
        if played.sent:
            return httpx.Response(412)
        played.sent[0] += 1
        played.landed["k0"][0] = request.content
        raise httpx.ReadError("gone", request=request)

    played.trouble = lambda request: lost(request) if request.url.host == "s3.test" else None
    done("put", str(file))
    assert played.objects == {"asha.pdf": PDF}


def test_what_is_quarantined_is_said_and_forgotten(played: Played, file: Path) -> None:
    def is_complete(request: httpx.Request) -> bool:
        return request.url.path.endswith("/complete")

    played.trouble = once(is_complete, lambda _: refusal(422, "wrong-content", "Another type"))
    assert "quarantined, not visible to anyone: Another type" in failed("put", str(file))
    assert not remembered()


def test_a_revoked_key_ends_an_upload(played: Played, file: Path) -> None:
    def revoking(request: httpx.Request) -> None:
        played.said["k0"]["status"] = "REVOKED"

    played.trouble = once(at(2), revoking)
    assert "The key was revoked (410)" in failed("put", str(file))
    assert not remembered()


def test_a_file_that_changes_on_the_way_is_told_from_a_network_that_fails(
    played: Played, file: Path
) -> None:
    bad = "<Error><Code>BadDigest</Code><Message>no</Message></Error>"
    played.trouble = once(at(2), lambda _: httpx.Response(400, text=bad))
    assert "changed while it was being sent" in failed("put", str(file))


def test_a_type_that_was_only_guessed_gives_way_to_octets(played: Played, file: Path) -> None:
    file = file.rename(file.with_name("asha"))
    done("put", str(file), "--type", "application/octet-stream")
    played.trouble = lambda request: (
        refusal(422, "unknown-content-type")
        if b'"application/zip"' in request.content and request.url.path == "/valet-keys"
        else None
    )
    zipped = file.with_name("asha.zip")
    zipped.write_bytes(b"PK\x03\x04" + PDF)
    told = json.loads(done("put", str(zipped), "--json"))
    assert told["content_type"] == "application/octet-stream"
    assert "No (422)" in failed("put", str(zipped), "--type", "application/zip")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.tar.gz", gzip.compress(b"a", mtime=0), "application/gzip"),
        ("a.csv.gz", gzip.compress(b"a", mtime=0), "application/gzip"),
        ("a.tar.xz", lzma.compress(b"a"), "application/x-xz"),
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "image/heic"),
        ("a.csv", "größe".encode(), "text/csv"),
        ("a.csv", "größe".encode("cp1252"), "application/octet-stream"),
        ("a.xml", b'<?xml version="1.0" encoding="latin1"?><a>\xf6</a>', "application/xml"),
        ("a.jpg", b"\x89PNG\r\n\x1a\n" + bytes(40), "application/octet-stream"),
    ],
)
def test_a_type_is_guessed_by_the_name_if_the_content_bears_it_out(
    played: Played, tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done("put", str(tmp_path / name))
    assert played.said["k0"]["upload"]["content_type"] == kind
    done("issue", "a", "--operation", "upload", "--file", str(tmp_path / name))
    assert played.said["k1"]["upload"]["content_type"] == kind


def test_what_cannot_be_sent_is_refused_before_a_key_is_issued(
    played: Played, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    assert "is empty" in failed("put", "empty")
    assert "No such file" in failed("put", "nowhere")
    assert "Is a directory" in failed("put", ".")
    assert not played.requests


# Down.


def test_ones_own_is_fetched_by_its_name(played: Played, tmp_path: Path) -> None:
    played.objects["passports/asha.pdf"] = PDF
    shown = done("get", "passports/asha.pdf")
    assert (tmp_path / "asha.pdf").read_bytes() == PDF
    assert f"asha.pdf: {len(PDF)} bytes\n  sha256  {hashlib.sha256(PDF).hexdigest()}" in shown
    assert "exists already" in failed("get", "passports/asha.pdf")
    done("get", "passports/asha.pdf", "--output", "asha.pdf")


@pytest.mark.parametrize("by", ["token", "link"])
def test_anybodys_is_fetched_by_a_key_and_without_a_bearer(
    played: Played, tmp_path: Path, by: str
) -> None:
    played.objects["invoices/1.pdf"] = PDF
    key = json.loads(done("issue", "invoices/1.pdf", "--json"))
    told = json.loads(done("get", key[by], "--output", "here.pdf", "--json", bearer=""))
    assert (tmp_path / "here.pdf").read_bytes() == PDF
    assert told["object"] == "invoices/1.pdf"
    assert "The key is used up" in failed("get", key[by], "--output", "again.pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.pdf"]


class Breaking(httpx.SyncByteStream):
    """Bytes that break off."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        raise httpx.ReadError("gone")


def breaks_off(request: httpx.Request) -> httpx.Response:
    known = {"content-length": str(len(PDF)), "etag": '"1"'}
    return httpx.Response(200, stream=Breaking(PDF[:50]), headers=known)


def is_down(request: httpx.Request) -> bool:
    return request.url.host == "s3.test"


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    played: Played, tmp_path: Path
) -> None:
    played.objects["asha.pdf"] = PDF
    played.trouble = once(is_down, breaks_off)
    done("get", "asha.pdf")
    assert (tmp_path / "asha.pdf").read_bytes() == PDF
    *_, last = played.requests
    assert last.headers["range"] == "bytes=50-"


def test_a_document_that_was_replaced_meanwhile_is_fetched_from_its_beginning(
    played: Played, tmp_path: Path
) -> None:
    played.objects["asha.pdf"] = PDF
    answers: list[Callable[[httpx.Request], httpx.Response]] = [
        breaks_off,
        lambda _: httpx.Response(412),
    ]
    played.trouble = lambda request: (
        answers.pop(0)(request) if is_down(request) and answers else None
    )
    done("get", "asha.pdf")
    assert (tmp_path / "asha.pdf").read_bytes() == PDF


def test_a_key_for_one_use_says_what_broke(played: Played, tmp_path: Path) -> None:
    played.objects["asha.pdf"] = PDF
    key = json.loads(done("issue", "asha.pdf", "--json"))
    played.trouble = once(is_down, breaks_off)
    said = failed("get", key["token"])
    assert "the connection to S3 broke off" in said and "the key is used up" in said
    assert not list(tmp_path.glob("*asha*")), "nothing is left of half a document"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, "SHA-256 mismatch"),
        ({"content-length": str(len(PDF) + 1)}, f"after {len(PDF)} of {len(PDF) + 1} bytes"),
    ],
)
def test_what_is_not_whole_is_not_kept(
    played: Played, tmp_path: Path, headers: dict[str, str], said: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response | None:
        stream = httpx.ByteStream(PDF)
        return httpx.Response(200, stream=stream, headers=headers) if is_down(request) else None

    played.trouble = answer
    assert said in failed("get", "asha.pdf")
    assert not list(tmp_path.glob("*asha*"))


def test_a_redirect_is_not_followed(played: Played) -> None:
    there = {"location": "http://elsewhere.test/"}
    played.trouble = lambda request: (
        httpx.Response(307, headers=there) if is_down(request) else None
    )
    assert "S3 refused (307)" in failed("get", "asha.pdf")
    assert {one.url.host for one in played.requests} == {"api.test", "s3.test"}


def test_an_uploads_key_fetches_nothing(played: Played, file: Path) -> None:
    key = json.loads(done("issue", "x.pdf", "--operation", "upload", "--file", str(file), "--json"))
    assert "the key is for an upload" in failed("get", key["token"])


# Keys.


def test_a_key_is_issued_with_all_that_its_holder_needs(played: Played, file: Path) -> None:
    shown = done("issue", "asha.pdf", "--max-uses", "3", "--expires-in", "60")
    assert played.said["k0"]["max_uses"] == 3 and played.said["k0"]["expires_in"] == 60
    token = jwt(jti="k0", object="asha.pdf")
    assert f"token {token}\n" in shown and f"link  {API}/v/{token}\n" in shown
    shown = done("issue", "asha.pdf", "--operation", "upload", "--file", str(file))
    assert "link" not in shown
    assert played.said["k1"]["upload"]["sha256"] == hashlib.sha256(PDF).hexdigest()
    assert "--file" in failed("issue", "asha.pdf", "--operation", "upload")
    assert "are for --operation upload" in failed("issue", "asha.pdf", "--file", str(file))


def test_a_key_is_shown_with_its_audit_and_revoked(played: Played) -> None:
    done("issue", "asha.pdf")
    assert "k0 ACTIVE: download of asha.pdf, used 0 of 1 times" in done("show", "k0")
    assert "[red]asha" in done("show", "k0"), "as it is, not taken for markup"
    assert "next page: --cursor next" in done("show")
    assert "1050 times" in done("show", "k0")
    assert "next page: --cursor older" in done("show", "k0")
    assert "next page" not in done("show", "k0", "--cursor", "older")
    assert done("revoke", "k0") == "k0 is revoked\n"
    assert "REVOKED" in done("show", "k0")
    assert json.loads(done("show", "--json"))["items"][0]["status"] == "REVOKED"
    done("revoke", "k0", "--withdraw")
    assert played.requests[-1].url.params["withdraw"] == "true"
    assert "No (404)" in failed("show", "k9")
