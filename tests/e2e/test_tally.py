"""The tally from outside: a trip is counted."""

from __future__ import annotations

import time
from collections import Counter

from cli.api import Api
from local.cloud import LocalCloud
from recourse.tally import SHARDS
from tests.e2e.conftest import Trip


def test_a_trip_is_counted_when_it_begins_and_when_it_ends(api: Api, cloud: LocalCloud) -> None:
    trip = Trip(api).stocked()
    saga_id = trip.start()
    trip.ended(saga_id, "SUCCEEDED")
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["TallyTableName"]
    until = time.monotonic() + 60
    for what in ("started", "succeeded"):
        key = {"pk": {"S": f"inbox#{saga_id}.{what}"}}
        while "Item" not in dynamodb.get_item(TableName=table, Key=key):
            assert time.monotonic() < until, f"{what} was not counted"
            time.sleep(0.2)
    day = api.get(f"/sagas/{saga_id}")["started_at"][:10]
    keys = [{"pk": {"S": f"tally#{day}#travel-booking#{shard}"}} for shard in range(SHARDS)]
    got = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    assert not got.get("UnprocessedKeys")
    count = Counter[str]()
    for row in got["Responses"][table]:
        count.update({name: int(value["N"]) for name, value in row.items() if "N" in value})
    assert count["started"] >= count["succeeded"] >= 1
