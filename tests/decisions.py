"""What the local cloud allowed and refused: a suite ends with no refusal that no test expected."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Decision = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A refusal that a test provokes.

    Attributes:
        who: Part of the name of who is refused: a role's or a user's.
        action: What is refused.
    """

    who: str
    action: str


def decisions_of(file: Path) -> list[Decision]:
    """The decisions of a cloud, the oldest first."""
    files = [one for one in (file.with_name(f"{file.name}.1"), file) if one.exists()]
    return [json.loads(line) for one in files for line in one.read_text().splitlines()]


def unexpected(decisions: Iterable[Decision], expected: Iterable[Refusal]) -> list[Decision]:
    """The refusals among decisions that no test has expected."""
    return [
        one
        for one in decisions
        if one["decision"] != "Allow"
        and not any(
            refusal.who in one["who"] and refusal.action == one["action"] for refusal in expected
        )
    ]
