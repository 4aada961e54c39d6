"""`recourse`: the command line, as far as it is installed.

The base install has `recourse new`; the extra `cli` brings the commands that talk to an API, and
`local` the local cloud.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from recourse.extras import needed


def main() -> None:
    """Run a command; the process ends with its status."""
    try:
        _run(sys.argv[1:])
    except ModuleNotFoundError as problem:
        if (said := needed(problem)) is None:
            raise
        also = "; without it there are `recourse new` and `recourse --version`"
        sys.exit(f"recourse: {said}{also if '[cli]' in said else ''}")


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
