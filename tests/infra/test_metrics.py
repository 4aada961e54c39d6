"""What functions count, and what the dashboard and alarms read of it: of one stage, and by name."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from statemachines import SAGAS
from tests.infra.assembly import ROOT, Assembly
from tests.infra.emitting import CALLS
from tests.infra.test_functions import handled_by

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]

NAMESPACE = "POWERTOOLS_METRICS_NAMESPACE"
SEARCH = re.compile(r"""SEARCH\('\{"?([^",}]+)"?,([\w,]+)\} [^']*MetricName="([^"]+)\"""")
OUTCOMES = ("done", "again", "given up", "set aside")
"""Of a message that a step's queue brings: `MessageResult.outcome`."""


class Metric(NamedTuple):
    """A metric, with the names of its dimensions."""

    namespace: str
    name: str
    dimensions: frozenset[str]


def prefix(assembly: Assembly) -> str:
    """The app and the stage, which the names of all stacks begin with."""
    (found,) = {name.rpartition("-")[0] for name in assembly.templates}
    return found


def counting() -> set[str]:
    """The modules that make a `Metrics`, of all that functions may load."""
    found = set()
    for package in ("recourse", "services", "statemachines", "lambdas"):
        for path in (ROOT / package).rglob("*.py"):
            calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
            if any(ast.unparse(one.func).rpartition(".")[2] == "Metrics" for one in calls):
                found.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


def cases(module: str, function: str) -> list[dict[str, Any]]:
    """What there may be to count for a function, by the declarations."""
    if module.endswith(".step"):
        return [
            {"saga": saga.name, "step": step.name, "phase": phase, "fails": fails}
            for saga in SAGAS.values()
            for step in saga.all
            if step.function == function
            for phase in (("action", "undo") if step.undo else ("action",))
            for fails in (False, True)
        ]
    if module.endswith(".step_queue"):
        return [{"outcome": one} for one in OUTCOMES]
    return [{"saga": saga} for saga in SAGAS]


@pytest.fixture(scope="module")
def lines(prod: Assembly) -> list[dict[str, Any]]:
    """The lines in the embedded metric format that production's functions print."""
    asked = [
        {
            "module": module,
            "environment": prod.environment(function),
            "cases": cases(module, function.name),
        }
        for function in prod.every("AWS::Lambda::Function")
        if (module := handled_by(function)[0]) in CALLS
    ]
    assert {one["module"] for one in asked} == CALLS.keys()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("emitting.py")],
        input=json.dumps(asked),
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line for printed in json.loads(done.stdout) for line in printed]


def emitted(lines: list[dict[str, Any]]) -> set[Metric]:
    """The metrics that CloudWatch makes of such lines."""
    return {
        Metric(about["Namespace"], metric["Name"], frozenset(names))
        for line in lines
        for about in line["_aws"]["CloudWatchMetrics"]
        for names in about["Dimensions"]
        for metric in about["Metrics"]
    }


def read(assembly: Assembly) -> Iterator[Metric]:
    """The metrics that dashboards and alarms name, of AWS and of our own."""
    for one in assembly.resources:
        if one.type == "AWS::CloudWatch::Dashboard":
            body = assembly.plain(one.stack, one.properties["DashboardBody"])
            for widget in json.loads(body)["widgets"]:
                for what in widget["properties"].get("metrics", ()):
                    yield from _shown(what)
        elif one.type == "AWS::CloudWatch::Alarm":
            stats = (other.get("MetricStat") for other in one.properties.get("Metrics", ()))
            single = [one.properties] if "MetricName" in one.properties else []
            for metric in (*single, *(stat["Metric"] for stat in stats if stat)):
                names = frozenset(other["Name"] for other in metric.get("Dimensions", ()))
                yield Metric(metric["Namespace"], metric["MetricName"], names)


def _shown(what: list[Any]) -> Iterator[Metric]:
    """The metrics of one graph: named at once, or found by searches."""
    if not isinstance(what[0], Mapping):
        names = [one for one in what[2:] if isinstance(one, str)]
        yield Metric(what[0], what[1], frozenset(names[::2]))
        return
    expression = what[0]["expression"]
    found = SEARCH.findall(expression)
    assert len(found) == expression.count("SEARCH"), expression
    for namespace, names, metric in found:
        yield Metric(namespace, metric, frozenset(names.split(",")))


def test_each_stage_counts_in_a_namespace_of_its_own(each: Assembly) -> None:
    told = [
        each.environment(function)[NAMESPACE] for function in each.every("AWS::Lambda::Function")
    ]
    assert set(told) == {f"Recourse/{prefix(each)}"}


def test_every_module_that_counts_is_called_here() -> None:
    assert counting() == CALLS.keys()


def test_functions_count_in_their_stages_namespace_and_by_few_dimensions(
    lines: list[dict[str, Any]],
) -> None:
    assert {one.namespace for one in emitted(lines)} == {"Recourse/Recourse-prod"}
    steps = {(saga.name, step.name) for saga in SAGAS.values() for step in saga.all}
    assert {(one["saga"], one["step"]) for one in lines if "saga" in one} == steps
    for line in lines:
        for about in line["_aws"]["CloudWatchMetrics"]:
            # A value of none of them is made by a caller: each new one is a metric to pay for.
            assert {*about["Dimensions"][0]} <= {"service", "saga", "step"}, line


def test_what_dashboards_and_alarms_read_is_what_functions_emit(
    prod: Assembly, lines: list[dict[str, Any]]
) -> None:
    named = list(read(prod))
    ours = {one for one in named if not one.namespace.startswith("AWS/")}
    assert ours, "the share of actions that failed is our own"
    assert {one.name for one in ours} == {"action.done", "action.failed"}
    assert ours <= emitted(lines)
    assert len(named) > 50, "and every alarm was read"


def test_the_dashboard_of_a_stage_counts_none_whose_name_begins_alike(prod: Assembly) -> None:
    (found,) = prod.every("AWS::CloudWatch::Dashboard")
    body = prod.plain(found.stack, found.properties["DashboardBody"])
    by_name = [one for one in re.findall(r"SEARCH\('(.*?)', '", body) if "{AWS/" in one]
    assert by_name
    for search in by_name:
        assert ' \\"Recourse-prod\\" NOT \\"Recourse-prod-chaos\\" ' in search


def test_the_documentation_names_what_is_counted(lines: list[dict[str, Any]]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## What is counted\n")[2].partition("\n## ")[0]
    said = {
        (name, frozenset(re.findall(r"`(\w+)`", dimensions)))
        for names, dimensions in re.findall(r"^\| (`.*?) \| (`.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`(.+?)`", names)
    }
    assert said == {(one.name, one.dimensions) for one in emitted(lines)}
