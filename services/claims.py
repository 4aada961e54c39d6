"""Claims: a policy's part of a price.

A claim is a row that is APPROVED, and WITHDRAWN when its saga is undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from recourse import Call, CurrencyMismatchError, Decision, Item, Put, Refusal, Update, action, undo
from services import policies, prices
from services.policies import UnknownPolicyError, policy_key


class ClaimRefusedError(Refusal):
    """The insurer does not pay."""


def claim_key(call: Call) -> str:
    """The key of the saga's claim."""
    return f"claim#{call.saga_id}"


@dataclass(frozen=True, kw_only=True)
class ClaimAsk:
    """On which policy."""

    policy_id: str


@action(
    ClaimAsk,
    reads=lambda call: [policy_key(call.ask.policy_id)],
    refuses=[ClaimRefusedError, UnknownPolicyError, CurrencyMismatchError],
    keeps={"claim_id": "it is made from the id of the saga"},
)
def claim(call: Call[ClaimAsk]) -> Decision:
    """Claim the policy's part of the sum of the earlier results' prices."""
    name, policy = call.ask.policy_id, call.item
    if policy is None:
        raise UnknownPolicyError(f"there is no policy {name}")
    if policy["decision"] != "auto":
        raise ClaimRefusedError(f"policy {name} is decided by its insurer, which cannot be asked")
    price = prices.total(call.results)
    made: Item = {
        "pk": claim_key(call),
        "saga_id": call.saga_id,
        "policy_id": name,
        "price": price,
        "covered": policies.share(policy, price),
        "status": "APPROVED",
        "owner": call.owner,
    }
    return Decision(result=_shown(made), writes=[Put(made)])


@undo(reads=lambda call: [claim_key(call)])
def withdraw(call: Call) -> Decision:
    """Withdraw the claim."""
    if call.item is None:
        raise LookupError(f"step {call.step!r} has acted but has no claim")
    turn = Update(call.item["pk"], put={"status": "WITHDRAWN"}, when={"status": "APPROVED"})
    return Decision(result=_shown(call.item | {"status": "WITHDRAWN"}), writes=[turn])


def _shown(claim: Item) -> Item:
    shown = {name: claim[name] for name in ("policy_id", "covered", "status")}
    return {"claim_id": claim["pk"], **shown}
