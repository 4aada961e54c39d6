"""The wheel has what each part of the library needs, and each extra brings the packages of it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests import ROOT
from tests.testing import projects
from tests.wheel.conftest import Place

pytestmark = pytest.mark.xdist_group("wheel")
NEEDED = (
    "recourse/py.typed",
    "recourse/cdk/cli/package-lock.json",
    "recourse/cdk/cli/package.json",
    "recourse/cdk/runtime/bootstrap",
    "recourse/functions/requirements.lock",
    "recourse/functions/sse.sh",
    "recourse/local/ministack.lock",
)
WITHOUT = ("declare", "store", "events", "run", "ledger", "queues", "orchestration", "new")
"""Rooms that need no extra."""
ROOMS = {
    "": (*WITHOUT, "choreography", "feed.feed", "feed.watch"),
    "api": ("functions.step", "functions.relay", "functions.api", "webhooks", "feed"),
    "valet": ("valet", "functions.valet", "functions.valet_commit"),
    "cdk": ("cdk",),
    "testing": ("testing",),
    "cli": ("cli",),
    "local": ("local",),
}
IMPORTS = """
import importlib, pkgutil, sys
ELSEWHERE = ("boot", "judging", "default")
for room in sys.argv[1:]:
    package = importlib.import_module("recourse." + room)
    for one in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
        # What runs in the emulator's environment has its packages; the default API needs sagas.
        if ".gaps." not in one.name and one.name.rpartition(".")[2] not in ELSEWHERE:
            importlib.import_module(one.name)
"""


def test_it_has_all_of_the_library_and_nothing_of_the_deployment(place: Place) -> None:
    names = zipfile.ZipFile(place.wheel).namelist()
    assert {one.partition("/")[0].partition("-")[0] for one in names} == {
        "recourse",
        "recourse_aws",
    }
    files = subprocess.run(
        ["git", "ls-files", "recourse"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    left_out = {one for one in files if (ROOT / one).exists()} - {*names}
    assert left_out == set()
    assert {*NEEDED, "recourse/new/template/.github/workflows/ci.yml"} <= {*names}


def test_what_is_run_as_a_program_stays_one(base: Path) -> None:
    (package,) = base.glob("lib/python*/site-packages/recourse")
    for name in ("functions/sse.sh", "cdk/runtime/bootstrap"):
        assert (package / name).stat().st_mode & 0o111, name


def test_the_base_install_is_small_and_is_boto3_and_ours(place: Place, base: Path) -> None:
    (packages,) = base.glob("lib/python*/site-packages")
    found = {one.name.partition("-")[0] for one in packages.glob("*.dist-info")}
    assert found == {
        *("recourse_aws", "boto3", "botocore", "s3transfer"),
        *("jmespath", "python_dateutil", "six", "urllib3"),
    }
    ours = [*packages.glob("recourse/**/*"), *packages.glob("recourse_aws*/*")]
    size = sum(one.stat().st_size for one in ours if one.is_file() and one.suffix != ".pyc")
    assert size < 3_000_000


@pytest.mark.parametrize("extra", ROOMS)
def test_an_extra_brings_all_that_its_part_imports(extra: str, place: Place, base: Path) -> None:
    home = place.installed(extra, extra) if extra else base
    place.must(home / "bin" / "python", "-W", "error", "-c", IMPORTS, *ROOMS[extra])


def test_what_is_missing_is_said_with_the_command(place: Place, base: Path) -> None:
    ran = place.run(base / "bin" / "recourse", "start", "order", "--request", "order.json")
    assert ran.returncode == 1
    assert "pip install 'recourse-aws[cli]'" in ran.stderr
    assert "`recourse new`" in ran.stderr
    ran = place.run(base / "bin" / "python", "-c", "from recourse.cdk import SagaApi")
    assert "aws_cdk is not installed: pip install 'recourse-aws[cdk]'" in ran.stderr
    place.must(base / "bin" / "recourse", "new", "tea")
    commands = place.installed("commands", "cli") / "bin" / "recourse"
    for command, extra in (("compile", "api"), ("up", "local")):
        ran = place.run(commands, command, at=place.folder / "tea")
        assert ran.returncode == 1 and f"pip install 'recourse-aws[{extra}]'" in ran.stderr


def test_a_project_may_have_names_that_this_repository_has(place: Place) -> None:
    """And is told what it lacks."""
    home = place.installed("named", "testing") / "bin"
    folder = place.folder / "infra-of-mine"
    names = {"warehouse": "services", "declared": "infra", "checks_of_mine": "tests"}
    files = {}
    for name, text in projects.FILES.items():
        for theirs, ours in names.items():
            name, text = name.replace(theirs, ours), text.replace(theirs, ours)
        files[name] = text
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    tests = (home / "python", "-m", "pytest", "-q", "--sagas", "--sagas-examples=0")
    assert " passed" in place.must(*tests, "-k", "undisturbed", at=folder)
    table = files["pyproject.toml"]
    (folder / "pyproject.toml").write_text(table.replace("[tool.recourse]", "[tool.other]"))
    ran = place.run(*tests, at=folder)
    assert ran.returncode and "no pyproject.toml with a table [tool.recourse]" in ran.stderr
