"""Which addresses a webhook may have: public ones, however they are written.

A URL names a host, and a name can resolve to another address every time. So all addresses of the
name are checked at registration and again at each delivery, and the connection goes to an address
that was checked (`recourse.webhooks.sending`).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from recourse.errors import RecourseError

MAX_URL_LENGTH = 2000
Resolver = Callable[[str, int], list[str]]
"""The addresses of a host, given its name and the port; raises OSError where there are none."""
Address = IPv4Address | IPv6Address

_PLAIN = re.compile(r"[^\x00-\x20\x7f-\xa0\\<>\"`{}|^]+")
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](:\d*)?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_SPECIAL = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),
)
"""Special-purpose blocks of IANA's registries that some versions of Python consider global."""


class ForbiddenAddressError(RecourseError, ValueError):
    """A webhook may not have this URL or address; its owner is shown the message."""


class UnresolvedError(RecourseError, OSError):
    """The host's name cannot be resolved now."""


@dataclass(frozen=True)
class Endpoint:
    """The parts of a URL.

    Attributes:
        secure: Whether it is HTTPS.
        host: The name or the address, in ASCII, without brackets.
        port: The port.
        authority: The value of `Host`: the host, and the port unless it is the scheme's default.
        target: The path and the query.
        url: The whole URL, with the host as above.
    """

    secure: bool
    host: str
    port: int
    authority: str
    target: str
    url: str


def endpoint(url: str, *, loopback: bool = False) -> Endpoint:
    """Parse a URL.

    Args:
        url: The URL.
        loopback: Whether plain HTTP is allowed, as in a local run.

    Raises:
        ForbiddenAddressError: A webhook may not have it.
    """
    if len(url) > MAX_URL_LENGTH or not _PLAIN.fullmatch(url):
        raise ForbiddenAddressError(f"should be a URL of at most {MAX_URL_LENGTH} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise ForbiddenAddressError(f"is not a valid URL: {problem}") from None
    if parts.scheme != "https" and not (loopback and parts.scheme == "http"):
        raise ForbiddenAddressError("should begin with https://")
    if "@" in parts.netloc:
        raise ForbiddenAddressError("should hold no user and no password")
    if "#" in url:
        raise ForbiddenAddressError("should have no fragment")
    if not (parts.path + parts.query).isascii():
        raise ForbiddenAddressError("should have its path in ASCII, the rest percent-encoded")
    if port == 0:
        raise ForbiddenAddressError("should have a port from 1 to 65535")
    if {"[", "]"} & set(parts.netloc) and not _BRACKETED.fullmatch(parts.netloc):
        raise ForbiddenAddressError("has an IPv6 address that is not valid")
    # Not `parts.hostname`: `lower` makes a final sigma of a capital one, which IDNA does not.
    host = _host(parts.hostname or "" if "[" in parts.netloc else parts.netloc.partition(":")[0])
    secure = parts.scheme == "https"
    usual = 443 if secure else 80
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port is None else f"{shown}:{port}"
    return Endpoint(
        secure=secure,
        host=host,
        port=port or usual,
        authority=shown if (port or usual) == usual else f"{shown}:{port}",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        url=parts._replace(netloc=netloc).geturl(),
    )


def _host(host: str) -> str:
    """A host in the one form that is accepted: a DNS name in ASCII, or a plain address.

    A name in another script is encoded as browsers do it (UTS 46, which maps capitals, wide digits
    and other dots, then IDNA 2008): the codec of the standard library makes of `straße.example`
    the name of somebody else, `strasse.example`.
    """
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise ForbiddenAddressError("has an IPv6 address that is not valid") from None
    import idna  # only here: its tables take time, and most hosts are ASCII

    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode()
    except UnicodeError:
        raise ForbiddenAddressError("has a host that is not a valid name") from None
    if name.endswith(".") or not _NAME.fullmatch(name):
        raise ForbiddenAddressError("has a host that is not a valid name")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise ForbiddenAddressError(
                "has an IPv4 address that is not four decimal numbers"
            ) from None
    return name


def resolve(name: str, port: int) -> list[str]:
    """Resolve a host by the system's resolver.

    Raises:
        OSError: It has no address.
    """
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def checked(
    to: Endpoint,
    *,
    loopback: bool = False,
    resolver: Resolver = resolve,
    seconds: float = 5,
) -> list[str]:
    """Resolve an endpoint, and check that every address that it has is allowed.

    Args:
        to: The endpoint.
        loopback: Whether loopback addresses are allowed, as in a local run.
        resolver: Resolves its host.
        seconds: How long that may take.

    Raises:
        ForbiddenAddressError: One of its addresses is not allowed.
        UnresolvedError: It cannot be resolved now.
    """
    found = _resolved(seconds, lambda: resolver(to.host, to.port))
    if not found:
        raise UnresolvedError(f"{to.host} has no address")
    for one in found:
        address = ipaddress.ip_address(one)
        if not (is_public(address) or (loopback and address.is_loopback)):
            raise ForbiddenAddressError("leads to an address that is not public")
    return found


def is_public(address: Address) -> bool:
    """Whether an address, and every IPv4 address within it, is on the public internet."""
    if any(address.version == block.version and address in block for block in _SPECIAL):
        within = _embedded(address)
        return bool(within) and all(is_public(one) for one in within)
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if within := _embedded(address):
        return all(is_public(one) for one in within)
    return address.is_global and address in _UNICAST


def _embedded(address: Address) -> list[IPv4Address]:
    """The IPv4 addresses that are embedded in an IPv6 address, in any of the known forms."""
    if isinstance(address, IPv4Address):
        return []
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address.sixtofour:
        return [address.sixtofour]
    if address.teredo:
        return list(address.teredo)
    if address in _TRANSLATED or address in _COMPATIBLE:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return []


def _resolved(seconds: float, resolve: Callable[[], list[str]]) -> list[str]:
    """Resolve within a deadline: the system's resolver does not have one."""
    found: list[list[str]] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(resolve())
        except (OSError, UnicodeError) as problem:
            failed.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        why = failed[0] if failed else f"no answer within {seconds:g} s"
        raise UnresolvedError(f"the host cannot be resolved: {why}")
    return found[0]
