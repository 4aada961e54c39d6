"""The local cloud: the CDK app that AWS gets, deployed by the CDK CLI to an emulator, ministack.

`LocalCloud` runs it, as `recourse up` and the tests do; what ministack lacks is in `gaps`, one file
for each lack, and runs in its process. Everything here may change; what is served is the contract.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from recourse.errors import RecourseError
from recourse.project import Project


class LocalCloudError(RecourseError):
    """The local cloud cannot run as configured; the message says what to change."""


@cache
def folder() -> Path:
    """Where it keeps its data and secrets: `.local`, beside the project's pyproject.toml.

    Raises:
        ProjectError: There is no project here.
    """
    return Project.find().root / ".local"
