"""The app of docs/in-your-cdk-app.md comes up on the local cloud as it is on that page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from recourse.cli.api import Api
from recourse.local import LocalCloudError
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from recourse.project import Project
from tests import own_app
from tests.patience import PATIENCE
from tests.starting import local_cloud

pytestmark = pytest.mark.xdist_group("own app")


def test_a_saga_of_its_own_is_booked_and_undone_in_either_coordination(tmp_path: Path) -> None:
    own_app.write(tmp_path)
    compiling = [sys.executable, "-m", "recourse", "compile", "--folder", "src/shop"]
    subprocess.run(compiling, cwd=tmp_path, check=True)
    cloud_of_it = local_cloud(
        port=0, aws_port=0, state_dir=tmp_path / "cloud", project=Project.find(tmp_path)
    )
    with cloud_of_it as cloud, Api(cloud.api_url, token := cloud.token("asha", EVERY_SCOPE)) as api:
        ended = {}
        for coordination in ("orchestration", "choreography"):
            for chaos in (None, "send=reject"):
                key = f"{coordination} {chaos}"
                started = api.start(
                    "order", {"order_id": "o-1"}, key=key, chaos=chaos, coordination=coordination
                )
                *_, ended[coordination, chaos] = api.follow(started["saga_id"])
        assert {key: saga["status"] for key, saga in ended.items()} == {
            ("orchestration", None): "SUCCEEDED",
            ("orchestration", "send=reject"): "COMPENSATED",
            ("choreography", None): "SUCCEEDED",
            ("choreography", "send=reject"): "COMPENSATED",
        }
        table = cloud.client("dynamodb")
        (orders,) = [one for one in table.list_tables()["TableNames"] if "Orders" in one]
        rows = table.scan(TableName=orders, ConsistentRead=True)["Items"]
        status = {row["pk"]["S"]: row["status"]["S"] for row in rows if "order" in row}
        for (_, chaos), saga in ended.items():
            assert status[f"order#{saga['saga_id']}"] == ("withdrawn" if chaos else "entered")
        # The live channels are found too, and the whole API is described.
        live = api.get("/health")["events"]
        headers = {"authorization": f"Bearer {token}"}
        first = {"after": api.get("/events", limit="1")["cursor"]}
        with httpx.stream(
            "GET", live["sse"], params=first, headers=headers, timeout=PATIENCE
        ) as stream:
            assert any(line.startswith("data: ") for line in stream.iter_lines())
        assert "/valet-keys" in api.get("/openapi.json")["paths"]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "the app has no SagaApi for the local cloud to serve.*Stage.from_context"),
        (
            {"LocalCloudApi1": '{"construct": "Shop/Api"}', "LocalCloudApi2": '{"construct": "B"}'},
            "serves one SagaApi, the app has 2: Shop/Api, B; make one alone where stage.local",
        ),
    ],
)
def test_an_app_without_an_api_or_with_two_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: dict[str, str], said: str
) -> None:
    cloud = LocalCloud(port=0, aws_port=0, state_dir=tmp_path)

    def deploy() -> None:
        cloud.outputs = outputs

    monkeypatch.setattr(cloud, "_deploy", deploy)
    with pytest.raises(LocalCloudError, match=said), cloud:
        pytest.fail("it is up")
