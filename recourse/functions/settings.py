"""A function's settings, from its environment."""

from __future__ import annotations

import os
from typing import TypeVar

from recourse.declare.step import Action, Undo, resolve
from recourse.declare.tables import ExistingTable
from recourse.errors import RecourseError

Declared = TypeVar("Declared", Action, Undo)


class MissingSettingError(RecourseError, RuntimeError):
    """An environment variable is not set: the stack and the handler disagree."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")


def required(name: str) -> str:
    """An environment variable that must be there.

    Raises:
        MissingSettingError: It is not set.
    """
    value = os.environ.get(name)
    if not value:
        raise MissingSettingError(name)
    return value


def timescale() -> float:
    """The factor of timeouts and back-offs: 1 on AWS."""
    return float(os.environ.get("TIMESCALE") or 1)


def chaos() -> bool:
    """Whether faults on demand are switched on."""
    return os.environ.get("CHAOS") == "on"


def choreography() -> bool:
    """Whether steps listen to events, so that sagas may be choreographed."""
    return os.environ.get("CHOREOGRAPHY") == "on"


def loopback() -> bool:
    """Whether webhooks may go to loopback addresses: only in the local cloud."""
    return os.environ.get("WEBHOOK_LOOPBACK") == "on"


def table_name(table: ExistingTable) -> str:
    """What a table is called that exists already: as its stack says, else as it is declared."""
    return os.environ.get(table.variable) or table.name


def declared(name: str, kind: type[Declared]) -> Declared | None:
    """The action or the undo that a variable names, if it names one.

    Raises:
        RuntimeError: It names something else: the stack and the code disagree.
    """
    ref = os.environ.get(name)
    if not ref:
        return None
    found = resolve(ref)
    if not isinstance(found, kind):
        raise RuntimeError(f"the environment variable {name} must name an {kind.made_by}: {ref}")
    return found
