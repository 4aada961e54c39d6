"""Each alarm leads to its runbook, and each runbook is that of an alarm."""

from __future__ import annotations

import re

import pytest

from tests.infra.assembly import ROOT, Assembly

pytestmark = pytest.mark.xdist_group("infra")

PAGE = "docs/runbooks.md"


def test_each_alarm_has_a_runbook_and_each_runbook_an_alarm(
    prod: Assembly, whole: Assembly
) -> None:
    """Among the alarms of a stage with an issuer of its own, and of one with a user pool."""
    sections = {f"{PAGE}#{one.lower()}" for one in re.findall("^## (.*)$", text(), re.MULTILINE)}
    told = {
        one.properties["AlarmDescription"]
        for stage in (prod, whole)
        for one in stage.every("AWS::CloudWatch::Alarm")
    }
    assert told == sections


def test_a_runbook_says_what_of_it_was_tried() -> None:
    _, *sections = re.split("^## ", text(), flags=re.MULTILINE)
    for one in sections:
        assert re.search("^Tried: ", one, re.MULTILINE), one.partition("\n")[0]


def text() -> str:
    return (ROOT / PAGE).read_text()
