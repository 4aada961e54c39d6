"""Taking a saga out of the app, and putting it back: the deploy goes through, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from recourse.cdk.deploy import DeployError, Export, carry_over, lead, templates, vanishing
from recourse.local.aws import client
from recourse.local.boot import GAPS
from recourse.local.deploy import Deployment
from recourse.local.emulator import Emulator
from statemachines import SAGAS
from tests.infra.assembly import synthesise
from tests.infra.conftest import LOCAL
from tests.local.conftest import Start

pytestmark = pytest.mark.xdist_group("infra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taking-out")


@pytest.fixture(scope="module")
def both(folder: Path) -> Path:
    """The app with orders by account and by card."""
    sagas = {name: replace(SAGAS[name], reverse=None) for name in ("order", "card-order")}
    return synthesise(folder / "both" / "cdk.out", LOCAL, sagas, judged=False).folder


@pytest.fixture(scope="module")
def fewer(folder: Path) -> Path:
    """The same without `order`, and so without payments."""
    sagas = {"card-order": SAGAS["card-order"]}
    return synthesise(folder / "fewer" / "cdk.out", LOCAL, sagas, judged=False).folder


class Deployed:
    """CloudFormation, asked about an assembly that is deployed; a stack is worth its own name."""

    def __init__(self, assembly: Path) -> None:
        self._bodies = {stack: one.body for stack, one in templates(assembly).items()}

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if StackName not in self._bodies:
            refuse("DescribeStacks", f"Stack with id {StackName} does not exist")
        outputs = self._bodies[StackName].get("Outputs", {})
        told = [
            {"OutputKey": key, "OutputValue": f"{StackName}/{key}"}
            | ({"ExportName": output["Export"]["Name"]} if "Export" in output else {})
            for key, output in outputs.items()
        ]
        return {"Stacks": [{"Outputs": told}]}

    def get_template(self, StackName: str) -> dict[str, Any]:
        return {"TemplateBody": self._bodies[StackName]}

    def get_paginator(self, _: str) -> Deployed:
        return self

    def paginate(self, ExportName: str) -> Iterator[dict[str, Any]]:
        importing = json.dumps({"Fn::ImportValue": ExportName})
        found = [stack for stack, body in self._bodies.items() if importing in json.dumps(body)]
        if not found:
            refuse("ListImports", f"Export '{ExportName}' is not imported by any stack.")
        # As AWS does, not all at once.
        yield from ({"Imports": [stack]} for stack in found)


def refuse(operation: str, message: str) -> None:
    raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, operation)


def exports(assembly: Path) -> dict[str, tuple[str, str]]:
    """The stack and the output of each export."""
    return {
        output["Export"]["Name"]: (stack, key)
        for stack, one in templates(assembly).items()
        for key, output in one.body.get("Outputs", {}).items()
        if "Export" in output
    }


def test_what_goes_and_is_still_imported_is_found(both: Path, fewer: Path) -> None:
    gone = exports(both).keys() - exports(fewer).keys()
    expected = {Export(*exports(both)[name], name, "/".join(exports(both)[name])) for name in gone}
    found = vanishing(fewer, Deployed(both))
    assert set(found) == expected
    assert any("PaymentsTable" in one.name for one in found)
    assert vanishing(both, Deployed(fewer)) == []
    assert vanishing(fewer, Deployed(fewer)) == []


def test_a_first_deploy_carries_over_what_goes_and_changes_nothing_else(
    both: Path, fewer: Path, tmp_path: Path
) -> None:
    before = {stack: one.body for stack, one in templates(fewer).items()}
    found = vanishing(fewer, Deployed(both))
    carry_over(fewer, found, keys={}, into=tmp_path / "carried")
    assert {stack: one.body for stack, one in templates(fewer).items()} == before
    after = {stack: one.body for stack, one in templates(tmp_path / "carried").items()}
    for one in found:
        output = after[one.stack]["Outputs"].pop(one.key)
        assert output == {"Value": one.value, "Export": {"Name": one.name}}
    assert after == before
    assert vanishing(tmp_path / "carried", Deployed(both)) == []
    assert vanishing(fewer, Deployed(tmp_path / "carried")) == []


def test_a_template_that_was_changed_is_uploaded_anew(
    both: Path, fewer: Path, tmp_path: Path
) -> None:
    """What is in the bucket already, by its hash, is not uploaded again."""
    found = vanishing(fewer, Deployed(both))
    carry_over(fewer, found, keys={}, into=tmp_path / "carried")
    changed = {one.stack for one in found}
    for stack, one in templates(tmp_path / "carried").items():
        was = templates(fewer)[stack].asset
        assert (one.asset != was) == (stack in changed)
        assets = one.path.with_name(f"{stack}.assets.json").read_text()
        assert f"{one.asset}.json" in assets
        assert (was in assets) == (stack not in changed)


@pytest.mark.parametrize(("deployed", "steps"), [("both", 2), ("fewer", 1)])
def test_there_are_two_deploys_where_something_goes_and_else_one(
    request: pytest.FixtureRequest, fewer: Path, deployed: str, steps: int
) -> None:
    made: list[Path] = []
    said: list[str] = []
    now = Deployed(request.getfixturevalue(deployed))
    lead(fewer, cloudformation=now, deploy=made.append, say=said.append)
    assert (len(made), made[-1]) == (steps, fewer)
    assert [line.partition(":")[0] for line in said] == [
        f"deploying, step {number} of 2" for number in range(1, steps + 1) if steps == 2
    ]


def test_a_key_stays_until_no_stack_has_anything_that_it_encrypts(both: Path, folder: Path) -> None:
    """A stage with a key each gets one for all: other stacks' queues would stand without."""
    sagas = {name: replace(SAGAS[name], reverse=None) for name in ("order", "card-order")}
    one_key = synthesise(
        folder / "one-key" / "cdk.out", LOCAL | {"keys": "one"}, sagas, judged=False
    ).folder
    made: list[dict[str, Any]] = []

    def deploy(assembly: Path) -> None:
        made.append({stack: one.body for stack, one in templates(assembly).items()})

    lead(one_key, cloudformation=Deployed(both), deploy=deploy, say=lambda _: None)
    first, second = made

    def keys(bodies: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            stack.rpartition("-")[2]: found
            for stack, body in bodies.items()
            if (found := {k: v for k, v in body["Resources"].items() if "KMS" in v["Type"]})
        }

    before = keys({stack: one.body for stack, one in templates(both).items()})
    assert keys(first).keys() == before.keys() == {"Services", "Events", "Valet", "Webhooks"}
    for stack in ("Events", "Valet", "Webhooks"):
        assert keys(first)[stack] == before[stack]
    assert keys(second).keys() == {"Services", "Valet"}
    assert list(keys(second)["Valet"]) == ["SigningKeyEEFC2790"]
    for stack, body in first.items():
        kept = keys(first).get(stack.rpartition("-")[2], {})
        assert body["Resources"] == kept | second[stack]["Resources"]


def test_a_stack_that_left_the_app_and_still_imports_is_named(
    both: Path, fewer: Path, tmp_path: Path
) -> None:
    carry_over(fewer, [], keys={}, into=tmp_path / "left")
    manifest = json.loads((tmp_path / "left" / "manifest.json").read_text())
    del manifest["artifacts"]["Recourse-dev-chaos-Choreography"]
    (tmp_path / "left" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        DeployError, match=r"Choreography is no longer in the app, .* delete that stack first"
    ):
        vanishing(tmp_path / "left", Deployed(both))


def has_payments(emulator: Emulator) -> bool:
    tables = client("dynamodb", emulator.url).list_tables()["TableNames"]
    return any("PaymentsTable" in name for name in tables)


def test_a_saga_is_taken_out_of_what_is_deployed_and_put_back(
    start: Start, both: Path, fewer: Path
) -> None:
    emulator = start(*GAPS)
    said: list[str] = []

    def deploy(assembly: Path) -> int:
        said.clear()
        Deployment(endpoint=emulator.url, folder=assembly.parent, say=said.append).deploy("any")
        return len(said)

    assert (deploy(both), has_payments(emulator)) == (0, True)
    assert (deploy(fewer), has_payments(emulator)) == (2, False)
    deployed = client("cloudformation", emulator.url).describe_stacks()["Stacks"]
    assert exports(fewer).keys() == {
        output["ExportName"]
        for stack in deployed
        for output in stack.get("Outputs", [])
        if stack["StackName"] in templates(fewer) and "ExportName" in output
    }
    assert (deploy(both), has_payments(emulator)) == (0, True)
