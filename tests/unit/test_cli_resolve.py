"""`recourse resolve --where`, against an API that is played."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from recourse.cli import command, main
from recourse.cli.api import Api
from recourse.cli.exits import UsageError
from recourse.cli.where import Where

HOSTILE = "x\x1b[2Jy\nrecourse: all is well"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@dataclass
class Saga:
    """A saga that is played.

    Attributes:
        number: Its number, by which it was started and has failed.
        status: Its status.
        stuck: Its steps that wait for an operator, with their errors.
        name: Its name.
        becomes: Its status, and the steps that are stuck then, after each decision.
        moves: After how many looks a decision shows.
        answers: What the next calls to resolve it are answered instead: a status, with the kind of
            the problem; or "lost", where the decision is carried out and nobody hears of it.
    """

    number: int
    status: str = "COMPENSATION_FAILED"
    stuck: dict[str, str] = field(default_factory=lambda: {"payment": "OopsError"})
    name: str = "order"
    becomes: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    moves: int = 0
    answers: list[Any] = field(default_factory=list)
    version: int = 1
    decided: list[tuple[str, str]] = field(default_factory=list)
    under_way: int | None = None

    def look(self) -> dict[str, Any]:
        if self.under_way is not None:
            self.under_way -= 1
            if self.under_way < 0:
                self.under_way = None
                ended = ("COMPENSATED", dict[str, str]())
                self.status, self.stuck = self.becomes.pop(0) if self.becomes else ended
                self.version += 1
        return self.view()

    def view(self) -> dict[str, Any]:
        undoing = self.under_way is not None
        return {
            "saga_id": f"s{self.number}",
            "saga": self.name,
            "status": "COMPENSATING" if undoing else self.status,
            "business_key": f"k{self.number}",
            "started_at": f"2026-11-24T10:00:{self.number:02}.000Z",
            "steps": [
                {
                    "name": name,
                    "status": self._status(name),
                    "error": self.stuck.get(name),
                    "message": f"no {name}" if name in self.stuck else None,
                    "ended_at": f"2026-11-24T11:00:{self.number:02}.000Z",
                }
                for name in ("payment", "hotel")
            ],
            "stuck": [] if undoing else list(self.stuck),
        }

    def _status(self, name: str) -> str:
        failed = {"RUNNING": "FAILED"}.get(self.status, "UNDO_FAILED")
        if name not in self.stuck:
            return "UNDONE"
        return failed if self.under_way is None else "UNDOING"


@dataclass
class Played:
    """An API with sagas, of which a page has two.

    Attributes:
        sagas: The sagas.
        calls: What was called, in order.
        before: Called before each call.
    """

    sagas: list[Saga]
    calls: list[str] = field(default_factory=list)
    before: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, dict(request.url.params)
        self.calls.append(f"{request.method} {path}")
        if instead := self.before(request):
            return instead
        if path == "/sagas":
            found = [
                one
                for one in self.sagas[::-1]
                if one.view()["status"] == query["status"]
                and query.get("saga") in (None, one.name)
                and query.get("business_key") in (None, one.view()["business_key"])
            ]
            at = int(query.get("cursor", 0))
            cursor = str(at + 2) if len(found) > at + 2 else None
            items = [one.view() for one in found[at : at + 2]]
            return httpx.Response(200, json={"items": items, "cursor": cursor})
        saga = next(one for one in self.sagas if f"s{one.number}" == path.split("/")[2])
        if request.method == "GET":
            view = saga.look()
            return httpx.Response(200, json=view, headers={"etag": f'"{saga.version}"'})
        return self._decide(saga, path.split("/")[4], request)

    def _decide(self, saga: Saga, step: str, request: httpx.Request) -> httpx.Response:
        told = saga.answers.pop(0) if saga.answers else None
        if told not in (None, "lost"):
            status, kind = told
            body = {"type": f"urn:recourse:problem:{kind}", "title": kind, "detail": "why"}
            return httpx.Response(status, json=body, headers={"retry-after": "7"})
        if request.headers["if-match"] != f'"{saga.version}"':
            return problem(412, "saga-changed")
        if step not in saga.view()["stuck"]:
            return problem(409, "nothing-to-resolve")
        saga.decided.append((step, json.loads(request.content)["action"]))
        saga.version += 1
        saga.under_way = saga.moves
        if told == "lost":
            raise httpx.ReadTimeout("the answer is lost")
        return httpx.Response(202, json=saga.view())


def problem(status: int, kind: str) -> httpx.Response:
    body = {"type": f"urn:recourse:problem:{kind}", "title": kind, "detail": f"{kind} it is"}
    return httpx.Response(status, json=body)


Run = Callable[..., Result]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long it has waited, which takes no time."""
    found: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        found.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> Run:
    """Runs the command against an API that is played."""

    def ran(played: Played, where: str | list[str], *arguments: str, code: int = 0) -> Result:
        transport = httpx.MockTransport(played)
        monkeypatch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        given = [where] if isinstance(where, str) else where
        asked = ["resolve", "--token", "t", *(part for one in given for part in ("--where", one))]
        action = () if "--action" in arguments else ("--action", "retry")
        ended = CliRunner().invoke(main.app, [*asked, *action, *arguments])
        assert ended.exit_code == code, ended.output
        return ended

    return ran


def outcomes(result: Result) -> dict[str, str]:
    return {one["saga_id"]: one["outcome"] for one in json.loads(result.stdout)["sagas"]}


FAILED = "status=COMPENSATION_FAILED"


def test_without_yes_it_shows_what_it_would_do_and_does_nothing(run: Run) -> None:
    mixed = {"payment": "OopsError", "hotel": "ClientError"}
    played = Played([*map(Saga, range(5)), Saga(5, stuck=mixed), Saga(6, "RUNNING")])
    shown = run(played, f"{FAILED},step=payment").stdout
    assert re.search(r"6 .*order .*COMPENSATION_FAILED .*payment .*OopsError", shown)
    assert "nothing was done: --yes does retry 6 of 6" in shown
    assert not [one for one in played.calls if one.startswith("POST")]
    told = json.loads(run(played, "step=payment", "--json").stdout)
    assert told["dry_run"] is True and told["matched"] == 7 and told["looked_at"] == 7
    assert [one["saga_id"] for one in told["sagas"]] == [f"s{n}" for n in range(7)]
    kinds = {(one["status"], one["error"]): one["count"] for one in told["groups"]}
    assert kinds == {("COMPENSATION_FAILED", "OopsError"): 6, ("RUNNING", "OopsError"): 1}


def test_only_what_matches_is_resolved_and_both_kinds_of_parked_sagas_can_be_meant(
    run: Run,
) -> None:
    sagas = [
        Saga(0),
        Saga(1, "RUNNING"),
        Saga(2, stuck={"hotel": "OopsError"}),
        Saga(3, stuck={"payment": "ClientError"}),
        Saga(4, "RUNNING", stuck={}),
        Saga(5, "SUCCEEDED", stuck={}),
        Saga(6, name="trip"),
    ]
    ended = run(Played(sagas), "step=payment,error=OopsError,saga=order", "--yes", "--json")
    assert outcomes(ended) == {"s0": "resolved", "s1": "resolved"}
    assert [one.decided for one in sagas] == [[("payment", "retry")]] * 2 + [[]] * 5


def test_nothing_is_called_resolved_before_its_step_has_moved(run: Run) -> None:
    never = Saga(1, moves=10**6)
    ended = run(Played([Saga(0, moves=3), never]), FAILED, "--yes", "--json", code=4)
    assert outcomes(ended) == {"s0": "resolved", "s1": "accepted"}
    again = Saga(2, becomes=[("COMPENSATION_FAILED", {"payment": "ClientError"})])
    ended = run(Played([again]), FAILED, "--yes", code=3)
    assert "stuck again" in ended.stdout and "payment: ClientError: no payment" in ended.stdout
    ended = run(Played([Saga(3, moves=1)]), FAILED, "--yes", "--wait", "0", "--json", code=4)
    assert outcomes(ended) == {"s3": "accepted"}


def test_a_saga_that_is_still_parked_at_another_step_says_so(run: Run) -> None:
    both = {"payment": "OopsError", "hotel": "OopsError"}
    saga = Saga(0, stuck=both, becomes=[("COMPENSATION_FAILED", {"hotel": "OopsError"})])
    ended = run(Played([saga]), "step=payment", "--yes")
    assert "resolved" in ended.stdout
    assert "the saga waits for an operator at hotel" in ended.stdout


def test_a_retry_is_of_all_steps_of_a_saga_and_a_skip_of_each_that_stays_stuck(run: Run) -> None:
    both = {"payment": "OopsError", "hotel": "OopsError"}
    saga = Saga(0, stuck=dict(both))
    run(Played([saga]), FAILED, "--yes")
    assert saga.decided == [("payment", "retry")]
    saga = Saga(1, stuck=dict(both), becomes=[("COMPENSATION_FAILED", {"hotel": "OopsError"})])
    run(Played([saga]), FAILED, "--action", "skip", "--reason", "by hand", "--yes")
    assert saga.decided == [("payment", "skip"), ("hotel", "skip")]


def test_the_longest_stuck_come_first_and_no_more_than_the_limit(run: Run) -> None:
    sagas = [Saga(number) for number in range(5)]
    ended = run(Played(sagas), FAILED, "--yes", "--limit", "2", code=4)
    assert [bool(one.decided) for one in sagas] == [True, True, False, False, False]
    assert "3 more match: run it again" in ended.stdout


def test_no_more_sagas_are_looked_at_than_may_be(run: Run) -> None:
    played = Played([Saga(number, "RUNNING") for number in range(9)])
    ended = run(played, "status=RUNNING", "--examine", "4")
    assert "only 4 sagas were looked at" in ended.stdout
    assert len(played.calls) == 3, "three pages: the last has what is not looked at"
    assert run(played, "status=RUNNING", "--examine", "4", "--yes", code=4)


def test_no_more_sagas_are_asked_for_a_second_than_may_be(run: Run, slept: list[float]) -> None:
    run(Played([Saga(number) for number in range(4)]), FAILED, "--yes", "--rate", "2")
    assert slept[:4] == [0.5] * 4


def test_what_another_operator_has_resolved_meanwhile_is_passed_over(run: Run) -> None:
    sagas = [Saga(0), Saga(1)]

    def other(request: httpx.Request) -> None:
        if request.method == "GET" and request.url.path == "/sagas/s0":
            sagas[0].status, sagas[0].stuck = "COMPENSATED", {}

    ended = run(Played(sagas, before=other), FAILED, "--yes", "--json")
    assert outcomes(ended) == {"s0": "passed_over", "s1": "resolved"}
    assert sagas[0].decided == []


def test_what_changes_between_the_look_and_the_decision_is_looked_at_again(run: Run) -> None:
    sagas = [Saga(0), Saga(1)]

    def other(request: httpx.Request) -> None:
        number = request.url.path.split("/")[-1] == "resolve" and request.url.path[8]
        if number == "0" and sagas[0].version == 1:
            sagas[0].version, sagas[0].stuck = 2, {"payment": "ClientError"}
        if number == "1" and sagas[1].version == 1:
            sagas[1].version = 2

    where = f"{FAILED},error=OopsError"
    ended = run(Played(sagas, before=other), where, "--yes", "--json")
    assert outcomes(ended) == {"s0": "passed_over", "s1": "resolved"}
    assert sagas[0].decided == [] and len(sagas[1].decided) == 1


def test_a_decision_whose_answer_is_lost_is_not_sent_twice(run: Run) -> None:
    stuck_again = ("COMPENSATION_FAILED", {"payment": "OopsError"})
    sagas = [Saga(0, answers=["lost"]), Saga(1, answers=["lost"], becomes=[stuck_again])]
    ended = run(Played(sagas), FAILED, "--yes", "--json", code=3)
    assert outcomes(ended) == {"s0": "resolved", "s1": "stuck_again"}
    assert [len(one.decided) for one in sagas] == [1, 1]


@pytest.mark.parametrize("told", [(429, "too-often"), (503, "try-again"), (500, "internal")])
def test_what_may_pass_is_waited_out(run: Run, slept: list[float], told: tuple[int, str]) -> None:
    saga = Saga(0, answers=[told, told])
    assert outcomes(run(Played([saga]), FAILED, "--yes", "--json")) == {"s0": "resolved"}
    assert len([one for one in slept if one >= 7]) == 2, "as Retry-After says"
    assert len(saga.decided) == 1


@pytest.mark.parametrize("told", [(409, "pivot-not-skipped"), (404, "not-found"), (422, "invalid")])
def test_what_is_refused_says_why_and_the_others_go_on(run: Run, told: tuple[int, str]) -> None:
    ended = run(Played([Saga(0, answers=[told]), Saga(1)]), FAILED, "--yes", "--json", code=3)
    assert outcomes(ended) == {"s0": "refused", "s1": "resolved"}
    assert f"{told[1]} ({told[0]}): why" in json.loads(ended.stdout)["sagas"][0]["why"]


def test_one_saga_that_the_api_fails_at_holds_up_no_other_and_an_outage_ends_it(run: Run) -> None:
    down = (500, "internal")
    sagas = [Saga(0, answers=[down] * 99), *map(Saga, range(1, 4))]
    ended = run(Played(sagas), FAILED, "--yes", "--json", code=3)
    assert outcomes(ended)["s0"] == "unanswered"
    assert set(outcomes(ended).values()) == {"unanswered", "resolved"}
    sagas = [Saga(number, answers=[down] * 99) for number in range(9)]
    ended = run(Played(sagas), FAILED, "--yes", "--json", code=3)
    found = list(outcomes(ended).values())
    assert found == ["unanswered"] * 3 + ["not_reached"] * 6
    assert "for 3 sagas in a row" in ended.stderr


def test_failures_with_answers_between_them_are_no_outage(run: Run) -> None:
    sagas = [Saga(n, answers=[(500, "internal")] * 99 if n % 2 else []) for n in range(8)]
    ended = run(Played(sagas), FAILED, "--yes", "--json", code=3)
    assert list(outcomes(ended).values()) == ["resolved", "unanswered"] * 4


class HalfMoved(Saga):
    """While it is under way one of its two steps has moved."""

    def _status(self, name: str) -> str:
        return "UNDONE" if name == "payment" else super()._status(name)


def test_a_saga_of_two_steps_is_resolved_when_both_have_moved(run: Run) -> None:
    saga = HalfMoved(0, stuck={"payment": "OopsError", "hotel": "OopsError"}, moves=10**6)
    assert outcomes(run(Played([saga]), FAILED, "--yes", "--json", code=4)) == {"s0": "accepted"}


def test_a_token_that_runs_out_ends_it_and_it_says_what_was_done(run: Run) -> None:
    sagas = [Saga(number) for number in range(4)]

    def expired(request: httpx.Request) -> httpx.Response | None:
        is_late = request.url.path == "/sagas/s2/steps/payment/resolve"
        return httpx.Response(401, json={"type": "x:unauthorized"}) if is_late else None

    ended = run(Played(sagas, before=expired), FAILED, "--yes", "--json", code=3)
    assert outcomes(ended) == {
        **dict.fromkeys(("s0", "s1"), "accepted"),
        **dict.fromkeys(("s2", "s3"), "not_reached"),
    }
    assert "stopped:" in ended.stderr and "(401)" in ended.stderr
    assert json.loads(ended.stdout)["stopped"]
    assert [len(one.decided) for one in sagas] == [1, 1, 0, 0]
    # With another token it goes on, and does nothing twice.
    assert outcomes(run(Played(sagas), FAILED, "--yes", "--json")) == {
        "s2": "resolved",
        "s3": "resolved",
    }
    assert [len(one.decided) for one in sagas] == [1, 1, 1, 1]


def test_it_can_be_interrupted_and_says_what_was_done(run: Run) -> None:
    sagas = [Saga(number) for number in range(4)]

    def interrupt(request: httpx.Request) -> None:
        if request.url.path == "/sagas/s2/steps/payment/resolve" and not sagas[3].decided:
            raise KeyboardInterrupt

    ended = run(Played(sagas, before=interrupt), FAILED, "--yes", code=130)
    for said in ("2 accepted, and still under way", "1 without an answer", "1 not reached"):
        assert said in ended.stdout
    assert "stopped: interrupted" in ended.stderr and "run it again" in ended.stderr
    run(Played(sagas), FAILED, "--yes")
    assert [len(one.decided) for one in sagas] == [1, 1, 1, 1]


def test_where_nothing_matches_it_says_what_waits(run: Run) -> None:
    for more in ([], ["--yes"]):
        shown = run(Played([Saga(0)]), f"{FAILED},error=MisspeltError", *more).stdout
        assert "nothing that waits matches; what waits is" in shown and "OopsError" in shown
        assert "nothing waits for an operator" in run(Played([]), FAILED, *more).stdout


def test_a_step_that_no_saga_has_is_an_error_that_names_those_there_are(run: Run) -> None:
    ended = run(Played([Saga(0)]), "step=moon", "--yes", code=2)
    assert "none of the 1 that were looked at has 'moon', but hotel, payment" in ended.stderr


def test_a_filter_that_the_api_refuses_is_an_error(run: Run) -> None:
    def refuse(request: httpx.Request) -> httpx.Response | None:
        is_list = request.url.path == "/sagas"
        return problem(422, "saga: must be one of order, trip") if is_list else None

    ended = run(Played([Saga(0)], before=refuse), "saga=moon", "--yes", code=2)
    assert "must be one of order, trip" in ended.stderr


def test_what_others_wrote_does_not_act_on_the_terminal(run: Run) -> None:
    hostile = Saga(
        0,
        name=HOSTILE,
        stuck={"payment": HOSTILE},
        becomes=[("COMPENSATION_FAILED", {"payment": HOSTILE})],
    )
    for more, code in (([], 0), (["--yes"], 3)):
        ended = run(Played([hostile]), FAILED, *more, code=code)
        assert "\x1b" not in ended.output
        assert "recourse: all is well" not in ended.output.split("\n")


# What is asked for.


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([""], "must have a filter: status, saga, step, error"),
        (["moon=1"], "must be one of status, saga, step, error, business_key"),
        (["status"], "status must have a value"),
        (["step="], "step must have a value"),
        (["step=a,"], "must be one of status"),
        (["status=SUCCEEDED"], "must be COMPENSATION_FAILED or RUNNING"),
        (["status=running"], "must be COMPENSATION_FAILED or RUNNING"),
        (["step=a,step=b"], "step must be given once, got 'a' and 'b'"),
        (["step=a", "step=b"], "step must be given once, got 'a' and 'b'"),
        (["older_than=2h,younger_than=1h"], "as old and as young"),
        (["older_than=2"], "must be an age as 90s, 15m, 2h or 3d, or a moment"),
        (["older_than=2026-11-24"], "must be an age"),
        (["older_than=999999999d"], "must be an age"),
        (["younger_than=-1h"], "must be an age"),
        (['"step=a'], "cannot be read"),
        (["step=a\nerror=b"], "cannot be read"),
    ],
)
def test_a_filter_that_is_not_valid_is_an_error_that_says_what_is(
    texts: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Where.parse(texts, now=NOW)


def test_a_value_may_have_a_comma_and_ages_are_moments() -> None:
    where = Where.parse(['"business_key=a,b=c", step=x'], now=NOW)
    assert (where.business_key, where.step) == ("a,b=c", "x")
    where = Where.parse(["older_than=90m", "younger_than=2026-11-24T10:00:00+05:30"], now=NOW)
    assert where.before == NOW - timedelta(minutes=90)
    assert where.after == datetime(2026, 11, 24, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        ("older_than=2026-11-24T10:00:02Z", True),
        ("older_than=2026-11-24T10:00:01Z", False),
        ("younger_than=2026-11-24T10:00:01Z", True),
        ("younger_than=2026-11-24T10:00:02Z", False),
        ("business_key=k1", True),
        ("business_key=k", False),
        ("status=RUNNING", False),
    ],
)
def test_a_filter_is_of_the_saga_and_the_step_together(where: str, matches: bool) -> None:
    assert bool(Where.parse([where], now=NOW).matching(Saga(1).view())) is matches


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--action", "retry"], "give a saga's id and the name of its stuck step, or --where"),
        (["s1", "--action", "retry"], "give a saga's id and the name of its stuck step"),
        (
            ["s1", "a", "--where", "step=a", "--action", "retry"],
            "either a saga's id and a step, or",
        ),
        (["--where", "step=a", "--action", "skip"], "--reason must be given for a skip"),
        (["--where", "step=a", "--action", "skip", "--reason", " "], "--reason must be given"),
    ],
)
def test_what_contradicts_itself_is_refused_before_any_call(asked: list[str], said: str) -> None:
    ended = CliRunner().invoke(main.app, ["resolve", "--api", "http://127.0.0.1:9", *asked])
    assert ended.exit_code == 2 and said in ended.stderr
