"""`recourse login` and `recourse logout`."""

from __future__ import annotations

import threading
import time
import webbrowser
from typing import Annotated
from urllib.parse import urlsplit

import typer

from recourse.cli.address import must_be_address
from recourse.cli.callback import listening
from recourse.cli.command import LOCAL, ApiUrl, AsJson, err, out
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.logins import Login, Logins
from recourse.cli.oauth import Client, LoginError, Request
from recourse.cli.tokens import LOOPBACK, claims, scopes


def login(
    api: ApiUrl = LOCAL,
    issuer: Annotated[
        str | None,
        typer.Option(help="Address of the API's issuer; as for the last login by default."),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(help="Id of the issuer's client for this command; the same by default."),
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Only these scopes, as the issuer names them; all by default.")
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or only print it.")
    ] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the browser.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Sign in to an API in the browser; other commands then need no token.

    The output LoginCommand of a deployment has this command with its options. The local cloud needs
    none. `recourse logout` ends it.

    Example: recourse login --api https://api.example.com --issuer https://id.example --client abc
    """
    must_be_address(api)
    kept = Logins(api)
    with kept.locked():
        before = kept.read()
    issuer, name, secret = _client(api, issuer, client, before)
    with Client(name, secret) as calls, listening() as callback:
        endpoints = calls.discover(issuer)
        request = Request(name, callback.redirect_uri, scope)
        callback.expects(request, endpoints)
        page = request.url(endpoints)
        err.print(f"sign in on this page, which your browser opens:\n{page}" if browser else page)
        if browser:
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
        code = callback.code(seconds=timeout)
        tokens = calls.exchange(endpoints.token, request, code)
    made = Login(
        kept.api,
        endpoints.issuer,
        name,
        secret,
        endpoints.token,
        endpoints.revocation,
        "",
        "",
        0,
    ).with_tokens(tokens)
    with kept.locked():
        before = kept.read()  # what was read first may have been refreshed meanwhile
        kept.write(made)
    try:
        _revoke(before)
    except LoginError as problem:
        err.print(
            f"the login before this one was not revoked: {problem}: it stays valid there until it "
            "expires or an operator ends it"
        )
    subject = str(claims(made.access).get("sub", "somebody"))
    granted = scopes(made.access)
    if as_json:
        about = {"api": api, "issuer": made.issuer, "subject": subject}
        print_json(about | {"scope": granted, "expires_in": tokens.expires_in})
        return
    out.print(f"signed in to {api} as {subject}; scopes: {granted or 'none'}")
    if not granted:
        err.print("a user without a group has no scopes: an operator adds you to one")


def logout(api: ApiUrl = LOCAL, as_json: AsJson = False) -> None:
    """Sign out of an API: revoke the login at its issuer and delete its tokens.

    Example: recourse logout --api https://api.example.com
    """
    must_be_address(api)
    kept = Logins(api)
    with kept.locked():
        try:
            login = kept.read()
        finally:
            kept.delete()  # also what cannot be used
    if login is None:
        if as_json:
            print_json({"api": api, "was_signed_in": False})
        else:
            out.print(f"nobody is signed in to {api}")
        return
    try:
        _revoke(login)
    except LoginError as problem:
        raise FailedError(
            f"signed out here, but the issuer was not told: {problem}: the login stays valid "
            "there until it expires or an operator ends it"
        ) from None
    left = max(0, round((login.until - time.time()) / 60))
    if as_json:
        print_json({"api": api, "was_signed_in": True})
    else:
        out.print(f"signed out of {api}")
    if left:
        err.print(f"a copy of its last token would be valid for {left} more minutes")


def _revoke(login: Login | None) -> None:
    """Revoke a login at its issuer, if there is one that can be revoked.

    Raises:
        LoginError: The issuer refuses, or cannot be reached.
    """
    if login and login.refresh and login.revocation_endpoint:
        with Client(login.client, login.secret) as calls:
            calls.revoke(login.revocation_endpoint, login.refresh)


def _client(
    api: str, issuer: str | None, client: str | None, before: Login | None
) -> tuple[str, str, str]:
    """The issuer, the client's id and its secret.

    Raises:
        UsageError: They are not known.
    """
    if issuer is None and client is None and urlsplit(api).hostname in LOOPBACK:
        from recourse.local.issuer import CLIENT, Issuer, issuer_of

        local = Issuer(issuer_of(api))
        return local.url, CLIENT, local.client_secret
    if before:
        issuer, client = issuer or before.issuer, client or before.client
    if not issuer or not client:
        raise UsageError(
            "the first login to an API must have --issuer and --client: the output LoginCommand of "
            "its deployment has the whole command"
        )
    return issuer, client, ""
