"""Every error of the library hangs on one tree, whose drawing is what the classes say."""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module

import recourse
from recourse import errors
from recourse.errors import RecourseError

PRIVATE = re.compile(r"^_|^(MarkerFound|RetryLaterError|GiveUpFailedError)$")
"""What never leaves the module that raises it."""
EMULATOR = ("recourse.local.boot", "recourse.local.gaps", "recourse.local.judging")
NOT_HERE = (
    *("recourse.cdk", "recourse.functions.api.default", "recourse.__main__", "recourse.testing"),
    *EMULATOR,
)
"""What loads the CDK, whose errors are of a synthesis; a handler that needs its environment; what
runs in ministack's process; and the test kit, whose errors are failed assertions and killed
processes."""


def modules() -> list[str]:
    found = [one.name for one in pkgutil.walk_packages(recourse.__path__, "recourse.")]
    assert len(found) > 50
    return [name for name in found if not name.startswith(NOT_HERE)]


def of_ours() -> set[type[BaseException]]:
    return {
        found
        for name in modules()
        for _, found in inspect.getmembers(import_module(name), inspect.isclass)
        if issubclass(found, BaseException) and found.__module__.startswith("recourse.")
    }


def tree(error: type[BaseException], known: set[type[BaseException]], indent: str = "") -> str:
    """An error, and below it those that are made from it."""
    below = sorted(
        (one for one in known if one.__bases__[0] is error and not PRIVATE.match(one.__name__)),
        key=lambda one: one.__name__,
    )
    drawn = f"{indent}{error.__name__}\n"
    return drawn + "".join(tree(one, known, indent + "    ") for one in below)


def test_every_error_has_the_one_root_first() -> None:
    assert {one.__name__ for one in of_ours() if not issubclass(one, RecourseError)} == set()


def test_the_drawing_is_the_tree() -> None:
    drawn = tree(RecourseError, of_ours())
    assert inspect.cleandoc(errors.__doc__ or "").count(drawn.replace("\n", "\n    ").rstrip()) == 1


if __name__ == "__main__":
    print(tree(RecourseError, of_ours()), end="")
