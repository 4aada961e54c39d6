"""The probe: only where it is asked for, as in the small app with workers on Fargate."""

from __future__ import annotations

import pytest

from bench.push_pull.paths import NOTHING, PATHS, Path
from bench.push_pull.tables import CHARGED, WRITTEN
from bench.push_pull.template import complexity
from tests.infra.assembly import Assembly

pytestmark = pytest.mark.xdist_group("infra")


def test_the_probe_is_there_only_where_it_is_asked_for(each: Assembly, fargate: Assembly) -> None:
    assert not any("Probe" in name for name in each.templates)
    assert any("Probe" in name for name in fargate.templates)
    assert fargate.findings() == []


def test_the_probe_s_functions_may_commit_and_no_more(fargate: Assembly) -> None:
    for name in ("Push", "Pull"):
        (function,) = [
            one
            for one in fargate.every("AWS::Lambda::Function")
            if (one.stack, one.name) == ("Probe", name)
        ]
        rights = fargate.rights(function)
        assert rights["<Effects.Arn>"] == {"dynamodb:UpdateItem"}


def test_each_path_takes_its_own_events_alone(fargate: Assembly) -> None:
    wanted = {
        one.name.partition("/")[0]: one.properties["FilterPolicy"]
        for one in fargate.every("AWS::SNS::Subscription")
        if one.stack == "Probe"
    }
    assert wanted == {
        "Push": {"saga": ["probe"], "step": ["sns-lambda"]},
        "PullEvents": {"saga": ["probe"], "step": ["sqs-lambda"]},
        "Worker": {"saga": ["probe"], "step": ["worker"]},
    }


@pytest.mark.parametrize("path", [path for path in PATHS if path != NOTHING], ids=lambda p: p.key)
def test_what_a_path_takes_can_be_counted(fargate: Assembly, path: Path) -> None:
    counted = complexity(fargate.folder, path.parts)
    assert (counted.resources > 0) == bool(path.parts)
    assert path.key in CHARGED and path.key in WRITTEN
