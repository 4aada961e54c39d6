"""A stand-in for Stripe on loopback: PaymentIntents, refunds, idempotency keys, search that lags.

What is asked and answered is held to `tests.stripe.shapes`; what was not is in `wrong`. Every
movement of money is in `journal`. `ask_for` has the next calls of an operation go wrong:

- `before`: 503, without an effect; `limited` and `locked`: 429 without one;
- `after`: the effect, and 500 for its answer, which its key repeats, as Stripe's does;
- `lost`: the effect, and the connection is closed;
- `slow`: the effect, and its answer after some seconds;
- `late`: the effect after some seconds, even if the caller has gone;
- `held`: the effect only when `released` is set, even if the caller has gone;
- `twice`: it is done twice, as where something on the way sends it again;
- `expired`: the intent is cancelled by Stripe before it;
- `moved`: a redirect; `garbled`: the effect, and an answer that is no JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.patience import PATIENCE
from tests.stripe import shapes

KEY = "sk_test_" + "4eC39H"
WITHOUT_EFFECT = {
    "before": (503, {"type": "api_error"}),
    "limited": (429, {"type": "invalid_request_error", "code": "rate_limit"}),
    "locked": (429, {"type": "invalid_request_error", "code": "lock_timeout"}),
}
FAULTS = (*WITHOUT_EFFECT, "after", "lost", "slow", "late", "twice", "expired", "moved", "garbled")
HELD = "held"
DECLINES: dict[str, dict[str, str]] = {
    "tok_declined": {"code": "card_declined", "decline_code": "stolen_card"},
    "tok_chargeDeclinedInsufficientFunds": {
        "code": "card_declined",
        "decline_code": "insufficient_funds",
    },
    "tok_chargeDeclinedExpiredCard": {"code": "expired_card"},
    "tok_chargeDeclinedProcessingError": {"code": "processing_error"},
    "pm_card_authenticationRequired": {
        "code": "card_declined",
        "decline_code": "authentication_required",
    },
}
MOVES = {
    "confirm": ({"requires_payment_method", "requires_confirmation"}, "requires_capture"),
    "capture": ({"requires_capture"}, "succeeded"),
    "cancel": (
        {"requires_payment_method", "requires_confirmation", "requires_capture"},
        "canceled",
    ),
}
JOURNALLED = {"confirm": "authorise", "capture": "capture", "cancel": "cancel"}

Answer = tuple[int, dict[str, Any]]


class StripeError(Exception):
    """An error as Stripe answers it."""

    def __init__(self, status: int, **error: Any) -> None:
        super().__init__(status, error)
        self.answer: Answer = (status, {"error": error})


def refused(code: str, **more: Any) -> StripeError:
    return StripeError(400, type="invalid_request_error", code=code, **more)


class Books:
    """What Stripe keeps; safe under threads.

    Attributes:
        intents: Every PaymentIntent, by id, as answers show it.
        refunds: Every refund, by id.
        journal: The movements of money, in order.
        wrong: What did not have its shape.
        keys: The API keys that it takes.
        busy: How many calls are running, including those whose callers have gone.
        pending: Whether refunds stay pending.
        asked: What was asked, in order.
        released: Set to let what is held go on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._faults: list[dict[str, Any]] = []
        self._answers: dict[str, tuple[Any, Answer | None]] = {}
        self._ids = itertools.count(1)
        self._indexed: set[str] = set()
        self.released = threading.Event()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self.intents: dict[str, dict[str, Any]] = {}
            self.refunds: dict[str, dict[str, Any]] = {}
            self.journal: list[dict[str, Any]] = []
            self.wrong: list[str] = []
            self.asked: list[str] = []
            self.keys = {KEY}
            self.pending = False
            self.busy = 0
            self._faults.clear()
            self._answers.clear()
            self._indexed.clear()
            self.released.clear()

    def ask_for(self, operation: str, fault: str, *, times: int = 1, seconds: float = 0.3) -> None:
        """Have the next calls of an operation go wrong."""
        assert operation in shapes.OPERATIONS and fault in (*FAULTS, HELD)
        with self._lock:
            self._faults += [{"on": operation, "fault": fault, "seconds": seconds}] * times

    def recover(self) -> None:
        """Remove the faults that no call has met."""
        with self._lock:
            self._faults.clear()

    def fault(self, operation: str) -> dict[str, Any] | None:
        with self._lock:
            for fault in self._faults:
                if fault["on"] == operation:
                    self._faults.remove(fault)
                    return fault
        return None

    def forget_keys(self) -> None:
        """A day passes: idempotency keys are gone, and the search has caught up."""
        with self._lock:
            self._answers.clear()
            self._indexed = set(self.intents)

    def expire(self, payment: str, reason: str = "automatic") -> None:
        """Stripe cancels an intent by itself, as it does when an authorisation has expired."""
        with self._lock:
            intent = self.intents[payment]
            if intent["status"] in MOVES["cancel"][0]:
                self._move(intent, "cancel")
                intent["cancellation_reason"] = reason

    def of_saga(self, saga: str) -> list[dict[str, Any]]:
        with self._lock:
            found = self.intents.values()
            return [one for one in found if one["metadata"].get("recourse_saga") == saga]

    @property
    def payments(self) -> dict[str, dict[str, Any]]:
        """By saga, what has become of its payment, as `samples.provider` says it."""
        with self._lock:
            found = {}
            for one in self.intents.values():
                back = sum(
                    refund["amount"]
                    for refund in self.refunds.values()
                    if refund["payment_intent"] == one["id"] and refund["status"] == "succeeded"
                )
                status = {
                    "requires_capture": "AUTHORISED",
                    "succeeded": "REFUNDED" if back else "CAPTURED",
                    "canceled": "CANCELLED",
                }.get(one["status"])
                if saga := one["metadata"].get("recourse_saga"):
                    found[saga] = {"reference": saga, "amount": one["amount"], "status": status}
            return found

    def settle_refunds(self, status: str) -> None:
        """What was pending has come to an end."""
        with self._lock:
            for one in self.refunds.values():
                if one["status"] == "pending":
                    one["status"] = status

    def answer(self, operation: str, path: str, asked: dict[str, str], key: str) -> Answer:
        """Do what is asked, once for each key."""
        if not key:
            return self._done(operation, path, asked)
        with self._lock:
            if key in self._answers:
                before, answer = self._answers[key]
                if before != (path, asked):
                    return StripeError(400, type="idempotency_error").answer
                if answer is None:
                    return StripeError(
                        409, type="idempotency_error", code="idempotency_key_in_use"
                    ).answer
                return answer
            self._answers[key] = (path, asked), None
        answer = self._done(operation, path, asked)
        with self._lock:
            self._answers[key] = (path, asked), answer
        return answer

    def spoil(self, key: str, answer: Answer) -> None:
        """What a key repeats is an error, though there was an effect."""
        with self._lock:
            if key in self._answers:
                self._answers[key] = self._answers[key][0], answer

    def _done(self, operation: str, path: str, asked: dict[str, str]) -> Answer:
        with self._lock:
            try:
                return 200, json.loads(json.dumps(getattr(self, f"_{operation}")(path, asked)))
            except StripeError as problem:
                return json.loads(json.dumps(problem.answer))  # type: ignore[no-any-return]

    def _create(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        if int(asked["amount"]) < 50:
            raise refused("amount_too_small", param="amount")
        if asked["currency"] in ("irr", "kpw"):
            raise StripeError(400, type="invalid_request_error", param="currency")
        intent: dict[str, Any] = {
            "id": f"pi_{next(self._ids)}",
            "object": "payment_intent",
            "amount": int(asked["amount"]),
            "amount_capturable": 0,
            "amount_received": 0,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": asked.get("capture_method", "automatic"),
            "created": int(time.time()),
            "currency": asked["currency"],
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": _metadata(asked),
            "payment_method": None,
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
        }
        self.intents[intent["id"]] = intent
        return intent

    def _confirm(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        intent = self._in_state(path, "confirm")
        token = asked.get("payment_method") or asked["payment_method_data[card][token]"]
        if token.startswith("pm_none"):
            raise StripeError(
                400,
                type="invalid_request_error",
                code="resource_missing",
                param="payment_method",
            )
        if decline := DECLINES.get(token):
            error = {"type": "card_error", **decline}
            intent["last_payment_error"] = error
            raise StripeError(402, **error, payment_intent=intent)
        return self._move(intent, "confirm")

    def _capture(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        return self._move(self._in_state(path, "capture"), "capture")

    def _cancel(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        return self._move(self._in_state(path, "cancel"), "cancel")

    def _retrieve(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        try:
            return self.intents[path.split("/")[3]]
        except KeyError:
            raise StripeError(
                404, type="invalid_request_error", code="resource_missing", param="intent"
            ) from None

    def _list(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        newest = list(reversed(self.intents.values()))
        if after := asked.get("starting_after"):
            newest = newest[[one["id"] for one in newest].index(after) + 1 :]
        newest = [one for one in newest if one["created"] >= int(asked.get("created[gte]", 0))]
        limit = int(asked.get("limit", 10))
        return _page("list", path, newest[:limit], more=len(newest) > limit)

    def _search(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        field, _, value = asked["query"].partition(":")
        name = field.removeprefix("metadata['").removesuffix("']")
        found = [
            one
            for one in self.intents.values()
            if one["id"] in self._indexed and one["metadata"].get(name) == value.strip("'")
        ]
        return _page("search_result", path, found, more=False)

    def _refund(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        intent = self.intents[asked["payment_intent"]]
        left = intent["amount_received"] - sum(
            one["amount"]
            for one in self.refunds.values()
            if one["payment_intent"] == intent["id"] and one["status"] != "failed"
        )
        if left <= 0:
            raise refused("charge_already_refunded")
        refund = {
            "id": f"re_{next(self._ids)}",
            "object": "refund",
            "amount": left,
            "charge": intent["latest_charge"],
            "created": int(time.time()),
            "currency": intent["currency"],
            "metadata": _metadata(asked),
            "payment_intent": intent["id"],
            "reason": None,
            "status": "pending" if self.pending else "succeeded",
        }
        self.refunds[refund["id"]] = refund
        self.journal.append({"what": "refund", "payment": intent["id"], "amount": left})
        return refund

    def _refunds(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        wanted = asked["payment_intent"]
        found = [one for one in self.refunds.values() if one["payment_intent"] == wanted]
        return _page("list", path, found, more=False)

    def _in_state(self, path: str, what: str) -> dict[str, Any]:
        intent = self._retrieve(path, {})
        if intent["status"] not in MOVES[what][0]:
            raise refused("payment_intent_unexpected_state", payment_intent=intent)
        return intent

    def _move(self, intent: dict[str, Any], what: str) -> dict[str, Any]:
        held = intent["status"] == "requires_capture"
        intent["status"] = MOVES[what][1]
        if what == "confirm":
            intent |= {"amount_capturable": intent["amount"], "latest_charge": f"ch_{intent['id']}"}
        elif what == "capture":
            intent |= {"amount_capturable": 0, "amount_received": intent["amount"]}
        else:
            intent |= {
                "amount_capturable": 0,
                "canceled_at": int(time.time()),
                "cancellation_reason": "requested_by_customer",
            }
        if held or what == "confirm":
            amount = intent["amount"]
            entry = {"what": JOURNALLED[what], "payment": intent["id"], "amount": amount}
            self.journal.append(entry | {"saga": intent["metadata"].get("recourse_saga")})
        return intent


def _metadata(asked: dict[str, str]) -> dict[str, str]:
    return {
        name[len("metadata[") : -1]: value
        for name, value in asked.items()
        if name.startswith("metadata[")
    }


def _page(kind: str, path: str, data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    return {"object": kind, "data": data, "has_more": more, "url": path}


def event(kind: str, thing: dict[str, Any], number: int = 1) -> bytes:
    """The body of a webhook."""
    return json.dumps(
        {
            "id": f"evt_{number}",
            "object": "event",
            "api_version": shapes.VERSION,
            "created": int(time.time()),
            "livemode": False,
            "type": kind,
            "data": {"object": thing},
        }
    ).encode()


def signature(body: bytes, secret: str, at: float | None = None) -> str:
    """The header `Stripe-Signature` of a webhook."""
    moment = int(time.time() if at is None else at)
    signed = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256)
    return f"t={moment},v1={signed.hexdigest()}"


@contextmanager
def served(books: Books) -> Iterator[str]:
    """Serve these books in threads; yields the address."""
    made = type("Handler", (_Handler,), {"books": books})
    server = _Server(("127.0.0.1", 0), made)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True, name="stripe")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers go away while they are answered: that is what they are tested for."""


class _Handler(BaseHTTPRequestHandler):
    books: Books

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def _serve(self) -> None:
        books = self.books
        with books._lock:
            books.busy += 1
        try:
            self._under_fault()
        finally:
            with books._lock:
                books.busy -= 1

    def _under_fault(self) -> None:
        books, where = self.books, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = dict(parse_qsl(body if self.command == "POST" else where.query, True))
        if self.headers.get("Authorization") not in {f"Bearer {one}" for one in books.keys}:
            self._send(401, {"error": {"type": "invalid_request_error"}})
            return
        try:
            operation = shapes.operation(self.command, where.path)
            _, _, request, answered = shapes.OPERATIONS[operation]
            shapes.check(request, asked)
            assert self.headers["Stripe-Version"] == shapes.VERSION
        except (AssertionError, LookupError) as problem:
            books.wrong.append(repr(problem))
            self._send(400, {"error": {"type": "invalid_request_error"}})
            return
        books.asked.append(operation)
        key = self.headers.get("Idempotency-Key") or ""
        fault = books.fault(operation) or {"fault": None}
        kind = fault["fault"]
        if kind in WITHOUT_EFFECT:
            status, error = WITHOUT_EFFECT[kind]
            self._send(status, {"error": error})
            return
        if kind == "moved":
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            return
        if kind == "late":
            time.sleep(fault["seconds"])
        if kind == HELD:
            books.released.wait(PATIENCE)
        if kind == "expired":
            books.expire(where.path.split("/")[3])
        status, said = books.answer(operation, where.path, asked, key)
        if kind == "twice":
            status, said = books.answer(operation, where.path, asked, key)
        try:
            shapes.check(answered if status == 200 else shapes.ERROR, said)
        except AssertionError as problem:
            books.wrong.append(repr(problem))
        match kind:
            case "after":
                status, said = 500, {"error": {"type": "api_error"}}
                books.spoil(key, (status, said))
            case "lost":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            case "slow":
                time.sleep(fault["seconds"])
            case "garbled":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>")
                return
        self._send(status, said)

    def _send(self, status: int, said: dict[str, Any]) -> None:
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Request-Id", "req_1")
        self.end_headers()
        self.wfile.write(text)
