"""A person with everything that a deployment keeps of people, on the ground, and another beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from bench.samples import things
from lambdas.subscribers.notifier import Message, Notifier
from recourse.declare.declaration import Declaration
from recourse.declare.reverse import reversed_by
from recourse.declare.saga import Saga
from recourse.erasure.erase import Erasure
from recourse.erasure.places import Places
from recourse.events import Event
from recourse.feed.connections import Connections
from recourse.functions import kit
from recourse.imports.check import bad_key, batches_key
from recourse.imports.finish import result_key
from recourse.imports.table import Batch, Import, Imports, import_id_of
from recourse.store.items import decode_item
from recourse.testing.ground import LEDGER
from recourse.webhooks.attempts import Attempt
from recourse.webhooks.webhooks import Webhooks
from statemachines import SAGAS
from tests.feeding import TABLE as FEED
from tests.feeding import Feeding
from tests.ground import Ground, ground
from tests.integration.lending import DOCUMENTS, lending
from tests.sagas import SEED
from tests.slots import TABLE as CONNECTIONS
from tests.slots import count_slots
from tests.valet.conftest import BUCKET, Answer
from tests.valet.conftest import TABLE as VALET
from tests.valet.conftest import Ground as Valet

PERSON, OTHER = "zq-subject-asha", "ravi"
MARK = "zq-"
"""What every text of the person's begins with, and no other text has."""
ACTIONS = {
    *("dynamodb:Scan", "dynamodb:Query", "dynamodb:GetItem", "dynamodb:BatchGetItem"),
    *("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"),
    *("s3:ListBucketVersions", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"),
    "cloudformation:DescribeStacks",
}
"""What whoever erases has to be allowed."""
WEBHOOKS, NOTIFIER, IMPORTS = "webhooks", "notifier", "imports"
SCOPES = "sagas:write sagas:read valet:issue"


def begun_by(saga: Declaration) -> Declaration:
    """The saga whose request begins it: of one that reverses another that one."""
    return reversed_by(SAGAS).get(saga.name, [saga])[0]


def planted(saga: Declaration, number: int, mark: str = MARK) -> dict[str, Any]:
    """The sample of a saga, with a text of the person's wherever one may stand."""
    saga = begun_by(saga)
    body: dict[str, Any] = json.loads((SEED.parent / f"{saga.name}.json").read_text())
    body[saga.business_key] = f"{mark}key-{number}"
    if saga.contact is not None:
        body[saga.contact] = {"name": f"{mark}name", "email": f"{mark}mail@example.com"}
    if saga.name == "travel-booking":
        body["documents"] = {"passport": f"{mark}passport.pdf"}
    return body


@dataclass
class Deployment:
    """Everything that there is in a deployment.

    Attributes:
        ground: Its sagas.
        valet: Its valet keys.
        feeding: Its feed.
        bodies: What the person has sent, by Idempotency-Key, with the saga's name.
        mails: What the notifier has sent.
    """

    ground: Ground
    valet: Valet
    feeding: Feeding
    bodies: dict[str, tuple[str, dict[str, Any]]]
    mails: list[Message]

    @property
    def erasure(self) -> Erasure:
        """An erasure here."""
        return Erasure(self.ground.dynamodb, self.valet.s3, self.places, self.ground.sagas.values())

    @property
    def places(self) -> Places:
        """Where everything is."""
        return Places(
            ledger=LEDGER,
            feed=FEED,
            services={name: name for name in self.ground.services},
            consumers={"notifier": NOTIFIER},
            webhooks=WEBHOOKS,
            connections=CONNECTIONS,
            valet=VALET,
            imports=IMPORTS,
            uploads=BUCKET,
            documents=DOCUMENTS,
        )

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        return self.valet.call(method, path, body, **{"subject": PERSON, "scope": SCOPES} | more)

    def start(
        self, saga: Saga, number: int, subject: str, *, settled: bool = True, **how: Any
    ) -> str:
        """A saga of somebody's, to its end."""
        key = f"{saga.name}-{number}"
        mark = MARK if subject == PERSON else "other-"
        body = planted(saga, number, mark)
        started = self.ground.start(saga.name, body, key=key, owner=subject, **how)
        if subject == PERSON:
            self.bodies[key] = (begun_by(saga).name, body)
        if settled:
            self.settle()
        return started

    def settle(self) -> None:
        """Let everything arrive everywhere."""
        self.ground.settle()
        self.feeding.settle()
        notifier = Notifier(self.ground.dynamodb, NOTIFIER, self.ground.ledger, self.mails.append)
        for row in self.ground.rows(LEDGER, ""):
            for one in row.get("entered", ()):
                notifier.notify(Event.from_dict(one))

    def rows(self, *, but: str = "") -> dict[tuple[str, str], dict[str, Any]]:
        """Every row of every table, by table and key."""
        return {
            (name, key_of(row)): row
            for name, table in self.ground._tables.items()
            if name != but
            for item in table.all_items()
            if (row := decode_item(item.to_json()["Attributes"]))
        }

    def objects(self) -> dict[tuple[str, str, str], bytes]:
        """Every version of every object."""
        found = {}
        for bucket in (BUCKET, DOCUMENTS):
            for one in self.valet.s3.list_object_versions(Bucket=bucket).get("Versions", ()):
                named = {"Key": one["Key"], "VersionId": one["VersionId"]}
                body = self.valet.s3.get_object(Bucket=bucket, **named)["Body"].read()
                found[bucket, one["Key"], one["VersionId"]] = body
        return found

    def parts(self) -> list[Any]:
        """Every upload in parts that is under way."""
        found: list[Any] = self.valet.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return found

    def traces(self) -> list[str]:
        """Where any text of the person's is found."""
        rows = [f"{table}: {row}" for (table, _), row in self.rows().items() if MARK in repr(row)]
        objects = [
            f"{where}"
            for where, body in self.objects().items()
            if MARK in repr(where) or MARK.encode() in body
        ]
        return rows + objects


def key_of(row: Mapping[str, Any]) -> str:
    """The key of a row of any table."""
    return "/".join(str(row[name]) for name in ("pk", "position", "connection") if name in row)


@contextmanager
def deployed() -> Iterator[Deployment]:
    """A deployment in which two people have everything, as long as the block lasts."""
    with (
        ground() as made,
        lending(made) as valet,
        pytest.MonkeyPatch.context() as patch,
        mock.patch.object(kit, "ledger", lambda: made.ledger),
        mock.patch.object(kit, "runs", lambda: made.runs),
    ):
        count_slots(patch, made.dynamodb)
        feeding = Feeding(made)
        for table in (WEBHOOKS, NOTIFIER, IMPORTS):
            make_table(made, table)
        for (kind, thing), body in things().items():
            made.put(kind, thing, body)
        made.put("accounts", "acct-of-one", {"currency": "INR", "balance": 700, "owner": PERSON})
        yield Deployment(made, valet, feeding, {}, [])


def make_table(made: Ground, name: str) -> None:
    """Make a table as every one is: with the key `pk`."""
    made.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def live(made: Deployment, subject: str, mark: str, *, sagas: bool = True) -> list[str]:
    """Let somebody have everything; the ids of their sagas."""
    began = []
    made.valet.keys.clock = made.ground.clock.seconds
    made.valet.now = made.ground.clock.seconds()
    for name in ("passport.pdf", "passport.pdf", "other.pdf"):
        uploaded(made, subject, f"{mark}{name}")
    refused = made.valet.issue(name=f"{mark}refused.pdf", subject=subject)
    made.valet.land(refused["key_id"], f"{mark}not what the key says".encode())
    made.valet.complete(refused["key_id"], subject=subject)
    landed = made.valet.issue(name=f"{mark}landed.pdf", subject=subject)
    made.valet.land(landed["key_id"])
    large = b"x" * (9 * 1024 * 1024)
    kind = "application/octet-stream"
    made.valet.issue(name=f"{mark}large.bin", subject=subject, body=large, content_type=kind)
    made.valet.call("GET", f"/valet-keys/{landed['key_id']}", subject="nobody-" + mark)
    number = 0
    for saga in made.ground.sagas.values() if sagas else ():
        faults: Sequence[Mapping[str, str]] = (
            {},
            {saga.pivot.name: "reject"},
            {saga.all[0].name: "reject"},
        )
        for coordination in ("orchestration", "choreography"):
            for fault in faults:
                number += 1
                how: dict[str, Any] = {"coordination": coordination, "faults": fault}
                began.append(made.start(saga, number, subject, settled=False, **how))
    made.settle()
    for saga_id in began[:1]:
        made.call("GET", f"/sagas/{saga_id}", subject=subject)  # it lends the invoice
    webhooks = Webhooks(made.ground.dynamodb, WEBHOOKS)
    for number in range(2):
        url = f"https://{mark}host.example/{number}"
        hook = webhooks.registrations.register(subject, url, ["*"], 0)
        event = {"position": 1, "id": "e", "type": "recourse.order.started", "event": f"{mark}e"}
        webhooks.lanes.append(hook, f"test#{mark}", event)
        told = {"event_id": "e", "type": "t", "outcome": "failed", "response": f"{mark}echo"}
        attempt = Attempt(**told, attempt=1, at=webhooks.registrations.rows.now())  # type: ignore[arg-type]
        table = webhooks.registrations.rows.table
        table.transact([webhooks.log.put_request(hook.webhook_id, attempt)])
        webhooks.replays.plan(hook, since="a", until=f"{mark}b", after=0, upto=9)
    webhooks.registrations.delete(hook)
    imported(made, subject, mark)
    connections = Connections(made.ground.dynamodb, CONNECTIONS, most=5)
    connections.open(subject, f"{mark}socket", 0, until=9)
    kit.slots("waits").acquire(subject)
    made.settle()
    return began


def imported(made: Deployment, subject: str, mark: str) -> None:
    """An import of somebody's, with its files and a batch of it."""
    imports = Imports(made.ground.dynamodb, IMPORTS)
    import_id = import_id_of(subject, "k")
    begun = Import(
        import_id=import_id,
        owner=subject,
        saga="order",
        object=f"{mark}orders.csv",
        file={"key": f"{mark}key", "version": "1", "sha256": "0" * 64, "format": "csv"},
        body="",
        created_at=imports.now,
        updated_at=imports.now,
        expires_at=imports.expiry,
    )
    imports.begin(begun)
    imports.count(import_id, 0, Batch(run=0, not_started={"2": f"{mark}why"}), None)
    for key in (batches_key(import_id), bad_key(import_id), result_key(import_id)):
        made.valet.s3.put_object(Bucket=BUCKET, Key=key, Body=f"{mark}row".encode())


def uploaded(made: Deployment, subject: str, name: str) -> None:
    """An object of somebody's that is visible."""
    key = made.valet.issue(name=name, subject=subject)["key_id"]
    made.valet.land(key)
    assert made.valet.complete(key, subject=subject).status == 200
