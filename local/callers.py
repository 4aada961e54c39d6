"""Who may call a port of the local cloud: no web page but its own, by no name but its own.

A page of another origin can send to every port of this machine, and where a name of its own leads
here (DNS rebinding) also read. But a browser says which page asks: by `Origin`, and where it sends
none, by `Sec-Fetch-Site`. Other programs send neither. ministack's process asks this too.
"""

import hmac
from collections import defaultdict
from collections.abc import Collection, Iterable

NAMES = ("127.0.0.1", "localhost")
PROXY_HEADER = b"x-recourse-proxy"
"""How the proxy of the API shows the AWS endpoint that it is the proxy."""

Headers = Iterable[tuple[bytes, bytes]]


def is_named(headers: Headers) -> bool:
    """Whether a call came by a name of ours; what came over a wire in between has another port."""
    hosts = _values(headers)["host"]
    return len(hosts) == 1 and hosts[0].partition(":")[0].lower() in NAMES


def is_of_another_page(
    headers: Headers, *, origins: Collection[str] = (), by_link: bool = False
) -> bool:
    """Whether a web page of another origin sent a call, one on another port of ours included.

    Args:
        headers: The call's.
        origins: Those that may.
        by_link: Whether it may have been followed as a link, or typed: what it answers is shown
            to whoever did that, and to no page.
    """
    said = _values(headers)
    if said["origin"]:
        own = {f"http://{host}" for host in said["host"]}
        return any(origin not in own and origin not in origins for origin in said["origin"])
    if by_link and (said["sec-fetch-mode"], said["sec-fetch-dest"]) == (["navigate"], ["document"]):
        return False
    return any(site not in ("same-origin", "none") for site in said["sec-fetch-site"])


def proxy_pass(secret: str) -> bytes:
    """The value of the proxy's header, which nobody can work out without root's secret."""
    return hmac.new(secret.encode(), b"proxy", "sha256").hexdigest().encode()


def _values(headers: Headers) -> defaultdict[str, list[str]]:
    values = defaultdict(list)
    for name, value in headers:
        values[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    return values
