"""The tables' indexes: the name of each, and the attribute that it finds rows by.

In a separate module, so that code that queries them need not load the CDK.
"""

from recourse.ledger.listing import INDEXES

VALET_INDEXES = {"by-owner": "owner", "by-key": "key_id"}
WEBHOOK_INDEXES = {"by-webhook": "webhook_id"}
FORMER_INDEXES = {
    "by-status": "status",
    "by-owner": "owner",
    "by-business-key": "business_key",
}
"""The ledger's indexes before those of `recourse.ledger.listing`; they contain whole rows."""
INDEX_STEPS = len(INDEXES) + len(FORMER_INDEXES)
"""Deploys from the former indexes to the current ones: each creates or deletes one index."""
