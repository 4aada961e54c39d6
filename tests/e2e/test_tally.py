"""The tally from outside: a trip is counted."""

from __future__ import annotations

from functools import partial

from cli.api import Api
from local.cloud import LocalCloud
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
    row = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": f"tally#{day}#travel-booking"}}, ConsistentRead=True
    )["Item"]
    assert int(row["started"]["N"]) >= int(row["succeeded"]["N"]) >= 1
