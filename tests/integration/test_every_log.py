"""Every function is driven to every line that it can log, and each says what it must.

`DRIVES` names the handler that each is of. `tests/infra/test_functions.py` holds that against the
functions of the templates, so a new function fails until somebody drives it; and a new line of the
log fails here until a drive comes to it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import pytest
from botocore.exceptions import ClientError

from lambdas import payments
from recourse.choreography.listener import Listener
from recourse.errors import PoisonError, TransientError, WaitingError
from recourse.feed.feed import InvalidEventError
from recourse.feed.pusher import Pusher
from recourse.functions import (
    authorise,
    confirm,
    feed,
    import_files,
    import_starts,
    kit,
    ledger,
    park,
    push,
    relay,
    sse,
    step,
    step_queue,
    sweeper,
    valet,
    valet_commit,
    webhook_deliver,
    webhook_dispatch,
    websocket,
)
from recourse.functions.api import imports as api_imports
from recourse.functions.api import sagas as api_sagas
from recourse.functions.bearer import UnauthorizedError
from recourse.ledger.ledger import UnknownSagaError
from recourse.ledger.record import Record
from recourse.ledger.shapes import Shapes
from recourse.queues.sources import SourceQueue
from recourse.store.contention import InvalidItemError
from recourse.store.items import encode_item
from recourse.valet.errors import BadTokenError
from recourse.webhooks.attempts import Attempt
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.lanes import Lane
from recourse.webhooks.sending import Answer
from statemachines import SAGAS
from tests.events import event
from tests.logs import SENT, Lines, lines, sites

SAGA_ID = "5a9a1d" + "0" * 26
DONE = replace(
    event(SAGA_ID, "travel-booking", "done", step="payment", sequence=4, result={"secret": 1}),
    traceparent=SENT,
)
STARTED = replace(
    event(
        SAGA_ID,
        "travel-booking",
        "started",
        carried={
            "saga": {"id": SAGA_ID, "name": "travel-booking", "traceparent": SENT},
            "request": {"flight": {"id": "AI-202", "seats": 1}, "secret": 1},
            "results": {},
        },
    ),
    traceparent=SENT,
)
MESSAGE = {"message_id", "attempt"}
SAGA = {"saga_id", "saga", "trace_id"}
EVENT = MESSAGE | SAGA | {"event", "step"}
"""What a line about a message with an event of a step has."""

Drive = Callable[[], object]


class Driven(NamedTuple):
    """A way to have a function log.

    Attributes:
        handler: The function's handler.
        fields: What each line must have.
        drive: Calls it.
    """

    handler: str
    fields: frozenset[str]
    drive: Drive


DRIVES: list[Driven] = []
SILENT = {
    "lambdas.probe.pushed": "it raises, and Lambda logs that",
    "recourse.functions.pre_token.handler": "it decides without a call, and a token is not logged",
}
"""Handlers that log nothing themselves, and why."""


def drives(handler: str, *fields: str) -> Callable[[Drive], Drive]:
    """Note that a function drives a handler, whose every line then has these fields."""

    def note(drive: Drive) -> Drive:
        DRIVES.append(Driven(handler, frozenset(fields), drive))
        return drive

    return note


def record(body: str, receives: int = 2, **attributes: str) -> dict[str, Any]:
    """A message as Lambda gives it to a function."""
    return {
        "messageId": "m",
        "receiptHandle": "r",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "ApproximateFirstReceiveTimestamp": "0",
            "SentTimestamp": "0",
        },
        "messageAttributes": {
            name: {"dataType": "String", "stringValue": one} for name, one in attributes.items()
        },
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:q",
    }


def batch(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records) or [record(DONE.to_json())]}


def queue(*, last: bool = False, fails: bool = False) -> Any:
    """A queue that messages came from; SQS fails where that is asked for."""
    made = mock.Mock(spec=SourceQueue)
    made.is_last_receive.return_value = last
    if fails:
        made.dead_letter.side_effect = made.delay.side_effect = TransientError("SQS is busy")
    return mock.patch.object(kit, "queue", lambda _: made)


def made(name: str, **has: Any) -> Any:
    """A part of `kit` that answers as it is told."""
    return mock.patch.object(kit, name, lambda *_, **__: mock.Mock(**has))


def environ(**variables: str) -> Any:
    return mock.patch.dict("os.environ", variables)


# Steps.


def task(**about: Any) -> dict[str, Any]:
    saga = {"id": SAGA_ID, "name": "travel-booking", "traceparent": SENT, "recover": 0}
    return {"saga": saga, "step": "payment", "phase": "action", "attempt": 1} | about


SHAPES = Shapes(mock.Mock(), "ledger", SAGAS)


@drives("recourse.functions.step.handler", *SAGA, "step", "phase", "attempt", "outcome")
def a_step_is_done_and_fails() -> None:
    context = mock.Mock(get_remaining_time_in_millis=lambda: 30_000)
    for outcome in (None, WaitingError("it waits"), ValueError("oops")):
        runner = mock.Mock(run=mock.Mock(side_effect=outcome))
        with mock.patch.multiple(step, runner=lambda runner=runner: runner, metrics=mock.Mock()):
            if outcome is None:
                step.handler(task(), context)
            else:
                with pytest.raises(Exception, match=str(outcome)):
                    step.handler(task(), context)


@drives("recourse.functions.step_queue.handler", *EVENT, "outcome")
def a_step_hears_an_event_and_what_is_none_of_a_choreography() -> None:
    listener = Listener(
        "FlightsHold",
        mock.Mock(),
        SHAPES,
        mock.Mock(),
        "flights",
        kit.queue,
        budget=30,
    )
    with (
        queue(),
        mock.patch.multiple(step_queue, listener=lambda: listener, metrics=mock.Mock()),
        mock.patch.object(listener, "_queue", kit.queue),
    ):
        done = record(DONE.to_json())
        step_queue.handler(batch(record(STARTED.to_json(), receives=1), done), mock.Mock())


@drives("recourse.functions.park.handler", *SAGA, "step", "attempt", "events")
def a_step_is_parked() -> None:
    parked = [f"recourse.travel-booking.payment.{kind}" for kind in ("failed",)]
    with (
        environ(LEDGER_TABLE="ledger"),
        mock.patch.object(kit, "shapes", lambda: SHAPES),
        mock.patch.multiple(park, park=lambda *_: parked, client=mock.Mock(), metrics=mock.Mock()),
    ):
        park.handler(task(), None)


@drives("recourse.functions.confirm.handler", *EVENT)
def holds_are_confirmed_and_not() -> None:
    with (
        queue(last=True),
        made("dynamodb"),
        environ(TABLE_NAME="flights", SERVICE="flights"),
        mock.patch.object(kit, "shapes", lambda: SHAPES),
        mock.patch.object(confirm, "_confirm", side_effect=[{"outcome": "x"}, ValueError("oops")]),
    ):
        confirm.handler(batch(record(DONE.to_json()), record(DONE.to_json())), None)


# What reads events.


@drives("recourse.functions.ledger.handler", *EVENT)
def events_are_not_recorded() -> None:
    errors = [ValueError("oops"), UnknownSagaError("none"), UnknownSagaError("none")]
    with made("ledger", sagas=SAGAS, record_events=mock.Mock(side_effect=errors)):
        for fails in (False, False, True):
            with queue(fails=fails):
                ledger.handler(batch(), None)


@drives("recourse.functions.ledger.handler", *MESSAGE)
def what_is_no_event_is_dead_lettered() -> None:
    with queue(), made("ledger", sagas=SAGAS):
        ledger.handler(batch(record('{"secret": 1}')), None)


@drives("lambdas.consumers.tally.handler", *EVENT)
def a_consumer_fails_and_is_given_poison() -> None:
    from lambdas.consumers import tally

    context = mock.Mock(get_remaining_time_in_millis=lambda: 60_000)
    for problem in (ValueError("oops"), PoisonError("oops")):
        count = mock.Mock(side_effect=problem)
        with queue(), mock.patch.object(tally, "tally", lambda c=count: mock.Mock(count=c)):
            tally.handler(batch(), context)


@drives("lambdas.probe.pulled", *EVENT)
def the_probe_fails() -> None:
    from lambdas import probe

    effects = mock.Mock(commit=mock.Mock(side_effect=ValueError("oops")))
    with mock.patch.object(probe, "effects", lambda: effects):
        probe.pulled(batch(), mock.Mock(aws_request_id="r"))


@drives("lambdas.subscribers.notifier.handler", *SAGA, "event", "step")
def a_person_is_notified() -> None:
    from lambdas.subscribers import notifier

    with mock.patch.object(notifier, "_notifier", mock.Mock()):
        notifier.handler({"Records": [{"Sns": {"Message": DONE.to_json()}}]}, None)


@drives("lambdas.subscribers.notifier.handler")
def nobody_is_mailed_where_there_is_no_sender() -> None:
    from lambdas.subscribers import notifier

    notifier._nowhere(notifier.Message("to", "subject", "text"))


# A provider's webhooks.


@drives("lambdas.payments.handler")
def a_webhook_is_not_taken_or_not_compared() -> None:
    fields = mock.Mock(fields=dict)
    with mock.patch.object(payments, "secret", lambda: fields):
        payments.handler({"body": "{}"}, None)
        with mock.patch.multiple(
            payments,
            verify=mock.Mock(),
            payment_of=lambda _: "pi_1",
            compare=mock.Mock(side_effect=TransientError("busy")),
        ):
            payments.handler({"body": "{}"}, None)


@drives("lambdas.payments.handler", "saga_id")
def the_books_of_a_payment_disagree() -> None:
    stripe, table = mock.Mock(), mock.Mock()
    stripe.standing.return_value = SimpleNamespace(saga=SAGA_ID, status="canceled")
    table.get.return_value = {"pk": "payment", "status": "CAPTURED"}
    with (
        environ(ALARMS_TOPIC_ARN="t"),
        mock.patch.multiple(
            payments,
            stripe=lambda: stripe,
            table=lambda: table,
            client=mock.Mock(),
            cards=mock.Mock(disagreement=lambda *_: "it was canceled"),
        ),
    ):
        payments.compare("pi_1")


# Streams.


@drives("recourse.functions.relay.handler", "events")
def events_are_relayed() -> None:
    with (
        environ(TOPIC_ARN="t", LOST_URL="q"),
        mock.patch.multiple(relay, relay=lambda *_: 3, client=mock.Mock()),
    ):
        relay.handler(batch(), None)


@drives("recourse.functions.feed.handler", "events")
def events_are_fed() -> None:
    with made("feed", append=lambda *_, **__: 1), environ(LOST_URL="q"):
        feed.handler({"Records": [changed()]}, None)


@drives("recourse.functions.feed.handler", "saga_id")
def an_event_can_never_be_fed() -> None:
    refusing = mock.Mock(append=mock.Mock(side_effect=InvalidEventError("too large")))
    feed.handle_batch(refusing, [changed()], mock.Mock())


def changed() -> dict[str, Any]:
    """A record of the ledger's stream."""
    row = {"pk": SAGA_ID, "owner": "asha", "entered": [DONE.to_dict()]}
    return {"dynamodb": {"NewImage": encode_item(row)}}


# The sweeper.


@drives("recourse.functions.sweeper.handler", "saga_id")
def a_saga_is_healed_and_another_cannot_be() -> None:
    def sweep() -> dict[str, str]:
        sweeper.alarm(SAGA_ID, "no marker")
        return {SAGA_ID: "started"}

    with (
        made("sweeper", sweep=sweep),
        environ(ALARMS_TOPIC_ARN="t"),
        mock.patch.multiple(sweeper, client=mock.Mock(), metrics=mock.Mock()),
    ):
        sweeper.handler({}, None)


@drives("recourse.functions.sweeper.handler", "queue", "since")
def a_queue_is_out_of_reach() -> None:
    made_with: list[Callable[[str, datetime], None]] = []

    def sweep() -> dict[str, str]:
        made_with[0]("recourse-dev-Parked", datetime(2026, 11, 30, tzinfo=UTC))
        return {}

    def sweeping(_: object, passed_over: Callable[[str, datetime], None]) -> SimpleNamespace:
        made_with.append(passed_over)
        return SimpleNamespace(sweep=sweep)

    with mock.patch.object(kit, "sweeper", sweeping):
        sweeper.handler({}, None)


# The API.


def request(method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    """A request of an operator, as the gateway gives it to the API's function."""
    claims = {"sub": "asha", "scope": "operator sagas:read sagas:write"}
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {
            "stage": "$default",
            "requestId": "r",
            "http": {"method": method, "path": path},
            "authorizer": {"jwt": {"claims": claims}},
        },
    }


@drives("lambdas.api.handler")
def the_api_is_busy_and_fails() -> None:
    from lambdas import api

    for problem in (TransientError("busy"), ValueError("oops")):
        with made("ledger", get=mock.Mock(side_effect=problem)):
            api.handler(request("GET", f"/sagas/{SAGA_ID}"), mock.Mock())


@drives("lambdas.api.handler", "by", "queue", "moved", "reasons")
def messages_are_redriven() -> None:
    from lambdas import api

    done = mock.Mock(moved=1, looked_at=1, matched=1, left=0)
    done.configure_mock(reasons=Counter(["oops"]), sagas=Counter())
    found = SimpleNamespace(name="Ledger", why_not=None, redrive=lambda **_: done)
    with mock.patch.object(kit, "deadletters", lambda: {"Ledger": found}):
        body = request("POST", "/deadletters/Ledger/redrive", {"dry_run": False})
        api.handler(body | {"headers": {"content-type": "application/json"}}, mock.Mock())


@drives("lambdas.api.handler", *SAGA)
def a_saga_is_not_started_and_has_no_links() -> None:
    from lambdas import api

    saga = mock.Mock(spec=Record, saga_id=SAGA_ID, saga="travel-booking", trace=SENT)
    saga.log_fields = Record.log_fields.fget(saga)  # type: ignore[attr-defined]
    with made("runs", start=mock.Mock(side_effect=TransientError("busy"))):
        api_sagas._run(saga)
        api_sagas.not_moved_on(saga, TransientError("busy"))
    with (
        mock.patch.multiple(
            api_sagas, _owned=lambda *_: saga, _etag=lambda _: "e", _view=lambda _: {"links": {}}
        ),
        mock.patch("recourse.functions.api.valet.links", side_effect=TransientError("busy")),
    ):
        api.handler(request("GET", f"/sagas/{SAGA_ID}"), mock.Mock())


@drives("lambdas.api.handler", "import_id")
def an_import_is_not_started_and_has_no_link() -> None:
    found = mock.Mock(import_id="i" * 32, owner="asha", result="v")
    who = mock.Mock(subject="asha")
    with (
        made("import_runs", start=mock.Mock(side_effect=TransientError("busy"))),
        made("imports", get=lambda _: found),
        mock.patch.multiple(api_imports, _view=lambda _: {"links": {}}, routes=mock.Mock()),
        mock.patch("recourse.functions.api.valet.result_link", side_effect=TransientError("busy")),
    ):
        api_imports._accepted(found, who)


# Imports.


@drives("recourse.functions.import_files.handler", "import_id", "saga", "rows", "bad", "started")
def a_file_is_checked_and_its_rows_are_joined() -> None:
    counts = {"rows": 3, "bad": 1, "sagas_started": 2, "already_there": 0}
    found = mock.Mock(saga="travel-booking", status="COMPLETED", **counts)
    about = {"import_id": "i" * 32}
    failure = {"Error": "States.Timeout", "Cause": ""}
    with made("import_checker", check=lambda _: found):
        import_files.handler(about | {"phase": "check"}, None)
    with made("import_finisher", finish=lambda *_: found):
        import_files.handler(about | {"phase": "finish", "state": {"failure": failure}}, None)


@drives("recourse.functions.import_starts.handler", "import_id", "batch", "reason")
def a_batch_is_given_up() -> None:
    cause = json.dumps({"errorMessage": "it is busy"})
    failure = {"Error": "TransientError", "Cause": cause}
    about = {"import_id": "i" * 32, "run": 0, "batch": {"number": 0, "rows": []}}
    with made("import_starter"):
        context = mock.Mock(get_remaining_time_in_millis=lambda: 30_000)
        import_starts.handler(about | {"failure": failure}, context)


@drives("recourse.functions.import_starts.handler", *SAGA)
def a_saga_of_an_import_is_left_to_the_sweeper() -> None:
    saga = mock.Mock(spec=Record, saga_id=SAGA_ID, saga="travel-booking", trace=SENT)
    saga.log_fields = Record.log_fields.fget(saga)  # type: ignore[attr-defined]
    import_starts.left_to_sweeper(saga, TransientError("busy"))


# Live channels.


@drives("recourse.functions.authorise.handler", "reason")
def a_token_is_refused() -> None:
    with (
        made("bearers", verify=mock.Mock(side_effect=UnauthorizedError("too old"))),
        pytest.raises(authorise.RefusedError),
    ):
        authorise.handler({"headers": {}}, None)


@drives("recourse.functions.websocket.handler", "owner")
def a_client_sends_too_much() -> None:
    about = {"authorizer": {"owner": "asha"}, "connectionId": "c", "eventType": "MESSAGE"}
    counted = mock.Mock(received=10**6)
    with made("connections", count_message=lambda *_: counted), made("pusher"):
        websocket.handler({"requestContext": about, "body": "{}"}, None)


def wake_ups(pusher: Any, *, fails: bool = False, **attributes: str) -> None:
    """Have wake-ups handled that are events of the feed."""
    named: Any = attributes or {"owner": "asha", "position": "4"}
    with (
        queue(fails=fails),
        mock.patch.object(kit, "pusher", lambda: pusher),
        made("wake_ups"),
    ):
        push.handler(batch(record(DONE.to_json(), **named)), None)


def pusher(**has: Any) -> Any:
    found = mock.Mock(spec=Pusher)
    connections = mock.Mock(clock=lambda: 0.0)
    connections.of.return_value = [SimpleNamespace(name="c", position=0)]
    found.configure_mock(connections=connections, **has)
    found.for_a_batch.return_value = found
    return found


@drives("recourse.functions.push.handler", *EVENT, "owner", "connection")
def an_event_is_not_pushed_to_a_connection() -> None:
    for problem in (TransientError("busy"), ValueError("oops")):
        wake_ups(pusher(push=mock.Mock(side_effect=problem)))


@drives("recourse.functions.push.handler", *EVENT, "owner")
def connections_are_not_found() -> None:
    found = pusher()
    found.connections.of.side_effect = ValueError("oops")
    wake_ups(found)


@drives("recourse.functions.push.handler", *EVENT)
def a_wake_up_is_for_nobody() -> None:
    wake_ups(pusher(), nobody="x")
    wake_ups(pusher(), fails=True, nobody="x")


@drives("recourse.functions.sse.app")
def a_stream_is_not_opened_ends_early_and_keeps_its_slot() -> None:
    busy = ClientError({"Error": {"Code": "Throttling", "Message": ""}}, "GetItem")
    bearers = mock.Mock(verify=lambda *_: mock.Mock(subject="asha", until=0))

    async def no_more(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def ended(*_: Any) -> None:
        """A client that takes what it is sent."""

    async def call(send: Any, head: Any, slots: Any) -> None:
        watch = mock.Mock(head=mock.AsyncMock(side_effect=head))
        stream = sse.Stream(watch, bearers, slots, seconds=0)
        scope = {"path": "/events/stream", "method": "GET", "headers": [], "query_string": b""}
        await stream(scope, no_more, send)

    with mock.patch.object(sse, "FLUSH_SECONDS", 0):
        asyncio.run(call(ended, busy, mock.Mock()))
        stuck = mock.Mock(release=mock.Mock(side_effect=busy))
        asyncio.run(call(no_more, [0], stuck))


# Valet keys.


@drives("recourse.functions.valet.handler")
def a_key_is_not_redeemed() -> None:
    for problem in (BadTokenError("not ours"), TransientError("busy"), ValueError("oops")):
        found = mock.Mock(follow=mock.Mock(side_effect=problem))
        with mock.patch.object(valet, "redeemer", lambda found=found: found):
            valet.handler(request("GET", "/v/token"), None)


def created() -> dict[str, Any]:
    return {"detail-type": "Object Created", "detail": {"object": {"key": "asha/key-1"}}}


@drives("recourse.functions.valet_commit.handler", "key_id", "refusal")
def an_upload_is_not_committed() -> None:
    with made("valet_committer", complete=mock.Mock(side_effect=BadTokenError("none"))):
        valet_commit.handler(created(), None)


@drives("recourse.functions.valet_commit.handler", "keys")
def uploads_are_swept() -> None:
    with made("valet_committer", sweep=lambda: 2):
        valet_commit.handler({"detail-type": "Scheduled Event"}, None)


# Webhooks.


def deliver(**answers: Any) -> None:
    """Deliver a lane's event, or fail at it, by the function."""
    lane = Lane(
        webhook_id="w",
        lane=SAGA_ID,
        entries=[{"id": DONE.id, "type": DONE.type, "position": 4}],
        attempts=1,
    )
    webhook = mock.Mock(webhook_id="w", owner="asha", status="ENABLED", failing_since=None)
    webhook.signs_with.return_value = ["whsec_" + "A" * 32]
    lease = mock.Mock(webhook=webhook, lane=lane)

    def empty(attempt: Attempt, *, keep: bool) -> None:
        lease.lane = replace(lane, entries=[])

    lease.remove_first.side_effect = empty
    hooks = mock.Mock(clock=lambda: 1.0)
    hooks.registrations.get.return_value = webhook
    hooks.lanes.get.return_value = lane
    hooks.leases.acquire.return_value = lease
    hooks.configure_mock(**answers.pop("hooks", {}))
    fed = mock.Mock(read=lambda *_: [mock.Mock(event=DONE)])
    sender = mock.Mock(post=lambda *_: answers.get("answer"))
    by = Deliverer(hooks, fed, sender, mock.Mock(), log=webhook_deliver.log_attempt)
    asked = record(json.dumps({"webhook_id": "w", "lane": SAGA_ID}))
    with (
        queue(),
        made("wake"),
        environ(WEBHOOK_LANES="q"),
        mock.patch.object(webhook_deliver, "deliverer", lambda: by),
    ):
        webhook_deliver.handler(batch(asked), None)


@drives(
    "recourse.functions.webhook_deliver.handler",
    *(EVENT - {"message_id"}),
    *("webhook_id", "lane", "outcome", "status"),
)
def an_endpoint_accepts_an_event_refuses_it_and_is_gone() -> None:
    for status in (200, 500, 410, None):
        deliver(answer=Answer(status, error="secret.example has no address"))


@drives("recourse.functions.webhook_deliver.handler", *MESSAGE, "webhook_id", "lane", "saga_id")
def a_lane_cannot_be_delivered() -> None:
    for problem in (ValueError("oops"), InvalidItemError("a bad row")):
        deliver(hooks={"lanes.get.side_effect": problem})


@drives("recourse.functions.webhook_dispatch.handler", *EVENT, "owner")
def a_feed_is_not_dispatched() -> None:
    broken = mock.Mock(dispatch=mock.Mock(side_effect=ValueError("oops")))
    with (
        queue(),
        made("wake"),
        environ(WEBHOOK_OWNERS="q"),
        mock.patch.object(webhook_dispatch, "dispatcher", lambda: broken),
    ):
        webhook_dispatch.handler(batch(record(DONE.to_json(), owner="asha")), None)


# What they say.


def must_say(said: list[dict[str, Any]], driven: Driven) -> None:
    """Each line has what it must, of this saga and this trace, and nothing that is in an event."""
    assert said, driven
    values: Mapping[str, Any] = {
        "saga_id": SAGA_ID,
        "saga": "travel-booking",
        "trace_id": SENT.trace_id,
        "message_id": "m",
    }
    for line in said:
        assert driven.fields <= line.keys(), (driven.drive, line)
        for name, value in values.items():
            assert line.get(name, value) == value, (driven.drive, line)
        if "attempt" in driven.fields:
            assert line["attempt"] >= 1
        if "step" in driven.fields:
            assert line["step"] in ("payment", "flight")
        assert "secret" not in json.dumps(line, default=str), line


@pytest.fixture(scope="module", autouse=True)
def functions() -> None:
    """Every function's module, with a log that is known by then."""
    with environ(RECOURSE_SAGAS="statemachines:SAGAS"):
        for driven in DRIVES:
            import_module(driven.handler.rpartition(".")[0])


@pytest.mark.parametrize("driven", DRIVES, ids=lambda one: one.drive.__name__)
def test_each_line_of_a_function_says_what_it_is_about(driven: Driven) -> None:
    with environ(RECOURSE_SAGAS="statemachines:SAGAS"), lines() as found:
        driven.drive()
    must_say(found.said, driven)


def test_every_line_that_a_function_may_log_is_driven() -> None:
    found: list[Lines] = []
    for driven in DRIVES:
        with environ(RECOURSE_SAGAS="statemachines:SAGAS"), lines() as said:
            driven.drive()
        found.append(said)
    records = [record for one in found for record in one.records]
    never = [site for site in sites() if not any(map(site.wrote, records))]
    assert [f"{one.path.name}:{one.first} {one.text}" for one in never] == []
