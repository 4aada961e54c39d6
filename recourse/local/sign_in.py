"""The local issuer's sign-in: an authorization code with PKCE, for `recourse login` or the console.

`/authorize` shows a page on which its reader says who they are and which groups they are in. What
keeps it the owner's is in files that only the owner can read. `recourse login` reads one, the
secret of its client: without it a code cannot be exchanged, nor a token refreshed. The console has
no secret, so there the page asks for the passcode, which is in the other. What a request says is
never written into the page, which runs no script and may not be framed.
"""

from __future__ import annotations

import hmac
import math
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from recourse.errors import RecourseError
from recourse.functions.users import CALLBACKS, groups, scopes, scopes_permitted
from recourse.local.grants import GrantError, Grants
from recourse.local.issuer import CLIENT, CONSOLE, Issuer
from recourse.problems import HEADERS
from recourse.text import flaw_of_subject

LARGEST_BODY, LARGEST_QUERY = 8192, 4096
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}"
    "label,button{display:block;margin:.5rem 0}fieldset{margin:1rem 0}.wrong{color:#b00020}"
)
PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in to the local cloud</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>Sign in to the local cloud</h1>
<p>%(why)s</p>
%(said)s<form method="post" autocomplete="%(autocomplete)s">
<label>Subject, the owner of what you start
<input name="subject" value="asha" required maxlength="256" %(subject)s></label>
%(secret)s<fieldset><legend>Groups</legend>
%(groups)s</fieldset>
<button name="answer" value="sign-in">Sign in</button>
<button name="answer" value="cancel" formnovalidate>Cancel</button>
</form></body></html>"""
BY_COMMAND = {
    "why": "The command <code>recourse login</code> asks for a token. "
    "Continue only if you have started it.",
    "autocomplete": "off",
    "subject": "autofocus",
    "secret": "",
}
BY_CONSOLE = {
    "why": "The console of this local cloud asks for a token.",
    "autocomplete": "on",
    "subject": 'autocomplete="username"',
    "secret": "<label>Passcode: <code>recourse up</code> says it when it is ready, and it is in "
    "<code>.local/console-passcode</code> of the project\n"
    '<input type="password" name="passcode" required maxlength="64" '
    'autocomplete="current-password" autofocus></label>\n',
}
CHECKED = {CLIENT: ("customer",), CONSOLE: ("customer", "documents", "operator")}
"""The groups that are checked for each client, until somebody says otherwise.

For the console, those by which all of its views have something to show; for a command, fewer.
"""
_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()


class OAuthError(RecourseError):
    """A request cannot be granted.

    Attributes:
        code: OAuth's name of the error.
        status: The HTTP status, where the answer is no redirect.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class SignIn:
    """The routes of the issuer's endpoints.

    Args:
        issuer: The issuer, whose key signs the tokens.

    Attributes:
        routes: `authorize`, `token` and `revoke`, under the issuer's path.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._grants = Grants(issuer.token)
        self._scopes = scopes(issuer.own)
        self.routes = [
            Route("/_issuer/authorize", self._authorize, methods=["GET", "POST"]),
            Route("/_issuer/token", self._answering(self._token), methods=["POST"]),
            Route("/_issuer/revoke", self._answering(self._revoke), methods=["POST"]),
        ]

    async def _authorize(self, request: Request) -> Response:
        try:
            asked = _fields(request.scope["query_string"], LARGEST_QUERY)
            # RFC 6749, 4.1.2.1: where these are wrong nothing is sent back to any address.
            client = asked.get("client_id", "")
            if asked.get("redirect_uri") not in _registered(client, request):
                raise OAuthError("invalid_request", "client_id or redirect_uri is not registered")
        except OAuthError as problem:
            return JSONResponse(_error(problem), status_code=400, headers=_headers())
        back = asked["redirect_uri"]
        try:
            _check(asked, self._scopes)
            if request.method in ("GET", "HEAD"):
                return HTMLResponse(self._page(client), headers=_headers(back))
            said, named = await self._said(request)
        except OAuthError as problem:
            return self._sent_back(asked, _error(problem))
        headers = _headers(back)
        if client == CONSOLE:
            passcode = self._issuer.passcode
            if wait := math.ceil(passcode.wait):
                headers["retry-after"] = str(wait)
                wrong = f"The passcode was wrong too often. Try again in {wait} seconds."
                return HTMLResponse(self._page(client, wrong), 429, headers)
            if not passcode.matches(said.get("passcode", "")):
                return HTMLResponse(self._page(client, "The passcode is wrong."), 403, headers)
        subject = said.get("subject", "")
        if flaw := flaw_of_subject(subject):
            return HTMLResponse(self._page(client, f"The subject {flaw}."), 422, headers)
        permitted = scopes_permitted(named, self._issuer.own)
        wanted = asked.get("scope", "").split() or self._scopes
        scope = " ".join(one for one in self._scopes if one in permitted and one in wanted)
        code = self._grants.begin(client, subject, scope, back, asked["code_challenge"])
        return self._sent_back(asked, {"code": code})

    def _page(self, client: str, wrong: str = "") -> str:
        shown = "".join(
            f'<label><input type="checkbox" name="group" value="{group}"'
            f"{' checked' if group in CHECKED[client] else ''}> {group}: {', '.join(has)}</label>"
            for group, has in groups(self._issuer.own).items()
        )
        texts = BY_CONSOLE if client == CONSOLE else BY_COMMAND
        said = f'<p class="wrong">{_escaped(wrong)}</p>' if wrong else ""
        return PAGE % {**texts, "said": said, "groups": shown}

    async def _said(self, request: Request) -> tuple[dict[str, str], list[str]]:
        """The fields and the groups that were filled in.

        Raises:
            OAuthError: It was cancelled, or is not what the page sends.
        """
        pairs = _pairs(await _body(request), LARGEST_BODY)
        named = [value for name, value in pairs if name == "group"]
        said = {name: value for name, value in pairs if name != "group"}
        if said.get("answer") != "sign-in":
            raise OAuthError("access_denied", "the sign-in was cancelled")
        return said, named

    def _sent_back(self, asked: Mapping[str, str], answer: Mapping[str, str]) -> Response:
        query = urlencode({**answer, "state": asked.get("state", ""), "iss": self._issuer.url})
        return RedirectResponse(
            f"{asked['redirect_uri']}?{query}", status_code=303, headers=_headers()
        )

    def _answering(
        self, answer: Callable[[str, Mapping[str, str]], Mapping[str, Any]]
    ) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                said = _fields(await _body(request), LARGEST_BODY)
                return JSONResponse(answer(self._client(said), said), headers=_headers())
            except GrantError as problem:
                refused = OAuthError("invalid_grant", str(problem))
            except OAuthError as problem:
                refused = problem
            return JSONResponse(_error(refused), status_code=refused.status, headers=_headers())

        return endpoint

    def _client(self, said: Mapping[str, str]) -> str:
        """Which client asks.

        Raises:
            OAuthError: It is none, or does not have its secret; the console has none to have.
        """
        client, secret = said.get("client_id", ""), said.get("client_secret", "").encode()
        secrets = {CLIENT: self._issuer.client_secret, CONSOLE: ""}
        if client in secrets and hmac.compare_digest(secret, secrets[client].encode()):
            return client
        raise OAuthError("invalid_client", "the client or its secret is wrong", status=401)

    def _token(self, client: str, said: Mapping[str, str]) -> Mapping[str, Any]:
        def field(name: str) -> str:
            if not said.get(name):
                raise OAuthError("invalid_request", f"{name} is missing")
            return said[name]

        match field("grant_type"):
            case "authorization_code":
                return self._grants.exchange(
                    client, field("code"), field("redirect_uri"), field("code_verifier")
                )
            case "refresh_token":
                return self._grants.refresh(client, field("refresh_token"))
        raise OAuthError(
            "unsupported_grant_type", "grant_type must be authorization_code or refresh_token"
        )

    def _revoke(self, client: str, said: Mapping[str, str]) -> Mapping[str, Any]:
        self._grants.revoke(client, said.get("token", ""))
        return {}


def _registered(client: str, request: Request) -> Collection[str]:
    """Where a code for a client may be sent; the console's, to the origin of the page itself.

    Both of its names are right, but not one for the other: what listens on `::1` is `localhost`
    too, and may be another user's. So a code goes where the passcode was typed.
    """
    console = f"{request.url.scheme}://{request.headers['host']}/"
    return {CLIENT: CALLBACKS, CONSOLE: (console,)}.get(client, ())


def _check(asked: Mapping[str, str], scopes: Mapping[str, str]) -> None:
    """Refuse a request for what is not issued, and one without PKCE.

    Raises:
        OAuthError: It is one.
    """
    if asked.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code")
    challenge = asked.get("code_challenge", "")
    if asked.get("code_challenge_method") != "S256" or len(challenge) != 43:
        raise OAuthError("invalid_request", "a code_challenge with the method S256 is required")
    if not asked.get("state"):
        raise OAuthError("invalid_request", "state is required")
    if unknown := set(asked.get("scope", "").split()) - scopes.keys():
        raise OAuthError("invalid_scope", f"there is no scope {sorted(unknown)[0]}")


async def _body(request: Request) -> bytes:
    """The form that was posted.

    Raises:
        OAuthError: It is something else, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "the body must be a form")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise OAuthError("invalid_request", "the body is too large", status=413)
    return body


def _pairs(encoded: bytes, most: int) -> list[tuple[str, str]]:
    if len(encoded) > most:
        raise OAuthError("invalid_request", "the request is too large")
    try:
        return parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise OAuthError("invalid_request", "the request is not text in UTF-8") from None


def _fields(encoded: bytes, most: int) -> dict[str, str]:
    """Parameters by name, each of which may come once (RFC 6749, 3.1).

    Raises:
        OAuthError: One comes twice, or they cannot be read.
    """
    pairs = _pairs(encoded, most)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is repeated")
    return found


def _error(problem: OAuthError) -> dict[str, str]:
    return {"error": problem.code, "error_description": str(problem)}


def _headers(back: str | None = None) -> dict[str, str]:
    """The headers of an answer; a form may be sent back here, and be redirected to one address."""
    found = {**HEADERS, "cache-control": "no-store", "x-frame-options": "DENY"}
    if back:
        found["content-security-policy"] = (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
            f"form-action 'self' {back}; frame-ancestors 'none'"
        )
        # With no-referrer a browser would send the form as of the origin `null`.
        found["referrer-policy"] = "same-origin"
    return found


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
