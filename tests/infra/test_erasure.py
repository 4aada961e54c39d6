"""Whoever erases may do just what an erasure does, and no function may do it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recourse.erasure.places import Places
from statemachines import SAGAS
from tests.infra.assembly import Assembly
from tests.integration.erasing import ACTIONS

pytestmark = [pytest.mark.xdist_group("infra"), pytest.mark.of_all]


def statements(assembly: Assembly) -> list[dict[str, Any]]:
    policy = assembly.one("AWS::IAM::ManagedPolicy", "Erase")
    assert not {"Roles", "Users", "Groups"} & policy.properties.keys(), "it is attached to nobody"
    whole = assembly.plain(policy.stack, policy.properties["PolicyDocument"])
    assert len(json.dumps(whole)) < 6144, "what a managed policy can hold"
    found: list[dict[str, Any]] = policy.properties["PolicyDocument"]["Statement"]
    return found


def test_the_policy_has_the_actions_that_an_erasure_calls_and_no_other(dev: Assembly) -> None:
    allowed: set[str] = set()
    for one in statements(dev):
        actions = one["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    assert {action for action in allowed if not action.startswith("kms:")} == ACTIONS


def test_it_deletes_documents_that_are_not_kept_and_no_other(dev: Assembly) -> None:
    steps = [step for saga in SAGAS.values() for step in saga.all if step.action.documents]
    kept = {step.service for step in steps if step.action.keeps_documents}
    assert kept, "else this says nothing"
    deleted = json.dumps(
        [one for one in statements(dev) if "s3:DeleteObjectVersion" in one["Action"]]
    )
    for service in {step.service for step in steps}:
        assert (f"/{service}/*" in deleted) == (service not in kept), service


def test_every_table_and_bucket_with_a_persons_data_is_named(dev: Assembly) -> None:
    """All there are: what is not among them has to be said here."""
    (template,) = [t for name, t in dev.templates.items() if name.endswith("-Erasure")]
    output = json.dumps(template["Outputs"]["Places"]["Value"])
    for kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket"):
        for one in dev.every(kind):
            if (one.stack, one.name) == ("Console", "Page"):  # a web page, the same for everybody
                continue
            assert f"Ref{one.name}" in output, f"{one.stack}.{one.name}"
    names = {step.service for saga in SAGAS.values() for step in saga.all}
    assert names <= set(dev.outputs["Places"].split('"'))
    places = Places.parse(dev.outputs["Places"])
    # No consumer of this deployment keeps text: tests/infra/test_consumers.py has one that does.
    there = {name: value for name, value in vars(places).items() if name != "keeps"}
    assert all(there.values()), "each is there"
