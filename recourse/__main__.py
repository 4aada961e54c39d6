"""`recourse`: the command line, as far as it is installed.

The base install has `recourse new`; the extra `cli` brings the commands that talk to an API, and
`local` the local cloud.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version

from recourse.extras import needed

FAILED = "urn:recourse:cli:failed"


def main() -> None:
    """Run a command; the process ends with its status."""
    try:
        _run(sys.argv[1:])
    except ModuleNotFoundError as problem:
        if (said := needed(problem)) is None:
            raise
        if "_RECOURSE_COMPLETE" in os.environ:
            sys.exit(1)  # somebody is typing: no word on their screen
        also = "; without it there are `recourse new` and `recourse --version`"
        said += also if "[cli]" in said else ""
        if "--json" in sys.argv:
            told = {"type": FAILED, "title": "It has failed", "status": None, "detail": said}
            print(json.dumps({"error": told, "exit_code": 1}))
        sys.exit(f"recourse: {said}")


def _run(arguments: list[str]) -> None:
    match arguments:
        case ["--version"]:
            print(f"recourse {version('recourse-aws')}")
        case ["new", *others]:
            from recourse.new import main as new

            new(others)
        case _:
            from recourse.cli.main import app

            app()


if __name__ == "__main__":
    main()
