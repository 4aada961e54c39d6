"""Webhooks through the API: register, list, show, test, rotate, enable, replay, and the log.

`recourse.webhooks` is imported where it is used: few calls of the API are about webhooks.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from aws_lambda_powertools.event_handler import Response
from typing_extensions import TypedDict

from recourse.events import Event, message_group
from recourse.functions import kit, settings
from recourse.functions.api import http
from recourse.functions.api.parameters import CURSOR, LIMIT
from recourse.functions.api.routes import Answer, Operation, Page, Routes
from recourse.functions.api.webhook_models import (
    DeliveryView,
    Registration,
    Replay,
    Status,
    WebhookView,
    WebhookWithSecretView,
)
from recourse.problems import ProblemError, invalid
from recourse.store.cursors import BadCursorError
from recourse.text import LONGEST_ID

if TYPE_CHECKING:
    from recourse.webhooks.registrations import Webhook

READ, WRITE = "sagas:read", "webhooks:write"
"""Who only reads cannot have a webhook made, which would go on to tell of every event."""
routes = Routes(
    "Webhooks",
    "Your own endpoints, to which events are pushed, signed and in order",
    needs="WEBHOOKS_TABLE",
)


class _Tested(TypedDict):
    event_id: str
    links: dict[str, str]


class _Replayed(TypedDict):
    replay_id: str
    links: dict[str, str]


@routes.post(
    "/webhooks",
    Operation(
        "register-webhook",
        "Register a webhook: only this response has its first secret",
        scope=WRITE,
        takes=Registration,
        example={"url": "https://example.com/hooks", "events": ["recourse.order.*"]},
        answers=[
            Answer(
                201,
                "registered",
                WebhookWithSecretView,
                headers={"Location": "its address"},
            )
        ],
        problems=["too-many-webhooks"],
    ),
)
def register() -> Response[str]:
    """Register a webhook: only this response has its first secret."""
    from recourse.webhooks.addresses import ForbiddenAddressError, UnresolvedError, checked
    from recourse.webhooks.addresses import endpoint as taken_apart
    from recourse.webhooks.errors import TooManyWebhooksError

    event = routes.current_event
    owner = http.caller(event, WRITE).subject
    asked = http.body(event, Registration)
    try:
        loopback = settings.loopback()
        to = taken_apart(asked["url"], loopback=loopback)
        checked(to, loopback=loopback)
    except (ForbiddenAddressError, UnresolvedError) as problem:
        raise invalid("url", str(problem)) from None
    kinds = list(dict.fromkeys(asked["events"] or ["*"]))
    try:
        made = kit.webhooks().registrations.register(owner, to.url, kinds, kit.feed().head(owner))
    except TooManyWebhooksError as problem:
        raise ProblemError("too-many-webhooks", str(problem)) from None
    answer = _view(made) | {"secret": made.secret}
    return http.answer(201, answer, headers={"location": f"/webhooks/{made.webhook_id}"})


@routes.get(
    "/webhooks",
    Operation(
        "list-webhooks",
        "List your own webhooks, the newest first",
        scope=READ,
        answers=[Answer(200, "all of them", Page[WebhookView])],
    ),
)
def page() -> Response[str]:
    """List the caller's webhooks, the newest first; they are few, so it is one page."""
    owner = http.caller(routes.current_event, READ).subject
    items = [_view(one) for one in kit.webhooks().registrations.of(owner)]
    return http.answer(200, {"items": items, "cursor": None})


@routes.get(
    "/webhooks/<webhook_id>",
    Operation(
        "show-webhook",
        "Show a webhook",
        scope=READ,
        answers=[Answer(200, "the webhook", WebhookView)],
        problems=["not-found"],
    ),
)
def show(webhook_id: str) -> Response[str]:
    """Show a webhook."""
    return http.answer(200, _view(_owned(webhook_id, READ)))


@routes.delete(
    "/webhooks/<webhook_id>",
    Operation(
        "delete-webhook",
        "Delete a webhook",
        scope=WRITE,
        answers=[Answer(204, "deleted")],
        problems=["not-found"],
    ),
)
def delete(webhook_id: str) -> Response[str]:
    """Delete a webhook: no more events are delivered to it."""
    webhook = _owned(webhook_id, WRITE)
    kit.webhooks().registrations.delete(webhook)
    return http.answer(204)


@routes.post(
    "/webhooks/<webhook_id>/rotate",
    Operation(
        "rotate-webhook",
        "Make a new secret; the previous one also signs for a day",
        scope=WRITE,
        answers=[Answer(200, "the webhook with its new secret", WebhookWithSecretView)],
        problems=["not-found"],
    ),
)
def rotate(webhook_id: str) -> Response[str]:
    """Give a webhook a new secret: only this response has it."""
    webhook = _owned(webhook_id, WRITE)
    secret = kit.webhooks().registrations.rotate(webhook)
    return http.answer(200, _view(webhook) | {"secret": secret})


@routes.post(
    "/webhooks/<webhook_id>/enable",
    Operation(
        "enable-webhook",
        "Enable a webhook that was disabled, from now on",
        scope=WRITE,
        answers=[Answer(200, "enabled", WebhookView)],
        problems=["not-found"],
    ),
)
def enable(webhook_id: str) -> Response[str]:
    """Enable a webhook that was disabled; events of the meantime are not delivered."""
    webhook = _owned(webhook_id, WRITE)
    head = kit.feed().head(webhook.owner)
    return http.answer(200, _view(kit.webhooks().registrations.enable(webhook, head)))


@routes.post(
    "/webhooks/<webhook_id>/test",
    Operation(
        "test-webhook",
        "Send a test event, once",
        scope=WRITE,
        answers=[Answer(202, "accepted; see the log", _Tested)],
        problems=["not-found", "limit-reached"],
    ),
)
def test(webhook_id: str) -> Response[str]:
    """Send a test event, once, also to a webhook that is disabled."""
    from recourse.webhooks.deliver import trial_event
    from recourse.webhooks.lanes import TEST

    webhook = _owned(webhook_id, WRITE)
    kit.slots("tests").acquire(webhook.owner)
    event_id = f"test-{uuid.uuid4().hex}"
    _put(webhook, TEST + event_id, trial_event(webhook, event_id))
    return http.answer(202, {"event_id": event_id, "links": _links(webhook)})


@routes.post(
    "/webhooks/<webhook_id>/replay",
    Operation(
        "replay-webhook",
        "Deliver again: one event by its event_id, or those between from and to",
        scope=WRITE,
        takes=Replay,
        example={"from": "2026-11-24T00:00:00Z", "to": "2026-11-25T00:00:00Z"},
        answers=[Answer(202, "accepted; see the log", _Replayed)],
        problems=["not-found", "webhook-disabled", "limit-reached"],
    ),
)
def replay(webhook_id: str) -> Response[str]:
    """Deliver again one event, or those of a time range."""
    webhook = _owned(webhook_id, WRITE)
    asked = http.body(routes.current_event, Replay)
    if set(asked) not in ({"event_id"}, {"from", "to"}):
        raise invalid("event_id", "send either event_id, or both from and to")
    if webhook.status != "ENABLED":
        raise ProblemError("webhook-disabled", "enable it before a replay")
    if "from" in asked:
        since, until = _moment(asked, "from"), _moment(asked, "to")
    kit.slots("replays").acquire(webhook.owner)
    if "from" in asked:
        replay_id = _replay_range(webhook, since, until)
    else:
        replay_id = uuid.uuid4().hex
        event = _event(webhook.owner, asked["event_id"])
        _put(webhook, f"{event.saga_id}#{replay_id}", event)
    return http.answer(202, {"replay_id": replay_id, "links": _links(webhook)})


@routes.get(
    "/webhooks/<webhook_id>/deliveries",
    Operation(
        "list-deliveries",
        "List delivery attempts, the newest first",
        scope=READ,
        parameters=[CURSOR, LIMIT],
        answers=[Answer(200, "a page, and the cursor of the next", Page[DeliveryView])],
        problems=["not-found"],
    ),
)
def deliveries(webhook_id: str) -> Response[str]:
    """List delivery attempts, the newest first."""
    event = routes.current_event
    webhook = _owned(webhook_id, READ)
    try:
        found, cursor = kit.webhooks().log.page(
            webhook.webhook_id,
            cursor=event.query_string_parameters.get("cursor"),
            limit=LIMIT.of(event),
        )
    except BadCursorError:
        raise ProblemError("bad-cursor", "use the cursor of the previous page") from None
    return http.answer(200, {"items": [one.view for one in found], "cursor": cursor})


def _owned(webhook_id: str, scope: str) -> Webhook:
    """A webhook of the caller's.

    Raises:
        ProblemError: There is none, or it is another owner's: both answer 404.
    """
    from recourse.webhooks.errors import UnknownWebhookError

    owner = http.caller(routes.current_event, scope).subject
    try:
        if len(webhook_id) > LONGEST_ID:
            raise UnknownWebhookError
        return kit.webhooks().registrations.get(webhook_id, owner)
    except UnknownWebhookError:
        raise ProblemError("not-found", "there is no such webhook") from None


def _put(webhook: Webhook, lane: str, event: Event) -> None:
    """Queue one event for delivery, in a lane of its own.

    Raises:
        ProblemError: Too many deliveries wait, or the webhook is gone.
    """
    from recourse.webhooks.errors import BacklogFullError, UnknownWebhookError

    entry = {"position": 1, "id": event.id, "type": event.type, "event": event.to_json()}
    try:
        kit.webhooks().lanes.append(webhook, lane, entry)
    except BacklogFullError:
        raise ProblemError("try-again", "too many deliveries wait for this webhook") from None
    except UnknownWebhookError:
        raise ProblemError("not-found", "there is no such webhook") from None
    group = message_group(webhook.owner)
    kit.wake(settings.required("WEBHOOK_LANES"))(group, webhook_id=webhook.webhook_id, lane=lane)


def _replay_range(webhook: Webhook, since: datetime, until: datetime) -> str:
    from recourse.events import moment

    if until < since:
        raise invalid("to", "must not be before from")
    feed = kit.feed()
    replay_id = kit.webhooks().replays.plan(
        webhook,
        since=moment(since),
        until=moment(until),
        after=feed.since(webhook.owner, since.timestamp() - 1),
        upto=feed.head(webhook.owner),
    )
    owners = kit.wake(settings.required("WEBHOOK_OWNERS"))
    owners(message_group(webhook.owner), webhook_id=webhook.webhook_id, replay_id=replay_id)
    return replay_id


def _event(owner: str, event_id: str) -> Event:
    """An event of the caller's sagas, from the ledger.

    Raises:
        ProblemError: There is none, or it is another owner's: both answer 404.
    """
    saga_id = event_id.partition(".")[0]
    record = kit.ledger().get(saga_id) if 0 < len(saga_id) <= LONGEST_ID else None
    if record is not None and record.owner == owner:
        for event in record.entered:
            if event.id == event_id and not event.is_hidden:
                return event
    raise ProblemError("not-found", f"you have no event {event_id!r}")


def _moment(asked: dict[str, str], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(asked[name])
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(name, "must be a moment such as 2026-11-24T12:00:00Z") from None


def _links(webhook: Webhook) -> dict[str, str]:
    path = f"/webhooks/{quote(webhook.webhook_id)}"
    return {"self": path, "deliveries": f"{path}/deliveries"}


def _view(webhook: Webhook) -> WebhookView:
    from recourse.webhooks.rows import moment

    since = webhook.failing_since
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "events": webhook.events,
        "status": cast("Status", webhook.status),
        "created_at": webhook.created_at,
        "failing_since": moment(since / 1000) if since else None,
        "disabled_at": webhook.disabled_at,
        "disabled_reason": webhook.disabled_reason,
        "links": _links(webhook),
    }
