"""Who may call the ports of the local cloud: no web page of another origin, no foreign host name.

A page of another origin can send requests to every port of this machine, and with DNS rebinding (a
name of its own that resolves to loopback) also read the answers. But a browser says which page
sends a request: by `Origin`, or without that by `Sec-Fetch-Site`. Other programs send neither.
The proxy and ministack's process both check this.
"""

import hmac
from collections import defaultdict
from collections.abc import Collection, Iterable

NAMES = ("127.0.0.1", "localhost")
PROXY_HEADER = b"x-recourse-proxy"
"""The header by which the API's proxy authenticates itself to the AWS endpoint."""

Headers = Iterable[tuple[bytes, bytes]]


def is_named(headers: Headers) -> bool:
    """Whether `Host` is one of `NAMES`, at any port: a forwarded port may differ."""
    hosts = _values(headers)["host"]
    return len(hosts) == 1 and hosts[0].partition(":")[0].lower() in NAMES


def is_of_another_page(
    headers: Headers, *, origins: Collection[str] = (), by_link: bool = False
) -> bool:
    """Whether a web page of another origin sent a call; another port is another origin.

    Args:
        headers: The call's headers.
        origins: Other origins that may call.
        by_link: Whether navigation (a link, the address bar) is allowed: its answer is shown to
            the user, and no page can read it.
    """
    said = _values(headers)
    if said["origin"]:
        own = {f"http://{host}" for host in said["host"]}
        return any(origin not in own and origin not in origins for origin in said["origin"])
    if by_link and (said["sec-fetch-mode"], said["sec-fetch-dest"]) == (["navigate"], ["document"]):
        return False
    return any(site not in ("same-origin", "none") for site in said["sec-fetch-site"])


def proxy_pass(secret: str) -> bytes:
    """The value of the proxy's header; it cannot be computed without root's secret."""
    return hmac.new(secret.encode(), b"proxy", "sha256").hexdigest().encode()


def _values(headers: Headers) -> defaultdict[str, list[str]]:
    values = defaultdict(list)
    for name, value in headers:
        values[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    return values
