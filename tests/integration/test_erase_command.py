"""`recourse erase`: what it shows, what it needs, and that it does nothing unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from recourse.cli import erase, main
from recourse.erasure.places import Places
from recourse.store.aws import client
from statemachines import SAGAS
from tests.integration.erasing import ACTIONS, MARK, PERSON, Deployment, deployed, live, planted

STACK = "Recourse-dev-Erasure"
OF_S3 = {
    "ListObjectVersions": "ListBucketVersions",
    "DeleteObject": "DeleteObjectVersion",
    "AbortMultipartUpload": "AbortMultipartUpload",
}
"""What S3 calls the right to each call."""


class Stacks:
    """CloudFormation, of which moto needs packages that are not ours."""

    def __init__(self, places: Places) -> None:
        self._outputs = [{"OutputKey": "Places", "OutputValue": json.dumps(vars(places))}]
        self.names = [STACK]
        self.may_list = True

    def get_paginator(self, operation: str) -> Stacks:
        assert operation == "describe_stacks"
        return self

    def paginate(self) -> Iterator[dict[str, Any]]:
        if not self.may_list:
            error = {"Code": "AccessDenied", "Message": "not allowed"}
            raise ClientError({"Error": error}, "DescribeStacks")  # type: ignore[typeddict-item]
        yield {"Stacks": [{"StackName": "Recourse-dev-Api"}]}
        for name in self.names:
            yield {"Stacks": [{"StackName": name, "Outputs": self._outputs}]}

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:
        if StackName != STACK:
            error = {
                "Code": "ValidationError",
                "Message": f"Stack with id {StackName} is not there",
            }
            raise ClientError({"Error": error}, "DescribeStacks")  # type: ignore[typeddict-item]
        return {"Stacks": [{"Outputs": self._outputs}]}


@pytest.fixture
def made() -> Iterator[Deployment]:
    with deployed() as found:
        yield found


@pytest.fixture(autouse=True)
def stacks(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> Stacks:
    stacks = Stacks(made.places)
    monkeypatch.setattr(
        erase, "client", lambda name: stacks if name == "cloudformation" else client(name)
    )
    return stacks


def run(*args: str) -> Result:
    return CliRunner().invoke(main.app, ["erase", "--subject", PERSON, *args])


def test_it_shows_what_would_go_and_what_stays_and_does_it_when_asked(made: Deployment) -> None:
    live(made, PERSON, MARK, sagas=False)
    made.start(SAGAS["travel-booking"], 1, PERSON)
    before = made.rows()
    shown = run()
    assert shown.exit_code == 0, shown.output
    for text in ("flights", "booking", "documents", "tax law", "90 days", "nothing was changed"):
        assert text in shown.output, text
    assert made.rows() == before
    calls: set[str] = set()

    def record(model: Any, **_: Any) -> None:
        service, name = model.service_model.service_name, model.name
        calls.add(f"{service}:{OF_S3.get(name, name)}")

    for service in ("dynamodb", "s3"):
        client(service).meta.events.register("before-call", record)
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["sagas"] == 1 and not said["dry_run"] and said["pseudonym"].startswith("erased-")
    # A transaction's rights are those of its writes.
    calls.add("cloudformation:DescribeStacks")
    assert calls - {"dynamodb:TransactWriteItems"} == ACTIONS
    assert made.traces() == []


def test_sagas_that_are_not_at_rest_are_named_and_nothing_is_erased(made: Deployment) -> None:
    trip = SAGAS["travel-booking"]
    saga = made.ground.start(trip.name, planted(trip, 1), key="k", owner=PERSON, run=False)
    made.settle()
    before = made.rows()
    for args in ((), ("--yes",)):
        answer = run(*args)
        assert answer.exit_code == 1
        assert f"{saga} RUNNING" in answer.output.replace("\n", "")
        assert made.rows() == before


def test_a_stack_that_is_not_there_is_a_message(made: Deployment) -> None:
    answer = run("--stack", "Elsewhere")
    assert answer.exit_code == 1 and "Elsewhere" in answer.output
    assert "credentials in the environment" in answer.output.replace("\n", " ")


def test_the_one_stack_that_says_where_data_are_is_found_whatever_the_stage(
    stacks: Stacks,
) -> None:
    answer = run()
    assert answer.exit_code == 0 and f"the data are those of {STACK}" in answer.stderr


@pytest.mark.parametrize(
    ("names", "may_list", "said"),
    [
        ([], True, "an output Places, and there is none"),
        (["B-Erasure", "A-Erasure"], True, "an output Places: A-Erasure, B-Erasure"),
        ([STACK], False, "the stacks cannot be listed"),
    ],
)
def test_where_there_is_no_one_stack_a_message_names_those_that_there_are(
    made: Deployment, stacks: Stacks, names: list[str], may_list: bool, said: str
) -> None:
    stacks.names, stacks.may_list = names, may_list
    before = made.rows()
    answer = run("--yes")
    assert answer.exit_code == 2 and "--stack" in answer.stderr
    assert said in answer.stderr.replace("\n", " "), answer.stderr
    assert made.rows() == before
    assert run("--stack", STACK).exit_code == 0


def test_a_person_whom_nobody_knows_has_nothing(made: Deployment) -> None:
    answer = CliRunner().invoke(main.app, ["erase", "--subject", "nobody", "--yes", "--json"])
    assert json.loads(answer.stdout)["changes"] == []
    assert CliRunner().invoke(main.app, ["erase", "--subject", ""]).exit_code == 2
