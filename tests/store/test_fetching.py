"""A document that an issuer or SNS serves is their final answer, whole, or an error."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from recourse.feed import sns_push
from recourse.functions.bearer import Bearers, IssuerError, fetched
from recourse.local.issuer import AUDIENCE, Issuer
from recourse.store.fetching import fetch
from tests.webhooks.test_sending import INTERIM, Play, certified, server

__all__ = ["certified"]


def serves(answer: Callable[[str], bytes]) -> Play:
    """A server that answers so at each path."""

    def play(line: socket) -> None:
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += line.recv(65536)
        line.sendall(answer(got.split()[1].decode()))

    return play


def found(body: bytes, *, missing: int = 0) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) + missing, body)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer("", tmp_path_factory.mktemp("issuer") / "key.pem")


def verified(issuer: Issuer, before: bytes = b"", *, missing: int = 0) -> Any:
    """Whom a token is for, by the keys of an issuer that sends this first."""

    def document(path: str) -> bytes:
        known = issuer.jwks if path == "/jwks.json" else issuer.discovery
        return before + found(json.dumps(known).encode(), missing=missing)

    with server(serves(document)) as port:
        issuer.url = f"http://127.0.0.1:{port}"
        bearers = Bearers(issuer.url, [AUDIENCE], keys=fetched(issuer.url))
        return bearers.verify(issuer.token("asha", "sagas:read"), "sagas:read").subject


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_an_issuers_keys_are_its_final_answer(issuer: Issuer, interim: bytes) -> None:
    assert verified(issuer, interim) == "asha"


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_a_certificate_of_sns_is_its_final_answer(interim: bytes) -> None:
    with server(serves(lambda _: interim + found(b"certificate"))) as port:
        assert sns_push.fetch(f"http://127.0.0.1:{port}/cert.pem") == b"certificate"


def test_by_tls_too(certified: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certified)
    monkeypatch.setenv("SSL_CERT_FILE", str(certified[0]))
    with server(serves(lambda _: INTERIM["103"] + found(b"ours")), theirs) as port:
        with pytest.raises(OSError, match="IP address mismatch"):
            fetch(f"https://127.0.0.1:{port}/", 99, redirects=False)
        monkeypatch.setattr("socket.getaddrinfo", lambda *_: [(2, 1, 6, "", ("127.0.0.1", port))])
        assert fetch(f"https://hooks.example:{port}/", 99, redirects=False) == b"ours"


NOT_HTTP = {
    "garbage": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"HTTP/1.1 ",
    "interim answers only": INTERIM["103"],
    "too many of them": INTERIM["102"] * 21,
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
def test_an_issuer_that_does_not_answer_is_unavailable(issuer: Issuer, answer: bytes) -> None:
    with pytest.raises(IssuerError, match="could not be fetched"):
        verified(issuer, answer + b"\r\n")
    with server(serves(lambda _: answer)) as port, pytest.raises(OSError):
        sns_push.fetch(f"http://127.0.0.1:{port}/")


def test_a_document_that_is_cut_off_is_none(issuer: Issuer) -> None:
    with pytest.raises(IssuerError, match="IncompleteRead"):
        verified(issuer, missing=1)
    with server(serves(lambda _: found(b"half", missing=4))) as port:
        with pytest.raises(OSError, match="IncompleteRead"):
            sns_push.fetch(f"http://127.0.0.1:{port}/")
        assert fetch(f"http://127.0.0.1:{port}/", 4, redirects=False) == b"half"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_an_issuers_keys_and_not_to_a_certificate(status: int) -> None:
    moved = f"HTTP/1.1 {status} x\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".encode()
    with server(serves(lambda path: found(b"{}") if path == "/there" else moved)) as port:
        address = f"http://127.0.0.1:{port}/"
        assert fetch(address, 99, redirects=True) == b"{}"
        with pytest.raises(OSError, match=str(status)):
            sns_push.fetch(address)
