"""`recourse upgrade`: what it answers of a commit and a stage, and what it takes out of a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from recourse.cli import erase, main
from recourse.cli import upgrade as command
from recourse.cli.compiling import with_shape
from recourse.declare import shape
from recourse.declare.saga import Saga
from recourse.declare.shape import digest, record
from recourse.erasure.places import Places
from recourse.project import Project, read_retired, read_shapes, text_of_shapes
from recourse.store.aws import client
from recourse.testing.ground import LEDGER
from tests.ground import Ground, ground
from tests.integration.test_change import (
    BEFORE,
    CAPTURE,
    EARLIER,
    FLIGHT,
    HOTEL,
    WITH_A_CAR,
    begin,
    payment,
    stay,
)
from tests.integration.test_erase_command import STACK, Stacks
from tests.integration.trips import stock

OLD, NEW = record(BEFORE), record(WITH_A_CAR)
WITHOUT_INVOICE = stay(FLIGHT, HOTEL, payment(["flight", "hotel"]), CAPTURE)


class App:
    """A project in a repository of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "stay.shape.json"
        self.sagas: dict[str, Saga] = {"stay": WITH_A_CAR}

    def write(self, *shapes: Mapping[str, Any]) -> None:
        self.file.write_text(text_of_shapes(list(shapes), []))

    def commit(self) -> None:
        for asked in (["add", "."], ["commit", "-qm", "a release"]):
            who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
            subprocess.run(["git", "-C", str(self.root), *who, *asked], check=True)

    def declared(self) -> Mapping[str, Saga]:
        return self.sagas


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    made = App(tmp_path)
    project = type("Found", (), {"sagas": "", "declared": lambda self: made.sagas})()
    monkeypatch.setattr(Project, "find", lambda: project)
    monkeypatch.setattr(command, "shapes_beside", lambda where: tmp_path)
    made.write(OLD)
    made.commit()
    made.write(OLD, NEW)
    return made


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    stacks = Stacks(Places(ledger=LEDGER, feed="", services={}))
    monkeypatch.setattr(
        erase, "client", lambda name: stacks if name == "cloudformation" else client(name)
    )
    with ground({"stay": WITH_A_CAR}) as made:
        stock(made)
        made.deploy({"stay": BEFORE})
        yield made


def run(*args: str) -> Result:
    return CliRunner().invoke(main.app, ["upgrade", *args])


def answer(*args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--json", *args).stdout.splitlines()[0])
    return found


def test_it_is_safe_to_leave_out_a_step_whose_functions_stay(app: App) -> None:
    app.sagas = {"stay": WITHOUT_INVOICE}
    app.write(OLD, record(WITHOUT_INVOICE))
    done = run()
    assert (done.exit_code, done.stdout) == (0, "safe: sagas of 1 shape come to their ends\n")


def test_a_shape_that_is_taken_out_by_hand_strands(app: App) -> None:
    app.write(NEW)
    done = run("--against", "HEAD")
    assert done.exit_code == 1
    assert f"stay ({digest(OLD)}), step 'flight', action: its shape is not among" in done.stdout
    assert answer()["answer"] == "strands"


def test_a_function_that_is_given_more_than_old_sagas_have_is_to_be_looked_at(app: App) -> None:
    done = run("--against", "HEAD")
    assert done.exit_code == 0
    assert "look at: stay" in done.stdout and "the results of car by now" in done.stdout
    assert answer()["answer"] == "look"


def test_where_no_shape_is_committed_nothing_is_called_safe_without_saying_so(app: App) -> None:
    app.file.unlink()
    app.commit()
    done = run()
    assert done.exit_code == 0
    assert "HEAD has no *.shape.json, so none was deployed" in done.stdout


def test_what_is_no_commit_is_said(app: App) -> None:
    done = run("--against", "nowhere")
    assert done.exit_code == 2 and "must be a commit or DEPLOYED, got 'nowhere'" in done.stderr


def test_two_questions_at_once_are_refused(app: App) -> None:
    assert "two questions" in run("--against", "HEAD", "--retire", "stay").stderr


def test_of_a_stage_it_asks_about_the_sagas_in_flight(app: App, stage: Ground) -> None:
    app.write(NEW)
    app.sagas = {"stay": WITH_A_CAR}
    assert answer("--against", "DEPLOYED", "--stack", STACK)["shapes"] == 0
    begin(stage, "orchestration", {}, run=False)
    assert answer("--against", "DEPLOYED", "--stack", STACK)["answer"] == "strands"
    app.write(OLD, NEW)
    assert answer("--against", "DEPLOYED", "--stack", STACK)["answer"] == "look"


def test_a_shape_is_taken_out_once_no_saga_in_flight_has_it(app: App, stage: Ground) -> None:
    saga_id = begin(stage, "orchestration", {}, run=False)
    done = run("--retire", "stay.hotel", "--stack", STACK)
    assert done.exit_code == 1 and saga_id in done.stderr
    assert read_shapes(app.file) == [OLD, NEW]
    record_ = stage.ledger.get(saga_id)
    assert record_ is not None
    stage.runs.start(record_)
    stage.settle()
    assert "deploy this first" in run("--retire", "stay.hotel", "--stack", STACK).stderr
    stage.deploy({"stay": WITH_A_CAR}, EARLIER)
    begin(stage, "orchestration", {}, run=False)
    done = run("--retire", "stay.hotel", "--stack", STACK)
    assert done.exit_code == 0, done.stderr
    assert read_shapes(app.file) == [NEW] and read_retired(app.file) == [digest(OLD)]
    assert run().exit_code == 0, "a shape that was retired is not asked about"
    assert with_shape(app.file, NEW) == app.file.read_text(), "and does not come back"


def test_what_no_earlier_shape_has_cannot_be_retired(app: App, stage: Ground) -> None:
    done = run("--retire", "stay.boat", "--stack", STACK)
    assert done.exit_code == 2 and "no earlier shape with the step 'boat'" in done.stderr
    assert shape.read(OLD).by_name


def test_a_shape_that_was_never_committed_is_replaced_also_before_the_first_commit(
    tmp_path: Path,
) -> None:
    """Who edits and compiles a new app has the last shape alone, and may take functions out."""
    file = tmp_path / "stay.shape.json"
    file.write_text(text_of_shapes([OLD], []))
    kept = text_of_shapes([OLD, NEW], [])
    assert with_shape(file, NEW) == kept, "without git nobody knows"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert with_shape(file, NEW) == text_of_shapes([NEW], [])
    made = App(tmp_path)
    made.commit()
    assert with_shape(file, NEW) == kept
    file.write_text(text_of_shapes([NEW], []))
    assert with_shape(file, NEW) == kept, "one that was committed is taken out by --retire alone"
    made.write(OLD)
    (tmp_path / ".gitignore").write_text(file.name)
    assert with_shape(file, NEW) == kept, "git does not say what it ignores"
