"""Functions: each handler is there, is told what it reads, and carries what it imports."""

from __future__ import annotations

import inspect
import os
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from lambdas.consumers import consumers
from lambdas.subscribers import subscribers
from recourse.functions import kit, limits
from recourse.project import Project, ProjectError
from statemachines import SAGAS
from tests.infra.assembly import ROOT, Assembly, Resource

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

PROJECT = Project.find(ROOT)
LISTENING = {one.name for one in (*consumers().values(), *subscribers().values())}
STEPS = {step.function: step for saga in SAGAS.values() for step in saga.all}
ASKS = re.compile(r"""(?:required\(|declared\(|environ\[|environ\.get\()"([A-Z_]+)\"""")

SETTINGS = ("POWERTOOLS_", "AWS_")
"""What libraries read, and the Lambda Web Adapter."""


def handled_by(function: Resource) -> tuple[str, str]:
    from recourse.cdk import code

    handler = function.properties["Handler"]
    if handler.endswith(".sh"):
        # What the Lambda Web Adapter starts, which names the app that it serves.
        script = ROOT / handler
        assert script in code.sources(PROJECT).values() and os.access(script, os.X_OK)
        ((module, attribute),) = re.findall(r"uvicorn ([\w.]+):(\w+)", script.read_text())
        return module, attribute
    module, _, attribute = handler.rpartition(".")
    return module, attribute


def reads(module: str) -> set[str]:
    """The variables that a handler's module reads, and those of what it uses of others."""
    file = Path(inspect.getfile(import_module(module)))
    files = file.parent.rglob("*.py") if file.stem == "__init__" else [file]
    source = "\n".join(path.read_text() for path in files)
    for other in re.findall(r"^from (recourse\.functions\.step) import", source, re.MULTILINE):
        source += Path(inspect.getfile(import_module(other))).read_text()
    if "recourse.functions.api" in source:
        routes = ROOT / "recourse" / "functions" / "api"
        source += "\n".join(path.read_text() for path in routes.rglob("*.py"))
    known = source
    parts = re.findall(r"kit\.(\w+)\(", source)
    for part in parts:  # it grows by what these are made of
        made = inspect.getsource(getattr(kit, part))
        known += made
        named = dict.fromkeys(re.findall(r"\b(\w+)\(", made))
        parts += [n for n in named if callable(getattr(kit, n, None)) and n not in parts]
    also = {
        "chaos": "CHAOS",
        "choreography": "CHOREOGRAPHY",
        "timescale": "TIMESCALE",
        "loopback": "WEBHOOK_LOOPBACK",
    }
    if "room_for_imports" in known:
        known += inspect.getsource(limits.room_for_imports)
    by_owner = {r"\bhas_count_in_flight\(": "UNINDEXED", r"\blimit\(": "OWNER_LIMITS"}
    return (
        set(ASKS.findall(known))
        | {name for part, name in also.items() if f"settings.{part}(" in known}
        | {name for part, name in by_owner.items() if re.search(part, known)}
    )


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers are imported here and never called."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in [one for one in os.environ if one.startswith("POWERTOOLS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "tests")


def test_every_handler_is_there(each: Assembly) -> None:
    for function in each.every("AWS::Lambda::Function"):
        module, attribute = handled_by(function)
        assert callable(getattr(import_module(module), attribute)), function.name


def test_every_handler_has_its_log_tested(
    dev: Assembly, prod: Assembly, local: Assembly, fargate: Assembly, striped: Assembly
) -> None:
    from tests.integration.test_every_log import DRIVES, SILENT

    deployed = {
        ".".join(handled_by(function))
        for assembly in (dev, prod, local, fargate, striped)
        for function in assembly.every("AWS::Lambda::Function")
    }
    driven = {one.handler for one in DRIVES}
    assert driven | SILENT.keys() == deployed
    assert not driven & SILENT.keys()


def test_every_handler_is_told_what_it_reads_and_nothing_that_nobody_reads(
    each: Assembly,
) -> None:
    functions = each.every("AWS::Lambda::Function")
    has_limits = any("OWNER_LIMITS" in each.environment(one) for one in functions)
    for function in functions:
        module, _ = handled_by(function)
        told = {n for n in each.environment(function) if not n.startswith(SETTINGS)}
        wanted = reads(module)
        if not has_limits:
            wanted -= {"OWNER_LIMITS"}
        step = STEPS.get(function.name.removesuffix("Queue"))
        if step and not step.action.documents:
            wanted -= {"DOCUMENTS_BUCKET"}
        if function.name in LISTENING:
            wanted |= {"RECOURSE_SAGAS"}  # whether or not it reads what comes
        if step:
            service = Path(inspect.getfile(import_module(step.action.decide.__module__)))
            wanted |= set(ASKS.findall(service.read_text()))
            # What it asks others by reads their addresses and where their keys are.
            for package in re.findall(r"^from (services\.\w+) import", service.read_text(), re.M):
                file = Path(inspect.getfile(import_module(package)))
                if file.name == "__init__.py":
                    wanted |= set(ASKS.findall(file.read_text()))
        assert told == wanted, function.name


@pytest.mark.parametrize("entry", ["", "Queue"], ids=["task", "queue"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_function_is_told_the_action_and_the_undo_of_its_step(
    dev: Assembly, name: str, entry: str
) -> None:
    step = STEPS[name]
    told = dev.environment(dev.one("AWS::Lambda::Function", name + entry))
    assert told["ACTION"] == step.action.ref
    assert told["UNDO"] == (step.undo.ref if step.undo else "")
    assert told["TABLE_NAME"] == f"<{step.service.title()}Table>"


def test_faults_on_demand_are_off_unless_the_context_says_on(
    dev: Assembly, prod: Assembly, local: Assembly
) -> None:
    for assembly, chaos in ((dev, ""), (prod, ""), (local, "on")):
        told = [
            assembly.environment(function).get("CHAOS")
            for function in assembly.every("AWS::Lambda::Function")
        ]
        assert set(told) - {None} == {chaos}
        assert assembly.outputs["Chaos"] == (chaos or "off")
        assert all(("-chaos-" in name) == (chaos == "on") for name in assembly.templates)


def test_functions_are_traced_log_to_a_group_of_their_own_and_have_a_time_limit(
    each: Assembly,
) -> None:
    groups = []
    for function in each.every("AWS::Lambda::Function"):
        has = function.properties
        assert has["TracingConfig"] == {"Mode": "Active"}, function.name
        # A stream lasts as long as a function may.
        longest = 900 if function.name == "Stream" else 300
        assert 0 < has["Timeout"] <= longest, function.name
        assert has["Architectures"] == ["arm64"], function.name
        groups.append(each.plain(function.stack, has["LoggingConfig"]["LogGroup"]))
        told = each.environment(function)
        # The user pool's construct has another id than the rest, which its logical id is made of.
        assert told["POWERTOOLS_SERVICE_NAME"] == function.name.removeprefix("Users/")
    assert len(groups) == len(set(groups))


def test_all_functions_share_one_bundle(each: Assembly) -> None:
    carried = {
        function.properties["Code"]["S3Key"] for function in each.every("AWS::Lambda::Function")
    }
    assert len(carried) == 1


def test_the_bundle_has_everything_that_a_function_imports_of_ours() -> None:
    from recourse.cdk import code

    carried = code.sources(PROJECT)
    for package in PROJECT.packages:
        here = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert here and here <= carried.keys()
    ours = {path.parts[0] for path in carried}
    for path in carried:
        if path.suffix == ".py":
            asked = re.findall(r"^\s*(?:from|import) (\w+)", (ROOT / path).read_text(), re.M)
            top_level = {p.stem for p in ROOT.iterdir() if (p / "__init__.py").exists()}
            assert set(asked) & top_level <= ours, path


def test_the_bundle_follows_the_code_and_the_pins(
    tmp_path: Path,
) -> None:
    from recourse.cdk import code

    (tmp_path / "lambdas").mkdir()
    (tmp_path / "lambdas" / "relay.py").write_text("one = 1\n")
    (tmp_path / "lambdas" / "requirements.lock").write_text("one==1\n")
    (tmp_path / "pyproject.toml").write_text(
        """[tool.recourse]
sagas = "statemachines:SAGAS"
packages = ["lambdas"]
requirements = "lambdas/requirements.lock"
"""
    )
    project = Project.find(tmp_path)
    seen = [code.fingerprint(project)]
    assert code.fingerprint(project) == seen[0]
    (tmp_path / "lambdas" / "relay.py").write_text("one = 2\n")
    seen.append(code.fingerprint(project))
    (tmp_path / "lambdas" / "requirements.lock").write_text("one==2\n")
    seen.append(code.fingerprint(project))
    seen.append(code.fingerprint(project._replace(only={"babel": ["en.dat"]})))
    seen.append(code.fingerprint(project._replace(only={"babel": ["de.dat"]})))
    assert len(set(seen)) == 5


def test_a_folder_of_which_nothing_would_be_carried_is_refused(tmp_path: Path) -> None:
    from recourse.cdk import code

    (tmp_path / "babel" / "locale-data").mkdir(parents=True)
    (tmp_path / "babel" / "locale-data" / "de.dat").touch()
    for only in ({"babel/locale-data": ["en.dat"]}, {"babbel": ["*"]}):
        with pytest.raises(ProjectError, match="only: no package has"):
            code.prune(tmp_path, only)
    assert (tmp_path / "babel" / "locale-data" / "de.dat").exists()


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(), re.M))


def test_what_is_deployed_is_pinned_by_hash_at_the_versions_that_are_tested() -> None:

    deployed, tested = pins(PROJECT.requirements), pins(ROOT / "requirements.lock")
    assert deployed
    assert {name: tested.get(name) for name in deployed} == deployed
    text = PROJECT.requirements.read_text()
    assert text.count("--hash=sha256:") >= len(deployed)
    assert "://" not in text, "a lock names no registry"


def test_the_lock_has_every_dependency_and_nothing_that_the_runtime_brings() -> None:

    said = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = said["project"]["optional-dependencies"]
    deployed = pins(PROJECT.requirements)
    for dependency in (*extras["api"], *extras["valet"], *said["dependency-groups"]["functions"]):
        (name,) = re.findall(r"^[\w.-]+", dependency)
        assert name in deployed, name
    assert not {"boto3", "botocore", "aws-cdk-lib", "pytest"} & set(deployed)
