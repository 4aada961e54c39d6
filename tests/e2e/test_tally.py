"""The tally from outside: a trip is counted."""

from __future__ import annotations

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
        until(
            lambda key=key: dynamodb.get_item(TableName=table, Key=key).get("Item"),
            f"that {what} is counted",
        )
    day = api.get(f"/sagas/{saga_id}")["started_at"][:10]
    row = dynamodb.get_item(
        TableName=table, Key={"pk": {"S": f"tally#{day}#travel-booking"}}, ConsistentRead=True
    )["Item"]
    assert int(row["started"]["N"]) >= int(row["succeeded"]["N"]) >= 1
