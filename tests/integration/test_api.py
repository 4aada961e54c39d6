"""The HTTP API, called as the gateway calls it: every row of the contract, and every error."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError
from pydantic import TypeAdapter

import lambdas.api as api_module
from recourse import events, problems
from recourse.declare import limits, shape
from recourse.declare.ids import SagaId
from recourse.declare.reverse import reversed_by
from recourse.functions import kit, settings
from recourse.functions.api import events as feed
from recourse.functions.api import sagas
from recourse.functions.limits import LIMITS
from recourse.ledger.ledger import Ledger
from recourse.ledger.queries import SagaQueries
from recourse.store.aws import THROTTLE_CODES
from recourse.testing.calls import Call, around, before
from recourse.testing.ground import LEDGER
from services.holdings import HOLDINGS, CountedBody
from statemachines import SAGAS
from tests.description import OPERATIONS, Described
from tests.feeding import Feeding
from tests.ground import Ground, ground
from tests.integration.calling import PATH, PREFIX, TRAVELLER, Answer, Caller, keys
from tests.integration.importing import importing
from tests.integration.lending import URL, lending
from tests.integration.trips import PRICE, TRIP, must_agree, stock
from tests.slots import count_slots

SAGA = SAGAS["travel-booking"]
NAMES = [step.name for step in SAGA.all]
LIVE = {"sse": "https://stream.example/events/stream", "ws": "wss://live.example/live"}
VIEW = {
    *("saga_id", "saga", "coordination", "status", "reason", "owner", "business_key"),
    *("started_at", "ended_at", "steps", "stuck", "links", "traceparent"),
}
STEP_VIEW = {
    *("name", "status", "attempts", "undo_attempts", "result", "error", "message"),
    *("started_at", "ended_at"),
}


asha = Caller()
ravi = Caller("ravi")
operator = Caller("olga", "operator")
nobody = Caller(None)


@contextmanager
def standing(made: Ground) -> Iterator[None]:
    """The API on a ground, valet keys among it, as long as the block lasts."""
    with lending(made) as valet, importing(made, valet), pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit, "ledger", lambda: made.ledger)
        patch.setattr(kit, "runs", lambda: made.runs)
        patch.setattr(kit, "decisions", lambda _: made.decisions)
        count_slots(patch, made.dynamodb)
        tables = {name: name for name in made.services}
        patch.setattr(kit, "parameters", lambda kind: {"tables": tables}[kind])
        patch.setattr(kit, "deadletters", lambda: made.deadletters)
        feed = Feeding(made).feed
        patch.setattr(kit, "feed", lambda: feed)
        patch.setenv("CHAOS", "on")
        patch.setenv("CHOREOGRAPHY", "on")
        patch.setenv("WEBHOOKS_TABLE", "webhooks")
        patch.setenv("SCOPE_PREFIX", PREFIX)
        patch.setenv("SSE_URL", LIVE["sse"])
        patch.setenv("WEBSOCKET_URL", LIVE["ws"])
        yield


@pytest.fixture(scope="module")
def shared() -> Iterator[Ground]:
    """A ground on which the API stands as well."""
    with ground() as made, standing(made):
        stock(made)
        yield made


@pytest.fixture
def stuck(shared: Ground, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """The ground while Step Functions cannot be reached: sagas are recorded and do not run."""

    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="states")

    sfn = SimpleNamespace(
        start_execution=refuse,
        exceptions=shared.sfn.exceptions,
        describe_execution=shared.sfn.describe_execution,
    )
    monkeypatch.setattr(kit, "runs", lambda: replace(shared.runs, sfn=sfn))  # type: ignore[arg-type]
    return shared


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    """The problem that an answer must be."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == f"urn:recourse:problem:{kind}"
    assert answer.json["status"] == status
    assert {"title", "detail"} <= answer.json.keys()
    assert "Traceback" not in answer.text
    found: dict[str, Any] = answer.json
    return found


def fields(answer: Answer) -> set[str]:
    """The fields that a refused body is told of."""
    return {error["field"] for error in problem(answer, 422, "invalid")["errors"]}


def settled(shared: Ground, answer: Answer) -> dict[str, Any]:
    """A started saga when all is told, as its owner sees it."""
    assert answer.status == 202, answer
    shared.settle()
    must_agree(shared, answer.json["saga_id"])
    found: dict[str, Any] = asha.get(answer.json["saga_id"]).json
    return found


def changed(body: Any, path: str, value: Any) -> Any:
    """A copy of a body with something else at a path."""
    copy = json.loads(json.dumps(body))
    *parents, last = path.split(".")
    inner = copy
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return copy


# Start.


def test_a_start_answers_202_with_the_sagas_address_and_the_saga(shared: Ground) -> None:
    answer = asha.start()
    assert answer.status == 202
    saga = answer.json
    assert answer.headers["location"] == f"/sagas/{saga['saga_id']}"
    assert answer.headers["content-type"] == "application/json"
    assert saga.keys() == VIEW
    assert (saga["saga"], saga["coordination"]) == ("travel-booking", "orchestration")
    assert (saga["owner"], saga["business_key"]) == ("asha", "t-1")
    assert (saga["status"], saga["reason"], saga["ended_at"]) == ("RUNNING", None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", saga["started_at"])
    assert [step["name"] for step in saga["steps"]] == NAMES
    assert all(step.keys() == STEP_VIEW for step in saga["steps"])
    assert saga["links"] == {
        "self": f"/sagas/{saga['saga_id']}",
        "cancel": f"/sagas/{saga['saga_id']}/cancel",
    }
    ended = settled(shared, answer)
    assert ended["status"] == "SUCCEEDED"
    assert ended["ended_at"] >= ended["started_at"]
    assert {step["status"] for step in ended["steps"]} == {"DONE"}
    assert {step["attempts"] for step in ended["steps"]} == {1}


def test_the_same_key_and_body_is_the_same_saga_whatever_the_order_of_fields(
    shared: Ground,
) -> None:
    first = asha.start(key="twice")
    again = asha.start(dict(reversed(TRIP.items())), key="twice")
    assert (again.status, again.json["saga_id"]) == (202, first.json["saga_id"])
    settled(shared, first)
    later = asha.start(key="twice")
    assert (later.status, later.json["status"]) == (202, "SUCCEEDED")
    assert len(shared.rows("payments", f"payment#{first.json['saga_id']}")) == 1


def test_an_optional_field_that_is_null_is_as_if_it_were_absent(shared: Ground) -> None:
    without = {name: value for name, value in TRIP.items() if name != "car"}
    first = asha.start(without, key="no-car")
    again = asha.start(without | {"car": None}, key="no-car")
    assert again.json["saga_id"] == first.json["saga_id"]
    ended = settled(shared, first)
    assert ended["status"] == "SUCCEEDED"
    assert [s["status"] for s in ended["steps"] if s["name"] == "car"] == ["SKIPPED"]


def test_the_same_key_with_another_body_is_a_409(shared: Ground) -> None:
    asha.start(key="other")
    answer = asha.start(TRIP | {"trip_id": "t-2"}, key="other")
    problem(answer, 409, "idempotency-key-reused")


def test_the_same_key_of_somebody_else_is_another_saga(shared: Ground) -> None:
    ids = {who.start(key="ours").json["saga_id"] for who in (asha, ravi)}
    assert len(ids) == 2


@pytest.mark.parametrize("key", [None, "", "k" * 256, "a\tb"])
def test_a_start_needs_a_usable_key(shared: Ground, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency_Key": key}
    problem(asha("POST", PATH, TRIP, **headers), 400, "idempotency-key-missing")


def test_a_key_may_be_as_long_as_255(shared: Ground) -> None:
    assert asha.start(key="k" * 255).status == 202


def test_an_unknown_saga_is_a_404_before_anything_else(shared: Ground) -> None:
    problem(asha("POST", "/sagas/moon-booking", b"{"), 404, "not-found")


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'"\xc3"', b"[" * 5000])
def test_a_body_that_cannot_be_read_is_a_400(shared: Ground, raw: bytes) -> None:
    problem(asha("POST", PATH, raw, Idempotency_Key="k"), 400, "malformed")


def test_no_body_at_all_is_a_400(shared: Ground) -> None:
    problem(asha("POST", PATH, Idempotency_Key="k"), 400, "malformed")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trip_id", ""),
        ("trip_id", "t" * 129),
        ("trip_id", 7),
        ("traveller.email", "nowhere"),
        ("traveller.name", None),
        ("flight.seats", 0),
        ("flight.seats", 10),
        ("flight.seats", -1),
        ("flight.seats", True),
        ("flight.seats", "1"),
        ("flight.seats", 1.0),
        ("flight.seats", 10**30),
        ("flight.id", "a b"),
        ("flight.id", "../x"),
        ("hotel.nights", 91),
        ("hotel", []),
        ("car.days", None),
        ("payment.account_id", ["acct-asha"]),
    ],
)
def test_a_wrong_field_is_a_422_that_names_it(shared: Ground, path: str, value: Any) -> None:
    assert fields(asha.start(changed(TRIP, path, value))) == {path}


@pytest.mark.parametrize("path", ["coupon", "traveller.age", "car.gps"])
def test_an_unknown_field_is_refused(shared: Ground, path: str) -> None:
    assert fields(asha.start(changed(TRIP, path, "x"))) == {path}


def test_every_wrong_field_is_named_at_once(shared: Ground) -> None:
    body = changed(changed(TRIP, "flight.seats", 0), "hotel.rooms", 0)
    del body["payment"]
    assert fields(asha.start(body)) == {"flight.seats", "hotel.rooms", "payment"}


@pytest.mark.parametrize("body", [[], "trip", 7, True])
def test_a_body_that_is_no_object_is_a_422(shared: Ground, body: Any) -> None:
    problem(asha.start(body), 422, "invalid")


def test_a_refused_start_leaves_nothing(shared: Ground) -> None:
    before = len(shared.rows(LEDGER, ""))
    asha.start(changed(TRIP, "flight.seats", 0), key="refused")
    assert len(shared.rows(LEDGER, "")) == before
    assert asha.start(key="refused").status == 202, "the key is still unused"


def test_a_body_of_another_type_is_a_415(shared: Ground) -> None:
    problem(asha.start(Content_Type="text/plain"), 415, "not-json")
    assert asha.start(Content_Type="application/json; charset=utf-8").status == 202


def test_a_body_that_is_too_large_is_a_413(shared: Ground) -> None:
    problem(asha.start(TRIP | {"trip_id": "t" * 70_000}), 413, "too-large")


def test_a_request_that_has_grown_too_large_by_its_defaults_is_a_413(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST", limits.size(TRIP))
    found = problem(asha.start(TRIP, key="grown"), 413, "too-large")
    assert "a request must be at most" in found["detail"]
    assert not shared.ledger.get(SagaId.of("travel-booking", "asha", "grown"))


@pytest.mark.parametrize("asked", ["", "both", "Orchestration"])
def test_a_coordination_that_there_is_not_is_a_422(shared: Ground, asked: str) -> None:
    answer = asha("POST", f"{PATH}?coordination={asked}", TRIP, Idempotency_Key="k")
    problem(answer, 422, "unknown-coordination")


def test_where_no_step_listens_a_choreography_is_a_422_and_a_retry_still_answers_its_saga(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(key: str) -> Answer:
        return asha("POST", f"{PATH}?coordination=choreography", TRIP, Idempotency_Key=key)

    before = start("listened").json["saga_id"]
    monkeypatch.setenv("CHOREOGRAPHY", "")
    said = problem(start("nobody-listens"), 422, "unknown-coordination")["detail"]
    assert said == (
        "coordination: must be orchestration, got 'choreography': this API has no choreography"
    )
    assert shared.ledger.get(SagaId.of("travel-booking", "asha", "nobody-listens")) is None
    assert start("listened").json["saga_id"] == before


def test_without_valet_keys_a_saga_is_shown_without_links_to_its_documents(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unset() -> None:
        raise settings.MissingSettingError("VALET_BUCKET")

    saga_id = asha.start().json["saga_id"]
    shared.settle()
    assert "invoice" in asha.get(saga_id).json["links"]
    monkeypatch.setenv("VALET_TABLE", "")
    monkeypatch.setattr(kit, "valet_issuer", unset)
    shown = asha.get(saga_id)
    assert shown.status == 200 and shown.json["links"].keys() == {"self", "cancel", "reverse"}


def test_the_same_key_with_another_coordination_is_a_409(shared: Ground) -> None:
    key = "both"
    first = asha.start(key=key).json["saga_id"]

    def again(query: str) -> Answer:
        return asha("POST", f"{PATH}{query}", TRIP, Idempotency_Key=key)

    refused = problem(again("?coordination=choreography"), 409, "idempotency-key-reused")
    assert "a saga by orchestration" in refused["detail"]
    for query in ("", "?coordination=orchestration"):
        assert (again(query).status, again(query).json["saga_id"]) == (202, first)
    key = "told"
    first = again("?coordination=choreography").json["saga_id"]
    assert again("").json["saga_id"] == first, "what is left out is not compared"
    problem(again("?coordination=orchestration"), 409, "idempotency-key-reused")
    shared.settle()


def test_a_coordination_may_be_asked_for(shared: Ground) -> None:
    answer = asha("POST", f"{PATH}?coordination=orchestration", TRIP, Idempotency_Key="asked")
    assert (answer.status, answer.json["coordination"]) == (202, "orchestration")


def test_a_start_that_step_functions_does_not_take_is_left_to_the_sweeper(
    stuck: Ground,
) -> None:
    answer = asha.start(key="unreachable")
    assert answer.status == 202
    saga = answer.json["saga_id"]
    assert asha.start(key="unreachable").json["saga_id"] == saga
    assert asha.get(saga).json["status"] == "RUNNING"
    record = stuck.ledger.get(saga)
    assert record is not None
    assert stuck.runs.describe(record).state == "ABSENT"
    stuck.sweep(0)
    stuck.settle()
    assert asha.get(saga).json["status"] == "SUCCEEDED"


# Faults on demand.


def test_a_fault_can_be_asked_for_where_chaos_is_on(shared: Ground) -> None:
    ended = settled(shared, asha.start(Recourse_Chaos="payment=reject"))
    assert ended["status"] == "COMPENSATED"
    assert ended["reason"]["step"] == "payment"
    assert ended["reason"]["error"] == "PaymentDeclinedError"
    errors = {s["name"]: s["error"] for s in ended["steps"] if s["error"]}
    assert errors == {"payment": "PaymentDeclinedError"}, "a class name, as in the reason"
    assert {s["name"]: s["status"] for s in ended["steps"]} == {
        "flight": "UNDONE",
        "hotel": "UNDONE",
        "car": "UNDONE",
        "payment": "FAILED",
        "capture": "PENDING",
        "invoice": "PENDING",
    }


@pytest.mark.parametrize(
    "header",
    [
        *("", "hotel", "hotel=boom", "moon=reject", "hotel=reject:0", "capture.undo=error"),
        *("hotel=reject, hotel=error", "invoice=late", "hotel=reject;car=error"),
    ],
)
def test_an_unknown_fault_is_a_400(shared: Ground, header: str) -> None:
    problem(asha.start(Recourse_Chaos=header), 400, "unknown-fault")


def test_a_fault_is_a_400_where_chaos_is_off(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS", "")
    problem(asha.start(Recourse_Chaos="hotel=reject"), 400, "chaos-off")
    assert nobody("GET", "/health").json["chaos"] is False


# Who may.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("GET", "/sagas"),
        ("GET", "/sagas/1"),
        ("POST", "/sagas/1/cancel"),
        ("POST", "/sagas/1/steps/hotel/resolve"),
        ("GET", "/deadletters"),
        ("POST", "/deadletters/ledger/redrive"),
        ("GET", "/flights/AI-202"),
        ("PUT", "/flights/AI-202"),
        ("GET", "/accounts/acct-asha"),
    ],
)
def test_without_a_token_it_is_a_401_and_without_the_scope_a_403(
    shared: Ground, method: str, path: str
) -> None:
    problem(nobody(method, path, {}), 401, "unauthorized")
    for scope in ("", "valet:issue", "sagas:writer"):
        problem(Caller("asha", scope)(method, path, {}), 403, "forbidden")


def test_reading_does_not_allow_writing_nor_writing_reading(shared: Ground) -> None:
    saga = asha.start().json["saga_id"]
    reader, writer = Caller("asha", "sagas:read"), Caller("asha", "sagas:write")
    problem(reader.start(), 403, "forbidden")
    problem(reader("POST", f"/sagas/{saga}/cancel"), 403, "forbidden")
    problem(writer.get(saga), 403, "forbidden")
    problem(writer("GET", "/sagas"), 403, "forbidden")


@pytest.mark.parametrize(
    "claims",
    [
        lambda scopes: {"scp": " ".join(scopes)},
        # So the gateway's authorizer writes a list.
        lambda scopes: {"scope": f"[{' '.join(scopes)}]"},
        lambda scopes: {"scp": f"[{' '.join(scopes)}]"},
        lambda scopes: {"scope": scopes[0], "scp": scopes[-1]},
    ],
    ids=["scp", "a list", "scp as a list", "both"],
)
def test_scopes_may_be_in_either_claim_as_text_or_as_a_list(
    shared: Ground, claims: Callable[[list[str]], Mapping[str, str]]
) -> None:
    both = Caller("asha", TRAVELLER, claims)
    saga = both.start()
    assert saga.status == 202
    assert both.get(saga.json["saga_id"]).status == 200
    problem(both("GET", "/deadletters"), 403, "forbidden")
    problem(Caller("asha", "sagas:writer sagas:read", claims).start(), 403, "forbidden")


def test_an_operator_starts_nothing_without_the_scope_for_it(shared: Ground) -> None:
    problem(operator.start(), 403, "forbidden")


def test_only_an_operator_puts_and_resolves(shared: Ground) -> None:
    saga = asha.start().json["saga_id"]
    problem(asha("PUT", "/flights/AI-202", {}), 403, "forbidden")
    problem(asha("POST", f"/sagas/{saga}/steps/hotel/resolve", {}), 403, "forbidden")


def test_anothers_saga_is_as_if_it_were_not_there(shared: Ground) -> None:
    saga = asha.start().json["saga_id"]
    unknown = "0" * 32
    for method, path in (("GET", "/sagas/{}"), ("POST", "/sagas/{}/cancel")):
        theirs = problem(ravi(method, path.format(saga)), 404, "not-found")
        absent = problem(ravi(method, path.format(unknown)), 404, "not-found")
        assert theirs == json.loads(json.dumps(absent).replace(unknown, saga))
    assert saga not in ravi("GET", "/sagas?limit=100").text


def test_an_operator_sees_everybodys_sagas(shared: Ground) -> None:
    ids = {who.start().json["saga_id"] for who in (asha, ravi)}
    for saga in ids:
        assert operator.get(saga).status == 200
    listed = operator("GET", "/sagas?limit=100").json["items"]
    assert ids <= {saga["saga_id"] for saga in listed}
    assert {"asha", "ravi"} <= {saga["owner"] for saga in listed}


# Show, and wait.


@pytest.mark.parametrize("saga", ["x", "0" * 32, "a" * 3000, "%23", "outbox%23x", "%E2%82%AC"])
def test_an_unknown_id_is_a_404(shared: Ground, saga: str) -> None:
    problem(asha.get(saga), 404, "not-found")


def test_the_etag_changes_with_the_saga_and_spares_what_is_known(stuck: Ground) -> None:
    started = asha.start()
    saga = started.json["saga_id"]
    shown = asha.get(saga)
    tag = shown.headers["etag"]
    assert re.fullmatch(r'"[^"]+"', tag)
    assert tag == started.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}'):
        spared = asha.get(saga, If_None_Match=known)
        assert (spared.status, spared.text) == (304, "")
        assert spared.headers["etag"] == tag
    assert asha.get(saga, If_None_Match='"x"').status == 200
    record = stuck.ledger.get(saga)
    assert record is not None
    stuck.runs.start(record)
    stuck.settle()
    after = asha.get(saga, If_None_Match=tag)
    assert after.status == 200
    assert after.headers["etag"] != tag


@dataclass
class Clock:
    """A clock that only moves when somebody sleeps; then something may happen."""

    then: Callable[[], Any] = lambda: None
    seconds: float = 0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        then, self.then = self.then, lambda: None
        then()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (sagas, feed):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        *(("wait=1", 1), ("wait=20", 20), ("wait=60", 20), ("respond-async, wait=5", 5)),
        *(("Wait=3", 3), ("wait=0", 0), ("wait=-1", 0), ("wait=x", 0), ("", 0)),
    ],
)
def test_a_wait_is_as_long_as_preferred_and_at_most_20_seconds(
    stuck: Ground, clock: Clock, prefer: str, applied: int
) -> None:
    saga = asha.start().json["saga_id"]
    answer = asha.get(saga, Prefer=prefer)
    assert answer.status == 200
    assert clock.seconds == pytest.approx(applied)
    header = f"wait={applied}" if applied else None
    assert answer.headers.get("preference-applied") == header


def test_one_owners_waits_are_bounded_and_hold_up_nobody_else(stuck: Ground, clock: Clock) -> None:
    saga = asha.start().json["saga_id"]
    held = [kit.slots("waits").acquire("asha") for _ in range(LIMITS["waits"].most)]
    refused = asha.get(saga, Prefer="wait=20")
    problem(refused, 429, "limit-reached")
    assert 1 <= int(refused.headers["retry-after"]) <= LIMITS["waits"].seconds
    assert clock.seconds == 0
    assert asha.get(saga).status == 200, "one that does not wait is answered"
    others = ravi.start().json["saga_id"]
    assert ravi.get(others, Prefer="wait=1").status == 200
    kit.slots("waits").release("asha", held[0])
    for _ in range(2):  # what a wait has taken it gives back
        assert asha.get(saga, Prefer="wait=1").status == 200
    for slot in held[1:]:
        kit.slots("waits").release("asha", slot)


def test_a_wait_ends_when_the_saga_changes(stuck: Ground, clock: Clock) -> None:
    saga = asha.start().json["saga_id"]
    record = stuck.ledger.get(saga)
    assert record is not None

    def run() -> None:
        stuck.runs.start(record)
        stuck.settle()

    clock.then = run
    answer = asha.get(saga, Prefer="wait=20")
    assert (answer.status, answer.json["status"]) == (200, "SUCCEEDED")
    assert clock.seconds < 1


def test_a_wait_against_what_is_known_that_ends_without_a_change_is_a_304(
    stuck: Ground, clock: Clock
) -> None:
    saga = asha.start().json["saga_id"]
    tag = asha.get(saga).headers["etag"]
    answer = asha.get(saga, Prefer="wait=2", If_None_Match=tag)
    assert (answer.status, answer.headers["preference-applied"]) == (304, "wait=2")
    assert clock.seconds == pytest.approx(2)
    assert asha.get(saga, Prefer="wait=9", If_None_Match='"old"').status == 200
    assert clock.seconds == pytest.approx(2), "it had changed already"


@pytest.mark.parametrize("faults", [{}, {"Recourse_Chaos": "hotel=reject"}])
def test_a_wait_for_a_saga_at_rest_answers_at_once(
    shared: Ground, clock: Clock, faults: dict[str, str]
) -> None:
    ended = settled(shared, asha.start(**faults))
    assert ended["status"] in ("SUCCEEDED", "COMPENSATED")
    assert asha.get(ended["saga_id"], Prefer="wait=20").status == 200
    assert clock.seconds == 0


# List.


def listed(who: Caller, **query: Any) -> tuple[list[str], str | None]:
    answer = who("GET", f"/sagas?{urlencode(query)}")
    assert answer.status == 200, answer
    return [saga["saga_id"] for saga in answer.json["items"]], answer.json["cursor"]


def test_pages_hold_every_saga_once_the_newest_first(stuck: Ground) -> None:
    mira = Caller("mira")
    started = [mira.start().json for _ in range(7)]
    order = sorted(started, key=lambda saga: (saga["started_at"], saga["saga_id"]), reverse=True)
    found: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        items, cursor = listed(mira, limit=3, **({"cursor": cursor} if cursor else {}))
        sizes.append(len(items))
        found += items
        if cursor is None:
            break
    assert sizes == [3, 3, 1]
    assert found == [saga["saga_id"] for saga in order]
    assert listed(mira, limit=7) == (found, None), "no cursor where nothing follows"


def test_an_item_of_a_page_is_the_saga_as_it_is_shown_but_for_what_is_lent(shared: Ground) -> None:
    zoya = Caller("zoya")
    zoya.start()
    shared.settle()
    (item,) = zoya("GET", "/sagas").json["items"]
    shown = zoya.get(item["saga_id"]).json
    assert shown["links"].pop("invoice").startswith(URL)
    assert item == shown


def test_a_page_can_be_of_one_saga_status_or_business_key(shared: Ground) -> None:
    lena = Caller("lena")
    booked = lena.start(TRIP | {"trip_id": "lena-1"}).json["saga_id"]
    undone = lena.start(TRIP | {"trip_id": "lena-2"}, Recourse_Chaos="car=reject").json["saga_id"]
    asha.start(TRIP | {"trip_id": "lena-2"})
    shared.settle()
    assert listed(lena, status="SUCCEEDED") == ([booked], None)
    assert listed(lena, status="COMPENSATED") == ([undone], None)
    assert listed(lena, business_key="lena-2") == ([undone], None), "and only her own"
    assert listed(lena, business_key="lena-2", status="RUNNING") == ([], None)
    assert set(listed(lena, saga="travel-booking")[0]) == {booked, undone}
    assert len(listed(operator, business_key="lena-2")[0]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", "0"), ("limit", "101"), ("limit", "-1"), ("limit", "ten"), ("limit", "")),
        *(("limit", "1.0"), ("limit", "٣"), ("limit", "9" * 5000)),
        *(("status", "DONE"), ("status", ""), ("saga", "moon"), ("saga", "")),
        *(("business_key", ""), ("business_key", "k" * 3000)),
    ],
)
def test_a_wrong_filter_is_a_422_that_names_it(shared: Ground, name: str, value: str) -> None:
    assert fields(asha("GET", f"/sagas?{urlencode({name: value})}")) == {name}


@pytest.mark.parametrize(("asked", "got"), [("0", "0"), ("101", "101"), ("", "nothing")])
def test_a_number_is_refused_with_what_it_may_be(shared: Ground, asked: str, got: str) -> None:
    refused = problem(asha("GET", f"/sagas?limit={asked}"), 422, "invalid")
    assert refused["title"] == "Request validation failed"
    assert refused["errors"] == [{"field": "limit", "message": f"must be 1 to 100, got {got}"}]


@pytest.mark.parametrize(
    "cursor", ["", "x", "AAAA", "%00", "é", base64.b64encode(b"a#b").decode(), "A" * 5000]
)
def test_a_cursor_that_is_none_of_ours_is_a_400(shared: Ground, cursor: str) -> None:
    problem(asha("GET", f"/sagas?{urlencode({'cursor': cursor})}"), 400, "bad-cursor")


# Cancel.


def test_a_saga_whose_pivot_has_not_acted_is_cancelled(stuck: Ground) -> None:
    saga = asha.start().json["saga_id"]
    for _ in range(2):
        answer = asha("POST", f"/sagas/{saga}/cancel")
        assert (answer.status, answer.json["saga_id"]) == (202, saga)
    record = stuck.ledger.get(saga)
    assert record is not None
    stuck.runs.start(record)
    stuck.settle()
    assert must_agree(stuck, saga) == "COMPENSATED"
    reason = asha.get(saga).json["reason"]
    assert (reason["step"], reason["error"]) == ("capture", "StepCancelledError")
    assert asha("POST", f"/sagas/{saga}/cancel").status == 202, "it is what was wanted"


@pytest.mark.parametrize("told", [True, False])
def test_past_the_pivot_a_cancel_is_a_409(shared: Ground, told: bool) -> None:
    answer = asha.start()
    saga = answer.json["saga_id"]
    if told:
        settled(shared, answer)
    problem(asha("POST", f"/sagas/{saga}/cancel"), 409, "past-the-pivot")
    shared.settle()
    assert must_agree(shared, saga) == "SUCCEEDED"


def test_an_operator_may_cancel_anybodys_saga(stuck: Ground) -> None:
    saga = asha.start().json["saga_id"]
    assert operator("POST", f"/sagas/{saga}/cancel").status == 202


def test_a_cancel_that_cannot_be_decided_is_a_503_and_decides_nothing(
    stuck: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga = asha.start().json["saga_id"]

    def unreachable(**_: Any) -> None:
        raise ConnectTimeoutError(endpoint_url="lambda")

    def fails(**_: Any) -> dict[str, Any]:
        return {"FunctionError": "Unhandled", "Payload": BytesIO(b'{"errorType": "X"}')}

    for invoke in (unreachable, fails):
        functions = SimpleNamespace(invoke=invoke)
        broken = replace(stuck.runs, functions=functions)  # type: ignore[arg-type]
        monkeypatch.setattr(kit, "runs", lambda broken=broken: broken)
        answer = asha("POST", f"/sagas/{saga}/cancel")
        problem(answer, 503, "try-again")
        assert answer.headers["retry-after"] == "1"
    assert asha.get(saga).json["status"] == "RUNNING"


# Resolve.


def resolve(saga: str, step: str, **body: Any) -> Answer:
    return operator("POST", f"/sagas/{saga}/steps/{step}/resolve", body)


def test_a_failed_undo_is_retried_by_an_operator(shared: Ground) -> None:
    ended = settled(shared, asha.start(Recourse_Chaos="capture=reject, hotel.undo=error:16"))
    saga = ended["saga_id"]
    assert ended["status"] == "COMPENSATION_FAILED"
    stuck_step = next(step for step in ended["steps"] if step["name"] == "hotel")
    assert stuck_step["status"] == "UNDO_FAILED"
    assert stuck_step["error"] == "TransientError"
    assert stuck_step["message"]
    assert asha("POST", f"/sagas/{saga}/cancel").status == 202
    answer = resolve(saga, "hotel", action="retry")
    assert (answer.status, answer.json["status"]) == (202, "COMPENSATING")
    assert asha("POST", f"/sagas/{saga}/cancel").status == 202, "it is under way to that"
    shared.settle()
    assert asha.get(saga).json["status"] == must_agree(shared, saga) == "COMPENSATED"
    problem(resolve(saga, "hotel", action="retry"), 409, "nothing-to-resolve")


def test_a_step_after_the_pivot_is_skipped_by_an_operator(shared: Ground) -> None:
    ended = settled(shared, asha.start(Recourse_Chaos="invoice=error"))
    saga = ended["saga_id"]
    assert ended["status"] == "RUNNING"
    answer = resolve(saga, "invoice", action="skip", reason="sent by post")
    assert answer.status == 202
    shared.settle()
    shown = asha.get(saga).json
    assert (shown["status"], shown["steps"][-1]["status"]) == ("SUCCEEDED", "SKIPPED")
    record = shared.ledger.get(saga)
    assert record is not None
    (decided,) = record.resolutions
    assert (decided["reason"], decided["by"]) == ("sent by post", "olga")


def test_a_decision_that_could_not_be_run_is_left_to_the_sweeper(stuck: Ground) -> None:
    saga = stuck.start("travel-booking", TRIP, key="left", faults={"invoice": "error:16"})
    stuck.settle()
    answer = resolve(saga, "invoice", action="retry")
    assert (answer.status, answer.json["status"]) == (202, "RUNNING")
    stuck.sweep(0)
    stuck.settle()
    assert must_agree(stuck, saga) == "SUCCEEDED"


def test_where_nothing_is_stuck_there_is_nothing_to_resolve(stuck: Ground) -> None:
    saga = asha.start().json["saga_id"]
    for step in NAMES:
        problem(resolve(saga, step, action="retry"), 409, "nothing-to-resolve")


def test_while_undos_still_run_there_is_nothing_to_resolve(shared: Ground) -> None:
    saga = asha.start(Recourse_Chaos="capture=reject, car.undo=reject:4").json["saga_id"]
    failed, last = f"outbox#{saga}.car.undo_failed.r0", f"outbox#{saga}.flight.undone"
    records = shared.stream.fetch()
    held = [r for r in records if r["dynamodb"]["NewImage"]["pk"]["S"] == last]
    assert [r for r in records if r["dynamodb"]["NewImage"]["pk"]["S"] == failed]
    shared.stream.give_back([r for r in records if r not in held])
    shared.settle()
    shown = asha.get(saga).json
    assert shown["status"] == "COMPENSATING"
    assert {s["name"]: s["status"] for s in shown["steps"]}["car"] == "UNDO_FAILED"
    for action in ("retry", "skip"):
        answer = resolve(saga, "car", action=action, reason="now")
        problem(answer, 409, "nothing-to-resolve")
    shared.stream.give_back(held)
    shared.settle()
    assert asha.get(saga).json["status"] == "COMPENSATION_FAILED"
    assert resolve(saga, "car", action="retry").status == 202
    shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"


def test_a_skip_of_the_pivot_says_what_a_retry_does_and_does_nothing(shared: Ground) -> None:
    well = shared.mishap

    def broken(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task.get("step") == "capture":
            raise RuntimeError("the release is broken")
        return run()

    shared.mishap = broken
    try:
        saga = settled(shared, asha.start())["saga_id"]
    finally:
        shared.mishap = well
    assert {s["name"]: s["status"] for s in asha.get(saga).json["steps"]}["capture"] == "FAILED"
    before = shared.ledger.get(saga)
    refused = problem(
        resolve(saga, "capture", action="skip", reason="it was paid"), 409, "pivot-not-skipped"
    )
    assert refused["detail"] == (
        "the step 'capture' decides the saga's outcome, so it cannot be skipped. Retry it: if it "
        "has completed, the saga goes forward to invoice; if not, it never will, and the saga is "
        "undone (payment, flight, hotel, car)"
    )
    assert shared.ledger.get(saga) == before
    assert resolve(saga, "capture", action="retry").status == 202
    shared.settle()
    assert must_agree(shared, saga) == "COMPENSATED"


def test_an_unknown_step_or_saga_cannot_be_resolved(stuck: Ground) -> None:
    saga = asha.start().json["saga_id"]
    problem(resolve(saga, "moon", action="retry"), 404, "not-found")
    problem(resolve("0" * 32, "hotel", action="retry"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "skip"}, "reason"),
        ({"action": "skip", "reason": None}, "reason"),
        ({"action": "skip", "reason": "  "}, "reason"),
        ({"action": "skip", "reason": 7}, "reason"),
        ({"action": "retry", "reason": "x" * 1001}, "reason"),
        ({"action": "undo", "reason": "x"}, "action"),
        ({"reason": "x"}, "action"),
        ({"action": "retry", "force": True}, "force"),
    ],
)
def test_a_wrong_decision_is_a_422_that_names_the_field(
    stuck: Ground, body: Any, field: str
) -> None:
    saga = asha.start(key="decision").json["saga_id"]
    assert fields(resolve(saga, "hotel", **body)) == {field}


def test_a_decision_that_cannot_be_read_is_a_400(stuck: Ground) -> None:
    saga = asha.start(key="decision").json["saga_id"]
    answer = operator("POST", f"/sagas/{saga}/steps/hotel/resolve", b"{")
    problem(answer, 400, "malformed")


# What services hold.

COUNTED = [kind for kind, holding in HOLDINGS.items() if issubclass(holding.body, CountedBody)]
NOBODY = {"held_since": None, "held_by": 0}
FIFTY = {"total": 50, "price": {"amount": 480000, "currency": "INR"}}


@pytest.mark.of_all
@pytest.mark.parametrize("kind", COUNTED)
def test_a_counted_thing_is_made_shown_and_changed(shared: Ground, kind: str) -> None:
    path = f"/{kind}/new-1"
    problem(asha("GET", path), 404, "not-found")
    made = operator("PUT", path, FIFTY)
    counts = {"total": 50, "available": 50, "held": 0, "confirmed": 0} | NOBODY
    assert (made.status, made.json) == (201, {"id": "new-1"} | counts | {"price": FIFTY["price"]})
    assert asha("GET", path).json == made.json
    again = operator("PUT", path, FIFTY | {"total": 60})
    assert (again.status, again.json["total"], again.json["available"]) == (200, 60, 60)


def test_a_total_below_what_is_held_and_confirmed_is_a_409(shared: Ground) -> None:
    operator("PUT", "/flights/full", FIFTY)
    trip = changed(TRIP, "flight.id", "full")
    answer = asha.start(trip)
    held = asha("GET", "/flights/full").json
    assert (held["held"], held["confirmed"], held["available"]) == (2, 0, 48)
    problem(operator("PUT", "/flights/full", FIFTY | {"total": 1}), 409, "in-use")
    settled(shared, answer)
    problem(operator("PUT", "/flights/full", FIFTY | {"total": 1}), 409, "in-use")
    least = operator("PUT", "/flights/full", FIFTY | {"total": 2})
    assert (least.status, least.json["confirmed"], least.json["available"]) == (200, 2, 0)
    ended = settled(shared, asha.start(trip))
    assert ended["reason"]["error"] == "SeatUnavailableError"


def test_what_running_sagas_hold_shows_since_when_and_by_how_many_and_never_by_whom(
    shared: Ground,
) -> None:
    operator("PUT", "/flights/locked", FIFTY)
    trip, before = changed(TRIP, "flight.id", "locked"), events.now()
    answers = [asha.start(trip)]
    between = events.now()
    answers.append(asha.start(trip))
    seen = ravi("GET", "/flights/locked").json
    assert (seen["held"], seen["held_by"]) == (4, 2)
    assert before <= seen["held_since"] <= between, "the oldest hold's"
    assert {*seen} == {*HOLDINGS["flights"].shown.__annotations__} - {"departs_at"}
    assert seen == operator("PUT", "/flights/locked", FIFTY).json
    shared.settle()
    booked = ravi("GET", "/flights/locked").json
    assert (booked["confirmed"], booked["held"]) == (4, 0)
    assert booked.items() >= NOBODY.items()


def test_an_account_is_made_shown_and_changed_and_its_movements_sum_to_zero(
    shared: Ground,
) -> None:
    path = "/accounts/acct-new"
    made = operator("PUT", path, {"currency": "INR", "balance": 1_000_000})
    shown = {"currency": "INR", "balance": 1_000_000, "available": 1_000_000, "held": 0} | NOBODY
    assert (made.status, made.json) == (201, {"id": "acct-new"} | shown)
    assert asha("GET", path).json == made.json
    less = operator("PUT", path, {"currency": "INR", "balance": 500})
    assert (less.status, less.json["balance"], less.json["available"]) == (200, 500, 500)
    for movement in shared.rows("payments", "movement#funding#acct-new"):
        assert sum(movement["postings"].values()) == 0
    problem(operator("PUT", path, {"currency": "USD", "balance": 500}), 409, "in-use")


# Whose account it is.


@pytest.mark.parametrize("coordination", ["orchestration", "choreography"])
def test_only_the_owner_of_an_account_pays_from_it(shared: Ground, coordination: str) -> None:
    name = f"own-{coordination}"
    body = {"currency": "INR", "balance": 10 * PRICE, "owner": "asha"}
    assert operator("PUT", f"/accounts/{name}", body).json["owner"] == "asha"

    def trip(caller: Caller, account: str) -> dict[str, Any]:
        target = f"{PATH}?coordination={coordination}"
        wanted = changed(TRIP, "payment.account_id", account)
        answer = caller("POST", target, wanted, Idempotency_Key=f"own-{next(keys)}")
        assert answer.status == 202, answer
        shared.settle()
        must_agree(shared, answer.json["saga_id"])
        ended: dict[str, Any] = caller.get(answer.json["saga_id"]).json
        return ended

    refused, unknown = trip(ravi, name), trip(ravi, "none-here")
    assert (refused["status"], refused["reason"]["error"]) == ("COMPENSATED", "UnknownAccountError")
    told = [ended["reason"]["message"] for ended in (refused, unknown)]
    assert told[0].replace(name, "") == told[1].replace("none-here", ""), (
        "whether it exists is told"
    )
    shown = {"id": name, "held": 0, "available": 10 * PRICE} | NOBODY | body
    assert shared.held("accounts", name) == shown
    assert trip(asha, name)["status"] == "SUCCEEDED"
    assert shared.held("accounts", name)["balance"] == 9 * PRICE


def test_only_the_owner_of_an_account_sees_it_and_operators(shared: Ground) -> None:
    path, body = "/accounts/hers", {"currency": "INR", "balance": 500}
    shown = body | {"id": "hers", "available": 500, "held": 0} | NOBODY
    assert operator("PUT", path, body).json == shown
    assert [who("GET", path).json for who in (asha, ravi)] == [shown, shown]
    assert operator("PUT", path, body | {"owner": "asha"}).json == shown | {"owner": "asha"}
    assert [who("GET", path).json["owner"] for who in (asha, operator)] == ["asha", "asha"]
    hidden, unknown = ravi("GET", path), ravi("GET", "/accounts/none")
    problem(hidden, 404, "not-found")
    assert hidden.text.replace("hers", "") == unknown.text.replace("none", "")
    for silent in (body, body | {"owner": None}):
        assert operator("PUT", path, silent).json["owner"] == "asha", "it was everybody's then"
    assert operator("PUT", path, body | {"owner": "ravi"}).json["owner"] == "ravi"
    problem(asha("GET", path), 404, "not-found")
    for wrong in ("", "x" * 257, 5):
        assert fields(operator("PUT", path, body | {"owner": wrong})) == {"owner"}


def test_an_account_that_is_given_away_meanwhile_does_not_pay(shared: Ground) -> None:
    body = {"currency": "INR", "balance": 10 * PRICE}
    operator("PUT", "/accounts/given", body)
    given: list[int] = []

    def give(call: Call, go: Callable[[], Any]) -> Any:
        pays = call.operation == "TransactWriteItems" and "account#given" in repr(call.parameters)
        if pays and not given:
            given.append(operator("PUT", "/accounts/given", body | {"owner": "ravi"}).status)
        return go()

    with around(give):
        ended = settled(shared, asha.start(changed(TRIP, "payment.account_id", "given")))
    assert given == [200]
    assert (ended["status"], ended["reason"]["error"]) == ("COMPENSATED", "UnknownAccountError")
    assert shared.held("accounts", "given")["available"] == 10 * PRICE


def test_a_put_that_others_overtake_is_tried_again(shared: Ground) -> None:
    operator("PUT", "/cars/raced", FIFTY)

    def hold(held: int) -> None:
        shared.dynamodb.update_item(
            TableName="cars",
            Key={"pk": {"S": "car#raced"}},
            UpdateExpression="SET held = :held, available = :available",
            ExpressionAttributeValues={
                ":held": {"N": str(held)},
                ":available": {"N": str(50 - held)},
            },
        )

    write = "TransactWriteItems"
    with before(partial(hold, 3), write), before(partial(hold, 5), write, number=1):
        answer = operator("PUT", "/cars/raced", FIFTY | {"total": 20})
    assert (answer.status, answer.json["held"], answer.json["available"]) == (200, 5, 15)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"total": -1, "price": FIFTY["price"]}, "total"),
        ({"total": True, "price": FIFTY["price"]}, "total"),
        ({"total": "50", "price": FIFTY["price"]}, "total"),
        ({"total": 1.5, "price": FIFTY["price"]}, "total"),
        ({"total": 10**12, "price": FIFTY["price"]}, "total"),
        ({"total": 50}, "price"),
        ({"total": 50, "price": {"amount": -1, "currency": "INR"}}, "price.amount"),
        ({"total": 50, "price": {"amount": 1, "currency": "inr"}}, "price.currency"),
        ({"total": 50, "price": {"amount": 1, "currency": "RUPEES"}}, "price.currency"),
        ({"total": 50, "price": {"amount": 1, "currency": "RUP"}}, "price.currency"),
        (FIFTY | {"held": 0}, "held"),
    ],
)
def test_a_wrong_counted_thing_is_a_422_that_names_the_field(
    shared: Ground, body: Any, field: str
) -> None:
    assert fields(operator("PUT", "/flights/wrong", body)) == {field}
    problem(asha("GET", "/flights/wrong"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"currency": "INR"}, "balance"),
        ({"currency": "INR", "balance": -1}, "balance"),
        ({"currency": "INR", "balance": 1.5}, "balance"),
        ({"currency": "₹₹₹", "balance": 1}, "currency"),
        ({"currency": "ABC", "balance": 1}, "currency"),
        ({"currency": "INR", "balance": 1, "held": 1}, "held"),
    ],
)
def test_a_wrong_account_is_a_422_that_names_the_field(
    shared: Ground, body: Any, field: str
) -> None:
    assert fields(operator("PUT", "/accounts/wrong", body)) == {field}


@pytest.mark.parametrize("thing", ["a%20b", "a%23b", "a%2Fb", "x" * 129, "%00"])
def test_what_cannot_be_an_id_is_neither_made_nor_found(shared: Ground, thing: str) -> None:
    assert fields(operator("PUT", f"/flights/{thing}", FIFTY)) == {"id"}
    problem(asha("GET", f"/flights/{thing}"), 404, "not-found")


# Whatever happens.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/"), ("GET", "/nowhere"), ("GET", "/moons/1"), ("PUT", "/moons/1")),
        ("GET", "/sagas/a/b/c/d"),
    ],
)
def test_what_there_is_not_is_a_404(shared: Ground, method: str, path: str) -> None:
    caller = Caller("olga", f"operator {TRAVELLER}")
    problem(caller(method, path), 404, "not-found")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/flights/AI-202"), ("PATCH", PATH)])
def test_a_method_that_a_path_has_not_is_a_405(shared: Ground, method: str, path: str) -> None:
    """It was a 404: the path is there, and `Allow` says what it answers (RFC 9110, 15.5.6)."""
    answer = operator(method, path)
    problem(answer, 405, "not-allowed")
    assert "GET" in answer.headers["allow"]


def refusing(code: str, status: int) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
            "GetItem",
        )

    return refuse


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *((code, 400) for code in sorted(THROTTLE_CODES)),
        ("TooManyRequestsException", 429),
        ("InternalServerError", 500),
    ],
)
def test_a_throttled_table_is_a_503_to_try_again(
    shared: Ground, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    for part, name in ((Ledger, "get"), (Ledger, "start"), (SagaQueries, "page")):
        monkeypatch.setattr(part, name, refusing(code, status))
    for answer in (asha.get("0" * 32), asha.start(), asha("GET", "/sagas")):
        problem(answer, 503, "try-again")
        assert answer.headers["retry-after"] == "1"


def test_what_nobody_foresaw_is_a_500_that_tells_nothing(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any) -> None:
        raise KeyError("a secret")

    for failing in (explode, refusing("ValidationException", 400)):
        monkeypatch.setattr(Ledger, "get", failing)
        answer = asha.get("0" * 32)
        problem(answer, 500, "internal")
        assert "secret" not in answer.text and "ValidationException" not in answer.text


def test_nothing_that_was_asked_above_has_harmed_the_services(shared: Ground) -> None:
    shared.settle()
    counted = [shared.rows(HOLDINGS[kind].service, HOLDINGS[kind].key("")) for kind in COUNTED]
    for row in itertools.chain.from_iterable(counted):
        assert row["total"] == row["available"] + row["held"] + row["confirmed"], row
    for movement in shared.rows("payments", "movement#"):
        assert sum(movement["postings"].values()) == 0


# Open to everybody.


def test_health_says_what_it_is(shared: Ground) -> None:
    answer = nobody("GET", "/health")
    assert answer.status == 200
    told = {"status": "ok", "version": api_module.INFO["version"], "chaos": True}
    assert answer.json == told | {"events": LIVE}


def test_health_says_where_the_console_is_if_it_is_known(
    shared: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSOLE_URL", "https://console.example")
    assert nobody("GET", "/health").json["console"] == "https://console.example"


def test_the_docs_need_nothing_from_elsewhere(shared: Ground) -> None:
    """Their files have addresses of their own, so that they are cached and no script is inline."""
    answer = nobody("GET", "/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script>|<style|style=|on[a-z]+=|//", answer.text)
    files = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(files) == 3
    assert len(answer.text) < 1000
    for file in files:
        plain = nobody("GET", f"/{file}")
        assert plain.status == 200
        assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert len(plain.text.encode()) < 6 * 2**20, "what a function may answer"
        packed = nobody("GET", f"/{file}", accept_encoding="br, gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(base64.b64decode(packed.text)).decode() == plain.text
        for refused in ("identity", "gzip;q=0", "xgzip"):
            other = nobody("GET", f"/{file}", accept_encoding=refused)
            assert "content-encoding" not in other.headers
    problem(nobody("GET", "/docs/0000/start.js"), 404, "not-found")
    problem(nobody("GET", f"/{files[0].rpartition('/')[0]}/x"), 404, "not-found")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_what_is_the_same_until_the_next_deploy_is_sent_once(shared: Ground, path: str) -> None:
    first = nobody("GET", path)
    assert "max-age" in first.headers["cache-control"]
    assert first.headers["vary"] == "accept-encoding"
    packed = nobody("GET", path, accept_encoding="gzip")
    assert gzip.decompress(base64.b64decode(packed.text)).decode() == first.text
    again = nobody("GET", path, if_none_match=first.headers["etag"])
    assert (again.status, again.text) == (304, "")
    assert again.headers["etag"] == first.headers["etag"]
    assert nobody("GET", path, if_none_match='"another"').status == 200


# Valet keys and webhooks have grounds of their own, and the same routes and handler.
READS = [
    one
    for one in OPERATIONS
    if one.method == "GET" and not re.match(r"/(v|valet-keys|webhooks)/?", one.path)
]


@pytest.mark.parametrize("operation", READS, ids=str)
def test_whatever_can_be_read_answers_head_with_the_same_headers(
    shared: Ground, clock: Clock, operation: Described
) -> None:
    path = operation.path.format(**dict.fromkeys(operation.in_path, "none"))
    for who in (operator, asha, nobody):
        read, head = who("GET", path), who("HEAD", path)
        assert (head.status, head.text) == (read.status, "")
        assert head.headers == read.headers


def test_a_head_of_the_stream_does_not_wait_for_an_event(shared: Ground, clock: Clock) -> None:
    assert Caller("waits for none")("HEAD", "/events/stream").status == 200
    assert clock.seconds == 0
    assert Caller("waits for none")("GET", "/events/stream").status == 200
    assert clock.seconds == pytest.approx(20)


def test_what_is_not_read_answers_no_head(shared: Ground) -> None:
    assert asha("HEAD", f"{PATH}/more/cancel").status == 404


def test_no_browser_guesses_draws_or_frames_an_answer(shared: Ground) -> None:
    for answer in (
        nobody("GET", "/health"),
        nobody("GET", "/docs"),
        nobody("GET", "/sagas"),
        asha("GET", "/sagas"),
        asha("GET", "/nothing"),
        asha.start({}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.fixture(scope="module")
def document(shared: Ground) -> dict[str, Any]:
    answer = nobody("GET", "/openapi.json")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


@pytest.mark.of_all
def test_the_description_has_every_call_with_its_scope(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    calls = {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    holdings = {f"{method} /{kind}/{{id}}" for kind in HOLDINGS for method in ("GET", "PUT")}
    starts = {f"POST /sagas/{saga}" for saga in SAGAS if saga not in reversed_by(SAGAS)}
    names = {name for saga in SAGAS.values() for name in saga.waiting}
    decisions = {
        call.format(name)
        for name in names
        for call in ("GET /{}", "GET /{}/{{id}}", "POST /{}/{{id}}/decision")
    }
    assert calls.keys() == holdings | starts | decisions | {
        "GET /sagas",
        "GET /sagas/{saga_id}",
        "GET /sagas/{saga_id}/declaration",
        "GET /sagas/{saga_id}/events",
        "POST /sagas/{saga_id}/cancel",
        "POST /sagas/{saga_id}/reverse",
        "POST /sagas/{saga_id}/steps/{step}/resolve",
        "POST /imports",
        "GET /imports",
        "GET /imports/{import_id}",
        "POST /imports/{import_id}/resume",
        "POST /valet-keys",
        "GET /valet-keys",
        "GET /valet-keys/{key_id}",
        "DELETE /valet-keys/{key_id}",
        "POST /valet-keys/{key_id}/complete",
        "POST /valet-keys/introspect",
        "POST /valet-keys/redeem",
        "GET /v/{token}",
        "GET /.well-known/jwks.json",
        "GET /events",
        "GET /events/stream",
        "POST /webhooks",
        "GET /webhooks",
        "GET /webhooks/{webhook_id}",
        "DELETE /webhooks/{webhook_id}",
        "POST /webhooks/{webhook_id}/test",
        "POST /webhooks/{webhook_id}/rotate",
        "POST /webhooks/{webhook_id}/enable",
        "POST /webhooks/{webhook_id}/replay",
        "GET /webhooks/{webhook_id}/deliveries",
        "GET /deadletters",
        "POST /deadletters/{name}/redrive",
        "GET /health",
        "GET /openapi.json",
        "GET /docs",
        "GET /docs/{version}/{name}",
    }
    scopes = {
        scope
        for operation in calls.values()
        for need in operation["security"]
        for scope in need["bearer"]
    }
    waits = [one.waits for saga in SAGAS.values() for one in saga.waiting.values()]
    asked = {one.scope for one in waits if one}
    known = {"sagas:write", "sagas:read", "valet:issue", "webhooks:write", "operator"}
    assert scopes == known | asked
    assert not any(calls[f"GET {path}"]["security"] for path in ("/health", "/docs"))


@pytest.mark.of_all
def test_the_description_refers_to_nothing_that_it_lacks(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= document["components"]["schemas"].keys()
    for name in ("TripRequest", "FlightAsk", "Resolution", "Redrive", "CountedBody", "AccountBody"):
        assert document["components"]["schemas"][name]["additionalProperties"] is False
    kinds = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert kinds == [f"urn:recourse:problem:{kind}" for kind in problems.TYPES]


@pytest.mark.of_all
def test_a_name_in_the_description_means_one_thing_whichever_saga_uses_it() -> None:
    meant: dict[str, Any] = {}
    for saga in SAGAS.values():
        whole = TypeAdapter(saga.request).json_schema()
        for name, part in (whole.pop("$defs", {}) | {saga.request.__name__: whole}).items():
            assert meant.setdefault(name, part) == part, f"{saga.name} has another {name}"


# The trace.

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_saga_is_in_the_trace_of_its_caller_and_shows_what_happened(shared: Ground) -> None:
    started = asha.start(key="traced", traceparent=SENT)
    assert started.json["traceparent"] == SENT
    again = asha.start(key="traced", traceparent=SENT.replace("4b", "5b"))
    assert again.json["traceparent"] == SENT, "a retry is the same saga"
    other = asha.start(key="not traced", traceparent="00-nonsense")
    assert other.status == 202 and SENT[3:35] not in other.json["traceparent"]
    shared.settle()
    path = f"/sagas/{started.json['saga_id']}/events"
    shown = asha("GET", path).json
    assert [one["type"].rpartition(".")[2] for one in shown["items"]] == [
        *("started", *["done"] * 6, "succeeded"),
    ]
    assert [one["sequence"] for one in shown["items"]] == [*range(1, 9)]
    assert {one["traceparent"][3:35] for one in shown["items"]} == {SENT[3:35]}
    assert operator("GET", path).json == shown
    problem(ravi("GET", path), 404, "not-found")


# The declaration.


def test_a_saga_shows_what_it_began_with_to_its_owner_and_to_operators(shared: Ground) -> None:
    saga = SAGAS["visit"]
    visit = next(one.example for one in OPERATIONS if one.path == "/sagas/visit")
    path = f"/sagas/{shared.start('visit', visit, key='declared', run=False)}/declaration"
    shown = asha("GET", path).json
    digest = shape.digest(shape.record(saga))
    assert (shown["saga"], shown["shape"]) == ("visit", digest)
    assert [[step["name"] for step in stage] for stage in shown["stages"]] == [
        [step.name for step in group] for group in saga.groups
    ]
    steps = {step["name"]: step for stage in shown["stages"] for step in stage}
    assert {name: step["role"] for name, step in steps.items()} == {
        step.name: saga.role(step.name) for step in saga.all
    }
    assert {name for name, step in steps.items() if step["undo"]} == {
        step.name for step in saga.all if step.undo
    }
    asked = {name: step["waits"]["scope"] for name, step in steps.items() if step["waits"]}
    assert asked == {"claim": "insurer"}
    assert operator("GET", path).json == shown
    problem(ravi("GET", path), 404, "not-found")
    problem(asha("GET", "/sagas/nothing/declaration"), 404, "not-found")
    problem(Caller("asha", "sagas:write")("GET", path), 403, "forbidden")
