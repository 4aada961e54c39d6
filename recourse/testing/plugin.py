"""The plugin of pytest: `pytest --sagas`, and the fixture `ground`.

Nothing of the library is loaded until one of them is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from recourse.testing.checks import Figures
    from recourse.testing.ground import Ground
    from recourse.testing.world import World

EXAMPLES = 25


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("recourse", "sagas")
    group.addoption(
        "--sagas",
        action="store_true",
        help="test every saga of [tool.recourse]: each step under each fault, in both "
        "coordinations, and random courses of events",
    )
    group.addoption(
        "--sagas-examples",
        type=int,
        default=EXAMPLES,
        metavar="N",
        help=f"random courses for each saga ({EXAMPLES}; 0 for none)",
    )


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """The sagas of the project on moto, with the stock of the module of its tests."""
    with _world(request.config).ground() as made:
        yield made


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests of sagas, before any are chosen by name."""
    if config.getoption("sagas"):
        items.extend(Sagas.from_parent(session, name="sagas", nodeid="sagas").collect())


class Sagas(pytest.Collector):
    """The tests of all sagas."""

    @cached_property
    def world(self) -> World:
        """What they are tested with."""
        return _world(self.config)

    @cached_property
    def effects(self) -> dict[str, Figures]:
        """What an undisturbed run of each saga does to the numbers of the stock."""
        from recourse.testing.course import effect

        return {name: effect(self.world, name) for name in self.world.sagas}

    def collect(self) -> list[pytest.Item]:
        """A test for each course, and one for the search of each saga."""
        sagas = self.world.sagas  # says what is missing, before anything else is loaded
        from recourse.testing.course import courses, run

        made: list[pytest.Item] = []
        for saga in sagas.values():
            for course in courses(saga):
                made.append(
                    SagaTest.from_parent(
                        self,
                        name=str(course.starts[0]),
                        play=lambda course=course: run(self.world, course, self.effects),
                    )
                )
        examples = self.config.getoption("sagas_examples")
        for name in sagas if examples else ():
            made.append(
                SagaTest.from_parent(
                    self,
                    name=f"{name}[{examples} random courses]",
                    play=lambda name=name: self._search(name, examples),
                )
            )
        return made

    def setup(self) -> None:
        """One ground serves all of them, in turn."""
        stack = ExitStack()
        stack.enter_context(self.world.keeping())
        self.addfinalizer(stack.close)

    def _search(self, saga: str, examples: int) -> None:
        from recourse.testing.search import search

        search(self.world, saga, self.effects, examples=examples)


class SagaTest(pytest.Item):
    """One course, or the random courses of a saga."""

    def __init__(self, *, play: Callable[[], None], **more: Any) -> None:
        super().__init__(**more)
        self._play = play

    def runtest(self) -> None:
        """Play it."""
        self._play()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        """The story of what went wrong, where there is one."""
        from recourse.errors import RecourseError
        from recourse.testing.story import WrongWorldError

        if isinstance(excinfo.value, WrongWorldError | RecourseError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where it is shown."""
        return "sagas", None, self.name


def _world(config: pytest.Config) -> World:
    from recourse.extras import needed
    from recourse.project import Project, ProjectError

    try:
        from recourse.testing.world import World
    except ModuleNotFoundError as problem:
        if (said := needed(problem)) is None:
            raise
        raise pytest.UsageError(said) from problem
    try:
        project = Project.find(config.rootpath)
        if project.testing is not None:
            pytest.register_assert_rewrite(project.testing)
        return World.of(project)
    except ProjectError as problem:
        raise pytest.UsageError(str(problem)) from problem
