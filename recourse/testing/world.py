"""What a project says for its tests: its sagas, a request of each, its stock and its invariants.

The requests are `samples/<saga>.json`; a saga that reverses another needs none. All else is in one
module, which `[tool.recourse]` names as `testing`; each part of it may be absent::

    def stock(ground):                    # on every fresh ground, before any saga begins
        ground.add("inventory", {"pk": "item#tea", "free": 100})

    def invariant_stock(ground):          # at any time: after every call of a step
        assert all(row["free"] >= 0 for row in ground.rows("inventory", "item#"))

    def at_rest_charges(ground):          # at the end, where no operator had to skip a step
        assert len(ground.rows("payments", "charge#")) <= 1

    MAY_CHANGE = {"version"}              # attributes of stock that an undo need not put back

`stock` may be a generator, as a fixture of pytest is: what follows its `yield` cleans up. What it
writes into `os.environ`, such as the address of a provider's stand-in, is taken back with it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isgeneratorfunction
from typing import Any
from unittest import mock

from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.project import Project, ProjectError
from recourse.testing.ground import Ground
from recourse.testing.ground import ground as bare_ground

Invariant = Callable[[Ground], Any]


@dataclass(kw_only=True)
class World:
    """Sagas, and what they are tested with.

    Attributes:
        sagas: The declarations, by name.
        samples: A request of each that succeeds, by name.
        stock: Puts what the requests need.
        always: What must hold at any time, by name.
        at_rest: What must hold once every saga is at rest, by name.
        may_change: Attributes of the stock that an undo need not put back.
    """

    sagas: Mapping[str, Saga]
    samples: Mapping[str, Mapping[str, Any]]
    stock: Callable[[Ground], Any] | None = None
    always: Mapping[str, Invariant] = field(default_factory=dict)
    at_rest: Mapping[str, Invariant] = field(default_factory=dict)
    may_change: frozenset[str] = frozenset()
    _kept: Ground | None = None

    @classmethod
    def of(cls, project: Project) -> World:
        """The world of a project.

        Raises:
            ProjectError: A saga has no request, or the module of its tests is not there.
        """
        if str(project.root) not in sys.path:
            sys.path.insert(0, str(project.root))
        sagas = project.declared()
        own: dict[str, Any] = {}
        if project.testing is not None:
            try:
                own = vars(import_module(project.testing))
            except ImportError as problem:
                raise ProjectError(
                    f"[tool.recourse] testing must name a module, got {project.testing!r}: "
                    f"{problem}"
                ) from problem
        return cls(
            sagas=sagas,
            samples={name: _sample(project, _begun_by(sagas, name)) for name in sagas},
            stock=own.get("stock"),
            always=_named(own, "invariant"),
            at_rest=_named(own, "at_rest"),
            may_change=frozenset(own.get("MAY_CHANGE", ())),
        )

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Make one ground for a block, and wipe it where else a fresh one would be made."""
        with bare_ground(self.sagas) as self._kept:
            yield
        self._kept = None

    @contextmanager
    def ground(self) -> Iterator[Ground]:
        """A fresh ground with its stock.

        Raises:
            ProjectError: A step needs a setting that is not there.
        """
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ))
            if self._kept is None:
                made: Ground = stack.enter_context(bare_ground(self.sagas))
            else:
                made = self._kept
                stack.callback(made.wipe)
            if self.stock is not None and isgeneratorfunction(self.stock):
                stack.enter_context(contextmanager(self.stock)(made))
            elif self.stock is not None:
                self.stock(made)
            for step in made.steps.values():
                for name in (*step.action.settings, *step.action.secrets):
                    if name not in os.environ:
                        raise ProjectError(
                            f"step {step.name!r} needs the setting {name}: write "
                            f"os.environ[{name!r}] = ... in stock(ground), in the module that "
                            "[tool.recourse] names as testing"
                        )
            yield made


def _named(own: Mapping[str, Any], prefix: str) -> dict[str, Invariant]:
    return {
        name: found
        for name, found in own.items()
        if callable(found) and (name == prefix or name.startswith(f"{prefix}_"))
    }


def _begun_by(sagas: Mapping[str, Saga], name: str) -> str:
    """The saga whose request is a saga's sample: of one that reverses another that one."""
    first = reversed_by(sagas).get(name)
    return first[0].name if first else name


def _sample(project: Project, saga: str) -> Mapping[str, Any]:
    file = project.samples / f"{saga}.json"
    try:
        found = json.loads(file.read_text())
    except OSError as problem:
        raise ProjectError(
            f"{file} is missing: write a request of {saga!r} that succeeds"
        ) from problem
    except ValueError as problem:
        raise ProjectError(f"{file} is not valid JSON: {problem}") from problem
    if not isinstance(found, Mapping):
        raise ProjectError(f"{file} must be a JSON object, got {found!r:.80}")
    return found
