"""The dashboard of a stage that has every alarm."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.assembly import Assembly

pytestmark = pytest.mark.xdist_group("infra")


def body(assembly: Assembly) -> dict[str, list[dict[str, object]]]:
    found = assembly.one("AWS::CloudWatch::Dashboard", "Dashboard/Dashboard")
    read: dict[str, list[dict[str, object]]] = json.loads(
        assembly.plain(found.stack, found.properties["DashboardBody"])
    )
    return read


def test_it_shows_what_waits_what_fails_and_how_long_it_takes(prod: Assembly) -> None:
    widgets = body(prod)["widgets"]
    text = json.dumps(widgets)
    for metric in (
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "IteratorAge",
        "Throttles",
        "action.failed",
        "action.done",
        "ExecutionTime",
        "Latency",
    ):
        assert metric in text, metric
    assert '"p99"' in text and "'p99'" in text
    assert len(widgets) == 8


def test_its_searches_find_queues_functions_and_machines_by_their_names(prod: Assembly) -> None:
    (found,) = prod.every("AWS::CloudWatch::Dashboard")
    assert found.properties["DashboardName"] == "Recourse-prod-sagas"
    searches = set(re.findall(r"SEARCH\('(.*?)', '\w+', 300\)", json.dumps(body(prod))))
    assert len(searches) == 7  # two of them for the share that failed
    named = [one for one in searches if "{AWS/" in one and '"Recourse-prod\\"' in one]
    assert len(named) == 5
    names = [str(one.properties["QueueName"]) for one in prod.every("AWS::SQS::Queue")]
    assert names and all(name.startswith("Recourse-prod-") for name in names)


def test_a_stage_with_few_alarms_has_none(dev: Assembly) -> None:
    assert not [one for one in dev.resources if one.type == "AWS::CloudWatch::Dashboard"]
