"""Which extra of the library brings a package that is not there."""

from __future__ import annotations

ROOMS = {one: one for one in ("cdk", "cli", "local", "testing", "valet")}
"""The extra that a part of the library needs, for those that need another than `api`."""


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
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    library, _, room = module.partition(".")
    package = (problem.name or "").partition(".")[0]
    if library != __package__ or package in ("", __package__):
        return None
    extra = ROOMS.get(room.partition(".")[0], "api")
    return f"{package} is not installed: pip install 'recourse-aws[{extra}]'"
