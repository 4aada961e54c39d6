"""Tests that are a product of parameters: a sample of each is run, and the whole by request.

A test with the mark `matrix` has a cell for each combination of its parameters. By default those
cells are run that cover every pair of values of two parameters, or whatever the function `covers`
yields that the mark is given: it is called with the parameters of a cell by name. The sample is
the same on each run, so that a red run is about what was changed. `--whole-matrix` runs all cells,
as does whoever chooses by `-k`, or names a cell::

    @pytest.mark.matrix
    @pytest.mark.parametrize("coordination", COORDINATIONS)
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("fault", FAULTS)
    def test_it(step, fault, coordination): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any, TypeVar

import pytest

Cell = TypeVar("Cell")
Counts = dict[str, int]
COUNTS = pytest.StashKey[Counts]()
"""How many cells there are, and how many of them are run."""


def sample(cells: Sequence[Cell], covers: Callable[[Cell], Iterable[Hashable]]) -> list[Cell]:
    """Cells, in their order, that cover together what all of them cover.

    The next one is always the one that covers the most of what is left; the first of these.

    Args:
        cells: All there are.
        covers: What a cell covers.
    """
    covered = {number: set(covers(cell)) for number, cell in enumerate(cells)}
    left = set[Hashable]().union(*covered.values())
    chosen = []
    while left:
        best = max(covered, key=lambda number: len(covered[number] & left))
        left -= covered.pop(best)
        chosen.append(best)
    return [cells[number] for number in sorted(chosen)]


def sampled(config: pytest.Config, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The items without the cells that are not run; how many these are is kept for the summary."""
    named = any("[" in argument for argument in config.args)
    if config.option.whole_matrix or config.option.keyword or named:
        return list(items)
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("matrix"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    left_out: set[pytest.Item] = set()
    for cells in matrices.values():
        run: list[pytest.Item] = sample(cells, _covered)
        left_out.update(set(cells).difference(run))
    there = sum(map(len, matrices.values()))
    config.stash[COUNTS] = {"there": there, "run": there - len(left_out)}
    return [item for item in items if item not in left_out]


def summary(counts: Counts) -> str:
    """What is said at the end of a run."""
    return (
        f"matrices: {counts['run']} of {counts['there']} cells, which cover each step, fault and "
        "coordination, and their pairs; `make test-matrix` runs all"
    )


def _covered(item: pytest.Item) -> Iterable[Hashable]:
    mark = item.get_closest_marker("matrix")
    spec: Any = item.callspec  # type: ignore[attr-defined]
    assert mark is not None
    if covers := mark.kwargs.get("covers"):
        found: Iterable[Hashable] = covers(**spec.params)
        return found
    return combinations(spec.indices.items(), 2)
