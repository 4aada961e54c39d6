"""How the redeeming function starts: with a DynamoDB client, and hardly anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "VALET_TABLE": "t",
    "VALET_BUCKET": "b",
    "VALET_ISSUER": "i",
    "PYTHONPATH": str(ROOT),
}
REDEEM = "import recourse.functions.valet\nrecourse.functions.valet.redeemer().credentials()"
NOTED = """
from botocore.session import Session
made, create = [], Session.create_client
def noted(self, name, *args, **options):
    made.append(name)
    return create(self, name, *args, **options)
Session.create_client = noted
{}
print(*made)
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_it_loads_no_web_framework_no_validator_and_no_other_client() -> None:
    loaded = run(f"{REDEEM}\nimport sys\nprint(*sys.modules)").split()
    heavy = {
        "aws_lambda_powertools",
        "pydantic",
        "jwt",
        "boto3",
        "aws_cdk",
        "services",
    }
    assert not heavy & {name.partition(".")[0] for name in loaded}
    clients = run(NOTED.format(REDEEM)).split()
    assert clients == ["dynamodb"]
