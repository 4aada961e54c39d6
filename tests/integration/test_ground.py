"""The ground itself: it keeps nothing of what it has forgotten, and its runs do not mix."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.dynamodb.models.dynamo_type import Item
from moto.stepfunctions.parser.utils import TMP_THREADS

from tests.ground import Ground
from tests.integration.trips import TRIP


def test_nothing_is_kept_of_what_is_forgotten(fresh: Ground) -> None:
    models: Any = Item
    before = len(models.instances_tracked), len(TMP_THREADS)
    saga_id = fresh.start("travel-booking", TRIP, key="forgotten")
    assert fresh.rows("flights", f"marker#{saga_id}")
    fresh.forget()
    assert fresh.ledger.get(saga_id) is None
    for table in fresh.services:
        assert not [row for prefix in ("marker#", "outbox#") for row in fresh.rows(table, prefix)]
    machine = fresh.runs.machines["travel-booking"]
    assert not fresh.sfn.list_executions(stateMachineArn=machine)["executions"]
    assert (len(models.instances_tracked), len(TMP_THREADS)) == before


def test_runs_at_once_each_count_their_own_retries(fresh: Ground) -> None:
    faults = {"hotel": "error:3"}
    with ThreadPoolExecutor(4) as pool:
        sagas = list(
            pool.map(
                lambda n: fresh.start("travel-booking", TRIP, key=f"once-{n}", faults=faults),
                range(8),
            )
        )
    fresh.settle()
    for saga_id in sagas:
        view = fresh.view(saga_id)
        assert view["status"] == "SUCCEEDED"
        (hotel,) = [step for step in view["steps"] if step["name"] == "hotel"]
        assert hotel["attempts"] == 4
