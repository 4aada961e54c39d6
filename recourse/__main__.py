"""`recourse`: the command line, as far as it is installed.

The base install has `recourse new`; the extra `cli` brings the commands that talk to an API, and
`local` the local cloud.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec


def main() -> None:
    """Run a command; the process ends with its status."""
    match sys.argv[1:]:
        case ["--version"]:
            print(f"recourse {version('recourse-aws')}")
        case ["new", *arguments]:
            from recourse.new import main as new

            new(arguments)
        case _ if missing := [name for name in ("typer", "rich", "httpx") if not find_spec(name)]:
            sys.exit(
                f"recourse: {missing[0]} is not installed, so there is only `recourse new` and "
                "`recourse --version`: pip install 'recourse-aws[cli]'"
            )
        case _:
            from recourse.cli.main import app

            app()


if __name__ == "__main__":
    main()
