"""One person's data are erased on a running cloud, by an operator with the stack's policy alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from recourse.cli.api import Api
from recourse.local.aws import REGION
from recourse.local.cloud import EVERY_SCOPE, LocalCloud
from tests import ROOT
from tests.e2e.conftest import BALANCE, Receiver, Trip
from tests.e2e.test_trips import must_be_booked, must_be_untouched
from tests.e2e.test_valet import Caller
from tests.patience import PATIENCE, until

OWN_SCOPE = " ".join(one for one in EVERY_SCOPE.split() if one != "operator")


@dataclass(frozen=True)
class Personal(Trip):
    """A trip whose texts name a person, and `name`, which it books, does not.

    Attributes:
        person: Who; the subject of their token too.
    """

    person: str = ""

    @property
    def request(self) -> dict[str, Any]:
        traveller = {"name": f"{self.person} Rao", "email": f"{self.person}@example.com"}
        own = {"trip_id": f"{self.person}-{self.coordination}", "traveller": traveller}
        return super().request | own


def erase(cloud: LocalCloud, subject: str, *more: str) -> dict[str, Any]:
    """What `recourse erase` says to a user who has the policy, and no other right."""
    user, iam = f"operator-{uuid.uuid4().hex}", cloud.client("iam")
    iam.create_user(UserName=user)
    iam.attach_user_policy(UserName=user, PolicyArn=cloud.outputs["ErasurePolicyArn"])
    key = iam.create_access_key(UserName=user)["AccessKey"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": cloud.aws_endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    (stack,) = [
        one["StackName"]
        for one in cloud.client("cloudformation").describe_stacks()["Stacks"]
        if one["StackName"].endswith("-Erasure")
    ]
    named = ["--subject", subject, "--stack", stack]
    ran = subprocess.run(
        [sys.executable, "-m", "recourse", "erase", *named, "--json", *more],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def everything(cloud: LocalCloud) -> Iterator[tuple[str, str]]:
    """Every row, object and line of a log that there is: where it is, and its text."""
    dynamodb, s3, logs = (cloud.client(one) for one in ("dynamodb", "s3", "logs"))
    for names in dynamodb.get_paginator("list_tables").paginate():
        for table in names["TableNames"]:
            pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
            yield from ((table, repr(row)) for page in pages for row in page["Items"])
    for bucket in (one["Name"] for one in s3.list_buckets()["Buckets"]):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            versions = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            yield from ((bucket, one["Key"]) for one in versions)
    for groups in logs.get_paginator("describe_log_groups").paginate():
        for group in (one["logGroupName"] for one in groups["logGroups"]):
            found = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            yield from ((group, one["message"]) for page in found for one in page["events"])


def traces(cloud: LocalCloud, *texts: str) -> dict[str, list[str]]:
    """What has one of these texts, by its place."""
    found: dict[str, list[str]] = {}
    for place, text in everything(cloud):
        if any(one in text for one in texts):
            found.setdefault(place, []).append(text)
    return found


def must_have_arrived(cloud: LocalCloud, api: Api, webhook: str, ends: set[str]) -> None:
    """Whoever hears of these ends has heard of them: nothing is on its way."""
    until(
        lambda: {one["id"] for one in api.get("/events", limit=500)["items"]},
        "the ends in the feed",
        lambda seen: ends <= seen,
    )
    until(
        lambda: api.get(f"/webhooks/{webhook}/deliveries", limit=100)["items"],
        "the ends among what was delivered",
        lambda log: ends <= {one["event_id"] for one in log if one["outcome"] == "delivered"},
    )
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["TallyTableName"]
    for event in ends:
        key = {"pk": {"S": f"inbox#{event}"}}
        look = partial(dynamodb.get_item, TableName=table, Key=key)
        until(look, f"that {event} is counted", lambda seen: "Item" in seen)


def test_a_person_is_erased_everywhere_while_sums_still_add_up(
    cloud: LocalCloud, receiver: Receiver
) -> None:
    person = f"zq{uuid.uuid4().hex}"
    with (
        Api(cloud.api_url, cloud.token(person, EVERY_SCOPE)) as api,
        Api(cloud.api_url, cloud.token(person, OWN_SCOPE)) as own,
        httpx.Client(timeout=PATIENCE, trust_env=False) as anybody,
    ):
        booked = Personal(api, person=person).stocked()
        undone = Personal(api, coordination="choreography", person=person).stocked()
        account = {"currency": "INR", "balance": BALANCE, "owner": person}
        api.call("PUT", booked.path("accounts"), json=account)
        hook = {"url": f"{receiver.url}/{person}", "events": ["*"]}
        webhook = api.call("POST", "/webhooks", json=hook).json()["webhook_id"]
        first, second = booked.start(), undone.start("capture=reject")
        booked.ended(first, "SUCCEEDED")
        undone.ended(second, "COMPENSATED")
        must_be_booked(booked)
        passport = Caller(api, cloud.api_url, anybody)
        passport.name = f"{person}.pdf"
        passport.complete(passport.put())
        must_have_arrived(cloud, api, webhook, {f"{first}.succeeded", f"{second}.compensated"})

        before = traces(cloud, person)
        dry = erase(cloud, person)
        assert traces(cloud, person).keys() == before.keys(), "a dry run changes nothing"
        done = erase(cloud, person, "--yes")
        assert (done["changes"], done["sagas"]) == (dry["changes"], 2)
        places = {one["place"] for one in done["changes"]}
        assert {"ledger", "feed", "webhooks", "valet", "uploads", "documents"} < places
        left = traces(cloud, person)
        assert not left, left
        for nothing in ("/sagas", "/events", "/valet-keys", "/webhooks"):
            assert own.get(nothing)["items"] == [], nothing
        must_be_booked(booked)
        must_be_untouched(undone)
