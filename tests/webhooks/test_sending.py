"""One attempt, against real sockets: pinned, bounded, and never a crash."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server, socket
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from recourse.webhooks.addresses import checked, endpoint
from recourse.webhooks.sending import MAX_ANSWER_BYTES, MAX_EXCERPT, Answer, Sender
from tests.patience import PATIENCE

BODY = b'{"type":"recourse.order.started"}'
Play = Callable[[socket], None]


def request(line: socket) -> bytes:
    """A whole request."""
    got = b""
    while not got.endswith(BODY):
        got += line.recv(65536)
    return got


@contextmanager
def server(play: Play, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on loopback that plays so with whoever connects; its port."""
    with create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    line, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(line, server_side=True) if context else line as made:
                        play(made)
                except OSError:
                    continue  # whoever called has gone

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(2)
            thread.join()


def post(play: Play, *, deadline: float = PATIENCE, path: str = "/in?x=1") -> Answer:
    with server(play) as port:
        sender = Sender(loopback=True, deadline=deadline)
        return sender.post(f"http://127.0.0.1:{port}{path}", {"webhook-id": "e"}, BODY)


def says(*parts: bytes) -> Play:
    def play(line: socket) -> None:
        request(line)
        for part in parts:
            line.sendall(part)

    return play


def test_it_posts_the_event_and_says_what_was_answered() -> None:
    got: list[bytes] = []

    def play(line: socket) -> None:
        got.append(request(line))
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nth\x00ank")

    answer = post(play)
    assert answer.delivered
    assert (answer.status, answer.error, answer.excerpt) == (200, None, "th ank")
    head, _, body = got[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /in?x=1 HTTP/1.1"
    assert body == BODY
    sent = {name.lower(): text for name, _, text in (one.partition(": ") for one in lines[1:])}
    assert sent["webhook-id"] == "e"
    assert sent["content-type"] == "application/cloudevents+json"
    assert sent["content-length"] == str(len(BODY))
    assert sent["connection"] == "close"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    elsewhere: list[bool] = []
    with server(lambda _: elsewhere.append(True)) as port:
        to = f"Location: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n".encode()
        answer = post(says(f"HTTP/1.1 {status} Moved\r\n".encode() + to))
    assert (answer.delivered, answer.status) == (False, status)
    assert elsewhere == []


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
def test_any_other_status_is_a_failure_with_its_retry_after(status: int) -> None:
    told = b"Retry-After: 120\r\nContent-Length: 4\r\n\r\nbusy"
    answer = post(says(f"HTTP/1.1 {status} No\r\n".encode() + told))
    assert (answer.delivered, answer.status) == (False, status)
    assert (answer.retry_after, answer.excerpt) == ("120", "busy")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 \xff\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_garbage_is_a_failure_and_no_crash(garbage: bytes) -> None:
    answer = post(says(garbage))
    assert not answer.delivered
    assert answer.error or answer.status == 101


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": EARLY,
    "199": b"HTTP/1.1 199 Whatever\r\nX: y\r\n\r\n",
    "several": b"HTTP/1.1 102 Processing\r\n\r\n" * 9 + EARLY,
}


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
@pytest.mark.parametrize("status", [200, 503])
def test_what_a_receiver_answers_is_its_final_answer(interim: bytes, status: int) -> None:
    final = f"HTTP/1.1 {status} x\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\ndone"
    answer = post(says(interim + final.encode()))
    assert (answer.status, answer.excerpt, answer.retry_after) == (status, "done", "7")
    assert answer.delivered == (status == 200)


@pytest.mark.parametrize("status", [100, 102, 103])
def test_interim_answers_without_end_are_a_failure(status: int) -> None:
    answer = post(says(f"HTTP/1.1 {status} x\r\n\r\n".encode() * 10_000))
    assert answer.error == "HTTPException: at most 20 interim answers may come before the final"


def test_an_interim_answer_without_a_final_one_is_a_failure() -> None:
    answer = post(says(EARLY))
    assert not answer.delivered and answer.error


def test_of_an_answer_of_ten_megabytes_only_the_beginning_is_read() -> None:
    sent = 0

    def play(line: socket) -> None:
        nonlocal sent
        request(line)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n")
        for _ in range(160):
            line.sendall(b"x" * 65536)
            sent += 65536

    answer = post(play)
    assert answer.delivered
    assert answer.excerpt == "x" * MAX_EXCERPT
    assert sent < 10 * 1024 * 1024, "the connection was closed on it"


def test_an_endless_answer_in_chunks_is_cut_as_well() -> None:
    def play(line: socket) -> None:
        request(line)
        line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            line.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    answer = post(play)
    assert answer.delivered
    assert MAX_ANSWER_BYTES == 64 * 1024


@pytest.mark.parametrize("where", ["head", "body", "nowhere"])
def test_nothing_stretches_the_deadline(where: str) -> None:
    hung = threading.Event()

    def play(line: socket) -> None:
        request(line)
        if where == "body":
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not hung.wait(0.02):
            if where != "nowhere":
                line.sendall(b"H")

    began = time.monotonic()
    with server(play) as port:
        answer = Sender(loopback=True, deadline=0.2).post(f"http://127.0.0.1:{port}/", {}, BODY)
        took = time.monotonic() - began
        hung.set()
    assert answer.error == "no answer within 0.2 s"
    assert took < 1.5


def test_nobody_there_is_a_failure() -> None:
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = Sender(loopback=True).post(f"http://127.0.0.1:{port}/", {}, BODY)
    assert answer.status is None
    assert answer.error is not None and "refused" in answer.error


def test_a_name_is_checked_at_every_attempt_for_it_may_mean_another_address_by_then() -> None:
    reached: list[bool] = []
    with server(lambda _: reached.append(True)) as port:
        answers = iter([["93.184.216.34"], ["127.0.0.1"], ["10.0.0.1", "93.184.216.34"]])
        sender = Sender(resolver=lambda *_: next(answers), deadline=PATIENCE)
        assert checked(endpoint(f"https://a.example:{port}/"), resolver=sender.resolver) == [
            "93.184.216.34"
        ]
        for _ in range(2):
            answer = sender.post(f"https://a.example:{port}/", {}, BODY)
            assert answer.status is None
            assert answer.error == "leads to an address that is not public"
    assert reached == []


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    with server(lambda _: asked.append(True)) as port:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        answer = post(says(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert answer.delivered
    assert asked == []


# TLS.


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate of hooks.example."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert", folder / "key"


@pytest.mark.parametrize("host", ["hooks.example", "other.example", "127.0.0.1"])
def test_it_connects_to_the_checked_address_and_verifies_the_name(
    certified: tuple[Path, Path], host: str
) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certified)
    named: list[Any] = []
    theirs.sni_callback = lambda _, name, __: named.append(name)
    ours = ssl.create_default_context(cafile=str(certified[0]))
    looked: list[str] = []
    got: list[bytes] = []

    def look(name: str, _: int) -> list[str]:
        looked.append(name)
        return ["127.0.0.1"]

    def play(line: socket) -> None:
        got.append(request(line))
        line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(play, theirs) as port:
        sender = Sender(loopback=True, resolver=look, context=ours)
        answer = sender.post(f"https://{host}:{port}/in", {}, BODY)
    assert looked == [host], "a name is looked up once, and what was found is called"
    if host == "hooks.example":
        assert (answer.delivered, named) == (True, [host])
        assert f"\r\nHost: {host}:{port}\r\n".encode() in got[0]
    else:
        assert answer.status is None
        assert answer.error is not None and "CERTIFICATE_VERIFY_FAILED" in answer.error
        assert got == []


def test_a_certificate_of_nobody_we_trust_is_refused(certified: tuple[Path, Path]) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certified)
    with server(says(b"HTTP/1.1 204 No Content\r\n\r\n"), theirs) as port:
        sender = Sender(loopback=True, resolver=lambda *_: ["127.0.0.1"])
        answer = sender.post(f"https://hooks.example:{port}/in", {}, BODY)
    assert answer.error is not None and "CERTIFICATE_VERIFY_FAILED" in answer.error
