"""What keeps data or has an address keeps its logical id: with another one it would be made anew.

CloudFormation takes a resource whose logical id has changed for another one. It makes an empty
table, and deletes or orphans the one with the data. So the ids of whatever a stage cannot do
without are in `logical_ids.json`; one that changes or goes needs a way there in CHANGELOG.md, and
then `python -m tests.infra.test_logical_ids` writes the file again. What is new needs no entry.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from tests.infra.assembly import Assembly, synthesise
from tests.infra.conftest import WHOLE

pytestmark = pytest.mark.xdist_group("infra")

RECORDED = Path(__file__).with_name("logical_ids.json")
KEPT = (
    "AWS::ApiGatewayV2::Api",
    "AWS::CloudFront::Distribution",
    "AWS::Cognito::UserPool",
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Lambda::Url",
    "AWS::S3::Bucket",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
    "AWS::StepFunctions::StateMachine",
    "AWS::StepFunctions::StateMachineAlias",
)


def logical_ids(assembly: Assembly) -> dict[str, dict[str, str]]:
    """The type of each resource that is kept, by its stack and its logical id."""
    return {
        stack.rpartition("-")[2]: {
            logical: body["Type"]
            for logical, body in sorted(template["Resources"].items())
            if body["Type"] in KEPT
        }
        for stack, template in sorted(assembly.templates.items())
    }


ONE_FOR_ALL = {f"{stack}.Key961B73FD" for stack in ("Events", "Valet", "Webhooks")}
"""The keys that a stage with one key does without."""


@pytest.mark.parametrize(("stage", "without"), [("whole", set()), ("dev", ONE_FOR_ALL)])
def test_what_keeps_data_or_has_an_address_keeps_its_logical_id(
    request: pytest.FixtureRequest, stage: str, without: set[str]
) -> None:
    now = logical_ids(request.getfixturevalue(stage))
    recorded = json.loads(RECORDED.read_text())
    assert sum(len(ids) for ids in recorded.values()) > 50
    gone = {
        f"{stack}.{logical}": kind
        for stack, ids in recorded.items()
        for logical, kind in ids.items()
        if now.get(stack, {}).get(logical) != kind
    }
    assert gone.keys() == without


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(
            json.dumps(logical_ids(synthesise(Path(folder), WHOLE)), indent=2) + "\n"
        )
