"""The reference: every public name has an example that runs, and the page says what they say."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import ModuleType

import boto3
import pytest
from moto import mock_aws

import recourse
from recourse import cdk
from tests import reference

PRELUDE = """
from dataclasses import dataclass
from typing import Annotated
import pytest
from annotated_types import Len
from recourse import *
from services import flights, hotels, invoices, payments
from statemachines import SAGAS
from statemachines.transfer import TRANSFER
from statemachines.travel_booking import TripRequest
from statemachines.visit import VISIT
def is_iban(text): return text.startswith("DE")
def requested(timeout): return b""
event = Event.started("0" * 32, "order", business_key="o-1", coordination="orchestration")
text = event.to_json()
message = Message("m-1", text, {}, None, 1)
inbox = Inbox(dynamodb, "tally")
count = {"Put": {"TableName": "tally", "Item": {"pk": {"S": "count"}}}}
call = Call(
    saga_id=SagaId("0" * 32), saga="visit", step="slot", owner="asha", business_key="v-1",
    started_at="2026-11-28T09:00:00.000Z", ask=None, results={},
)
"""
"""What the examples take as given."""


@pytest.fixture
def given() -> Iterator[ModuleType]:
    """A module of an example, with what it takes as given."""
    with mock_aws():
        made = ModuleType("example_of_the_reference")
        sys.modules[made.__name__] = made
        dynamodb = boto3.client(
            "dynamodb", "us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )
        dynamodb.create_table(
            TableName="tally",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        vars(made)["dynamodb"] = dynamodb
        exec(PRELUDE, vars(made))
        yield made
        del sys.modules[made.__name__]


@pytest.mark.parametrize("name", recourse.__all__)
def test_every_public_name_has_an_example_that_runs(name: str, given: ModuleType) -> None:
    examples = reference.examples(reference.docstring(name))
    assert any(name in example for example in examples)
    public = getattr(recourse, name)
    for member in reference.members(public).values() if isinstance(public, type) else ():
        examples += reference.examples(inspect.getdoc(member) or "")
    for example in examples:
        exec(compile(example, f"the example of {name}", "exec"), vars(given))


@pytest.mark.parametrize("name", recourse.__all__)
def test_every_public_name_and_what_is_in_it_is_documented(name: str) -> None:
    public = getattr(recourse, name)
    members = reference.members(public) if isinstance(public, type) else {}
    undocumented = [one for one, member in members.items() if not inspect.getdoc(member)]
    assert reference.docstring(name) and undocumented == []


def test_the_page_has_every_public_name_once() -> None:
    named = sorted(" ".join(reference.GROUPS.values()).split())
    assert named == sorted([*recourse.__all__, *cdk.__all__])


@pytest.mark.xdist_group("infra")  # it loads the CDK
def test_the_page_is_what_the_docstrings_say() -> None:
    reference.main(["--check"])


def test_a_page_that_is_out_of_date_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "page", lambda: "of a later docstring")
    with pytest.raises(SystemExit, match=r"out of date: docs/reference\.md; run `python -m"):
        reference.main(["--check"])
