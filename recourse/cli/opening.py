"""`recourse open`: the console of an API, in the browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated
from urllib.parse import urlsplit

import typer

from recourse.cli.address import console_of, must_be_address, page_of
from recourse.cli.api import segment
from recourse.cli.command import LOCAL, ApiUrl, AsJson, err, out, unnamed
from recourse.cli.exits import UsageError
from recourse.cli.json_output import print_json
from recourse.cli.tokens import LOOPBACK
from recourse.project import ProjectError

PASSCODE = "console-passcode"
"""The file in `.local` of what the local cloud's page for signing in asks for."""
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Where one of these is set, a browser has somewhere to open."""


def open_console(
    saga_id: Annotated[
        str | None, typer.Argument(metavar="SAGA", help="The id of a saga to open it at.")
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the address; open nothing.")
    ] = False,
    console: Annotated[
        str | None,
        typer.Option(
            envvar="RECOURSE_CONSOLE", help="Address of the console; as the API says by default."
        ),
    ] = None,
    api: ApiUrl = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Open the console in the browser, at a saga if one is given.

    Without a screen, with --print and with --json its address is printed and nothing opened. For
    the local cloud it also says, on stderr, the passcode with which one signs in there.

    Example: recourse open 914d778eba9db48da737e287d928ea3d
    """
    must_be_address(api)
    if saga_id is not None:
        segment(saga_id)
    url = page_of(_console(api, console), saga_id)
    if as_json:
        print_json({"url": url})
        return
    opens = not only_print and _has_screen() and webbrowser.open(url)
    out.print(f"opened {url}" if opens else url)
    if urlsplit(url).hostname in LOOPBACK and (passcode := _passcode()):
        err.print(f"the passcode to sign in there: {passcode}")


def _console(api: str, named: str | None) -> str:
    """The address of the console.

    Raises:
        ApiError: The API cannot be asked.
        UsageError: None is known.
    """
    said = None
    if not named:
        with unnamed(api) as client:
            said = client.get("/health").get("console")
    found = console_of(api, said, named)
    if found is None:
        raise UsageError(
            f"the API at {api} names no console: if there is one, give its address with --console "
            "or RECOURSE_CONSOLE"
        )
    return found


def _has_screen() -> bool:
    """Whether a browser has somewhere to open: a text browser in a terminal would be none."""
    is_unix = sys.platform not in ("darwin", "win32")
    return not is_unix or any(os.environ.get(name) for name in DISPLAYS)


def _passcode() -> str | None:
    """The passcode of the project's local cloud, if there is one."""
    from recourse.local import folder

    try:
        return (folder() / PASSCODE).read_text("utf-8").strip()
    except (ProjectError, FileNotFoundError):
        return None
