"""Which extra of the library brings a package that is not there."""

from __future__ import annotations

from traceback import walk_tb

ROOMS = {one: one for one in ("cdk", "cli", "local", "testing", "valet")} | {"erasure": "valet"}
"""The extra that a part of the library needs, for those that need another than `api`."""
ASKING = ("__main__", "cli", "project")
"""Parts that import others for whoever asks."""


def needed(problem: ModuleNotFoundError) -> str | None:
    """What to install for a package that the library imports and that is not there.

    ::

        try:
            from recourse.cdk.api import SagaApi
        except ModuleNotFoundError as problem:
            print(needed(problem))  # aws_cdk is not installed: pip install 'recourse-aws[cdk]'

    Returns:
        A sentence with the package and the command; None where it is not the library itself that
        imports it, but code of the project or another package.
    """
    names = [
        str(frame.f_globals.get("__name__", "")).split(".")
        for frame, _ in walk_tb(problem.__traceback__)
    ]
    package = (problem.name or "").partition(".")[0]
    if not names or names[-1][0] != __package__ or package in ("", __package__):
        return None
    rooms = [one[1] for one in names if one[0] == __package__ and len(one) > 1]
    asked = next((room for room in rooms if room not in ASKING), rooms[-1])
    extra = ROOMS.get(asked, "api")
    return f"{package} is not installed: pip install 'recourse-aws[{extra}]'"
