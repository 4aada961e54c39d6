"""What the emulator does, and when: runs in its process, and writes a line of JSON for each thing.

The file that the environment variable RECOURSE_TRACE names is written as long as it is there. Times
are seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import dynamodb, lambda_svc, sqs

now = time.monotonic
_file = os.environ["RECOURSE_TRACE"]
_since: dict[str, float] = {}
"""Since when a record of a stream, or a message of a queue, has been there."""
_inside: dict[str, float] = {}
"""When the worker of an invocation began."""


def _say(kind: str, began: float, **more: Any) -> None:
    if os.path.exists(_file):
        with open(_file, "a") as out:
            out.write(json.dumps({"kind": kind, "began": began, "ended": now(), **more}) + "\n")


def _calls() -> None:
    serve = app.app

    async def serve_and_say(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not os.path.exists(_file):
            await serve(scope, receive, send)
            return
        began, body, status = now(), b"", 0

        async def receive_and_keep() -> Any:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        async def send_and_keep(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await serve(scope, receive_and_keep, send_and_keep)
        _say(
            "call",
            began,
            method=scope["method"],
            path=(scope["raw_path"] + b"?" + scope["query_string"]).decode().rstrip("?"),
            headers={name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
            body=body.decode("latin-1"),
            status=status,
        )

    app.app = serve_and_say


def _invocations() -> None:
    execute, invoke = lambda_svc._execute_function_dispatch, lambda_runtime.ProvidedWorker.invoke

    def execute_and_say(func: Any, config: Any, event: Any, name: str, started: float) -> Any:
        began, function = now(), config["FunctionName"]
        records = event.get("Records", []) if isinstance(event, dict) else []
        for record in records:
            there = _since.pop(record.get("eventID") or record.get("messageId", ""), None)
            if there:
                source = record["eventSource"].removeprefix("aws:")
                _say("wait", there, function=function, source=source)
        result = execute(func, config, event, name, started)
        _say("invocation", began, function=function, worker=_inside.pop(name, now()))
        return result

    def invoke_and_keep(worker: Any, event: Any, name: str, **named: Any) -> Any:
        _inside[name] = now()
        return invoke(worker, event, name, **named)

    lambda_svc._execute_function_dispatch = execute_and_say
    lambda_runtime.ProvidedWorker.invoke = invoke_and_keep


def _waits() -> None:
    receive, build = sqs._receive_messages_for_esm, dynamodb._build_change_record

    def receive_and_keep(url: str, size: int) -> Any:
        batch = receive(url, size)
        for message in batch or ():
            _since[message["id"]] = now() - (time.time() - message["sent_at"])
        return batch

    def build_and_keep(*args: Any) -> Any:
        record = build(*args)
        _since[record["eventID"]] = now()
        return record

    sqs._receive_messages_for_esm = receive_and_keep
    dynamodb._build_change_record = build_and_keep


def close() -> None:
    """Begin to look."""
    _calls()
    _invocations()
    _waits()
