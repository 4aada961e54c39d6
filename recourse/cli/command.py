"""What all commands share: options and output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from recourse.cli.address import must_be_address
from recourse.cli.api import Api
from recourse.cli.logins import bearer_of
from recourse.cli.screen import Screen

out = Screen()
err = Screen(stderr=True)

ApiUrl = Annotated[str, typer.Option("--api", envvar="RECOURSE_API", help="Address of the API.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="RECOURSE_TOKEN",
        help="Bearer token; that of `recourse login` by default.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LOCAL = "http://127.0.0.1:8000"


def help_of(command: Callable[..., None]) -> str:
    """The docstring of a command, each paragraph as one line, for whatever width there is."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


@contextmanager
def connected(url: str, token: str | None) -> Iterator[Api]:
    """A client of the API for one command, by a token or, without one, by the login to this API."""
    must_be_address(url)
    with Api(url, bearer_of(url) if token is None else token) as api:
        api.say = err.print
        yield api


@contextmanager
def unnamed(url: str) -> Iterator[Api]:
    """A client that sends no bearer token, to an API that may be somebody else's."""
    with Api(url, None) as api:
        yield api


def skipping(empty: int) -> None:
    """Say on a terminal that a list goes on, though page after page is empty."""
    if err.is_terminal and empty % 10 == 0:
        err.print(f"{empty} pages without a match, going on; Ctrl-C stops")
