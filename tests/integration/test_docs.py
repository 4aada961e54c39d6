"""The pages in docs/ are followed to the letter, in a copy of the project."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from statemachines import SAGAS
from tests.integration import additions
from tests.integration.test_random import BATCHES
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
COPIED = (
    *("recourse", "services", "statemachines", "lambdas", "infra", "samples"),
    *("tests", "app.py", "cdk.json", "pyproject.toml", "requirements.lock"),
)
RANDOM = "tests/integration/test_random.py::test_random_sagas_come_to_a_good_end_and_stay_there"
ANY_DELIVERY = "tests/integration/test_choreography.py::test_any_delivery_comes_to_a_good_end"


class Mails(http.server.BaseHTTPRequestHandler):
    """A provider of mails: it sends one for each key, however often it is asked."""

    sent: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Take a mail."""
        key = self.headers["Idempotency-Key"]
        to = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert to == "asha@mail.test"
        if key not in self.sent:
            self.sent.append(key)
        self.send_response(201)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mails() -> Iterator[str]:
    """The address of a provider of mails."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mails) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, without what is installed."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def files(page: str) -> dict[str, str]:
    """What a page says to write: the block after a paragraph that begins with a path."""
    text = (ROOT / "docs" / page).read_text()
    block = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return dict(block.findall(text))


def insert(file: Path, after: str, line: str) -> None:
    """Add a line after another, which is there once."""
    text = file.read_text()
    assert text.count(after + "\n") == 1
    file.write_text(text.replace(after + "\n", f"{after}\n{line}\n"))


def list_saga(copy: Path, imported: str, name: str) -> None:
    """Add a saga to the list."""
    listed = copy / "statemachines/__init__.py"
    insert(listed, "from recourse import collect", imported)
    insert(listed, "SAGAS = collect(", name)


def add_saga(copy: Path, *, sample: bool) -> None:
    """Do what the page says, with or without the sample, after it has sent to the steps' page."""
    lounges = "services/lounges.py"
    (copy / lounges).write_text(files("add-a-step.md")[lounges])
    written = files("add-a-saga.md")
    assert written.keys() == {
        "statemachines/lounge_visit.py",
        "statemachines/__init__.py",
        "samples/lounge-visit.json",
    }
    list_saga(copy, *written.pop("statemachines/__init__.py").splitlines())
    for path, text in written.items():
        if sample or not path.startswith("samples/"):
            (copy / path).write_text(text)


def add_step(copy: Path) -> None:
    """Do what the page says, and put the steps into a saga of names that are new."""
    written = files("add-a-step.md")
    assert written.keys() == {"services/lounges.py", "services/holdings.py", "services/mails.py"}
    written |= {
        "services/cloakrooms.py": additions.CLOAKROOMS,
        "statemachines/lounge.py": additions.LOUNGE,
        "samples/lounge.json": json.dumps(additions.VISIT),
    }
    holdings, seed = copy / "services/holdings.py", copy / "samples/seed.json"
    insert(holdings, "HOLDINGS = {", written.pop("services/holdings.py") + additions.HOLDING)
    insert(
        holdings,
        "from recourse import Checked, Item, Put, Update, request_model",
        "from services import cloakrooms",
    )
    seed.write_text(json.dumps(json.loads(seed.read_text()) | additions.SEED))
    list_saga(copy, "from statemachines.lounge import LOUNGE", "    LOUNGE,")
    for path, text in written.items():
        (copy / path).write_text(text)


def add_listening(copy: Path) -> None:
    """Do what the pages on a consumer and a subscriber say: one file each."""
    for page, path in (
        ("add-a-consumer.md", "lambdas/consumers/failures.py"),
        ("add-a-subscriber.md", "lambdas/subscribers/on_call.py"),
    ):
        (copy / path).write_text(files(page)[path])


def about_all() -> list[str]:
    """The files with tests that are about all sagas and consumers."""
    named = (path for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_docs.py")
    return sorted(
        str(path.relative_to(ROOT)) for path in named if "mark.of_all" in path.read_text()
    )


def run(copy: Path, *arguments: str, **told: str) -> subprocess.CompletedProcess[str]:
    # The project is installed as editable, so the copy goes before it.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", **told}
    for name in [name for name in environment if name.startswith("PYTEST")]:
        del environment[name]
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def test_a_saga_without_a_sample_is_told_what_is_missing(copy: Path) -> None:
    add_saga(copy, sample=False)
    tested = run(
        copy,
        "pytest",
        "--quiet",
        *("tests/integration/test_every_saga.py", "-k", "lounge-visit and sample"),
    )
    assert tested.returncode == 1
    assert "lounge-visit.json is missing" in tested.stdout


def test_what_the_pages_add_passes_every_suite_that_is_about_all(copy: Path, mails: str) -> None:
    add_saga(copy, sample=True)
    missing = run(copy, "recourse", "compile", "--check")
    assert missing.returncode == 1
    assert "lounge-visit.asl.json" in missing.stderr.replace("\n", "")
    add_step(copy)
    add_listening(copy)
    compiled = run(copy, "recourse", "compile")
    assert compiled.returncode == 0, compiled.stderr
    assert (copy / "statemachines/lounge-visit.asl.json").exists()
    tested = run(
        copy,
        "pytest",
        "--quiet",
        *("-m", "of_all", *about_all()),
        # One batch of random sagas has enough of the new ones, and all that may become of messages.
        # Not by -k: who chooses gets the whole of each matrix.
        *(f"--deselect={RANDOM}[{number}]" for number in range(1, BATCHES)),
        f"--deselect={ANY_DELIVERY}",
        MAIL_PROVIDER=mails,
        KNOWN_SAGAS=" ".join(SAGAS),
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    ran = re.search(r"(\d+) passed", tested.stdout)
    assert ran and int(ran.group(1)) > 200
    assert "skipped" not in tested.stdout
    # Of the faults a sample is run, in most of whose cells a mail is sent.
    assert len(Mails.sent) >= 5 and {key.partition("#")[2] for key in Mails.sent} == {"mail"}
