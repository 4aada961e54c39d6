"""The WebSocket API: connections, and their subscriptions.

A connection receives its owner's events from the moment that it is opened, or from `?after=`; the
message `subscribe` changes that. `recourse.functions.push` sends the events.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from aws_lambda_powertools import Logger

from recourse.feed.connections import MAX_MESSAGES_PER_MINUTE, GoneError
from recourse.feed.feed import cursor_of, position_of
from recourse.feed.live import cursor_problem
from recourse.functions import kit
from recourse.functions.handshake import subprotocols
from recourse.problems import MEDIA_TYPE, ProblemError, problem
from recourse.store.cursors import CursorError
from recourse.store.slots import LimitReachedError
from recourse.text import LONGEST_ID, MalformedError, read_json

SUBPROTOCOL = "recourse.v1"
LONGEST_MESSAGE = 4096
OPENS_AFTER = 1
"""Seconds before events are sent: a connection is not open before `$connect` is answered."""
logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Open or close a connection, or answer a message."""
    about = event["requestContext"]
    owner, name = about["authorizer"]["owner"], about["connectionId"]
    match about["eventType"]:
        case "CONNECT":
            return _connect(event, owner, name)
        case "DISCONNECT":
            kit.connections().close(owner, name)
        case _:
            _answer(owner, name, event.get("body") or "")
    return {"statusCode": 200}


def _connect(event: dict[str, Any], owner: str, name: str) -> dict[str, Any]:
    after = (event.get("queryStringParameters") or {}).get("after")
    position, refusal = 0, None
    try:
        position = position_of(owner, after) if after else kit.feed().head(owner)
    except CursorError as error:
        # A browser cannot see why a handshake failed, so the refusal is sent once it is open.
        refusal = cursor_problem(error).body
    until = int(event["requestContext"]["authorizer"]["until"])
    try:
        kit.connections().open(owner, name, position, until=until, refusal=refusal)
    except LimitReachedError as reached:
        return {
            "statusCode": reached.status,
            "headers": {"content-type": MEDIA_TYPE, **reached.headers},
            "body": json.dumps(reached.body),
        }
    # Events from before this connection was stored have not woken the pusher for it.
    kit.wake_ups().send(owner, name, delay=OPENS_AFTER)
    agreed = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if SUBPROTOCOL in subprotocols(event) else {}
    return {"statusCode": 200, "headers": agreed}


def _answer(owner: str, name: str, body: str) -> None:
    pusher = kit.pusher()
    with suppress(GoneError):
        connection = kit.connections().count_message(owner, name)
        if connection.received > MAX_MESSAGES_PER_MINUTE:
            detail = f"at most {MAX_MESSAGES_PER_MINUTE} messages a minute"
            pusher.refuse(connection, problem("too-many", detail))
            logger.warning("a client sends too many messages", extra={"owner": owner})
            return
        try:
            asked = _read(body)
            is_subscribe = asked["action"] == "subscribe"
            answer = _subscribe(owner, name, asked) if is_subscribe else {"type": "pong"}
        except ProblemError as wrong:
            pusher.send(name, {"type": "error", "problem": wrong.body})
            return
        pusher.send(name, answer)
        if is_subscribe:
            kit.wake_ups().send(owner, name)


def _read(body: str) -> dict[str, Any]:
    if len(body) > LONGEST_MESSAGE:
        raise ProblemError(
            "too-large", f"a message must be at most {LONGEST_MESSAGE} characters, got {len(body)}"
        )
    try:
        asked = read_json(body)
    except MalformedError as problem:
        raise ProblemError("malformed", f"the message is not valid JSON: {problem}") from None
    if not isinstance(asked, dict):
        raise ProblemError("malformed", "send a JSON object with an action")
    known = {"subscribe": {"action", "saga_id", "after"}, "ping": {"action"}}
    action = asked.get("action")
    if not isinstance(action, str) or action not in known:
        raise ProblemError("malformed", "action: must be subscribe or ping")
    if strange := sorted(set(asked) - known[action]):
        raise ProblemError("malformed", f"{strange[0][:LONGEST_ID]}: {action} has no such field")
    for field in ("saga_id", "after"):
        value = asked.get(field)
        if value is not None and not (isinstance(value, str) and 1 <= len(value) <= LONGEST_ID):
            raise ProblemError("malformed", f"{field}: must have 1 to {LONGEST_ID} characters")
    return asked


def _subscribe(owner: str, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    feed = kit.feed()
    saga_id, after = asked.get("saga_id"), asked.get("after")
    try:
        position = position_of(owner, after) if after else feed.head(owner)
        feed.read(owner, position, limit=1)
    except CursorError as error:
        raise cursor_problem(error) from None
    kit.connections().subscribe(owner, name, position, saga_id)
    return {"type": "subscribed", "saga_id": saga_id, "cursor": cursor_of(owner, position)}
