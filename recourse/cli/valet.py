"""`recourse valet`: uploads and downloads by valet keys, and the keys themselves.

It is longer than other modules: each of its six commands says all that it takes, for `--help`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.progress import TransferSpeedColumn as Speed
from rich.table import Table

from recourse.cli import upload
from recourse.cli.api import Api, ApiError, segment
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    connected,
    err,
    help_of,
    out,
    skipping,
    unnamed,
)
from recourse.cli.download import receive
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.journal import Journal
from recourse.cli.json_output import print_json
from recourse.cli.names import file_name
from recourse.cli.screen import identity
from recourse.cli.tokens import claims, looks_like_a_token, must_be_sendable
from recourse.valet import content, types
from recourse.valet.errors import WrongTypeError

app = typer.Typer(
    no_args_is_help=True, help="Upload and download documents by valet keys; manage the keys."
)
ExpiresIn = Annotated[int, typer.Option(help="Seconds until the key expires, 7 days at most.")]
KeyId = Annotated[str, typer.Argument(help="Id of the key.")]


def put(
    file: Annotated[Path, typer.Argument(help="The document, of any size.")],
    object_name: Annotated[
        str | None,
        typer.Option("--object", help="Its name in your space; the file's name by default."),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option("--type", help="Its content type; guessed from the file's name by default."),
    ] = None,
    expires_in: ExpiresIn = 24 * 3600,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Upload a document; after an interruption the same command resumes it.

    Example: recourse valet put passport.pdf --object passports/asha.pdf
    """
    with connected(api, token) as client:
        done = uploaded(
            client, api, file, object_name or file.name, content_type, expires_in=expires_in
        )
    if as_json:
        print_json(done)
    else:
        out.print(f"{done['object']}: {done['content_length']} bytes, {done['content_type']}")
        for label, name in (("sha256", "sha256"), ("version", "version"), ("key", "key_id")):
            out.print(f"  {label:<7} {done[name]}")


def get(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="OBJECT_OR_TOKEN", help="A name in your space, or a key's token or link."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Target file, which is replaced if it exists; by default a new file in the "
            "current folder, named after the document."
        ),
    ] = None,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Download a document: your own by its name, another by a key that you were given.

    A key needs no bearer token: yours is sent to nobody else's API. A link is fetched from the API
    that it names.

    Example: recourse valet get passports/asha.pdf --output asha.pdf
    """
    key = _given_key(wanted)
    if key is None:
        name = wanted
    else:
        link, lent = key
        api, name = link or api, str(claims(lent).get("object", ""))
    target = output or Path(file_name(name))
    if output is None and (target.exists() or target.is_symlink()):
        raise UsageError(f"{target} exists already: give another target with --output")
    if output is None and name and target.name != name.rpartition("/")[2]:
        err.print(f"the document's name is no safe name for a file: it becomes {target}")
    with unnamed(api) as anyone, upload.client() as s3:
        if key is None:
            with connected(api, token) as client:
                issued = _key(client, "download", name, expires_in=3600, max_uses=upload.TRIES)
                lent = issued["token"]
        with _progress("receiving", None) as advance:
            received = receive(anyone, s3, lent, target, advance, replaces=output is not None)
    done = {"object": name, "file": str(target), "content_length": received.length}
    if as_json:
        print_json(done | {"sha256": received.sha256})
    else:
        out.print(f"{target}: {received.length} bytes")
        out.print(f"  sha256  {received.sha256}")


def issue(
    object_name: Annotated[
        str, typer.Argument(metavar="OBJECT", help="Name of the document in your space.")
    ],
    operation: Annotated[
        Literal["download", "upload"], typer.Option(help="What the key permits.")
    ] = "download",
    file: Annotated[
        Path | None, typer.Option(help="For an upload: the document that the key is bound to.")
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            "--type", help="For an upload: content type; guessed from the file's name by default."
        ),
    ] = None,
    expires_in: ExpiresIn = 900,
    max_uses: Annotated[int, typer.Option(help="How often the key may be redeemed.")] = 1,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Issue a key for another person or program; its token is shown only once.

    Example: recourse valet issue passports/asha.pdf --expires-in 600
    """
    what = None
    if operation == "upload":
        if file is None:
            raise UsageError("the key of an upload is bound to its document: give it with --file")
        source = upload.Source.read(file, lambda _: None)
        what = _description(content_type or _guess(file), source)
    elif file or content_type:
        raise UsageError("--file and --type are for --operation upload")
    with connected(api, token) as client:
        key = _key(
            client, operation, object_name, expires_in=expires_in, max_uses=max_uses, what=what
        )
    if as_json:
        print_json(key)
        return
    out.print(f"{key['key_id']}, expires {key['expires_at']}")
    out.print(f"  token {key['token']}")
    if operation == "download":
        out.print(f"  link  {key['link']}")


def revoke(
    key_id: KeyId,
    withdraw: Annotated[
        bool,
        typer.Option(
            "--withdraw", help="Withdraw the document too: every key to it stops working at once."
        ),
    ] = False,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key; revoking it again changes nothing.

    Example: recourse valet revoke 3f2c9b7a1d --withdraw
    """
    with connected(api, token) as client:
        path = f"/valet-keys/{segment(key_id)}"
        client.call("DELETE", path, params={"withdraw": "true"} if withdraw else {})
    done = {"key_id": key_id, "revoked": True, "withdrawn": withdraw}
    if as_json:
        print_json(done)
    else:
        out.print(f"{key_id} is revoked")


def show(
    key_id: Annotated[
        str | None, typer.Argument(help="Id of a key; all your keys by default.")
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Cursor of the next page, from the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most keys or rows of the trail to list.")] = 20,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show a key with its audit trail, or list your keys; the newest first, in pages.

    Example: recourse valet show 3f2c9b7a1d
    """
    with connected(api, token) as client:
        if key_id is None:
            found = client.collect("/valet-keys", cursor=cursor, limit=limit, skipping=skipping)
        else:
            found = client.get(f"/valet-keys/{segment(key_id)}", cursor=cursor, limit=limit)
    if as_json:
        print_json(found)
    elif key_id is None:
        _print_keys(found)
    else:
        _print_key(found)


for one in (put, get, issue, revoke, show):
    app.command(help=help_of(one))(one)


def _given_key(wanted: str) -> tuple[str | None, str] | None:
    """The API of a link, and the token of a link or a key; None for a name.

    Raises:
        UsageError: It is a link, but to no key.
        TokenError: It is a token that cannot be sent.
    """
    if not wanted.startswith(("https://", "http://")):
        if not looks_like_a_token(wanted):
            return None
        must_be_sendable(wanted, "the key's token")
        return None, wanted
    try:
        link = urlsplit(wanted)
        is_good = bool(link.hostname) and link.username is None and link.password is None
    except ValueError:
        is_good = False
    base, path, token = link.path.partition("/v/") if is_good else ("", "", "")
    if not (path and token):
        raise UsageError("the link must be that of a key: https://<API>/v/<token>")
    token = unquote(token)
    must_be_sendable(token, "the link's token")
    return f"{link.scheme}://{link.netloc}{base}", token


def _print_keys(page: Mapping[str, Any]) -> None:
    columns = ("operation", identity("object"), "status", "uses", "expires")
    table = Table(identity("key"), *columns)
    for key in page["items"]:
        table.add_row(*_row(key))
    out.print_table(table)
    _print_next(page)


def _print_key(key: Mapping[str, Any]) -> None:
    key_id, operation, name, status, uses, expires = _row(key)
    out.print(f"{key_id} {status}: {operation} of {name}, used {uses} times, expires {expires}")
    table = Table("time", "action", "outcome", identity("caller"), identity("address"), "detail")
    for row in key["audit"]:
        table.add_row(*[str(row.get(column.header) or "") for column in table.columns])
        if row.get("count", 1) > 1:
            table.add_row("", "", f"{row['count']} times until {row['last_time']}")
    out.print_table(table)
    _print_next(key)


def _print_next(page: Mapping[str, Any]) -> None:
    if page["cursor"]:
        out.print(f"next page: --cursor {page['cursor']}")


def _row(key: Mapping[str, Any]) -> tuple[str, ...]:
    uses = f"{key['uses']} of {key['max_uses']}"
    return (
        *(key[name] for name in ("key_id", "operation", "object", "status")),
        uses,
        key["expires_at"],
    )


# An upload.


def uploaded(
    client: Api,
    url: str,
    file: Path,
    name: str,
    content_type: str | None = None,
    *,
    expires_in: int = 24 * 3600,
) -> dict[str, Any]:
    """Upload a document, or go on with an upload that was interrupted; what is visible now.

    Args:
        client: The API, as the owner.
        url: Its address.
        file: The document.
        name: Its name in the owner's space.
        content_type: Its type; guessed from the file's name if None.
        expires_in: Seconds until the key expires.

    Raises:
        UsageError: The file cannot be read.
        FailedError: It has changed meanwhile, or the upload was revoked or is under way.
        ApiError: The upload was refused.
    """
    with unnamed(url) as anyone, upload.client() as s3:
        with _progress("reading", _size(file)) as advance:
            source = upload.Source.read(file, advance)
        kind = content_type or _guess(file)
        about = (url, str(claims(client.token or "").get("sub", "")), name, kind, source.sha256)
        with Journal(*about) as journal:
            key = _key_to_resume(client, journal)
            if key is None:
                key = _issue_upload(
                    client, name, kind, source, expires_in, guessed=content_type is None
                )
                if key["multipart"]:
                    journal.begin(key)
            try:
                _send(anyone, s3, source, key, journal)
                done = upload.complete(client, key["key_id"])
            except ApiError as problem:
                if problem.is_transient:
                    raise
                journal.forget()
                raise ApiError(
                    _reason(problem),
                    status=problem.status,
                    kind=problem.kind,
                    problem=problem.problem,
                ) from problem
            journal.forget()
    return done


def _guess(file: Path) -> str:
    """The type of a document by its name, if its content is of that type; else octets."""
    kind = types.guess(file.name)
    try:
        with file.open("rb") as opened:
            content.check(kind, opened.read(content.HEAD))
    except WrongTypeError:
        err.print(f"sent as {types.OCTETS}: its content is not {kind}", markup=False)
        return types.OCTETS
    return kind


def _issue_upload(
    api: Api, name: str, kind: str, source: upload.Source, expires_in: int, *, guessed: bool
) -> dict[str, Any]:
    """A new key for an upload; a guessed type that the API does not know becomes octets."""
    wanted = {"expires_in": expires_in, "max_uses": upload.TRIES}
    try:
        return _key(api, "upload", name, what=_description(kind, source), **wanted)
    except ApiError as problem:
        if not guessed or problem.kind != "unknown-content-type":
            raise
    return _key(api, "upload", name, what=_description(types.OCTETS, source), **wanted)


def _description(kind: str, source: upload.Source) -> dict[str, Any]:
    return {"content_type": kind, "content_length": source.length, "sha256": source.sha256}


def _key(
    api: Api,
    operation: str,
    name: str,
    *,
    expires_in: int,
    max_uses: int,
    what: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A new key."""
    asked = {
        "operation": operation,
        "object": name,
        "expires_in": expires_in,
        "max_uses": max_uses,
    }
    return api.ask("POST", "/valet-keys", json=asked | ({"upload": what} if what else {}))


def _key_to_resume(api: Api, journal: Journal) -> Mapping[str, Any] | None:
    """The key of an interrupted upload; None if there is none, or it has expired.

    Raises:
        FailedError: The key has been revoked.
    """
    if journal.key is None:
        return None
    try:
        status = api.get(f"/valet-keys/{segment(journal.key['key_id'])}")["status"]
    except ApiError as problem:
        if problem.status != 404:
            raise
        status = "UNKNOWN"
    if status == "REVOKED":
        journal.forget()
        raise FailedError(
            "the key of the interrupted upload has been revoked; run the same command again to "
            "begin a new upload"
        )
    if status in ("EXPIRED", "UNKNOWN"):
        journal.forget()
        return None
    parts = journal.key["multipart"]["parts"]
    err.print(f"resuming: {len(journal.done)} of {parts} parts are uploaded")
    return journal.key


def _send(
    anyone: Api,
    s3: Any,
    source: upload.Source,
    key: Mapping[str, Any],
    journal: Journal,
) -> None:
    with _progress("sending", source.length) as advance:
        sending = upload.Upload(anyone, s3, source, key["token"], advance)
        if not key["multipart"]:
            sending.whole()
            return
        parts, size = key["multipart"]["parts"], key["multipart"]["part_size"]
        for number in journal.done:
            advance(min(size, source.length - (number - 1) * size))
        missing = [number for number in range(1, parts + 1) if number not in journal.done]
        try:
            sending.parts(missing, size, journal.add)
        except BaseException:
            err.print(
                f"{len(journal.done)} of {parts} parts are uploaded; run the same command to resume"
            )
            raise


def _reason(problem: ApiError) -> str:
    if problem.status == 422:
        return f"quarantined, not visible to anyone: {problem}"
    return str(problem)


# The progress bar.


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[upload.Advance]:
    """A progress bar on stderr if that is a terminal; call the result with numbers of bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task: TaskID = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None  # the read that follows reports the error
