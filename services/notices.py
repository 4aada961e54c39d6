"""Notices: what a transfer has done to each of its accounts, for whoever tells their holders."""

from __future__ import annotations

from recourse import Call, Decision, Put, action


@action()
def issue(call: Call) -> Decision:
    """Issue a notice for the account that has paid, and one for the account that was paid."""
    settled = call.results["settle"]
    notices = [
        {"account_id": settled[account], "kind": kind, "amount": settled["amount"]}
        for account, kind in (("from_account", "DEBITED"), ("to_account", "CREDITED"))
    ]
    rows = [
        {
            "pk": f"notice#{call.saga_id}#{notice['kind']}",
            "saga_id": call.saga_id,
            "business_key": call.business_key,
            "status": "ISSUED",
            "owner": call.owner,
        }
        for notice in notices
    ]
    return Decision(
        result={"notices": notices},
        writes=[Put(row | notice) for row, notice in zip(rows, notices, strict=True)],
    )
