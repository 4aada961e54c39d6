"""What all commands share: options, output, and how errors are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer

from recourse.cli.api import Api, must_be_address
from recourse.cli.logins import bearer_of
from recourse.cli.screen import Screen
from recourse.cli.tokens import redacted
from recourse.errors import RecourseError

out = Screen()
err = Screen(stderr=True)
P = ParamSpec("P")
R = TypeVar("R")

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


class UsageError(RecourseError):
    """The command cannot be run as given; the message says what to change."""


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command report an error on stderr, without any token, and exit with status 1."""

    @wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except RecourseError as problem:
            for line in redacted(f"recourse: {problem}").split("\n"):
                err.print(line, style="red")
            raise typer.Exit(1) from None
        except BrokenPipeError:
            raise  # a reader like `head` has enough: typer ends quietly
        except OSError as problem:
            named = f"{problem.filename}: " if problem.filename else ""
            err.print(f"recourse: {named}{problem.strerror or problem}", style="red")
            raise typer.Exit(1) from None
        except UnicodeError:
            err.print("recourse: what was given is not text in UTF-8", style="red")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return reporting


@contextmanager
def connected(url: str, token: str | None) -> Iterator[Api]:
    """A client of the API for one command, by a token or, without one, by the login to this API."""
    must_be_address(url)
    with Api(url, bearer_of(url) if token is None else token) as api:
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
