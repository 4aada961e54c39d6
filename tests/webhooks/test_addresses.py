"""Where a webhook may go: nowhere but to public addresses, however others are spelt."""

from __future__ import annotations

import ipaddress
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.webhooks.addresses import (
    MAX_URL_LENGTH,
    ForbiddenAddressError,
    UnresolvedError,
    checked,
    endpoint,
    is_public,
    resolve,
)

NOT_PUBLIC = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.0.0.1", "10.0.0.1", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1"),
    *("100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
    *("2001:db8::1", "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "100::1", "4000::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::"),
    *("2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:7f00:1:8000:63bf:3fff:fdd2"),
]
PUBLIC = [
    *("8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001:81b::200e"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
]
LOOPBACK = [
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1"),
    *(
        "0177.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0.1.",
        "127。0。0。1",
        "127\uff0e0\uff0e0\uff0e1",
        "127｡0｡0｡1",
    ),
    *(
        "\uff11\uff12\uff17.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:7f00:1]",
    ),
    *("0", "0.0.0.0", "00000", "[::]", "localhost", "localhost.", "LOCALHOST", "ⓛocalhost"),
    *("[::1%25lo]", "127.0.0.1%00.example", "127.00.0.1", "127.0.0.0x1"),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_somebodys_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(ForbiddenAddressError):
        checked(endpoint(f"https://{shown}/"))
    with pytest.raises(ForbiddenAddressError):
        checked(endpoint("https://innocent.example/"), resolver=lambda *_: [address])


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_let_through(address: str) -> None:
    assert checked(endpoint("https://a.example/"), resolver=lambda *_: [address]) == [address]


@pytest.mark.parametrize("host", [*LOOPBACK, "169.254.169.254", "2852039166", "[fd00:ec2::254]"])
def test_no_spelling_of_this_machine_or_of_the_metadata_service_gets_through(host: str) -> None:
    with pytest.raises((ForbiddenAddressError, UnresolvedError)):
        checked(endpoint(f"https://{host}/"), resolver=_offline)


def _offline(host: str, port: int) -> list[str]:
    """What the system makes of numbers and of its own name; names of others it cannot find."""
    if host != "localhost" and not set(host) <= set("0123456789abcdefx.:"):
        raise OSError("no such name")
    return resolve(host, port)


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_as_public_inside_another_as_by_itself(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        within = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number)
        assert is_public(within) == is_public(plain)
    assert is_public(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))) == is_public(plain)


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(ForbiddenAddressError):
        checked(endpoint("https://a.example/"), resolver=lambda *_: ["8.8.8.8", "10.0.0.1"])


@pytest.mark.parametrize(
    "url",
    [
        *("http://a.example/", "ftp://a.example/", "//a.example/", "a.example", "", "https://"),
        *("https:///x", "https://u@a.example/", "https://u:p@a.example/", "https://a.example/#x"),
        *("https://a.example/#", "https://a.example:0/", "https://a.example:65536/"),
        *("https://a.example:x/", "https://a.example\\@127.0.0.1/", "https://a b.example/"),
        *("https://a.example/\n", "https://a.example/ x", "https://a.\texample/"),
        *("https://[::1/", "https://[::1]x/"),
        *("https://[v1.x]/", "https://a..example/", "https://-.example./", "https://.example/"),
        *(
            "https://a.example/é",
            "https://a.example/\x00",
            f"https://a.example/{'x' * MAX_URL_LENGTH}",
        ),
        *("https://a\u200db.example/", "https://\u200c.example/", "https://☃.example/"),
        *("https://1.2.3/", "https://1.2.3.4.5/", "https://256.1.1.1/", "https://a.example.1/"),
    ],
)
def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        endpoint(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target"),
    [
        ("https://A.example", "a.example", 443, "a.example", "/"),
        ("https://a.example:443/x", "a.example", 443, "a.example", "/x"),
        ("https://a.example:8443?q=1", "a.example", 8443, "a.example:8443", "/?q=1"),
        ("https://bücher.example/a%20b", "xn--bcher-kva.example", 443, None, "/a%20b"),
        ("https://straße.example/", "xn--strae-oqa.example", 443, None, "/"),
        ("https://STRAẞE.example/", "xn--strae-oqa.example", 443, None, "/"),
        ("https://βόλος.example/", "xn--nxasmm1c.example", 443, None, "/"),
        ("https://ΒΌΛΟΣ.example/", "xn--nxasmq6b.example", 443, None, "/"),
        ("https://نامه\u200c\u0627ی.example/", "xn--mgba3gch31f060k.example", 443, None, "/"),
        ("https://例え。テスト/", "xn--r8jz45g.xn--zckzah", 443, None, "/"),
        ("https://XN--Strae-OQA.example/", "xn--strae-oqa.example", 443, None, "/"),
        ("https://[2606:4700::1111]:444/", "2606:4700::1111", 444, "[2606:4700::1111]:444", "/"),
        ("https://8.8.8.8/x?y", "8.8.8.8", 443, "8.8.8.8", "/x?y"),
    ],
)
def test_a_url_is_taken_apart(
    url: str, host: str, port: int, authority: str | None, target: str
) -> None:
    found = endpoint(url)
    assert (found.host, found.port, found.target) == (host, port, target)
    assert found.authority == (authority or host)


def test_a_local_run_lets_loopback_through_and_nothing_else() -> None:
    assert checked(endpoint("http://127.0.0.1:9/x", loopback=True), loopback=True) == ["127.0.0.1"]
    for address in ("10.0.0.1", "169.254.169.254", "0.0.0.0", "192.168.0.1"):
        with pytest.raises(ForbiddenAddressError):
            checked(endpoint(f"http://{address}/", loopback=True), loopback=True)


def test_a_name_that_cannot_be_found_and_one_that_hangs() -> None:
    def missing(*_: object) -> list[str]:
        raise socket.gaierror("no such name")

    def hang(*_: object) -> list[str]:
        hanging.wait()
        return []

    hanging = threading.Event()
    to = endpoint("https://a.example/")
    with pytest.raises(UnresolvedError, match="no such name"):
        checked(to, resolver=missing)
    with pytest.raises(UnresolvedError, match="no answer within"):
        checked(to, resolver=hang, seconds=0.01)
    hanging.set()
    with pytest.raises(UnresolvedError):
        checked(to, resolver=lambda *_: [])


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://straße.example:8443/a?b=c", "https://xn--strae-oqa.example:8443/a?b=c"),
        ("https://A.example", "https://a.example"),
        ("https://a.example:443/x", "https://a.example:443/x"),
        ("https://[2606:4700::1111]:444/", "https://[2606:4700::1111]:444/"),
    ],
)
def test_a_url_is_kept_with_the_host_that_is_called(url: str, kept: str) -> None:
    assert endpoint(url).url == kept
    assert endpoint(kept) == endpoint(url)


@given(st.text(max_size=30))
def test_a_host_in_any_script_is_called_by_one_name_or_refused(label: str) -> None:
    try:
        found = endpoint(f"https://{label}.example/")
    except ForbiddenAddressError:
        return
    assert found.host.isascii() and found.url.isascii()
    assert endpoint(found.url).host == found.host
