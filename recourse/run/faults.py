"""Faults on demand: what the header `Recourse-Chaos` may ask for.

`hotel=reject, payment=crash:1, flight.undo=error:2`: a step's action or its undo, the fault, and
after a colon how many attempts it meets; without one it meets every attempt. The header means
something only where the stack is deployed with the context `chaos`: there, and nowhere else,
`recourse.run.fault_injector` wraps a step's runner. A fault happens where the fault that it stands
for would:

| fault | what happens |
|---|---|
| `reject` | the step refuses, with the first refusal that it declares |
| `error` | an error that may pass, before any effect |
| `crash` | the effect, and no answer |
| `timeout` | the effect, and an answer that comes too late |
| `late` | no answer in time; the action arrives once its step has been undone or settled |
| `duplicate` | two deliveries at the same time |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from recourse.errors import RecourseError

if TYPE_CHECKING:
    from recourse.declare.saga import Saga

FAULTS = ("reject", "error", "crash", "timeout", "late", "duplicate")
_ENTRY = re.compile(r"([a-z0-9_]+)(\.undo)?\s*=\s*([a-z]+)(?::([1-9][0-9]{0,3}))?")


class UnknownFaultError(RecourseError, ValueError):
    """The header asks for a fault that does not exist, or that its step cannot have."""


def parse(header: str, saga: Saga) -> dict[str, str]:
    """The faults that a header asks for, by `step` or `step.undo`.

    Raises:
        UnknownFaultError: The message says which entry is wrong and what is allowed.
    """
    found: dict[str, str] = {}
    for entry in header.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if not match:
            raise UnknownFaultError(
                f"{entry.strip()!r} is not a valid fault: "
                "write step=fault, step.undo=fault or step=fault:n"
            )
        name, undo, fault, times = match.groups()
        target = name + (undo or "")
        step = saga.by_name.get(name)
        if step is None:
            raise UnknownFaultError(
                f"{name!r} is not a step of {saga.name}: it has {', '.join(saga.by_name)}"
            )
        if fault not in FAULTS:
            raise UnknownFaultError(
                f"{fault!r} is not a valid fault: there are {', '.join(FAULTS)}"
            )
        if undo and step.undo is None:
            raise UnknownFaultError(f"{name!r} has no undo")
        if fault == "late" and (undo or saga.role(name) == "retriable"):
            raise UnknownFaultError(f"{target!r} cannot be late: nothing undoes it")
        if target in found:
            raise UnknownFaultError(f"{target!r} is named twice")
        found[target] = f"{fault}:{times}" if times else fault
    return found


def fault(faults: Mapping[str, str], target: str, attempt: int) -> str | None:
    """The fault that this attempt meets, if any; attempts count from 1."""
    kind, _, times = faults.get(target, "").partition(":")
    return kind if kind and (not times or attempt <= int(times)) else None
