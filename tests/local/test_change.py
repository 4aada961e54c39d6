"""A saga is changed while it runs: docs/change.md, on the local cloud, in both coordinations.

An app of nine sagas is deployed; each of its sagas is then changed by one heading of that page, all
in one deploy into the running cloud, with sagas of each in flight, parked and at rest. Then the
deploy is taken back, with sagas of the second release in flight.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any, get_args

import boto3
import httpx
import pytest

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from recourse.ledger.history import AT_REST
from recourse.local.aws import KEY_ID, REGION
from recourse.local.cloud import EVERY_SCOPE
from tests import ROOT
from tests.decisions import Refusal, decisions_of, unexpected
from tests.local import changing
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.xdist_group("changing")

COORDINATIONS = get_args(Coordination)
KILLED = ("add-a-step", "retire-a-saga")
"""The sagas of which a run is stopped, so that the sweeper recovers it."""
BEFORE_ITS_RIGHTS = [Refusal("SweeperRole", "sqs:GetQueueUrl")]
"""The local cloud runs code as it is saved: a round of the sweeper may come before its rights to
the new steps' queues do, and passes over these (`recourse.queues.reach`)."""
NOT_HERE = {
    "change-or-remove-a-reverse",
    "roll-back",
    "when-old-code-may-go",
    "asking-first",
    "the-rule",
}
"""Headings of the page that change no saga of this app by themselves."""


@dataclass(frozen=True)
class App:
    """An app in a folder of its own, in git, used by its commands as its author does."""

    folder: Path

    def run(self, *command: str, **more: str) -> str:
        """Run a command that succeeds; what it prints."""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment | more, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-3000:]}{ran.stderr[-6000:]}"
        return ran.stdout

    def recourse(self, *command: str) -> str:
        return self.run(sys.executable, "-m", "recourse", *command)

    @property
    def environment(self) -> dict[str, str]:
        """That of a shell there: nothing of this checkout is found but the library."""
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "AWS" not in k}
        return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}

    def release(self, files: Mapping[str, str], *, gone: str = "") -> None:
        """Write files, compile and commit, as the page says.

        The local cloud runs code as it is saved: so each file is whole, and after those it imports.
        """
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".draft")
            draft.write_text(text)
            draft.replace(file)
        self.recourse("compile")
        for compiled in ("asl.json", "choreography.md") if gone else ():
            (self.folder / "statemachines" / f"{gone}.{compiled}").unlink()
        self.run("git", "add", "--all")
        author = ("-c", "user.name=author", "-c", "user.email=author@mail.test")
        self.run("git", *author, "commit", "--quiet", "--message", "a release")

    @contextmanager
    def up(self) -> Iterator[str]:
        """The address of its API on its local cloud."""
        log = self.folder.parent / "up.log"
        with (
            log.open("wb") as out,
            subprocess.Popen(
                [sys.executable, "-m", "recourse", "up"],
                cwd=self.folder,
                env=self.environment | {"PORT": "0", "AWS_PORT": "0"},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            ) as cloud,
        ):
            try:
                until(
                    lambda: "passcode: " in log.read_text() or cloud.poll() is not None,
                    "it is ready",
                )
                (url,) = re.findall(r"ready in \d+ s: (\S+)", log.read_text())
                passcode = (self.folder / ".local" / "console-passcode").read_text()
                said = log.read_text().splitlines()[-2:]
                assert said == [f"the console: {url}/", f"its passcode: {passcode}"]
                yield url
                os.killpg(cloud.pid, SIGINT)
                cloud.wait(60)
            finally:
                if cloud.poll() is None:
                    os.killpg(cloud.pid, SIGKILL)

    def client(self, service: str) -> Any:
        """A client of the emulator."""
        local = self.folder / ".local"
        (endpoint,) = re.findall(r"http://\S+", (local / "cloud" / "aws.config").read_text())[:1]
        make: Callable[..., Any] = boto3.client
        return make(
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=(local / "root-secret").read_text(),
        )


@dataclass
class Caller:
    """Somebody who starts sagas, and looks at them."""

    api: Api
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, saga: str, coordination: str, *, door: str = "free", chaos: str = "") -> str:
        started = self.api.start(
            saga,
            {"errand_id": f"e-{next(self.numbers)}", "door": door},
            key=f"key-{next(self.numbers)}",
            chaos=chaos or None,
            coordination=coordination,
        )
        return str(started["saga_id"])

    def show(self, saga_id: str) -> dict[str, Any]:
        return self.api.get(f"/sagas/{saga_id}")

    def steps(self, saga_id: str) -> dict[str, str]:
        return {step["name"]: step["status"] for step in self.show(saga_id)["steps"]}

    def ended(self, saga_id: str, *, patience: float = PATIENCE) -> str:
        saga = until(
            lambda: self.show(saga_id),
            f"{saga_id} ends",
            lambda seen: seen["status"] in AT_REST,
            pause=0.5,
            patience=patience,
        )
        return str(saga["status"])

    def ended_all(self, traffic: Traffic) -> set[str]:
        """How the sagas that began during a deploy end.

        One that stood still because its new step was not there yet is told again when it has stood
        still twice as long.
        """
        patience = PATIENCE + traffic.lasted
        return {self.ended(one, patience=patience) for one in traffic.began}

    def must_park(self, saga_id: str) -> None:
        until(lambda: self.show(saga_id)["status"] == "COMPENSATION_FAILED", f"{saga_id} is parked")

    def must_wait(self, saga_id: str) -> None:
        """Wait until it is held at its second step, and nothing else is left to come."""
        steps = list(self.show(saga_id)["steps"])
        before = [step["name"] for step in steps[: [s["name"] for s in steps].index("second")]]
        until(
            lambda: all(self.steps(saga_id)[name] == "DONE" for name in before),
            f"{saga_id} waits at its door",
        )

    def every(self) -> set[str]:
        """The ids of all sagas, page by page."""
        found: set[str] = set()
        cursor = None
        while True:
            page = self.api.get("/sagas", limit="100", cursor=cursor)
            found |= {one["saga_id"] for one in page["items"]}
            cursor = page["cursor"]
            if not cursor:
                return found


@dataclass
class Traffic:
    """Calls of the API while it is deployed: what failed, the sagas that began, and how long."""

    url: str
    token: str
    shown: str
    failed: list[str] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    lasted: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Traffic:
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.lasted = time.monotonic() - self._since

    def _call(self) -> None:
        headers = {"authorization": f"Bearer {self.token}"}
        with httpx.Client(
            base_url=self.url, timeout=PATIENCE, headers=headers, trust_env=False
        ) as http:
            for number in itertools.count():
                saga = ("add-a-step", "remove-a-step", "change-the-order")[number // 2 % 3]
                started = http.post(
                    f"/sagas/{saga}",
                    params={"coordination": COORDINATIONS[number % 2]},
                    headers={"Idempotency-Key": f"meanwhile-{number}"},
                    json={"errand_id": f"m-{number}", "door": "free"},
                )
                self.began += [started.json()["saga_id"]] if started.is_success else []
                for answer in (started, http.get("/sagas"), http.get(f"/sagas/{self.shown}")):
                    if answer.status_code >= 400:
                        said = f"{answer.request.method} {answer.url.path} {answer.status_code}"
                        self.failed.append(f"{said}: {answer.text[:300]}")
                if self._stop.wait(1):
                    return


def stop_run(app: App, saga: str, saga_id: str) -> str:
    """Stop the run of a saga, as an operator's mistake does; the ARN of the recovery to come."""
    sfn = app.client("stepfunctions")
    (machine,) = [
        one["stateMachineArn"]
        for one in sfn.list_state_machines()["stateMachines"]
        if f"{saga.title().replace('-', '')}Machine" in one["name"]
    ]
    execution = f"{machine.replace(':stateMachine:', ':execution:')}:{saga_id}"
    sfn.stop_execution(executionArn=execution, error="Stopped", cause="by a test")
    return f"{execution}-r1"


def entered(app: App, execution: str) -> set[str]:
    """The states that a run has entered."""
    sfn = app.client("stepfunctions")
    found = sfn.get_execution_history(executionArn=execution, maxResults=1000)["events"]
    return {
        one["stateEnteredEventDetails"]["name"]
        for one in found
        if "stateEnteredEventDetails" in one
    }


def papers(app: App) -> dict[str, set[str]]:
    """The status of what each saga has laid, by the saga's id."""
    dynamodb = app.client("dynamodb")
    found: dict[str, set[str]] = {}
    for table in dynamodb.list_tables()["TableNames"]:
        if "DeskTable" in table or "TillTable" in table:
            for page in dynamodb.get_paginator("scan").paginate(TableName=table):
                for row in page["Items"]:
                    if row["pk"]["S"].startswith("paper#"):
                        found.setdefault(row["saga_id"]["S"], set()).add(row["status"]["S"])
    return found


def open_door(app: App, door: str) -> None:
    dynamodb = app.client("dynamodb")
    (desk,) = [one for one in dynamodb.list_tables()["TableNames"] if "DeskTable" in one]
    dynamodb.put_item(TableName=desk, Item={"pk": {"S": f"door#{door}"}})


def test_every_change_of_the_page_is_here() -> None:
    page = (ROOT / "docs" / "change.md").read_text()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    named = {one.lower().replace(" ", "-") for one in headings}
    assert named - NOT_HERE == set(changing.BEFORE)


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = App(tmp_path / "errands")
    subprocess.run(
        [sys.executable, "-m", "recourse", "new", made.folder], check=True, capture_output=True
    )
    for example in ("booking.py", "../services/seats.py", "../services/payments.py"):
        (made.folder / "statemachines" / example).unlink()
    for sample in (made.folder / "samples").iterdir():
        sample.unlink()
    made.run("git", "init", "--quiet")
    made.release(changing.OLD)
    return made


def test_sagas_in_flight_parked_and_at_rest_outlive_every_change_and_a_roll_back(
    app: App,
) -> None:
    every = list(itertools.product(changing.BEFORE, COORDINATIONS))
    with app.up() as url:
        scope = ("--subject", "asha", "--scope", EVERY_SCOPE)
        token = app.recourse("token", "--api", url, *scope).strip()
        with Api(url, token) as api:
            caller = Caller(api)
            doors = {"rename-an-error": "wrong"}
            resting = {one: caller.start(*one) for one in every}
            parked = {}
            for saga, coordination in every:
                stuck = changing.step_names(changing.BEFORE[saga])[0]
                chaos = f"decide=reject,{stuck}.undo=reject:5"
                parked[saga, coordination] = caller.start(saga, coordination, chaos=chaos)
            assert {caller.ended(one) for one in resting.values()} == {"SUCCEEDED"}
            for one in parked.values():
                caller.must_park(one)
            flying = {one: caller.start(*one, door=doors.get(one[0], "left")) for one in every}
            for one in flying.values():
                caller.must_wait(one)
            rested = {one: caller.show(one) for one in resting.values()}
            began = {*flying.values(), *resting.values(), *parked.values()}

            with Traffic(url, token, resting["retire-a-saga", "orchestration"]) as traffic:
                app.release(changing.NEW, gone="retire-a-saga")
                app.recourse("up", "--again")
            assert traffic.failed == []
            assert caller.every() >= began
            assert {one: caller.show(one) for one in rested} == rested

            recoveries = {
                saga: stop_run(app, saga, flying[saga, "orchestration"]) for saga in KILLED
            }
            expected = {}
            for (saga, coordination), saga_id in flying.items():
                undone = saga == "rename-an-error" or (
                    saga in KILLED and coordination == "orchestration"
                )
                expected[saga_id] = "COMPENSATED" if undone else "SUCCEEDED"
            for saga in KILLED:
                assert caller.ended(flying[saga, "orchestration"]) == "COMPENSATED"
                own = {*changing.step_names(changing.BEFORE[saga])}
                states = {state.partition(".")[0] for state in entered(app, recoveries[saga])}
                assert states & {"first", "begin", "extra"} == {"first"}
                assert states <= own | {"Undone?", "Compensated"}
            open_door(app, "left")
            open_door(app, "wrong")
            for (saga, _), saga_id in parked.items():
                stuck = changing.step_names(changing.BEFORE[saga])[0]
                path = f"/sagas/{saga_id}/steps/{stuck}/resolve"
                api.call("POST", path, json={"action": "retry"})
                expected[saga_id] = "COMPENSATED"
            assert {one: caller.ended(one) for one in expected} == expected
            for (saga, _), saga_id in [*flying.items(), *parked.items()]:
                assert [*caller.steps(saga_id)] == changing.step_names(changing.BEFORE[saga])
            assert caller.ended_all(traffic) == {"SUCCEEDED"}

            again = [one for one in every if one[0] in changing.AFTER]
            newer = {one: caller.start(*one, door="later") for one in again}
            for one in newer.values():
                caller.must_wait(one)
            with Traffic(url, token, newer["add-a-step", "choreography"]) as back:
                app.release(changing.BACK)
                app.recourse("up", "--again")
            assert back.failed == []
            open_door(app, "later")
            assert {caller.ended(one) for one in newer.values()} == {"SUCCEEDED"}
            for (saga, _), saga_id in newer.items():
                assert [*caller.steps(saga_id)] == changing.step_names(changing.AFTER[saga])
            assert caller.ended_all(back) == {"SUCCEEDED"}
            assert caller.every() >= began | {*newer.values()}

            ends = {saga_id: caller.show(saga_id)["status"] for saga_id in caller.every()}
            laid = papers(app)
            for saga_id, status in ends.items():
                whole = {"SUCCEEDED": {"LAID"}, "COMPENSATED": {"TAKEN"}}[status]
                assert laid[saga_id] == whole, saga_id
        decisions = app.folder / ".local" / "cloud" / "emulator" / "decisions.jsonl"
        assert unexpected(decisions_of(decisions), BEFORE_ITS_RIGHTS) == []
