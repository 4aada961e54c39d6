"""The audit trail of a key shows every use and revocation, whatever was refused meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recourse.store import retention
from recourse.store.items import encode_item
from recourse.valet.keys import DAY, Actor, moment
from tests.valet.conftest import NOW, TABLE, Ground, ground, problem

OLD = 1050
"""Refusals that an attacker left before they were counted: each is a row."""


def pages(valet: Ground, key: str, limit: int) -> list[list[dict[str, Any]]]:
    found, cursor = [], ""
    while True:
        page = valet.call("GET", f"/valet-keys/{key}?limit={limit}{cursor}").json
        assert len(page["audit"]) <= limit
        found.append(page["audit"])
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"


def actions(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["action"], row["outcome"]) for row in rows]


def test_refusals_hide_neither_a_use_nor_a_revocation(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download", max_uses=2)
    assert valet.redeem(key["token"]).status == 200
    assert valet.revoke(key["key_id"]).status == 204
    for _ in range(300):
        problem(valet.redeem(key["token"]), 410, "key-revoked")
    shown = valet.show(key["key_id"]).json
    assert actions(shown["audit"]) == [
        ("redeem", "key-revoked"),
        ("revoke", "allowed"),
        ("redeem", "allowed"),
        ("issue", "allowed"),
    ]
    assert (shown["audit"][0]["count"], shown["cursor"]) == (300, None)


def test_what_is_refused_of_completing_is_counted_too(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    for _ in range(3):
        problem(valet.complete(key), 409, "nothing-uploaded")
    newest = valet.show(key).json["audit"][0]
    assert (newest["action"], newest["outcome"], newest["count"]) == (
        "complete",
        "nothing-uploaded",
        3,
    )


def test_refusals_are_counted_by_day_and_expire(valet: Ground) -> None:
    valet.uploaded()
    key = valet.issue("download", expires_in=1)
    for number in range(4):
        valet.now = NOW + 10 + number * DAY / 2
        problem(valet.redeem(key["token"]), 410, "key-expired")
    rows = valet.show(key["key_id"]).json["audit"][:-1]
    assert sum(row["count"] for row in rows) == 4
    assert 2 <= len(rows) <= 3, "a row for each day"
    assert rows[0]["last_time"] == moment(valet.now)
    assert rows[0]["address"] == "192.0.2.7"
    found = valet.dynamodb.scan(TableName=TABLE)["Items"]
    kept = [int(one["expires_at"]["N"]) for one in found if one["pk"]["S"].startswith("refused#")]
    assert max(kept) == (valet.now // DAY + 1) * DAY + retention.for_a_time("refusals")


def test_a_trail_that_was_flooded_before_is_read_to_its_end(valet: Ground) -> None:
    """Refusals were rows like any other, and what came after 1,000 of them was never shown."""
    key = valet.issue("download")["key_id"]
    at = moment(valet.now)
    for number in range(OLD):
        row = {"pk": f"audit#{key}#{at}#f{number:031x}", "started": f"{at}#f{number:031x}"}
        row |= {"key_id": key, "time": at, "action": "redeem", "outcome": "key-used-up"}
        row |= {"caller": "token", "address": "203.0.113.9", "detail": "the key may be used 1"}
        valet.dynamodb.put_item(TableName=TABLE, Item=encode_item(row))
    valet.now += 60
    assert valet.revoke(key).status == 204
    found = pages(valet, key, 100)
    assert len(found) == 11
    rows = actions([row for page in found for row in page])
    assert (rows[0], rows[-1]) == (("revoke", "allowed"), ("issue", "allowed"))
    assert rows.count(("redeem", "key-used-up")) == OLD


def test_a_cursor_that_no_page_had_is_refused(valet: Ground) -> None:
    key = valet.issue()["key_id"]
    problem(valet.show(f"{key}?cursor=x"), 400, "bad-cursor")
    problem(valet.show(f"{key}?limit=101"), 422, "invalid")


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    """The last test's: two grounds at once are one table."""
    with ground() as made:
        yield made


@settings(max_examples=40, deadline=None)
@given(
    happened=st.lists(
        st.tuples(
            st.sampled_from(["redeem", "follow", "revoke", "refused", "refused"]),
            st.sampled_from([0, 0.001, 3600, DAY]),
        ),
        max_size=25,
    ),
    limit=st.integers(1, 8),
)
def test_pages_have_everything_once_and_the_newest_first(
    place: Ground, happened: list[tuple[str, float]], limit: int
) -> None:
    place.now = NOW
    key = place.issue("download", expires_in=1)
    by = Actor("token", "::1")
    did, refused = ["issue"], 0
    for what, later in happened:
        place.now += later
        if what == "refused":
            assert place.redeem(key["token"]).status in (404, 410)
            refused += 1
        else:
            place.keys.table.transact([place.keys.audit(key["key_id"], what, "allowed", by)])
            did.append(what)
    place.now = NOW
    rows = [row for page in pages(place, key["key_id"], limit) for row in page]
    assert [row["action"] for row in rows if row["outcome"] == "allowed"] == did[::-1]
    assert sum(row.get("count", 0) for row in rows) == refused
    times = [row["time"] for row in rows]
    assert times == sorted(times, reverse=True)
