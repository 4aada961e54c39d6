"""The tally from outside: a trip is counted."""

from __future__ import annotations

from collections import Counter
from functools import partial

from lambdas.consumers.tally import SHARDS
from recourse.cli.api import Api
from recourse.local.cloud import LocalCloud
from tests.e2e.conftest import Trip
from tests.patience import until


def test_a_trip_is_counted_when_it_begins_and_when_it_ends(api: Api, cloud: LocalCloud) -> None:
    trip = Trip(api).stocked()
    saga_id = trip.start()
    trip.ended(saga_id, "SUCCEEDED")
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["TallyTableName"]
    for what in ("started", "succeeded"):
        key = {"pk": {"S": f"inbox#{saga_id}.{what}"}}
        look = partial(dynamodb.get_item, TableName=table, Key=key)
        until(look, f"that {what} is counted", lambda seen: "Item" in seen)
    day = api.get(f"/sagas/{saga_id}")["started_at"][:10]
    keys = [{"pk": {"S": f"tally#{day}#travel-booking#{shard}"}} for shard in range(SHARDS)]
    got = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    assert not got.get("UnprocessedKeys")
    count = Counter[str]()
    for row in got["Responses"][table]:
        count.update({name: int(value["N"]) for name, value in row.items() if "N" in value})
    assert count["started"] >= count["succeeded"] >= 1
