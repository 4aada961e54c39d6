"""Runs a command: its errors, and what the process ends with, in one place for all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer import rich_utils
from typer.core import TyperGroup
from typer.exceptions import TyperException

from recourse.cli import json_output
from recourse.cli.api import ApiError, UnreachableError
from recourse.cli.command import err
from recourse.cli.exits import TITLES, Exit, UsageError, of_status
from recourse.cli.oauth import IssuerUnreachableError, LoginError
from recourse.cli.tokens import TokenError, redacted
from recourse.errors import RecourseError
from recourse.extras import needed
from recourse.project import ProjectError

AS_JSON = "--json"
KIND = "urn:recourse:cli:"
"""How the `type` of a problem begins that is the command's own; `usage`, `not-found` follow."""
_CODES: Sequence[tuple[type[BaseException], Exit]] = (
    (UnreachableError, Exit.TRY_AGAIN),
    (IssuerUnreachableError, Exit.TRY_AGAIN),
    (LoginError, Exit.NOT_SIGNED_IN),
    (UsageError, Exit.USAGE),
    (TokenError, Exit.USAGE),
    (ProjectError, Exit.USAGE),
    (FileNotFoundError, Exit.USAGE),
    (UnicodeError, Exit.USAGE),
)
"""What a command ends with, by its error; all others are `FAILED`."""


class Commands(TyperGroup):
    """All commands: whatever one of them raises is reported here, and nowhere else."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that is given; the process ends with its code."""
        given = list(sys.argv[1:] if args is None else args)
        # Typer looks at it only after the options, and one that is wrong is an error too.
        as_json = AS_JSON in (given[: given.index("--")] if "--" in given else given)
        json_output.begin()
        try:
            ended = super().main(
                given,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            code = Exit.OK if ended is None else ended
            if code == Exit.INTERRUPTED and as_json:
                json_output.print_json_error(problem_of(KeyboardInterrupt()), Exit.INTERRUPTED)
        except TyperException as problem:
            code = _misused(problem, as_json)
        except (RecourseError, OSError, UnicodeError, ModuleNotFoundError) as problem:
            code = _failed(problem, as_json)
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, context: Any) -> Any:
        """Run the command; a reader that has gone, like `head`, ends it without a word."""
        try:
            ended = super().invoke(context)
            sys.stdout.flush()
            return ended
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
            raise typer.Exit(Exit.BROKEN_PIPE) from None

    def _main_shell_completion(self, *args: Any, **options: Any) -> None:
        """Complete what was typed; where that fails nothing is said, for somebody is typing."""
        try:
            super()._main_shell_completion(*args, **options)
        except Exception:
            sys.exit(Exit.FAILED)


def _misused(problem: TyperException, as_json: bool) -> int:
    """Report an option or an argument that is wrong."""
    rich_utils.rich_format_error(problem)  # type: ignore[arg-type] # typed by a private class
    if as_json:
        said = _own(Exit.USAGE, problem.format_message())
        if opts := getattr(getattr(problem, "param", None), "opts", None):
            said["errors"] = [{"field": opts[0], "message": said["detail"]}]
        json_output.print_json_error(said, Exit.USAGE)
    return problem.exit_code


def _failed(problem: Exception, as_json: bool) -> int:
    """Report an error, without any token.

    Raises:
        ModuleNotFoundError: It is none of the library's extras that is not there.
    """
    said = text_of(problem)
    if said is None:
        raise problem
    for line in redacted(f"recourse: {said}").split("\n"):
        err.print(line, style="red")
    code = code_of(problem)
    if as_json:
        retry_after = problem.retry_after if isinstance(problem, ApiError) else 0
        json_output.print_json_error(problem_of(problem), code, retry_after)
    return code


def code_of(problem: BaseException) -> Exit:
    """What a command ends with that has ended with an error."""
    if isinstance(problem, ApiError) and problem.status is not None:
        return of_status(problem.status)
    if isinstance(problem, KeyboardInterrupt):
        return Exit.INTERRUPTED
    return next((code for kind, code in _CODES if isinstance(problem, kind)), Exit.FAILED)


def text_of(problem: BaseException) -> str | None:
    """An error as a line for people; None for one that nobody should see but its author."""
    match problem:
        case ModuleNotFoundError():
            return needed(problem)
        case OSError():
            named = f"{problem.filename}: " if problem.filename else ""
            return f"{named}{problem.strerror or problem}"
        case UnicodeError():
            return "what was given is not text in UTF-8"
        case KeyboardInterrupt():
            return "the command was interrupted"
    return str(problem)


def problem_of(problem: BaseException) -> dict[str, Any]:
    """An error in the form of RFC 9457: the API's own problem, or one of the command."""
    if isinstance(problem, ApiError):
        own = _own(code_of(problem), redacted(str(problem)))
        return own | {"status": problem.status} | dict(problem.problem)
    return _own(code_of(problem), redacted(text_of(problem) or ""))


def _own(code: Exit, detail: str) -> dict[str, Any]:
    kind = KIND + code.name.lower().replace("_", "-")
    return {"type": kind, "title": TITLES[code], "status": None, "detail": detail}
