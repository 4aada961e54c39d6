"""Keeps who is signed in to which API, and its tokens, as other tools of the field keep theirs.

One file for each API, in `$XDG_STATE_HOME/recourse/logins` (`~/.local/state` by default), with mode
0600 in a folder of mode 0700. It is replaced as a whole, under a lock, so that of two commands that
find a token expired one refreshes it and the other reads the new one. A file that is a link, that
somebody else owns, or that others may read or write is refused: whoever put it there could have the
token sent for them, or has read it.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from recourse.cli.oauth import Client, InvalidGrantError, LoginError, Tokens
from recourse.cli.tokens import LOOPBACK

EARLY = 60
"""Seconds before its end at which a token is refreshed."""


@dataclass(frozen=True)
class Login:
    """A login that is kept.

    Attributes:
        api: The one API to which its tokens are sent, as `place` writes it.
        issuer: The issuer.
        client: The client's id.
        secret: The client's secret; empty for a public client.
        token_endpoint: Where it is refreshed.
        revocation_endpoint: Where it is revoked; empty if nowhere.
        access: The bearer token.
        refresh: The refresh token; empty if there is none.
        until: When the bearer token expires, in epoch seconds.
    """

    api: str
    issuer: str
    client: str
    secret: str = field(repr=False)
    token_endpoint: str
    revocation_endpoint: str
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    until: float

    def with_tokens(self, tokens: Tokens) -> Login:
        """The same with new tokens."""
        until = time.time() + tokens.expires_in
        return replace(self, access=tokens.access, refresh=tokens.refresh, until=until)


def place(api: str) -> str:
    """An API's address in the one way in which logins are kept by it.

    Raises:
        LoginError: Its bearer tokens would be sent in the clear.
    """
    found = urlsplit(api)
    host = found.hostname or ""
    if found.scheme != "https" and host not in LOOPBACK:
        raise LoginError(f"a login is for an https address, or one on this machine, got {api}")
    name = "127.0.0.1" if host in LOOPBACK else f"[{host}]" if ":" in host else host
    port = found.port or (443 if found.scheme == "https" else 80)
    return f"{found.scheme}://{name}:{port}{found.path.rstrip('/')}"


class Logins:
    """The login of one API, if there is one.

    ::

        kept = Logins("https://api.example.com")
        with kept.locked():
            kept.write(login)
        kept.read()

    Args:
        api: The API's address.
    """

    def __init__(self, api: str) -> None:
        self.api = place(api)
        state = os.environ.get("XDG_STATE_HOME")
        home = Path(state) if state else Path.home() / ".local" / "state"
        name = sha256(self.api.encode()).hexdigest()[:32]
        self._path = home / "recourse" / "logins" / f"{name}.json"

    def read(self) -> Login | None:
        """The login; None if there is none.

        Raises:
            LoginError: The file is not this user's alone, or is not a login of this API.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise LoginError(f"{self._path} cannot be read: {problem.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                raise LoginError(f"{self._path} must be a file of this user: delete it")
            if about.st_mode & 0o077:
                raise LoginError(
                    f"{self._path} must be its owner's alone, has mode "
                    f"{stat.S_IMODE(about.st_mode):04o}: others may have read its tokens; delete "
                    "it and sign in again"
                )
            content = file.read()
        try:
            login = Login(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            login = None
        if login is None or login.api != self.api:
            raise LoginError(f"{self._path} is not a login to {self.api}: delete it")
        return login

    def write(self, login: Login) -> None:
        """Keep a login, whatever was there; under the lock."""
        descriptor, draft = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.stem}")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(login), file)
                file.flush()
                os.fsync(descriptor)
            os.replace(draft, self._path)
        except BaseException:
            os.unlink(draft)
            raise

    def delete(self) -> None:
        """Forget the login; under the lock."""
        self._path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other command changes the login.

        Raises:
            LoginError: The folder or the lock is not this user's alone.
        """
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            raise LoginError(f"{folder} must be a folder of this user, and no link")
        if about.st_mode & 0o077:
            folder.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path.with_suffix(".lock"), flags, 0o600)
        except OSError as problem:
            raise LoginError(f"{problem.filename}: {problem.strerror}") from None
        with os.fdopen(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield


def bearer_of(api: str) -> Callable[[], str] | None:
    """What gives the token for each call to an API that somebody is signed in to; None if nobody.

    Raises:
        LoginError: There is a login that cannot be used.
    """
    found = urlsplit(api)
    if found.scheme != "https" and found.hostname not in LOOPBACK:
        return None  # nobody can be signed in there
    kept = Logins(api)
    login = kept.read()
    if login is None:
        return None

    def bearer() -> str:
        nonlocal login
        assert login
        if login.until - time.time() < EARLY:
            login = _refreshed(kept, api)
        return login.access

    return bearer


def _refreshed(kept: Logins, api: str) -> Login:
    """The login with a token that is valid for a while, refreshed by this command or another.

    Raises:
        LoginError: It cannot be refreshed.
    """
    again = f"sign in again with `recourse login --api {api}`"
    with kept.locked():
        login = kept.read()
        if login is None:
            raise LoginError(f"you were signed out of {api} meanwhile: {again}")
        if login.until - time.time() >= EARLY:
            return login
        try:
            if not login.refresh:
                raise InvalidGrantError("there is no refresh token")
            with Client(login.client, login.secret) as client:
                tokens = client.refresh(login.token_endpoint, login.refresh)
        except InvalidGrantError as problem:
            if login.until > time.time():
                return login
            raise LoginError(f"the login to {api} has ended ({problem}): {again}") from None
        except LoginError:
            if login.until > time.time():
                return login
            raise
        login = login.with_tokens(tokens)
        kept.write(login)
    return login
