"""A visit whose claim somebody decides, from outside."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Self

from recourse.cli.api import Api
from recourse.declare.declaration import Coordination
from tests.patience import until

PRICE = 120_000


@dataclass(frozen=True)
class Visit:
    """A visit for a slot, an account and a policy that nobody else uses."""

    api: Api
    coordination: Coordination
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def stocked(self) -> Self:
        """With everything there that it needs; whoever is an insurer decides its claim."""
        things: dict[str, dict[str, Any]] = {
            "slots": {"total": 1, "price": {"amount": PRICE, "currency": "INR"}},
            "accounts": {"currency": "INR", "balance": PRICE},
            "policies": {"covers": {"percent": 75}, "decision": "manual"},
        }
        for kind, body in things.items():
            self.api.call("PUT", f"/{kind}/{self.name}", json=body)
        return self

    def start(self) -> str:
        """Start it, and wait until it waits itself."""
        request = {
            "visit_id": self.name,
            "patient": {"name": "Asha Rao", "email": "asha@example.com"},
            "slot_id": self.name,
            "policy_id": self.name,
            "payment": {"account_id": self.name},
        }
        saga = self.api.start("visit", request, key=self.name, coordination=self.coordination)
        saga_id = str(saga["saga_id"])
        until(lambda: saga_id in self.open_claims(), f"{saga_id} waits for a decision")
        return saga_id

    def open_claims(self) -> list[str]:
        """The ids of all claims that wait."""
        found: list[str] = []
        cursor = None
        while True:
            page = self.api.get("/claims", status="open", limit="100", cursor=cursor)
            found += [one["id"] for one in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                return found

    def decide(self, saga_id: str, **decision: str) -> dict[str, Any]:
        return self.api.ask("POST", f"/claims/{saga_id}/decision", json=decision)

    def balance(self) -> int:
        return int(self.api.get(f"/accounts/{self.name}")["balance"])

    def slot(self) -> tuple[int, int, int]:
        """How many places are free, held and booked."""
        shown = self.api.get(f"/slots/{self.name}")
        return shown["available"], shown["held"], shown["confirmed"]
