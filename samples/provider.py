"""A payment provider on loopback: card payments over HTTP, with a journal of every change.

It stands in for an external provider of `services.cards`. A payment is stored under the reference
that its caller chooses::

    POST /payments                {"reference", "amount", "currency", "card"}   201, 402, 409
    GET  /payments/{reference}                                                  200, 404
    POST /payments/{reference}/capture                                          200, 404, 409
    POST /payments/{reference}/cancel                                           200, 409
    POST /payments/{reference}/refund                                           200, 404, 409

A POST that is repeated with its Idempotency-Key gets the first answer, however often it is sent. A
reference that is cancelled before it exists can never be authorised afterwards. The card
`tok_declined` is declined.

`POST /faults {"operation", "fault", "times", "seconds"}` injects faults into the next calls of an
operation (`authorise`, `capture`, `cancel`, `refund` or `find`): `before` (503, no effect), `after`
(the effect, and 502 for its answer), `slow` (the effect, and the answer after some seconds) or
`late` (the effect itself only after some seconds, even if the caller has gone). `GET /books` is the
journal.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FAULTS = ("before", "after", "slow", "late")
OPERATIONS = ("authorise", "capture", "cancel", "refund", "find")
TURNS = {
    "capture": ("AUTHORISED", "CAPTURED"),
    "cancel": ("AUTHORISED", "CANCELLED"),
    "refund": ("CAPTURED", "REFUNDED"),
}

Answer = tuple[int, dict[str, Any]]


class Books:
    """Payments by reference, and the journal of every change; safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._answers: dict[str, Answer] = {}
        self._faults: list[dict[str, Any]] = []
        self.busy = 0
        """How many calls are running, including those whose callers have gone."""
        self.payments: dict[str, dict[str, Any]] = {}
        self.journal: list[dict[str, Any]] = []

    def ask_for(self, operation: str, fault: str, *, times: int = 1, seconds: float = 0.2) -> None:
        """Inject a fault into the next calls of an operation.

        Raises:
            ValueError: The operation or the fault is unknown.
        """
        if operation not in OPERATIONS or fault not in FAULTS:
            raise ValueError(f"{operation}={fault} is not a valid fault")
        with self._lock:
            for _ in range(times):
                self._faults.append({"on": operation, "fault": fault, "seconds": seconds})

    def recover(self) -> None:
        """Remove injected faults that no call has met."""
        with self._lock:
            self._faults.clear()

    def clear(self) -> None:
        """Be as new: no payment, no answer, no fault."""
        with self._lock:
            for kept in (self._answers, self._faults, self.payments, self.journal):
                kept.clear()

    def fault(self, operation: str) -> dict[str, Any] | None:
        """The fault of the next call of an operation; it is removed."""
        with self._lock:
            for fault in self._faults:
                if fault["on"] == operation:
                    self._faults.remove(fault)
                    return fault
        return None

    def once(self, key: str, act: Callable[[], Answer]) -> Answer:
        """Act once for each key, and answer repetitions with the first answer."""
        with self._lock:
            if key not in self._answers:
                self._answers[key] = act()
            return self._answers[key]

    def authorise(self, asked: dict[str, Any]) -> Answer:
        """Authorise a payment: reserve its amount."""
        reference = asked["reference"]
        with self._lock:
            if reference in self.payments:
                return 409, {"error": f"the payment is {self.payments[reference]['status']}"}
            if asked["card"] == "tok_declined":
                return 402, {"error": "the card was declined"}
            payment = {name: asked[name] for name in ("reference", "amount", "currency")}
            self.payments[reference] = payment
            return 201, self._turn(reference, "authorise", "AUTHORISED")

    def turn(self, reference: str, operation: str) -> Answer:
        """Capture, cancel or refund a payment."""
        before, after = TURNS[operation]
        with self._lock:
            payment = self.payments.get(reference)
            if payment is None and operation == "cancel":
                self.payments[reference] = {"reference": reference, "amount": 0, "currency": None}
            elif payment is None:
                return 404, {"error": "there is no such payment"}
            elif payment["status"] == after:
                return 200, dict(payment)
            elif payment["status"] != before:
                return 409, {"error": f"the payment is {payment['status']}"}
            return 200, self._turn(reference, operation, after)

    def find(self, reference: str) -> Answer:
        """A payment as it is now."""
        with self._lock:
            found = self.payments.get(reference)
            return (200, dict(found)) if found else (404, {"error": "there is no such payment"})

    def _turn(self, reference: str, operation: str, status: str) -> dict[str, Any]:
        payment = self.payments[reference]
        payment["status"] = status
        self.journal.append({"operation": operation, **payment})
        return dict(payment)


def served() -> Starlette:
    """The provider with empty books, for the local cloud."""
    return app(Books())


def app(books: Books) -> Starlette:
    """The provider as an ASGI app."""

    async def answered(operation: str, act: Callable[[], Answer]) -> Response:
        books.busy += 1
        try:
            return await under_fault(operation, act)
        finally:
            books.busy -= 1

    async def under_fault(operation: str, act: Callable[[], Answer]) -> Response:
        fault = books.fault(operation) or {"fault": None}
        match fault["fault"]:
            case "before":
                return JSONResponse({"error": "try again later"}, status_code=503)
            case "late":
                await asyncio.sleep(fault["seconds"])
        status, said = act()
        match fault["fault"]:
            case "after":
                return JSONResponse({"error": "the answer was lost"}, status_code=502)
            case "slow":
                await asyncio.sleep(fault["seconds"])
        return JSONResponse(said, status_code=status)

    async def authorise(request: Request) -> Response:
        asked, key = await request.json(), request.headers["idempotency-key"]
        return await answered("authorise", lambda: books.once(key, lambda: books.authorise(asked)))

    async def turn(request: Request) -> Response:
        reference, operation = request.path_params["reference"], request.path_params["operation"]
        key = request.headers["idempotency-key"]
        return await answered(
            operation, lambda: books.once(key, lambda: books.turn(reference, operation))
        )

    async def find(request: Request) -> Response:
        return await answered("find", lambda: books.find(request.path_params["reference"]))

    async def ask_for(request: Request) -> Response:
        asked = await request.json()
        books.ask_for(asked.pop("operation"), asked.pop("fault"), **asked)
        return JSONResponse({})

    async def journal(request: Request) -> Response:
        return JSONResponse({"journal": books.journal})

    return Starlette(
        routes=[
            Route("/payments", authorise, methods=["POST"]),
            Route("/payments/{reference}", find),
            Route("/payments/{reference}/{operation}", turn, methods=["POST"]),
            Route("/faults", ask_for, methods=["POST"]),
            Route("/books", journal),
        ]
    )
