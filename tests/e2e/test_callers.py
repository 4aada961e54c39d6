"""The local cloud is nobody else's: every port that it opens, and a page in a real browser."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import httpx
import pytest

from recourse.local.cloud import LocalCloud
from tests.browser import page
from tests.pages import attempts, holdings
from tests.patience import PATIENCE
from tests.sockets import family, listening

PATHS = (
    "GET /",
    "GET /health",
    "GET /console.json",
    "GET /api/health",
    "GET /_ministack/ready",
    "GET /_issuer/jwks.json",
    "GET /2018-06-01/runtime/invocation/next",
    "POST /2018-06-01/runtime/init/error",
    "POST /2015-03-31/functions",
    "POST /_ministack/reset",
    "POST /_payment_provider/payments",
    "POST /_issuer/token",
    "OPTIONS /sagas",
    "OPTIONS /api/sagas",
)
STRANGERS = (
    ["Host: evil.example"],
    ["Host: {own}", "Origin: https://evil.example"],
    ["Host: {own}", "Origin: http://127.0.0.1:1"],
    ["Host: {own}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"],
    ["Host: {own}", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"],
)


@pytest.fixture
def ports(cloud: LocalCloud) -> Iterator[set[int]]:
    """All that the cloud listens on, while a worker is there."""
    assert httpx.get(f"{cloud.api_url}/health", timeout=PATIENCE, trust_env=False).is_success
    assert cloud._emulator
    found = listening([os.getpid(), *family(cloud._emulator.pid)])
    assert {address for address, _ in found} == {"127.0.0.1"}
    yield {port for _, port in found}


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_no_port_answers_by_another_name_or_to_another_origin(
    cloud: LocalCloud, ports: set[int]
) -> None:
    assert {port_of(cloud.api_url), port_of(cloud.aws_endpoint)} < ports, "and those of workers"
    for port in ports:
        for path in PATHS:
            for stranger in STRANGERS:
                lines = [f"{path} HTTP/1.1", *stranger, "Content-Length: 0", "Connection: close"]
                head = "\r\n".join([*lines, "", ""]).format(own=f"127.0.0.1:{port}")
                with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                    connection.sendall(head.encode())
                    answer = connection.recv(65536)
                status = answer.split()[1]
                assert status in (b"403", b"404", b"421", b"501"), (port, head, answer)
                assert b"access-control-allow" not in answer.lower()


def test_a_page_on_another_port_gets_nothing(cloud: LocalCloud, ports: set[int]) -> None:
    before = holdings(cloud.aws_endpoint)
    of_the_api = [port_of(cloud.api_url), port_of(cloud.aws_endpoint)]
    a_workers = next(iter(ports - set(of_the_api)))
    with page() as visit:
        tried = list(attempts([*of_the_api, a_workers]))
        told = visit(tried)
    got = [
        (one, what)
        for one, what in zip(tried, told, strict=True)
        if what not in ("opaque", "sent", "failed")
    ]
    assert got == []
    assert holdings(cloud.aws_endpoint) == before


@pytest.mark.parametrize(
    "path",
    ["/v1/../../../_ministack/reset", "/%2e%2e/%2e%2e/%2e%2e/_ministack/health", "/..", "//"],
)
def test_no_path_leads_out_of_the_api(cloud: LocalCloud, path: str) -> None:
    before = holdings(cloud.aws_endpoint)
    with httpx.Client(base_url=cloud.api_url, timeout=PATIENCE, trust_env=False) as http:
        for method in ("GET", "POST"):
            answer = http.request(method, "/", extensions={"target": path.encode()})
            assert answer.status_code in (400, 401, 404), answer.text
    assert holdings(cloud.aws_endpoint) == before


def test_its_folder_is_its_owners_alone(cloud: LocalCloud) -> None:
    for path in (cloud.aws_config, cloud.aws_config.parent, cloud.log.parent):
        assert path.stat().st_mode & 0o077 == 0
