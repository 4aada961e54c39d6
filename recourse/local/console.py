"""The console: a web page, built from `console/` of the sources, and what it is configured by.

The library carries the built files in `recourse/console/`: `index.html`, which routes by its URL's
fragment, and `assets/`, each with a hash of its content in its name. The proxy serves them, and the
API behind the same origin at `/api`. Nothing in the page is secret: anybody may load it, and nobody
gets a token by it without the passcode (`recourse.local.passcode`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import recourse
from recourse.functions.users import scopes
from recourse.local.callers import NAMES
from recourse.local.issuer import CONSOLE, Issuer

BUILT = Path(recourse.__file__).with_name("console")
"""Where the build of `console/` puts the page."""
API = "/api"
"""What the page has before the paths of the API."""
NOT_BUILT = (
    "The console is not built in this checkout: `make setup` builds it.\n"
    "The API is here all the same, and its documentation at /docs.\n"
)
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""The media types of what is built; that of the machine's own registry may be any."""
ASSET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
"""What the name of an asset is like: no path, no hidden file, and none that no folder can have."""
NO_CACHE, FOR_A_YEAR = "no-cache", "public, max-age=31536000, immutable"


class Console:
    """The routes of the page.

    Args:
        url: The proxy's address.
        issuer: Who signs the page's user in.
        aws_endpoint: The address of S3, at which documents are uploaded.
        websocket: Whether the app has a WebSocket, as far as is known yet.
        folder: Where the built page is.

    Attributes:
        routes: `/`, `/assets/…` and `/console.json`.
    """

    def __init__(
        self,
        *,
        url: str,
        issuer: Issuer,
        aws_endpoint: str,
        websocket: Callable[[], bool],
        folder: Path = BUILT,
    ) -> None:
        self._issuer = issuer
        self._websocket = websocket
        self._folder = folder
        self._policy = policy(url, [aws_endpoint] if aws_endpoint else [])
        self.routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/assets/{name:path}", self._asset, methods=["GET"]),
            Route("/console.json", self._configuration, methods=["GET"]),
        ]

    def _page(self, request: Request) -> Response:
        try:
            content = _read(self._folder / "index.html")
        except FileNotFoundError:
            return PlainTextResponse(
                NOT_BUILT, status_code=404, headers={"cache-control": "no-store"}
            )
        headers = {"cache-control": NO_CACHE, "content-security-policy": self._policy}
        return _answer(request, content, "text/html; charset=utf-8", headers)

    def _asset(self, request: Request) -> Response:
        # As it was asked for: a route's own parameter lacks a line break at the end.
        name = request.scope["path"].removeprefix("/assets/")
        kind = TYPES.get(Path(name).suffix)
        try:
            if not ASSET.fullmatch(name) or kind is None:
                raise FileNotFoundError(name)
            content = _read(self._folder / "assets" / name)
        except FileNotFoundError:
            raise HTTPException(404, headers={"cache-control": "no-store"}) from None
        return _answer(request, content, kind, {"cache-control": FOR_A_YEAR})

    def _configuration(self, _request: Request) -> Response:
        """What the page has to know; its own origin is how it was opened, so paths are enough."""
        issuer = urlsplit(self._issuer.url).path
        found = {
            "api": API,
            "sse": f"{API}/events/stream",
            "ws": f"{API}/events/ws" if self._websocket() else None,
            "issuer": self._issuer.url,
            "authorize": f"{issuer}/authorize",
            "token": f"{issuer}/token",
            "revoke": f"{issuer}/revoke",
            "client_id": CONSOLE,
            "scopes": list(scopes(self._issuer.own)),
            "scope_prefix": "",
        }
        return JSONResponse(found, headers={"cache-control": "no-store"})


def policy(url: str, elsewhere: Sequence[str]) -> str:
    """The page's content security policy: scripts of its own, and calls to what it is served with.

    Args:
        url: The proxy's address, which has two names.
        elsewhere: The origins of S3.
    """
    port = urlsplit(url).port
    # Some browsers do not take a WebSocket to the page's own host for 'self'.
    calls = " ".join(["'self'", *(f"ws://{name}:{port}" for name in NAMES), *elsewhere])
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            f"connect-src {calls}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _read(path: Path) -> bytes:
    """The content of a file that was built.

    Raises:
        FileNotFoundError: There is none; what a link leads to is none.
    """
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(path)
    return path.read_bytes()


def _answer(request: Request, content: bytes, kind: str, headers: dict[str, str]) -> Response:
    # Of the policy too: a browser that has the page from before gets a new one with it.
    tag = sha256(repr((content, headers)).encode()).hexdigest()[:32]
    headers = {**headers, "etag": f'"{tag}"'}
    said = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    if "*" in said or any(one.removeprefix("W/") == headers["etag"] for one in said):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
