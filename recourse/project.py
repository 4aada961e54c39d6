"""The project that uses the library, as the table `[tool.recourse]` of its pyproject.toml has it.

::

    [tool.recourse]
    sagas = "statemachines:SAGAS"                      # where the declarations are listed
    packages = ["services", "statemachines", "lambdas"]  # what functions carry beside the library
    requirements = "lambdas/requirements.lock"          # the pins of what both of them import, if
                                                       # that is more than the library needs
    api = "lambdas.api:API"                            # where its API is, if it has its own
    samples = "samples"                                # a request of each saga: <saga>.json
    testing = "tests.sagas"                            # what `pytest --sagas` should know of it
    app = ["app.py", "infra"]                          # what the CDK app is made of

    [tool.recourse.stand_ins]                          # on the local cloud, for what is elsewhere
    payment_provider = "samples.provider:served"       # by the context that has its address

    [tool.recourse.only]                               # of a folder of these pins, what is carried
    "babel/locale-data" = ["root.dat", "en.dat"]

The library imports nothing of the project: what needs its sagas or its API resolves that name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recourse.declare.step import resolve
from recourse.errors import RecourseError
from recourse.extras import needed

if TYPE_CHECKING:
    from recourse.declare.declaration import Earlier
    from recourse.declare.saga import Saga
    from recourse.declare.shape import RecordedShape


SHAPES = ".shape.json"
"""How the names of the files of recorded shapes end."""
DEFAULT_API = "recourse.functions.api.default:API"
DEFAULT_REQUIREMENTS = Path(__file__).parent / "functions" / "requirements.lock"


class ProjectError(RecourseError):
    """No project was found, or a setting is missing or not valid; the message says which."""


class Project(NamedTuple):
    """What a project says of itself.

    Attributes:
        root: The folder of its pyproject.toml.
        sagas: Where its declarations are listed: `module:name`.
        packages: What its functions carry beside the library: folders of the root.
        requirements: The pins of what they import, a file with hashes; by default of what the
            library does.
        api: Where its API is, `module:name`: a `recourse.functions.api.app.Api`.
        only: Of which folders of what they import functions carry only some files: the patterns
            of their names, by the folder.
        samples: The folder of a request for each saga, `<saga>.json`, that succeeds.
        app: The files and folders of its CDK app, which `cdk.json` starts.
        stand_ins: What stands on the local cloud for systems elsewhere: by the name of the context
            that has the address, the maker of an ASGI app, `module:name`.
        testing: The module of its stock and its invariants, for `pytest --sagas`; may be absent.
    """

    root: Path
    sagas: str
    packages: tuple[str, ...]
    requirements: Path = DEFAULT_REQUIREMENTS
    api: str = DEFAULT_API
    only: Mapping[str, Sequence[str]] = {}
    samples: Path = Path("samples")
    testing: str | None = None
    app: tuple[str, ...] = ("app.py",)
    stand_ins: Mapping[str, str] = {}

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project of a folder, or of the nearest one above it.

        Args:
            start: The folder; the current one where it is absent.

        Raises:
            ProjectError: There is none, or a setting is missing or not what it must be.
        """
        import tomllib  # functions look for no project, and need not load it

        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            file = folder / "pyproject.toml"
            if not file.is_file():
                continue
            try:
                table = tomllib.loads(file.read_text()).get("tool", {}).get("recourse")
            except ValueError as problem:
                raise ProjectError(f"{file} is not valid TOML: {problem}") from problem
            if table is not None:
                return cls._of(folder, table)
        raise ProjectError(
            f"no pyproject.toml with a table [tool.recourse] in {start} or above: "
            'write one with sagas = "statemachines:SAGAS" and packages'
        )

    @classmethod
    def _of(cls, root: Path, table: Mapping[str, object]) -> Project:
        def text(name: str, default: str | None = None) -> str:
            value = table.get(name, default)
            if not isinstance(value, str) or not value:
                raise ProjectError(f"[tool.recourse] {name} must be text, got {value!r}")
            return value

        def names(name: str, value: object) -> tuple[str, ...]:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ProjectError(f"[tool.recourse] {name} must be a list of names, got {value!r}")
            return tuple(value)

        only = table.get("only", {})
        if not isinstance(only, Mapping):
            raise ProjectError(f"[tool.recourse] only must be a table of folders, got {only!r}")
        stand_ins = table.get("stand_ins", {})
        if not isinstance(stand_ins, Mapping):
            raise ProjectError(f"[tool.recourse] stand_ins must be a table, got {stand_ins!r}")
        return cls(
            root=root,
            sagas=text("sagas"),
            packages=names("packages", table.get("packages")),
            requirements=root / text("requirements", str(DEFAULT_REQUIREMENTS)),
            api=text("api", DEFAULT_API),
            only={folder: names(f"only of {folder!r}", kept) for folder, kept in only.items()},
            samples=root / text("samples", "samples"),
            testing=text("testing") if "testing" in table else None,
            app=names("app", table.get("app", ["app.py"])),
            stand_ins={str(context): str(where) for context, where in stand_ins.items()},
        )

    def declared(self) -> Mapping[str, Saga]:
        """Its declarations, by name.

        Raises:
            ProjectError: There is no such mapping.
        """
        self._be_importable()
        return declared_at(self.sagas)

    def standing_in(self) -> dict[str, Any]:
        """A new ASGI app for each of its stand-ins, by the name of the context.

        Raises:
            ProjectError: There is none at that name.
        """
        self._be_importable()
        return {context: _at(where, "no app is")() for context, where in self.stand_ins.items()}

    def own_api(self) -> Any:
        """Its API: a `recourse.functions.api.app.Api`.

        The default one is of the sagas that the environment variable `RECOURSE_SAGAS` names.

        Raises:
            ProjectError: There is none at that name.
        """
        self._be_importable()
        return _at(self.api, "no API is")

    def _be_importable(self) -> None:
        """Let Python find its packages, which need not be installed."""
        for place in (self.root, *((self.root / one).parent for one in self.packages)):
            if str(place) not in sys.path:
                sys.path.insert(0, str(place))


def declared_at(where: str) -> Mapping[str, Saga]:
    """The declarations that are listed at `module:name`, by name.

    Raises:
        ProjectError: There is no such mapping.
    """
    found = _at(where, "no sagas are listed")
    if not isinstance(found, Mapping):
        raise ProjectError(f"{where} must be a mapping of sagas by name, got {found!r:.80}")
    return found


def shapes_beside(where: str) -> Path:
    """The folder of the recorded shapes, `<saga>.shape.json`: where the module of `where` is.

    Raises:
        ProjectError: There is no such module.
    """
    declared_at(where)
    file = sys.modules[where.partition(":")[0]].__file__
    assert file is not None, "it is a module, or a package with an __init__"
    return Path(file).parent


def earlier_at(where: str) -> list[Earlier]:
    """The same as `recorded_at`, with the functions of their steps.

    Raises:
        ProjectError: There are no declarations, or a file holds no shapes.
        ShapeError: The code has a function no longer that a shape has.
    """
    from recourse.declare.declaration import Earlier

    return [Earlier(recorded=one) for one in recorded_at(where)]


def recorded_at(where: str) -> list[RecordedShape]:
    """The shapes that sagas in flight may have, beside the declarations at `module:name`.

    They are recorded in `<saga>.shape.json` beside them, the oldest first.

    Raises:
        ProjectError: There are no declarations, or a file holds no shapes.
    """
    from recourse.declare import shape

    sagas = declared_at(where)
    found = []
    for file in sorted(shapes_beside(where).glob("*" + SHAPES)):
        declared = sagas.get(file.name.removesuffix(SHAPES))
        now = declared and shape.record(declared)
        for recorded in read_shapes(file):
            if recorded != now:
                found.append(shape.read(recorded))
    return found


def read_shapes(file: Path) -> list[dict[str, Any]]:
    """The recorded shapes in a file, the oldest first; none where it is not there.

    Raises:
        ProjectError: It holds no shapes of the saga that it is named after.
    """
    from recourse.declare import shape

    if not file.exists():
        return []
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["shapes"]
        names = {shape.read(one).name for one in found}
    except (ValueError, LookupError, TypeError) as problem:
        raise ProjectError(f"{file} is not a file of shapes: {problem!r}") from problem
    if names - {file.name.removesuffix(SHAPES)}:
        raise ProjectError(f"{file} has shapes of other sagas: {', '.join(sorted(names))}")
    return found


def read_retired(file: Path) -> list[str]:
    """The digests of shapes that `recourse upgrade --retire` has taken out of a file.

    Raises:
        ProjectError: It is not a file of shapes.
    """
    if not file.exists():
        return []
    try:
        return [str(one) for one in json.loads(file.read_text("utf-8")).get("retired", [])]
    except (ValueError, AttributeError, TypeError) as problem:
        raise ProjectError(f"{file} is not a file of shapes: {problem!r}") from problem


def text_of_shapes(shapes: Sequence[Mapping[str, Any]], retired: Sequence[str]) -> str:
    """The text of a file of shapes.

    Args:
        shapes: The recorded shapes, the oldest first.
        retired: The digests of those that were taken out, which are none of these.
    """
    from recourse.declare.shape import digest

    left = [one for one in retired if one not in {digest(known) for known in shapes}]
    said: dict[str, Any] = {"shapes": list(shapes)} | ({"retired": left} if left else {})
    return json.dumps(said, indent=1) + "\n"


def _at(where: str, missing: str) -> Any:
    try:
        return resolve(where)
    except (ImportError, AttributeError, ValueError) as problem:
        if isinstance(problem, ModuleNotFoundError) and needed(problem):
            raise  # the library's own: it says which extra is missing
        raise ProjectError(f"{missing} at {where!r}: {problem}") from problem
