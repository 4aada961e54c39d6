"""Decisions and reversals of real sagas, asked for by anybody, with anything, again and again.

The fuzzing by the description (test_description.py) hardly ever names a saga that there is. Here
each call does: what it may change, and what it must leave as it was, follows from who calls.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.problems import MEDIA_TYPE, TYPES, urn
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration.calling import Answer, Caller
from tests.integration.test_api import asha, nobody, operator, ravi, standing
from tests.integration.test_every_saga import must_be_as_told, sample, supply
from tests.integration.test_visits import ACCOUNTS, BODY, POLICIES
from tests.prices import money
from tests.profile import examples
from tests.unit.test_text import EVERYDAY, HIDDEN

TRIP = sample(SAGAS["travel-booking"])
INSURER, ACME = Caller("insurer-1", "insurer"), Caller("acme", "insurer")
CALLERS = {
    "the owner": asha,
    "the owner, reading": Caller("asha", "sagas:read"),
    "another owner": ravi,
    "an insurer": INSURER,
    "the insurer": ACME,
    "an operator": operator,
    "an operator who insures": Caller("olga", "operator insurer"),
    "nobody": nobody,
    "no scope": Caller("asha", ""),
    "no subject": Caller("", "sagas:write insurer"),
    "a hidden subject": Caller("a\u202eb", "sagas:write insurer"),
}
keys = itertools.count()


@pytest.fixture(scope="module")
def made() -> Iterator[Ground]:
    """A ground on which the API stands as well, with plenty of all, and insurers who are asked."""
    with ground() as made, standing(made):
        supply(made)
        for name in ("asked", "acme's"):
            assert operator("PUT", f"/policies/{name}", POLICIES[name]).status == 201
        made.put("accounts", "hers", ACCOUNTS["hers"] | {"balance": 10**9})
        made.put("slots", "mon-0900", {"total": 1000, "price": money(1001, "INR")})
        yield made


def begin(made: Ground, saga: str, body: Any) -> str:
    """A saga of Asha's, as far as it goes by itself."""
    answer = asha("POST", f"/sagas/{saga}", body, Idempotency_Key=f"hostile-{next(keys)}")
    assert answer.status == 202, answer
    made.settle()
    found: str = answer.json["saga_id"]
    return found


HOSTILE = [
    *("", " ", "\n\t", "\u0000", "\ud800", "x" * 1001, "\\" * 1000),
    *("\U0001f600" * 1000, "\u0001" * 1000, "</script>{{7*7}}", "$.reason", "States.Format('{}')"),
]
texts = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    [*EVERYDAY, *HIDDEN, *HOSTILE]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
reasons = st.one_of(texts, texts, texts, anything)


def bodies(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes | None]:
    """Bodies that have these fields, mostly; else others, or no JSON at all."""
    good = st.fixed_dictionaries({}, optional=fields)
    more = st.fixed_dictionaries(fields, optional={"by": texts, "saga_id": texts})
    made = st.one_of(good, good, good, more, anything).map(lambda one: json.dumps(one).encode())
    return st.one_of(made, made, made, st.binary(max_size=40), st.none())


garbage = st.one_of(
    st.sampled_from(['"1"', "*", '"*"', 'W/"1"', "", "garbage", '"', ",,,", '"1", "2"']),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "If_Match": garbage,
        "traceparent": garbage | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        "Idempotency_Key": garbage,
        "Prefer": garbage,
        "Content_Type": st.sampled_from(["application/json", "application/json; x", "text/plain"]),
    },
)
disturbed = st.fixed_dictionaries(
    {},
    optional={
        "Recourse_Chaos": garbage
        | st.sampled_from(["refund=reject", "refund=crash:1", "nothing=reject", "flight.undo=late"])
    },
)
coordinations = st.sampled_from(
    ["", "", "", "?coordination=choreography", "?coordination=none", "?coordination=", "?x=1"]
)


def must_be_a_problem(answer: Answer) -> None:
    """What is refused is a problem of the catalogue."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == MEDIA_TYPE, answer
    found = answer.json
    assert (answer.status, found["title"]) == TYPES[found["type"].removeprefix(urn(""))]
    answer.text.encode()


def reason_of(body: bytes | None) -> Any:
    return json.loads(body)["reason"] if body and b'"reason"' in body else None


@pytest.fixture(scope="module")
def trips(made: Ground) -> list[str]:
    """The trip that is asked to be reversed, the last; those before it are."""
    return [begin(made, "travel-booking", TRIP)]


@examples(150)
@given(
    who=st.sampled_from(sorted(CALLERS)),
    body=bodies(reason=reasons),
    query=coordinations,
    more=headers,
    chaos=disturbed,
)
def test_a_trip_is_reversed_for_whom_it_may_be_and_once(
    made: Ground,
    trips: list[str],
    who: str,
    body: bytes | None,
    query: str,
    more: dict[str, str],
    chaos: dict[str, str],
) -> None:
    saga = trips[-1]
    path = f"/sagas/{saga}/reverse"
    answer = CALLERS[who]("POST", path + query, body, **more, **chaos)
    shown = asha.get(saga).json
    if answer.status != 202:
        must_be_a_problem(answer)
        assert "reversed_by" not in shown and shown["status"] == "SUCCEEDED"
        return
    assert who in ("the owner", "an operator", "an operator who insures")
    back = answer.json["saga_id"]
    assert (shown["reversed_by"], answer.json["owner"]) == (back, "asha")
    for other in CALLERS:
        again = CALLERS[other]("POST", path, b'{"reason": "again"}')
        if again.status == 202:
            assert again.json["saga_id"] == back
        else:
            assert again.status in (401, 403, 404), again
    assert asha.get(back).json["reverses"]["reason"] == reason_of(body)
    made.settle()
    ended = must_be_as_told(made, SAGAS["trip-refund"], back)
    assert ended == "SUCCEEDED" or "reject" in chaos["Recourse_Chaos"]
    trips.append(begin(made, "travel-booking", TRIP))


@pytest.fixture(scope="module")
def visits(made: Ground) -> dict[str, str]:
    """The visits whose insurers are asked, by policy."""
    return {}


@examples(200)
@given(
    who=st.sampled_from(sorted(CALLERS)),
    policy=st.sampled_from(["asked", "acme's"]),
    body=bodies(
        decision=st.one_of(*[st.sampled_from(["approve", "reject"])] * 3, reasons), reason=reasons
    ),
    query=coordinations,
    more=headers,
)
def test_a_claim_is_decided_by_whom_is_asked_and_once(
    made: Ground,
    visits: dict[str, str],
    who: str,
    policy: str,
    body: bytes | None,
    query: str,
    more: dict[str, str],
) -> None:
    if policy not in visits:
        visits[policy] = begin(made, "visit", BODY | {"policy_id": policy})
    saga = visits[policy]
    path = f"/claims/{saga}/decision"
    answer = CALLERS[who]("POST", path + query, body, **more)
    shown = operator("GET", f"/claims/{saga}").json
    if answer.status != 200:
        must_be_a_problem(answer)
        assert (shown["status"], shown["decided"]) == ("open", None)
        assert saga in {one["id"] for one in ACME("GET", "/claims").json["items"]}
        return
    assert who == "the insurer" or (
        policy == "asked" and who in ("an insurer", "an operator who insures")
    )
    decided = answer.json["decided"]
    assert decided["by"] == CALLERS[who].subject
    assert decided["reason"] == (reason_of(body) or "").strip()
    for other in CALLERS:
        for choice in ("approve", "reject"):
            again = CALLERS[other]("POST", path, {"decision": choice, "reason": "again"})
            must_be_a_problem(again)
            if again.status == 409:
                assert str(CALLERS[who].subject) in again.json["detail"]
    made.settle()
    assert operator("GET", f"/claims/{saga}").json["decided"] == decided
    ended = must_be_as_told(made, SAGAS["visit"], saga)
    assert ended == {"approve": "SUCCEEDED", "reject": "COMPENSATED"}[decided["decision"]]
    del visits[policy]


@examples(60)
@given(
    who=st.sampled_from(sorted(CALLERS)),
    name=st.sampled_from(["claims", "Claims", "sagas", "claims%20", ""]) | texts,
    query=st.lists(
        st.tuples(
            st.sampled_from(["status", "cursor", "limit", "to", "x"]),
            st.sampled_from(["open"]) | garbage,
        ),
        max_size=3,
    ),
)
def test_a_list_of_claims_is_of_whoever_may_decide(
    made: Ground, who: str, name: str, query: list[tuple[str, str]]
) -> None:
    name = quote(name, safe="%", errors="replace")
    answer = CALLERS[who]("GET", f"/{name}?{urlencode(query)}")
    if answer.status != 200:
        must_be_a_problem(answer)
    elif name == "claims":
        may = ("an insurer", "the insurer", "an operator", "an operator who insures")
        assert who in may
        subject = CALLERS[who].subject
        assert {one["to"] for one in answer.json["items"]} <= {None, subject}
