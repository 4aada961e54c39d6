"""A dead-letter queue from outside: what rests there is shown, and goes back by the command."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from recourse.cli import main
from recourse.local.cloud import LocalCloud
from tests.e2e.conftest import Trip
from tests.e2e.test_trips import must_be_booked
from tests.patience import until


def recourse_redrive(cloud: LocalCloud, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        main.app,
        [
            *("redrive", "--json", *arguments),
            *("--api", cloud.api_url, "--token", cloud.token("olga", "operator")),
        ],
    )
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def waiting(found: dict[str, Any], name: str) -> int:
    return int(next(one["waiting"] for one in found["items"] if one["name"] == name))


def test_what_the_ledger_dead_lettered_is_redriven_by_saga(trip: Trip, cloud: LocalCloud) -> None:
    saga_id = trip.start()
    trip.ended(saga_id, "SUCCEEDED")
    sqs = cloud.client("sqs")
    told = {"type": "recourse.nowhere.done", "subject": saga_id}
    names = [url.rpartition("/")[2] for url in sqs.list_queues()["QueueUrls"]]
    (prefix,) = [one.removesuffix("-Ledger") for one in names if one.endswith("-Ledger")]
    ledger = sqs.get_queue_url(QueueName=f"{prefix}-Ledger")["QueueUrl"]
    sqs.send_message(QueueUrl=ledger, MessageBody=json.dumps(told))
    sqs.send_message(QueueUrl=ledger, MessageBody="{not json")
    seen = until(
        lambda: recourse_redrive(cloud, "Ledger", "--dry-run"),
        "both among the ledger's dead letters",
        lambda seen: waiting(seen, "Ledger") >= 2,
    )
    (dry,) = seen["redriven"]
    assert (dry["matched"], dry["moved"], dry["left"]) == (2, 0, 2)
    assert all("UnreadableError" in one["reason"] for one in dry["reasons"])
    assert {one["saga_id"] for one in dry["sagas"]} == {saga_id, None}

    (done,) = recourse_redrive(cloud, "Ledger", "--saga", saga_id)["redriven"]
    assert (done["looked_at"], done["matched"], done["moved"], done["left"]) == (2, 1, 1, 1)
    # It is no event still, so it is dead-lettered again, and an operator takes it out.
    until(
        lambda: recourse_redrive(cloud, "--dry-run"),
        "both among the ledger's dead letters again",
        lambda seen: waiting(seen, "Ledger") >= 2,
    )
    lost = sqs.get_queue_url(QueueName=f"{prefix}-Ledger-deadletters")["QueueUrl"]
    sqs.purge_queue(QueueUrl=lost)
    assert waiting(recourse_redrive(cloud, "--dry-run"), "Ledger") == 0
    must_be_booked(trip)
