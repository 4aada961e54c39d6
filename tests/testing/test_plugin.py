"""`pytest --sagas` in a project of one's own finds what the published samples do wrong.

The project's services are in a package of another name; its logic is that of the samples, in our
terms. Each is wrong in one way, and the story says in which.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing import projects

Change = tuple[str, str, str]
ITEMS = "warehouse/items.py"
TWICE: Change = (
    "warehouse/money.py",
    "BOOKS.setdefault(call.saga_id, 100)",
    "BOOKS[str(uuid.uuid4())] = 100",
)
"""A charge that is tried again is another charge (serverless-patterns)."""
TWICE_UNDONE: tuple[Change, ...] = (
    ("warehouse/money.py", "BOOKS.pop(call.saga_id, None)", "BOOKS['paid back'] -= 100"),
    (
        "warehouse/money.py",
        "BOOKS.setdefault(call.saga_id, 100)",
        "BOOKS.setdefault('paid back', 0); BOOKS.setdefault(call.saga_id, 100)",
    ),
)
"""An undo that gives money back each time that it is asked (agent-toolkit-for-aws)."""
LOST: Change = (
    "warehouse/money.py",
    "BOOKS.pop(call.saga_id, None)",
    "BOOKS.pop(call.result['charge'] if call.result else '', None)",
)
"""An undo that needs the answer of the action, which may be lost (cdk-patterns, Cloudflare)."""
OTHER_ROW: Change = (
    "warehouse/items.py",
    'Update(call.item["item"], add={"free": 1})',
    'Put({"pk": f"back#{call.saga_id}"})',
)
"""An undo that writes another row than its action (saga-pattern-*)."""
UNTAKEN: Change = (
    "warehouse/items.py",
    'Update(call.item["item"], add={"free": 1})',
    'Update(call.item["item"], add={"free": 2})',
)
"""An undo that adds stock that was never taken (saga-orchestration-netcore-blog)."""
CHECK_THEN_ACT: Change = (
    "warehouse/items.py",
    'add={"free": -1}, when={"free": AtLeast(1)}',
    'put={"free": item["free"] - 1}',
)
"""What was read is written again, whoever wrote meanwhile (serverless-patterns)."""
DELETED: Change = (
    "warehouse/items.py",
    'add={"free": 1}',
    'add={"free": 1}, put={"note": "cancelled"}',
)
"""An undo that changes what is not its own (the payment's record, in saga-pattern-*)."""
OWN_CLIENT: tuple[Change, ...] = (
    ("warehouse/items.py", "from dataclasses", "import boto3\nfrom dataclasses"),
    (
        "warehouse/items.py",
        """    item = call.item
    if item is None or item["free"] < 1:
        raise SoldOutError("none is left")
    return Decision(result={"item": item["pk"]}, writes=[
        Update(item["pk"], add={"free": -1}, when={"free": AtLeast(1)}),
        Put({"pk": f"order#{call.saga_id}", "item": item["pk"], "status": "HELD"}),
""",
        """    key = f"item#{call.ask.item}"
    boto3.client("dynamodb").update_item(
        TableName="items",
        Key={"pk": {"S": key}},
        UpdateExpression="ADD #free :taken",
        ExpressionAttributeNames={"#free": "free"},
        ExpressionAttributeValues={":taken": {"N": "-1"}},
    )
    return Decision(result={"item": key}, writes=[
        Put({"pk": f"order#{call.saga_id}", "item": key, "status": "HELD"}),
""",
    ),
)
"""A step that writes by a client of its own, each time that it is called (serverless-patterns)."""

WRONG = [
    pytest.param([TWICE], "every_purchase_is_paid_once", id="double charge on retry"),
    pytest.param(TWICE_UNDONE, "every_purchase_is_paid_once", id="undo not idempotent"),
    pytest.param([LOST], "every_purchase_is_paid_once", id="undo lost"),
    pytest.param([OTHER_ROW], "'free' of item#tea in items must be 10, got 9", id="other row"),
    pytest.param([UNTAKEN], "'free' of item#tea in items must be 10, got 11", id="untaken"),
    pytest.param(
        [CHECK_THEN_ACT], "'free' of item#tea in items must be 8, got 9", id="check then act"
    ),
    pytest.param([DELETED], "'note' of item#tea in items must be None", id="not its own"),
    pytest.param(OWN_CLIENT, "'free' of item#tea in items must be 9, got 8", id="own client"),
]
"""The changes that make the project wrong, and what is said of it."""


@pytest.mark.parametrize(("changes", "wrong"), WRONG)
def test_what_the_published_samples_do_wrong_is_found_and_told(
    tmp_path: Path, changes: list[Change], wrong: str
) -> None:
    projects.write(tmp_path, *changes)
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=0", "-x")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert wrong in ran.stdout
    assert "What is wrong:" in ran.stdout and "purchase A begins" in ran.stdout


def story(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """The numbered lines of a story."""
    return re.findall(r"^ *\d+\. .*$", ran.stdout, re.MULTILINE)


def test_the_search_finds_it_too_and_makes_it_short(tmp_path: Path) -> None:
    projects.write(tmp_path, CHECK_THEN_ACT)
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=60", "-k", "random")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    told = story(ran)
    begun = [line for line in told if " begins: " in line]
    assert len(begun) == 2, "two sagas are enough"
    assert any("between its read and its write, another saga begins" in line for line in told)
    assert "Traceback" not in ran.stdout
    again = projects.pytest_alone_in(tmp_path, "--sagas", "--sagas-examples=60", "-k", "random")
    assert story(again) == told, "it is the same on every run"


def test_a_project_that_is_right_passes_within_a_minute(tmp_path: Path) -> None:
    projects.write(tmp_path)
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=10")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def test_the_page_is_as_it_works(tmp_path: Path) -> None:
    page = (projects.ROOT / "docs" / "test-your-sagas.md").read_text()
    settings, checks, *_ = re.findall(r"```(?:toml|python)\n(.*?)```", page, re.DOTALL)
    projects.write(tmp_path)
    (tmp_path / "pyproject.toml").write_text(settings)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "sagas.py").write_text(checks)
    chosen = "undisturbed or overtaken or every"
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=0", "-k", chosen)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    projects.write(tmp_path, CHECK_THEN_ACT, files={n: projects.FILES[n] for n in [ITEMS]})
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=0", "-k", chosen)
    assert "at_rest_stock_is_held_or_free:" in ran.stdout


def test_nothing_is_wrong_with_ours() -> None:
    chosen = "orchestration and (overtaken or every) or random"
    ran = projects.pytest_in(
        projects.ROOT,
        *("--sagas", "--sagas-examples=5", "-k", chosen),  # the plugin is installed with us
        "tests/unit/test_project.py",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_fixture_is_a_ground_with_the_stock(tmp_path: Path) -> None:
    projects.write(tmp_path)
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(ground):\n"
        "    saga = ground.start('purchase', {'order': 'o', 'item': 'tea'}, key='k')\n"
        "    ground.settle()\n"
        "    assert ground.view(saga)['status'] == 'SUCCEEDED'\n"
        "    assert ground.row('items', 'item#tea')['free'] == 9\n"
    )
    ran = projects.pytest_in(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


@pytest.mark.parametrize(
    ("changes", "missing", "said"),
    [
        ([("pyproject.toml", "[tool.recourse]", "[tool.other]")], "", "[tool.recourse]"),
        ([], "samples/purchase.json", "write a request of 'purchase' that succeeds"),
        ([("pyproject.toml", "checks_of_mine", "nowhere")], "", "testing must name a module"),
        ([("pyproject.toml", "declared:SAGAS", "declared:NONE")], "", "no sagas are listed"),
        ([("samples/purchase.json", "tea", "tin")], "", "SoldOutError"),
        (
            [
                (
                    "warehouse/money.py",
                    "@action(external=True",
                    "@action(external=True, settings=['P']",
                )
            ],
            "",
            "needs the setting P",
        ),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, changes: list[Change], missing: str, said: str
) -> None:
    projects.write(tmp_path, *changes)
    if missing:
        (tmp_path / missing).unlink()
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=0", "-x")
    assert ran.returncode != 0
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_nothing_is_loaded_until_it_is_asked_for(tmp_path: Path) -> None:
    projects.write(tmp_path)
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_mine():\n"
        "    ours = {n for n in sys.modules if n.startswith('recourse.')}\n"
        "    assert ours == {'recourse.testing', 'recourse.testing.plugin'}, ours\n"
        "    assert not {'moto', 'boto3', 'botocore'} & sys.modules.keys()\n"
    )
    ran = projects.pytest_alone_in(tmp_path, "-p", "no:hypothesispytest")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_handler_hook_is_usable_by_itself() -> None:
    code = (
        "import json, boto3\n"
        "from moto import mock_aws\n"
        "from recourse.testing import handlers\n"
        "import os; os.environ.update(AWS_ACCESS_KEY_ID='t', AWS_SECRET_ACCESS_KEY='t')\n"
        "machine = {'StartAt': 'C', 'States': {'C': {'Type': 'Task', 'End': True,\n"
        "    'Resource': handlers.arn('Charge')}}}\n"
        "with mock_aws(config={'stepfunctions': {'execute_state_machine': True}}):\n"
        "    with handlers.registered({'Charge': lambda event: {'charged': event['amount']}}):\n"
        "        sfn = boto3.client('stepfunctions', 'us-east-1')\n"
        "        made = sfn.create_state_machine(name='m', definition=json.dumps(machine),\n"
        "            roleArn='arn:aws:iam::123456789012:role/r')\n"
        "        run = sfn.start_execution(stateMachineArn=made['stateMachineArn'],\n"
        "            input='{\"amount\": 5}')\n"
        "        import time\n"
        "        while True:\n"
        "            got = sfn.describe_execution(executionArn=run['executionArn'])\n"
        "            if got['status'] != 'RUNNING': break\n"
        "            time.sleep(0.05)\n"
        "        assert json.loads(got['output']) == {'charged': 5}, got\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=projects.ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
