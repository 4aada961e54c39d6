"""Every list of the API, when somebody has 5,000 rows: what a page reads is bounded, for anybody.

Which lists there are, and by what they filter, the description says: a new one fails here until it
is said what an adversary fills it with.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from recourse.declare.ids import SagaId
from recourse.functions import kit
from recourse.imports.table import Import
from recourse.ledger.queries import MOST_EXAMINED
from recourse.ledger.record import Record
from recourse.store.items import encode_item
from recourse.testing.calls import Call, around
from recourse.testing.ground import LEDGER
from recourse.valet.keys import Key, key_pk
from recourse.webhooks.attempts import Attempt
from recourse.webhooks.webhooks import Webhooks
from tests.description import OPERATIONS, Described
from tests.events import event
from tests.ground import Ground, ground
from tests.integration.calling import Answer, Caller
from tests.integration.test_api import standing
from tests.valet.conftest import TABLE as VALET

pytestmark = pytest.mark.xdist_group("adversary")  # the rows are made once

ROWS = 5000
BOUND = 3000
"""Rows that a page may read: 1,000 entries of indexes and what their shards hold more of a call's,
and the rows that were found by them."""
SCOPES = "sagas:read sagas:write valet:issue insurer"
mallory, asha = Caller("mallory", SCOPES), Caller("asha", SCOPES)
olga = Caller("olga", f"operator {SCOPES}")
AT = "2026-11-28T10:00:00.000Z"
WEBHOOKS, IMPORTS = "webhooks", "imports"
SHORT: Mapping[str, str] = {
    "list-webhooks": "an owner has at most 20, which one row names",
    "list-deadletters": "they are those of the stage, which its environment names",
    "show-events": "they are those of one saga, which are in its one row",
}
"""The lists that have one page, and why that is short."""
PLACE = {"cursor", "after", "limit", "wait"}
"""What of a list's query says where the page is; the rest says what is to be in it."""


def is_list(one: Described) -> bool:
    """Whether it answers a page."""
    named = {parameter["name"] for parameter in one.says.get("parameters", [])}
    content = one.says["responses"].get("200", {}).get("content", {}).get("application/json", {})
    properties = content.get("schema", {}).get("properties", {})
    return one.method == "GET" and bool(named & {"cursor", "after"} or "items" in properties)


LISTS = {one.says["operationId"]: one for one in OPERATIONS if is_list(one)}


@dataclass(frozen=True)
class Filled:
    """What an adversary has put into a list.

    Attributes:
        path: Where the adversary sees it.
        has: A row of the adversary's, by the names of the query's filters.
        shared: Whether others see something at the same path: their own.
    """

    path: str
    has: Mapping[str, str]
    shared: bool = True


def put(place: Ground, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    left = iter(rows)
    while some := list(itertools.islice(left, 25)):
        place.dynamodb.batch_write_item(
            RequestItems={table: [{"PutRequest": {"Item": encode_item(row)}} for row in some]}
        )


def started(number: int) -> str:
    return f"{AT}#{number:032x}"


def sagas(place: Ground) -> Filled:
    put(
        place,
        LEDGER,
        (
            Record(
                saga_id=SagaId(f"{number:032x}"),
                saga="order",
                owner="mallory" if number else "asha",
                business_key="t-1",
                coordination="orchestration",
                request={},
                body="",
                started_at=AT,
                entered=[],
                waiting=[],
                resolutions=[],
            ).to_row()
            for number in range(ROWS + 1)
        ),
    )
    return Filled("/sagas", {"saga": "order", "status": "RUNNING", "business_key": "t-1"})


def claims(place: Ground) -> Filled:
    """Visits on the adversary's own policy, which asks the adversary."""
    said = {"name": "claims", "about": {}, "to": "mallory", "asked_at": AT, "answer_by": AT}
    asked = event("s", "visit", "asked", step="claim", question=said)
    ids = [SagaId(f"c{number:031x}") for number in range(ROWS)]
    rows = (
        Record(
            saga_id=saga_id,
            saga="visit",
            owner="mallory",
            business_key="v-1",
            coordination="orchestration",
            request={},
            body="",
            started_at=AT,
            entered=[asked],
            waits_for="claims",
            asks="mallory",
            due_at=f"{AT}#{saga_id}",
        ).to_row()
        for saga_id in ids
    )
    put(place, LEDGER, rows)
    return Filled("/claims", {})


def valet_keys(place: Ground) -> Filled:
    keys = (
        Key(
            key_id=f"{number:032x}",
            owner="mallory",
            operation="download",
            object="a.pdf",
            expires=4 * 10**9,
            max_uses=1,
            created_at=AT,
        ).row
        for number in range(ROWS)
    )
    put(place, VALET, keys)
    return Filled("/valet-keys", {})


def imports(place: Ground) -> Filled:
    file = {"key": "objects/mallory/a.csv", "version": "1", "sha256": "0" * 64, "format": "csv"}
    rows = (
        Import(
            import_id=f"{number:032x}",
            owner="mallory",
            saga="order",
            object="a.csv",
            file=file,
            body="",
            created_at=AT,
            updated_at=AT,
            expires_at=4 * 10**9,
            status="COMPLETED",
        ).row
        for number in range(ROWS)
    )
    put(place, IMPORTS, rows)
    return Filled("/imports", {})


def trail(place: Ground) -> Filled:
    """As a flood of refusals left it before they were counted."""
    key_id = "f" * 32
    key = Key(
        key_id=key_id,
        owner="mallory",
        operation="download",
        object="a.pdf",
        expires=4 * 10**9,
        max_uses=1,
        created_at=AT,
    )
    rows = (
        {"pk": f"audit#{key_id}#{number}", "key_id": partition, "started": started(number)}
        | {"time": AT, "action": "redeem", "outcome": "key-revoked", "caller": "token"}
        | {"address": "::1"}
        for number in range(ROWS)
        for partition in (key_id if number % 2 else f"refused#{key_id}",)
    )
    put(place, VALET, [key.row | {"pk": key_pk(key_id)}, *rows])
    return Filled(f"/valet-keys/{key_id}", {}, shared=False)


def deliveries(place: Ground) -> Filled:
    webhooks = kit.webhooks()
    made = webhooks.registrations.register("mallory", "https://example.com", ["*"], 0)
    attempt = Attempt(event_id="e", type="t", attempt=1, outcome="failed", at=AT)
    rows = (
        {name: value for name, value in attempt.view.items() if value is not None}
        | {"pk": f"log#{made.webhook_id}#{number}", "webhook_id": made.webhook_id}
        | {"started": started(number)}
        for number in range(ROWS)
    )
    put(place, WEBHOOKS, rows)
    return Filled(f"/webhooks/{made.webhook_id}/deliveries", {}, shared=False)


def events(place: Ground) -> Filled:
    feed = kit.feed()
    told = event("s", "order", "started", sequence=1)
    for first in range(1, ROWS + 1, 100):
        rows = [feed._row("mallory", first + number, told) for number in range(100)]
        place.dynamodb.transact_write_items(TransactItems=rows)
    place.dynamodb.transact_write_items(
        TransactItems=[feed._advance("feed#mallory", 0, ROWS)],
    )
    return Filled("/events", {"saga_id": "s"})


def stream(place: Ground) -> Filled:
    return Filled("/events/stream", {})


FILLS: Mapping[str, Callable[[Ground], Filled]] = {
    "list-sagas": sagas,
    "list-claims": claims,
    "list-valet-keys": valet_keys,
    "list-imports": imports,
    "show-valet-key": trail,
    "list-deliveries": deliveries,
    "read-events": events,
    "stream-events": stream,
}


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as made, standing(made), pytest.MonkeyPatch.context() as patch:
        made.dynamodb.create_table(
            TableName=WEBHOOKS,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("pk", "webhook_id", "started")
            ],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-webhook",
                    "KeySchema": [
                        {"AttributeName": "webhook_id", "KeyType": "HASH"},
                        {"AttributeName": "started", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )
        webhooks = Webhooks(made.dynamodb, WEBHOOKS)
        patch.setattr(kit, "webhooks", lambda: webhooks)
        yield made


@pytest.fixture(scope="module")
def filled(place: Ground) -> dict[str, Filled]:
    return {name: fill(place) for name, fill in FILLS.items()}


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many rows each call of DynamoDB in the block has read."""
    read: list[int] = []

    def hook(call: Call, go: Callable[[], Any]) -> Any:
        got = go()
        if call.operation in ("Query", "Scan"):
            read.append(got["ScannedCount"])
        elif call.operation == "BatchGetItem":
            read.append(sum(map(len, got["Responses"].values())))
        elif call.operation == "GetItem":
            read.append(int("Item" in got))
        return got

    with around(hook):
        yield read


def queries(name: str, has: Mapping[str, str]) -> list[dict[str, str]]:
    """Every way to ask: each filter left out, as the adversary's rows have it, or as none has."""
    parameters = {one["name"]: one.get("schema", {}) for one in LISTS[name].says["parameters"]}
    options: list[list[dict[str, str]]] = []
    for one, schema in parameters.items():
        if one not in has:
            continue
        others = [value for value in schema.get("enum", ["none-like-it"]) if value != has[one]]
        options.append([{}, {one: has[one]}, {one: others[-1]}])
    if "limit" in parameters:
        options.append([{"limit": str(parameters["limit"]["maximum"])}])
    return [
        dict(itertools.chain(*(o.items() for o in each))) for each in itertools.product(*options)
    ]


def test_every_list_of_the_description_is_tried() -> None:
    assert LISTS.keys() == FILLS.keys() | SHORT.keys()
    for name in FILLS:
        queried = {
            one["name"] for one in LISTS[name].says.get("parameters", []) if one["in"] == "query"
        }
        assert queried <= PLACE | {"saga", "status", "business_key", "saga_id"}, name


@pytest.mark.parametrize("who", [mallory, olga], ids=["the adversary", "an operator"])
@pytest.mark.parametrize("name", FILLS)
def test_a_page_reads_a_bounded_number_of_rows(
    filled: dict[str, Filled], name: str, who: Caller
) -> None:
    target = filled[name]
    for query in queries(name, target.has):
        wait = {"wait": "20"} if name == "read-events" and who is mallory else {}
        with counted() as read:
            answer = (
                _stream(who, target) if name == "stream-events" else _get(who, target, query | wait)
            )
        assert answer.status in (200, 404), answer
        assert sum(read) <= BOUND, f"{query}: {sum(read)} rows in {len(read)} calls"
        assert len(read) <= 80, f"{query}: {len(read)} calls"


def _get(who: Caller, target: Filled, query: Mapping[str, str]) -> Answer:
    return who("GET", f"{target.path}?{urlencode(query)}")


def _stream(who: Caller, target: Filled) -> Answer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recourse.functions.api.http.LONGEST_WAIT", 0)
        return who("GET", target.path)


@pytest.mark.parametrize("name", [one for one in FILLS if one != "stream-events"])
def test_nobody_elses_page_reads_what_the_adversary_has(
    filled: dict[str, Filled], name: str
) -> None:
    """So it neither slows them down nor tells by its time that somebody has it."""
    target = filled[name]
    if not target.shared:
        assert _get(asha, target, {}).status == 404
        return
    for query in queries(name, target.has):
        with counted() as read:
            answer = _get(asha, target, query)
        items = answer.json["items"]
        assert sum(read) <= 3, f"{query}: {sum(read)} rows"
        assert {one.get("owner") for one in items} <= {"asha"}


def test_who_uses_a_business_key_is_not_told_by_what_a_look_up_reads(
    filled: dict[str, Filled],
) -> None:
    ravi = Caller("ravi", SCOPES)
    reads = []
    for key in ("t-1", "nobody-s"):
        with counted() as read:
            answer = _get(ravi, filled["list-sagas"], {"business_key": key})
        assert answer.json == {"items": [], "cursor": None}
        reads.append((len(read), sum(read)))
    assert reads[0] == reads[1] == (1, 0)


@pytest.mark.parametrize("who", [mallory, olga], ids=["the adversary", "an operator"])
def test_a_filter_that_matches_nothing_comes_to_its_end_page_by_page(
    filled: dict[str, Filled], who: Caller
) -> None:
    pages, cursor = 0, None
    while pages == 0 or cursor is not None:
        query = {"status": "COMPENSATED", "business_key": "t-1"}
        query |= {} if cursor is None else {"cursor": cursor}
        page = _get(who, filled["list-sagas"], query).json
        assert page["items"] == []
        pages, cursor = pages + 1, page["cursor"]
    assert pages == ROWS // MOST_EXAMINED + 1


def test_one_sagas_events_are_found_behind_everybody_elses(filled: dict[str, Filled]) -> None:
    """A request that waits ends with an empty page and a cursor; it read on for 20 seconds."""
    with counted() as read:
        page = json.loads(_get(mallory, filled["read-events"], {"saga_id": "x", "wait": "20"}).text)
    assert page["items"] == [] and sum(read) < 2 * MOST_EXAMINED
    assert page["cursor"] != _get(mallory, filled["read-events"], {"limit": "1"}).json["cursor"]
