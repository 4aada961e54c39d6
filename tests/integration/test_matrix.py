"""What the sample of a matrix covers, by what pytest would run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from recourse.declare.declaration import Coordination
from recourse.declare.saga import Saga
from recourse.run.faults import FAULTS
from statemachines import SAGAS
from tests.integration.test_every_saga import COORDINATIONS, targets
from tests.matrix import sample

# One process collects for all of them.
pytestmark = [pytest.mark.of_all, pytest.mark.xdist_group("matrix")]
ROOT = Path(__file__).parents[2]
CELL = re.compile(r"::test_each_fault_ends_as_guaranteed\[(.+): (.+)=(\w+)(:1)?-(\w+)\]$", re.M)


class Cell(NamedTuple):
    """A test of the fault matrix, by its name."""

    saga: str
    target: str
    fault: str
    times: str
    coordination: str


@cache
def collected(*options: str) -> tuple[set[Cell], str]:
    """The cells that pytest would run, and the last lines that it says."""
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", *options]
    # Of all sagas, wherever these tests run, and in a process that is no worker.
    environment = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    ran = subprocess.run(
        [*asked, "tests/integration/test_every_saga.py"],
        cwd=ROOT,
        env=environment | {"KNOWN_SAGAS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return {Cell(*found) for found in CELL.findall(ran.stdout)}, ran.stdout[-500:]


def kind(saga: Saga, target: str) -> str:
    """Before the pivot, the pivot, after it, or an undo."""
    name, _, undo = target.partition(".")
    return "undo" if undo else saga.role(name)


def whole() -> Iterator[Cell]:
    """Every cell that the declarations have."""
    for name, saga in SAGAS.items():
        for target, fault in targets(saga):
            for times in ("", ":1") if target.endswith(".undo") else ("",):
                for coordination in COORDINATIONS:
                    yield Cell(name, target, fault, times, coordination)


def test_the_whole_matrix_is_every_step_under_every_fault_in_each_coordination() -> None:
    cells, said = collected("--whole-matrix")
    assert cells == set(whole())
    assert "matrices:" not in said


@pytest.mark.parametrize("coordination", COORDINATIONS)
def test_the_sample_covers_every_step_every_fault_and_their_pairs(
    coordination: Coordination,
) -> None:
    cells = {cell for cell in collected()[0] if cell.coordination == coordination}
    assert {(cell.saga, cell.target) for cell in cells} == {
        (name, target)
        for name, saga in SAGAS.items()
        for target in [
            *(step.name for step in saga.all),
            *(f"{step.name}.undo" for step in saga.all if step.undo),
        ]
    }
    assert {(cell.saga, cell.fault) for cell in cells} == {
        (name, fault) for name in SAGAS for fault in FAULTS
    }
    possible = {
        (kind(SAGAS[cell.saga], cell.target), cell.fault, cell.times)
        for cell in whole()
        if cell.coordination == coordination
    }
    assert {(kind(SAGAS[c.saga], c.target), c.fault, c.times) for c in cells} == possible
    assert {role for role, _, _ in possible} == {"compensable", "pivot", "retriable", "undo"}


def test_the_sample_is_said_and_is_a_part() -> None:
    cells, said = collected()
    there = len(set(whole()))
    assert cells < set(whole())
    assert f"matrices: {len(cells)} of {there} cells" in said
    assert "`make test-matrix` runs all" in said


def test_who_names_a_cell_gets_it() -> None:
    left_out = min(set(whole()) - collected()[0])
    name = f"{left_out.saga}: {left_out.target}={left_out.fault}{left_out.times}"
    assert left_out in collected("-k", f"{left_out.saga} and {left_out.fault}")[0]
    file = "tests/integration/test_every_saga.py"
    named = f"{file}::test_each_fault_ends_as_guaranteed[{name}-{left_out.coordination}]"
    assert left_out in collected(named)[0]


def test_a_sample_covers_all_with_few_and_keeps_the_order() -> None:
    cells = [(a, b) for a in "xyz" for b in range(3)]
    assert sample(cells, lambda cell: cell) == [("x", 0), ("y", 1), ("z", 2)]
    assert sample(cells, lambda cell: [cell]) == cells
    assert sample([], lambda cell: cell) == []
