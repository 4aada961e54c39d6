"""`recourse new DIR`: an app of one's own, as files that are one's own from then on.

They are `template`, an app that works as it is: its names, and the version of the library, are
replaced. Nothing but the standard library is needed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from recourse.errors import RecourseError

TEMPLATE = Path(__file__).with_name("template")
NAME, APP, DEPENDENCY = "my-sagas", "MySagas", '"recourse-aws[all]"'
"""What the template has, and each new app something else for."""
LONGEST_APP = 20
"""Characters that the names of queues leave for it (`recourse.cdk.stage.Stage`)."""
USAGE = 2
"""What it ends with where it cannot be run as given."""
KEPT = {".git"}
"""What may be in the folder already."""
NEXT = """\
wrote {name}: {files} files

next:
  cd {folder}
  make test    # sets it up in .venv; your tests, and every step under every fault
  make up      # the app on a local cloud: http://127.0.0.1:8000

then, in another terminal:
  cd {folder} && source .venv/bin/activate
  export RECOURSE_TOKEN=$(recourse token --subject asha)
  recourse start booking --request samples/booking.json --watch
  recourse start booking --request samples/booking-refused.json --watch    # is undone"""


class NewError(RecourseError):
    """The app cannot be written; the message says what to change."""


def name_of(text: str) -> str:
    """The name of an app: of the folder `My_Sagas` it is `my-sagas`.

    Raises:
        NewError: It is none that a package and queues can have.
    """
    name = re.sub(r"[-_.\s]+", "-", text).lower()
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise NewError(
            f"the name must be a letter and then letters, digits and '-', got {text!r}: "
            "choose one with --name"
        )
    if name in ("recourse", "recourse-aws"):
        raise NewError(f"the name must be another than the library's, got {name!r}: --name")
    if len(app_of(name)) > LONGEST_APP:
        raise NewError(
            f"the name must have at most {LONGEST_APP} letters and digits, got "
            f"{len(app_of(name))} in {name!r}: choose one with --name"
        )
    return name


def app_of(name: str) -> str:
    """What the CDK app is called, whose stacks and queues are named after it: `MySagas`."""
    return "".join(part.capitalize() for part in name.split("-"))


def write(folder: Path, name: str) -> int:
    """Write a new app.

    Args:
        folder: Where; it is made if it is not there.
        name: What it is called, as `name_of` says.

    Returns:
        How many files it has.

    Raises:
        NewError: Something is in the folder already.
        OSError: It cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise NewError(f"{folder} is a file: choose a new or an empty folder")
    if folder.exists() and (there := sorted({one.name for one in folder.iterdir()} - KEPT)):
        raise NewError(f"{folder} is not empty, it has {there[0]}: choose a new or an empty folder")
    names = {
        NAME: name,
        APP: app_of(name),
        DEPENDENCY: f'"recourse-aws[all]=={version("recourse-aws")}"',
    }
    files = [path for path in TEMPLATE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in files:
        text = path.read_text("utf-8")
        for ours, theirs in names.items():
            text = text.replace(ours, theirs)
        target = folder / path.relative_to(TEMPLATE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return len(files)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _end(message, "--json" in sys.argv)


def main(arguments: Sequence[str]) -> None:
    """Write a new app into a folder, and say what to do next."""
    parser = _Parser(
        prog="recourse new",
        description="Write a new app into a folder: a saga of two steps, its tests, its CDK app.",
        epilog="Example: recourse new my-sagas",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or an empty folder")
    parser.add_argument("--name", help="what the app is called; as the folder by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    try:
        name = name_of(asked.name or asked.folder.resolve().name)
        files = write(asked.folder, name)
    except NewError as problem:
        _end(str(problem), asked.json)
    except OSError as problem:
        _end(f"cannot write {problem.filename}: {problem.strerror}", asked.json)
    if asked.json:
        print(json.dumps({"name": name, "folder": str(asked.folder), "files": files}))
    else:
        print(NEXT.format(name=name, files=files, folder=asked.folder))


def _end(why: str, as_json: bool) -> NoReturn:
    """End with an error, as every other command does (`recourse.cli.running`)."""
    print(f"recourse: {why}", file=sys.stderr)
    if as_json:
        title = "The command cannot be run as given"
        problem = {"type": "urn:recourse:cli:usage", "title": title, "status": None, "detail": why}
        print(json.dumps({"error": problem, "exit_code": USAGE}))
    sys.exit(USAGE)
