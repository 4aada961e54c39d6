"""What a command prints with `--json`: one document, or a line for each thing that happens.

Nothing else is on stdout then. Where a command ends badly before it has a result, its error is that
document, or the last line; what people read is on stderr all the same.
"""

from __future__ import annotations

import json
from typing import Any

from recourse.cli.exits import Exit

_printed = {"documents": 0}


def print_json(document: Any) -> None:
    """Print the result of a command as JSON."""
    # Flushed here, where a reader that has gone is noticed.
    print(json.dumps(document), flush=True)
    _printed["documents"] += 1


def print_json_line(document: Any) -> None:
    """Print one of many results, which an error may follow."""
    print(json.dumps(document), flush=True)


def begin() -> None:
    """Begin with a command that has answered nothing."""
    _printed["documents"] = 0


def print_json_error(problem: dict[str, Any], code: Exit, retry_after: int = 0) -> None:
    """Print an error as JSON, unless the command has its result printed.

    Args:
        problem: It, in the form of RFC 9457: `type`, `title`, `status`, `detail`, `errors`.
        code: What the command ends with.
        retry_after: After how many seconds it may be tried again; 0 if nobody says.
    """
    if _printed["documents"]:
        return
    wait = {"retry_after": retry_after} if retry_after else {}
    print_json({"error": problem, "exit_code": int(code), **wait})
