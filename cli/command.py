"""What every command of the command line has in common: its options, its output, how it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console

from cli.api import Api, ApiError

# What callers have named is shown as it is, not taken for markup.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False)
P = ParamSpec("P")
R = TypeVar("R")

ApiUrl = Annotated[str, typer.Option("--api", envvar="RECOURSE_API", help="The API's address.")]
Token = Annotated[
    str | None, typer.Option("--token", envvar="RECOURSE_TOKEN", help="A bearer token.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
LOCAL = "http://127.0.0.1:8000"


class UsageError(Exception):
    """What was asked for cannot be done as it was said."""


def tells(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command fail in one line on stderr, and with exit code 1."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ApiError, UsageError) as problem:
            err.print(f"recourse: {problem}", style="red", markup=False)
            raise typer.Exit(1) from problem
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return told


@contextmanager
def connected(url: str, token: str | None) -> Iterator[Api]:
    """The API, for one command."""
    with Api(url, token) as api:
        yield api
