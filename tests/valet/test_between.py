"""Valet keys under what may come between the calls of any deed, or instead of DynamoDB's answer.

What comes before a deed's write counts as before it: the answer is as if it had been so from the
beginning. Whatever comes when, the rows, the audit and what lies in S3 agree.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.s3.models import s3_backends

from recourse.errors import ContentionError
from recourse.store.aws import is_transient
from recourse.store.contention import MAX_TRIES
from recourse.store.items import decode_item
from recourse.valet.errors import ValetError
from recourse.valet.issue import LENT_SECONDS
from recourse.valet.keys import Actor, key_of, key_pk, object_pk
from tests.moto.calls import (
    BROKEN,
    IN_THE_WAY,
    answered,
    before,
    disordered,
    in_turn,
    passing,
    recorded,
    stale,
    unread,
)
from tests.moto.handlers import ACCOUNT
from tests.valet.conftest import BUCKET, PDF, TABLE, Answer, Ground, sha256
from tests.valet.conftest import ground as valet_ground

READ, WRITE = "BatchGetItem", "TransactWriteItems"
OTHER = PDF[:-1] + b" "
NOT_NOW = "503 try-again"
LANDED, VISIBLE, EXPIRED = "landed", "visible", "a lent key that has expired"
names = itertools.count()


class Desk:
    """An object of Asha's, the key by which it was or will be uploaded, and one to download it.

    They are all that is in the table and in the bucket.

    Attributes:
        valet: The ground.
        name: The object's name.
        up: The key of the upload.
        down: A key to download it. Either may be used twice.
        keys: The ids of all keys.
    """

    def __init__(self, ground: Ground, at: str) -> None:
        self.valet = ground
        self.name = f"passports/{next(names)}.pdf"
        self.keys: list[str] = []
        self._table: Any = dynamodb_backends[ACCOUNT]["us-east-1"].tables[TABLE]
        for key in [key for key in self._table.items if key.value != "jwks"]:
            del self._table.items[key]
        s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.clear()
        self.up = self.issue("upload", max_uses=2)
        self.down = self.issue("download", max_uses=2)
        self.lent = hashlib.sha256(f"lent#{self.name}".encode()).hexdigest()[:32]
        if at == EXPIRED:
            assert self.lend()
            self.keys.append(self.lent)
            ground.now += LENT_SECONDS
            return
        ground.land(self.up["key_id"])
        if at == VISIBLE:
            assert ground.complete(self.up["key_id"]).status == 200

    def issue(self, operation: str, body: bytes = PDF, **more: Any) -> dict[str, Any]:
        """A key to the object."""
        issued = self.valet.issue(operation, self.name, body, **more)
        self.keys.append(issued["key_id"])
        return issued

    def lend(self) -> str | None:
        """The token of the one key that is lent."""
        stored = {"bucket": "b", "key": "k", "version": "v", "content_type": "text/plain"}
        by = Actor("asha", "192.0.2.7")
        return self.valet.issuer.lend(self.name, "asha", self.name, lambda: stored, by)

    def replace(self) -> Answer:
        """Upload the object anew, by another key."""
        key = self.issue("upload", OTHER)["key_id"]
        self.valet.land(key, OTHER)
        return self.valet.complete(key)

    # What must be true.

    def must_be_true(self, *, interrupted: bool = False) -> None:
        """Rows, audit and S3 agree.

        Args:
            interrupted: Whether a try ended amid its calls; then a copy may be left, which no row
                pins, so nobody sees it.
        """
        done = {}
        for key_id in self.keys:
            key = key_of(self._row(key_pk(key_id)))
            allowed = self._allowed(key_id)
            uses = allowed.count("redeem") + allowed.count("follow")
            assert uses == key.uses <= key.max_uses
            if "revoke" in allowed:
                after = allowed[allowed.index("revoke") + 1 :]
                assert set(after) <= {"withdraw"}, "nothing is done with a key that was revoked"
            if key.state == "COMPLETED":
                assert key.outcome is not None and allowed.count("complete") == 1
                done[key.outcome["version"]] = key.outcome
        versions = self._versions()
        assert versions.keys() == done.keys() or (interrupted and versions.keys() > done.keys())
        for version, outcome in done.items():
            got = self.valet.s3.get_object(Bucket=BUCKET, Key=self._place, VersionId=version)
            assert sha256(got["Body"].read()) == outcome["sha256"]
        if row := self._row(object_pk("asha", self.name)):
            assert versions[row["version"]] == (row["state"] == "WITHDRAWN"), row["state"]

    @property
    def _place(self) -> str:
        return f"objects/asha/{self.name}"

    def _row(self, pk: str) -> dict[str, Any]:
        found = self._table.get_item(DynamoType({"S": pk}))
        return decode_item(found.to_json()["Attributes"]) if found else {}

    def _allowed(self, key_id: str) -> list[str]:
        """What was done with a key, in the order of the writes, in which moto has them."""
        trail = [key.value for key in self._table.items if f"audit#{key_id}" in key.value]
        rows = [self._row(pk) for pk in trail]
        return [row["action"] for row in rows if row["outcome"] == "allowed"]

    def _versions(self) -> dict[str, bool]:
        """Every version of the object, and whether it is tagged as withdrawn."""
        listed = self.valet.s3.list_object_versions(Bucket=BUCKET, Prefix=self._place)
        found = {}
        for one in listed.get("Versions", []):
            tags = self.valet.s3.get_object_tagging(
                Bucket=BUCKET, Key=self._place, VersionId=one["VersionId"]
            )
            found[one["VersionId"]] = bool(tags["TagSet"])
        return found


Deed = Callable[[Desk], Any]
DEEDS: dict[str, Deed] = {
    "redeem": lambda desk: desk.valet.redeem(desk.down["token"]),
    "follow": lambda desk: desk.valet.call("GET", f"/v/{desk.down['token']}", subject=None),
    "redeem the upload": lambda desk: desk.valet.redeem(desk.up["token"]),
    "complete": lambda desk: desk.valet.complete(desk.up["key_id"]),
    "hear of the upload": lambda desk: desk.valet.tell(desk.up["key_id"]),
    "upload again": lambda desk: desk.valet.land(desk.up["key_id"], OTHER),
    "replace": Desk.replace,
    "revoke the upload": lambda desk: desk.valet.revoke(desk.up["key_id"]),
    "revoke": lambda desk: desk.valet.revoke(desk.down["key_id"]),
    "withdraw": lambda desk: desk.valet.revoke(desk.up["key_id"], "?withdraw=true"),
    "lend": Desk.lend,
    "revoke the lent": lambda desk: desk.valet.revoke(desk.lent),
    "use up": lambda desk: [desk.valet.redeem(desk.down["token"]) for _ in range(2)],
}


def outcome(desk: Desk, deed: Deed) -> str:
    """How a deed comes out, as its caller sees it: a status, and of a problem its kind."""
    try:
        answer = deed(desk)
    except (ContentionError, BotoCoreError):
        return NOT_NOW
    except ClientError as problem:
        assert is_transient(problem), problem
        return NOT_NOW
    except ValetError as refusal:
        return f"{refusal.status} {refusal.kind}"
    if not isinstance(answer, Answer):
        return "some" if answer else "none"
    if answer.status < 400:
        return str(answer.status)
    return f"{answer.status} {answer.json['type'].rpartition(':')[2]}"


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """One ground for all desks, each of which has an object of its own."""
    with valet_ground() as made:
        yield made


FIRSTS = {
    ("redeem", VISIBLE): ("revoke", "withdraw", "replace", "use up"),
    ("redeem the upload", LANDED): ("revoke the upload", "complete"),
    ("complete", LANDED): ("hear of the upload", "upload again", "revoke the upload", "replace"),
    ("hear of the upload", LANDED): ("complete", "revoke the upload"),
    ("revoke the upload", LANDED): ("complete", "revoke the upload"),
    ("revoke", VISIBLE): ("follow", "revoke", "withdraw"),
    ("withdraw", VISIBLE): ("replace", "redeem", "withdraw", "revoke the upload"),
    ("lend", EXPIRED): ("revoke the lent", "lend"),
}
each_first = pytest.mark.parametrize(("first", "at"), FIRSTS)


Plainly = Callable[[str, str], tuple[str, list[str]]]


@pytest.fixture(scope="module")
def plainly(ground: Ground) -> Plainly:
    """How a deed comes out by itself, and the operations that it calls."""

    @cache
    def found(first: str, at: str) -> tuple[str, list[str]]:
        outcome(Desk(ground, at), DEEDS[first])  # what is read once for all, as the public keys
        made = Desk(ground, at)
        with recorded() as calls:
            plain = outcome(made, DEEDS[first])
        assert calls and not stale(calls)
        made.must_be_true()
        return plain, [call.operation for call in calls]

    return found


@pytest.mark.parametrize(
    ("first", "at", "other"), [(*first, other) for first in FIRSTS for other in FIRSTS[first]]
)
def test_whatever_comes_before_a_call_counts_as_before_or_after_and_all_agree(
    ground: Ground, plainly: Plainly, first: str, at: str, other: str
) -> None:
    made = Desk(ground, at)
    DEEDS[other](made)
    sooner = outcome(made, DEEDS[first])
    made.must_be_true()
    made = Desk(ground, at)
    later = outcome(made, DEEDS[first])
    DEEDS[other](made)
    made.must_be_true()
    _, operations = plainly(first, at)
    for number, operation in enumerate(operations):
        if operation == READ:
            continue
        made = Desk(ground, at)
        meet = partial(DEEDS[other], made)
        with before(meet, operation, number=operations[:number].count(operation)):
            found = outcome(made, DEEDS[first])
        legal = {sooner, NOT_NOW} | ({later} if WRITE in operations[:number] else set())
        if other == "replace":
            legal.add("404 object-not-found")
        if other == "upload again":  # what is looked at is one version
            legal.add(later)
        assert found in legal, (operation, number)
        if found == NOT_NOW:
            outcome(made, DEEDS[first])
        made.must_be_true()


@each_first
def test_whatever_is_decided_on_is_read_consistently_and_in_any_order(
    ground: Ground, plainly: Plainly, first: str, at: str
) -> None:
    plain, _ = plainly(first, at)
    made = Desk(ground, at)
    with disordered():
        assert outcome(made, DEEDS[first]) == plain
    made = Desk(ground, at)
    with unread(times=2) as hit:
        assert outcome(made, DEEDS[first]) == plain
    assert len(hit) == 2
    made = Desk(ground, at)
    with unread(times=99) as hit:
        assert outcome(made, DEEDS[first]) == NOT_NOW
    assert len(hit) == MAX_TRIES


@each_first
def test_whatever_dynamodb_says_a_deed_is_done_or_asked_for_again(
    ground: Ground, plainly: Plainly, first: str, at: str
) -> None:
    plain, operations = plainly(first, at)
    for operation in (READ, WRITE):
        for number in range(operations.count(operation)):
            for name, answer in passing(operation).items():
                if name not in IN_THE_WAY:
                    made = Desk(ground, at)
                    with answered(answer, operation, number=number) as hit:
                        found = outcome(made, DEEDS[first])
                    assert hit and found in (plain, NOT_NOW), name
                    made.must_be_true(interrupted=True)


@each_first
def test_a_write_whose_answer_was_lost_is_there_when_it_is_asked_for_again(
    ground: Ground, plainly: Plainly, first: str, at: str
) -> None:
    plain, operations = plainly(first, at)
    for number in range(operations.count(WRITE)):
        made = Desk(ground, at)
        with answered(BROKEN["an answer that was lost"], WRITE, number=number, after=True):
            assert outcome(made, DEEDS[first]) == NOT_NOW
        assert outcome(made, DEEDS[first]) == plain
        made.must_be_true()


@each_first
def test_a_transaction_that_meets_others_is_tried_again_until_it_is_said_that_it_failed(
    ground: Ground, plainly: Plainly, first: str, at: str
) -> None:
    plain, _ = plainly(first, at)
    conflicts = [IN_THE_WAY[name] for name in ("TransactionConflict", "ThrottlingError")]
    made = Desk(ground, at)
    with answered(in_turn(conflicts), WRITE, times=2) as hit:
        assert outcome(made, DEEDS[first]) == plain
    assert len(hit) == 2
    made.must_be_true()
    made = Desk(ground, at)
    with answered(conflicts[0], WRITE, times=99) as hit:
        assert outcome(made, DEEDS[first]) == NOT_NOW
    assert len(hit) == MAX_TRIES
    made.must_be_true(interrupted=True)
    assert outcome(made, DEEDS[first]) == plain
    made.must_be_true(interrupted=True)
