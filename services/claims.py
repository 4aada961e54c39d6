"""Claims: a policy's part of a price, approved at once or by the insurer.

A claim is a row that is OPEN while the insurer is asked, then APPROVED or REFUSED; it is WITHDRAWN
when its saga is undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from recourse import (
    Answer,
    Call,
    CurrencyMismatchError,
    Decision,
    Item,
    Put,
    Question,
    Refusal,
    Refused,
    Update,
    Wait,
    action,
    undo,
)
from services import policies, prices
from services.policies import UnknownPolicyError, policy_key

DAY = 24 * 3600


class ClaimRefusedError(Refusal):
    """The insurer does not pay."""


def claim_key(call: Call) -> str:
    """The key of the saga's claim."""
    return f"claim#{call.saga_id}"


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Whose visit it is; the insurer is shown no more of them."""

    name: str


@dataclass(frozen=True, kw_only=True)
class ClaimAsk:
    """For whom, and on which policy."""

    patient: Patient
    policy_id: str


def decide(call: Call[ClaimAsk], answer: Answer) -> Decision | Refused:
    """Approve the claim as it was put to the insurer, or refuse it."""
    _, claim = call.items
    if claim is None:
        raise LookupError(f"step {call.step!r} has asked but has no claim")
    if answer.approved:
        return Decision(
            result=_shown(claim | {"status": "APPROVED"}), writes=[_turn(claim, "APPROVED")]
        )
    return Refused(ClaimRefusedError(answer.reason), [_turn(claim, "REFUSED")])


@action(
    ClaimAsk,
    reads=lambda call: [policy_key(call.ask.policy_id), claim_key(call)],
    refuses=[ClaimRefusedError, UnknownPolicyError, CurrencyMismatchError],
    keeps={"claim_id": "it is made from the id of the saga"},
    waits=Wait("claims", decide, scope="insurer", within=7 * DAY, remind=1 * DAY),
)
def claim(call: Call[ClaimAsk]) -> Decision | Question:
    """Claim the policy's part of the sum of the earlier results' prices.

    A policy whose `decision` is `auto` pays it; one whose is `manual` has its insurer asked.
    """
    name, policy = call.ask.policy_id, call.item
    if policy is None:
        raise UnknownPolicyError(f"there is no policy {name}")
    price = prices.total(call.results)
    covered = policies.share(policy, price)
    claim: Item = {
        "pk": claim_key(call),
        "saga_id": call.saga_id,
        "policy_id": name,
        "price": price,
        "covered": covered,
        "owner": call.owner,
    }
    if policy["decision"] == "auto":
        claim |= {"status": "APPROVED"}
        return Decision(result=_shown(claim), writes=[Put(claim)])
    about = {"visit_id": call.business_key, "patient": call.ask.patient.name, "policy_id": name}
    return Question(
        about=about | {"price": price, "covered": covered},
        to=policy.get("insurer"),
        writes=[Put(claim | {"status": "OPEN"})],
    )


@undo(reads=lambda call: [claim_key(call)])
def withdraw(call: Call) -> Decision:
    """Withdraw the claim, or the question about it."""
    if call.item is None:
        raise LookupError(f"step {call.step!r} has acted but has no claim")
    withdrawn = call.item | {"status": "WITHDRAWN"}
    return Decision(result=_shown(withdrawn), writes=[_turn(call.item, "WITHDRAWN")])


def _turn(claim: Item, status: str) -> Update:
    return Update(claim["pk"], put={"status": status}, when={"status": claim["status"]})


def _shown(claim: Item) -> Item:
    shown = {name: claim[name] for name in ("policy_id", "covered", "status")}
    return {"claim_id": claim["pk"], **shown}
