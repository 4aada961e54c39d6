"""What all commands share: options, output, and how errors are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console

from cli.api import Api, ApiError

# Names come from callers: they are printed as they are, not parsed as markup.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False)
P = ParamSpec("P")
R = TypeVar("R")

ApiUrl = Annotated[str, typer.Option("--api", envvar="RECOURSE_API", help="Address of the API.")]
Token = Annotated[
    str | None, typer.Option("--token", envvar="RECOURSE_TOKEN", help="Bearer token.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LOCAL = "http://127.0.0.1:8000"


class UsageError(Exception):
    """The command cannot be run as given; the message says what to change."""


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command report an error in one line on stderr and exit with status 1."""

    @wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ApiError, UsageError) as problem:
            err.print(f"recourse: {problem}", style="red", markup=False)
            raise typer.Exit(1) from problem
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return reporting


@contextmanager
def connected(url: str, token: str | None) -> Iterator[Api]:
    """A client of the API for one command."""
    with Api(url, token) as api:
        yield api
