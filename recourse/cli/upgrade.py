"""`recourse upgrade`: whether this release can take over the sagas that are in flight."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError

from recourse.cli.command import AsJson, err, out
from recourse.cli.compiling import committed_shapes
from recourse.cli.erase import only_stack, places_of
from recourse.cli.exits import FailedError, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.worker import CONFIGURED
from recourse.declare import shape
from recourse.declare.shape import RecordedShape
from recourse.erasure.places import PlacesError
from recourse.ledger.queries import SagaQueries
from recourse.ledger.record import Record
from recourse.ledger.shapes import Shapes
from recourse.project import (
    SHAPES,
    Project,
    ProjectError,
    read_retired,
    read_shapes,
    shapes_beside,
    text_of_shapes,
)
from recourse.store.aws import client
from recourse.store.table import Table
from recourse.upgrade.takeover import Release, answer

DEPLOYED = "DEPLOYED"
SOME = 5
"""How many ids of sagas are named."""


def upgrade(
    against: Annotated[
        str | None,
        typer.Option(
            help="What is deployed: a commit, whose shape files are read, HEAD by default; or "
            "DEPLOYED, the stage itself, whose sagas in flight are asked."
        ),
    ] = None,
    retire: Annotated[
        str | None,
        typer.Option(
            metavar="SAGA[.STEP]",
            help="Take out of the file of a saga the earlier shapes, or those with a step, that "
            "no saga of the stage needs any more.",
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            envvar="RECOURSE_ERASURE_STACK",
            help="For DEPLOYED and --retire: the stack that says where the ledger is, by its "
            "output Places; the only one of the account and region by default.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask, before a deploy, whether this release can take over the sagas in flight.

    It goes through every state that a saga of an earlier shape can be in, and asks whether the
    code and the shape files of now can bring it to its end from there. The answer is 'safe'; or
    which step of which saga would strand, in which state, and how to get there in two deploys:
    then the status is 1. It may name functions to look at, where it cannot see enough: what is
    within functions and results is not in a shape.

    It reads shapes only and runs no code of the other release. DEPLOYED and --retire read the
    ledger with your own AWS credentials; nothing is written there. --retire changes the file only;
    a later deploy removes the functions that nothing names then. Redrive dead-letter queues first:
    what rests there may be of a saga at rest.

    Example: recourse upgrade --against v1.4.0
    """
    if against is not None and retire is not None:
        raise UsageError("--against and --retire are two questions: give one of them")
    try:
        project = Project.find()
        sagas = project.declared()
        folder = shapes_beside(project.sagas)
        files = sorted(folder.glob("*" + SHAPES))
        served = [shape.read(one) for file in files for one in read_shapes(file)]
        retired = {one for file in files for one in read_retired(file)}
    except ProjectError as problem:
        raise UsageError(str(problem)) from problem
    if retire is not None:
        _retire(retire, folder, set(sagas), _Stage.of(stack, set(sagas)), as_json)
        return
    if against == DEPLOYED:
        asked = list(_Stage.of(stack, set(sagas)).shapes())
    else:
        committed = _at_commit(folder, against or "HEAD")
        asked = [one for one in committed if _digest(one) not in retired]
    declared = {_digest(saga) for saga in sagas.values()}
    release = Release(sagas, [one for one in served if _digest(one) not in declared])
    findings = [finding for one in asked for finding in release.findings(one)]
    certain = [finding for finding in findings if finding.is_certain]
    if as_json:
        found = [one.to_json() for one in findings]
        print_json({"answer": answer(findings), "shapes": len(asked), "findings": found})
    else:
        for one in findings:
            out.print(f"{'strands' if one.is_certain else 'look at'}: {one}", soft_wrap=True)
        if not certain:
            look = f", if you have looked at these {len(findings)}" if findings else ""
            out.print(f"safe{look}: {_said_of(asked, against or 'HEAD')}")
    if certain:
        raise FailedError(
            f"{len(certain)} steps of sagas in flight would strand: deploy in two steps, as said"
        )


def _said_of(asked: Sequence[RecordedShape], against: str) -> str:
    """What becomes of sagas in flight where nothing strands."""
    if asked:
        count = f"{len(asked)} shapes" if asked[1:] else "1 shape"
        return f"sagas of {count} come to their ends"
    if against == DEPLOYED:
        return "no saga of this stage is in flight, and none was begun"
    return f"{against} has no *{SHAPES}, so none was deployed: compile, and commit what that writes"


def _digest(one: shape.Shape[Any]) -> str:
    return shape.digest(shape.record(one))


def _at_commit(folder: Path, commit: str) -> list[RecordedShape]:
    """The shapes of every file at a commit.

    Raises:
        UsageError: There is no such commit, or a file holds no shapes.
    """
    asked = ["git", "-C", str(folder), "ls-tree", "--name-only", commit, "./"]
    try:
        listed = subprocess.run(asked, capture_output=True, check=True, text=True, encoding="utf-8")
    except OSError as problem:
        raise UsageError(f"git must be there to read {commit}: {problem}") from problem
    except subprocess.CalledProcessError as problem:
        said = problem.stderr.strip().split("\n")[0]
        raise UsageError(f"--against must be a commit or {DEPLOYED}, got {commit!r}: {said}") from (
            problem
        )
    names = [name for name in listed.stdout.splitlines() if name.endswith(SHAPES)]
    try:
        return [shape.read(one) for n in names for one in committed_shapes(folder / n, commit)]
    except (ValueError, LookupError) as problem:
        raise UsageError(f"a shape file of {commit} cannot be read: {problem}") from problem


class _Stage:
    """A deployed stage, as its ledger shows it."""

    def __init__(self, ledger: str, declared: set[str]) -> None:
        self._queries = SagaQueries(Table(client("dynamodb"), ledger))
        self._shapes = Shapes(client("dynamodb"), ledger, {})
        self._declared = declared

    @classmethod
    def of(cls, stack: str | None, declared: set[str]) -> _Stage:
        """The stage whose ledger the stack names."""
        stack = stack or only_stack()
        try:
            return cls(places_of(stack).ledger, declared)
        except PlacesError as problem:
            raise UsageError(str(problem)) from problem
        except (ClientError, BotoCoreError) as problem:
            raise FailedError(f"--stack {stack}: {problem} ({CONFIGURED})") from problem

    def shapes(self) -> Iterator[RecordedShape]:
        """The shapes of its sagas in flight, and of the last that each declaration began."""
        newest = (self.newest(name) for name in sorted(self._declared))
        records = [*self.in_flight(), *(one for one in newest if one)]
        unnamed = sum(one.shape is None for one in records)
        if unnamed:
            err.print(f"{unnamed} sagas name no shape, as a release before this began them")
        for saga, known in sorted({(one.saga, one.shape) for one in records if one.shape}):
            found = self._shapes.of(saga, known)
            assert isinstance(found, RecordedShape), "no declarations were given"
            yield found

    def in_flight(self) -> Iterator[Record]:
        """Its sagas that are not at rest.

        Raises:
            FailedError: The ledger cannot be read.
        """
        try:
            yield from self._queries.not_at_rest()
        except (ClientError, BotoCoreError) as problem:
            raise FailedError(f"the ledger cannot be read: {problem} ({CONFIGURED})") from problem

    def newest(self, saga: str) -> Record | None:
        """The last saga of a declaration that was started."""
        found, _ = self._queries.page(saga=saga, limit=1)
        return found[0] if found else None


def _retire(asked: str, folder: Path, declared: set[str], stage: _Stage, as_json: bool) -> None:
    """Take out of a saga's file the shapes that no saga in flight has."""
    saga, _, step = asked.partition(".")
    file = folder / f"{saga}{SHAPES}"
    recorded = read_shapes(file)
    earlier = recorded[:-1] if saga in declared else recorded
    wanted = {
        shape.digest(one): one for one in earlier if not step or step in shape.read(one).by_name
    }
    if not wanted:
        what = f"with the step {step!r} " if step else ""
        raise UsageError(f"{file} has no earlier shape {what}to take out")
    held = _held(stage, saga, wanted, declared)
    free = [known for known in wanted if known not in held]
    kept = [one for one in recorded if shape.digest(one) not in free]
    if free:
        file.write_text(text_of_shapes(kept, [*read_retired(file), *free]), "utf-8")
    if as_json:
        print_json({"taken_out": free, "needed": held})
    else:
        for known in free:
            out.print(f"taken out of {file.name}: {known}, which no saga in flight has")
        if free:
            out.print("commit the file: the next deploy removes the functions that nothing names")
    if held:
        why = "; ".join(f"{known}: {', '.join(ids)}" for known, ids in held.items())
        raise FailedError(f"{asked} must stay while sagas need it, of the shape {why}")


def _held(
    stage: _Stage, saga: str, wanted: Iterable[str], declared: set[str]
) -> dict[str, list[str]]:
    """Which of these shapes sagas have that are not at rest, or that were started last.

    A stage whose newest saga has an earlier shape may have the earlier release still.
    """
    count: Counter[str] = Counter()
    held: dict[str, list[str]] = {}
    for one in stage.in_flight():
        if one.saga == saga and one.shape in set(wanted):
            assert one.shape is not None
            count[one.shape] += 1
            if count[one.shape] <= SOME:
                held.setdefault(one.shape, []).append(one.saga_id)
    for known, number in count.items():
        if number > SOME:
            held[known].append(f"and {number - SOME} more")
    newest = stage.newest(saga) if saga in declared else None
    if newest and newest.shape in set(wanted) and newest.shape not in held:
        assert newest.shape is not None
        held[newest.shape] = [f"{newest.saga_id}, the last that was started: deploy this first"]
    return held
