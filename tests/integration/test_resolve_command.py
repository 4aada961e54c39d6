"""`recourse resolve --where` resolves those parked sagas that are meant, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import pytest
from typer.testing import CliRunner

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from tests.ground import Ground, ground
from tests.integration.calling import Caller
from tests.integration.test_api import asha, operator, problem, standing
from tests.integration.trips import TRIP, must_agree, stock

EACH = 3
"""How many sagas are parked in each way, in each coordination."""
WAYS = {
    "an undo": {"capture": "reject", "hotel.undo": "error:16"},
    "another error": {"capture": "reject", "hotel.undo": "reject:4"},
    "another step": {"capture": "reject", "car.undo": "reject:4"},
    "two undos": {"capture": "reject", "car.undo": "reject:4", "hotel.undo": "error:16"},
    "after the pivot": {"invoice": "error:16"},
}
RATE = 100
"""How many sagas are asked for in a second."""
Cli = Callable[..., Any]


@pytest.fixture
def made() -> Iterator[Ground]:
    with ground() as made, standing(made):
        stock(made)
        yield made


@pytest.fixture
def cli(made: Ground, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs the command on the API, as an operator; when it waits, messages are delivered."""

    def wait(seconds: float) -> None:
        if seconds > 1 / RATE:
            made.settle()

    def run(*asked: str, by: Caller = operator, code: int = 0) -> Any:
        def answer(request: httpx.Request) -> httpx.Response:
            target = request.url.raw_path.decode()
            body = request.read() or None
            headers = {
                name.replace("-", "_"): value
                for name, value in request.headers.items()
                if name in ("if-match", "content-type")
            }
            got = by(request.method, target, body, **headers)
            return httpx.Response(got.status, text=got.text, headers=dict(got.headers))

        transport = httpx.MockTransport(answer)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        monkeypatch.setattr("time.sleep", wait)
        asked = ("resolve", "--rate", str(RATE), *asked, "--json")
        ended = CliRunner().invoke(main.app, list(asked), catch_exceptions=False)
        assert ended.exit_code == code, ended.output
        return json.loads(ended.stdout) if ended.stdout else ended.stderr

    return run


def park(made: Ground) -> dict[str, list[str]]:
    """Sagas that are parked in every way, in each coordination, by the way."""
    parked = {
        way: [
            made.start(
                "travel-booking", TRIP, key=f"{way} {n} {by}", coordination=by, faults=faults
            )
            for by in get_args(Coordination)
            for n in range(EACH)
        ]
        for way, faults in WAYS.items()
    }
    made.settle()
    return parked


def test_of_dozens_of_parked_sagas_only_those_that_match_are_resolved(
    made: Ground, cli: Cli
) -> None:
    parked = park(made)
    fine = made.start("travel-booking", TRIP, key="fine")
    every = [saga for sagas in parked.values() for saga in sagas]
    before = {saga: made.view(saga) for saga in every}
    assert all(view["stuck"] for view in before.values())
    where = ("--where", "status=COMPENSATION_FAILED,step=hotel,error=TransientError")
    retry = ("--action", "retry")
    meant = {*parked["an undo"], *parked["two undos"]}
    shown = cli(*where, *retry)
    assert {one["saga_id"] for one in shown["sagas"]} == meant
    assert {saga: made.view(saga) for saga in every} == before, "it has only looked"

    done = cli(*where, *retry, "--yes")
    assert {one["saga_id"]: one["outcome"] for one in done["sagas"]} == dict.fromkeys(
        meant, "resolved"
    )
    for saga in every:
        if saga not in meant:
            assert made.view(saga) == before[saga]
            continue
        assert must_agree(made, saga) == "COMPENSATED"
        record = made.ledger.get(saga)
        assert record is not None
        assert len(record.resolutions) == 1, "two undos of a saga are retried by one decision"
    assert cli(*where, *retry, "--yes")["matched"] == 0

    done = cli("--where", "step=invoice,status=RUNNING", *retry, "--yes")
    assert {one["saga_id"] for one in done["sagas"]} == {*parked["after the pivot"]}
    assert {must_agree(made, saga) for saga in parked["after the pivot"]} == {"SUCCEEDED"}

    skip = ("--action", "skip", "--reason", "by hand", "--yes")
    done = cli("--where", "status=COMPENSATION_FAILED", *skip)
    left = {*parked["another error"], *parked["another step"]}
    assert {one["saga_id"]: one["outcome"] for one in done["sagas"]} == dict.fromkeys(
        left, "resolved"
    )
    assert {made.view(saga)["status"] for saga in left} == {"COMPENSATED"}
    made.settle()
    assert must_agree(made, fine) == "SUCCEEDED"


def test_who_is_no_operator_resolves_nothing(made: Ground, cli: Cli) -> None:
    saga = made.start("travel-booking", TRIP, key="one", faults=WAYS["an undo"])
    made.settle()
    asked = ("--where", "status=COMPENSATION_FAILED", "--action", "retry", "--yes")
    told = cli(*asked, by=asha, code=3)
    assert [one["outcome"] for one in told["sagas"]] == ["not_reached"]
    assert "operator" in told["stopped"]
    assert made.view(saga)["status"] == "COMPENSATION_FAILED"


def test_a_decision_is_carried_out_on_the_version_that_was_seen_and_on_no_other(
    made: Ground,
) -> None:
    saga = made.start("travel-booking", TRIP, key="one", faults=WAYS["another step"])
    made.settle()
    path = f"/sagas/{saga}/steps/car/resolve"
    seen = operator.get(saga).headers["etag"]
    for tag in ('"0"', "nonsense", ""):
        problem(operator("POST", path, {"action": "retry"}, If_Match=tag), 412, "saga-changed")
    answer = operator("POST", path, {"action": "retry"}, If_Match=f'"0", {seen}')
    assert answer.status == 202 and answer.headers["etag"] != seen
    problem(operator("POST", path, {"action": "retry"}, If_Match=seen), 412, "saga-changed")
    made.settle()
    assert must_agree(made, saga) == "COMPENSATED"
    problem(operator("POST", path, {"action": "retry"}, If_Match="*"), 409, "nothing-to-resolve")


def test_two_operators_with_the_same_version_decide_once(made: Ground) -> None:
    saga = made.start("travel-booking", TRIP, key="one", faults=WAYS["another step"])
    made.settle()
    record = made.ledger.get(saga)
    assert record is not None
    path, seen = f"/sagas/{saga}/steps/car/resolve", operator.get(saga).headers["etag"]

    def first() -> None:
        made.ledger.resolve(saga, "car", skip=True, reason="by hand", by="another")

    get = made.ledger.get
    with pytest.MonkeyPatch.context() as patch:
        looks: list[str] = []

        def looked(saga_id: str) -> Any:
            """Between the API's look and its write, another operator decides."""
            looks.append(saga_id)
            if len(looks) == 2:
                patch.setattr(made.ledger, "get", get)
                first()
            return get(saga_id)

        patch.setattr(made.ledger, "get", looked)
        answer = operator("POST", path, {"action": "retry"}, If_Match=seen)
    problem(answer, 412, "saga-changed")
    record = made.ledger.get(saga)
    assert record is not None
    assert [one["by"] for one in record.resolutions] == ["another"]
