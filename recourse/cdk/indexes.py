"""The tables' indexes: what each is called, and the attribute that it finds rows by.

Apart from the tables, so that who reads them need not load the CDK.
"""

from recourse.ledger.listing import INDEXES

VALET_INDEXES = {"by-owner": "owner", "by-key": "key_id"}
WEBHOOK_INDEXES = {"by-webhook": "webhook_id"}
FORMER_INDEXES = {
    "by-status": "status",
    "by-owner": "owner",
    "by-business-key": "business_key",
}
"""The ledger's indexes before those of `recourse.ledger.listing`; whole rows are in them."""
INDEX_STEPS = len(INDEXES) + len(FORMER_INDEXES)
"""How many deploys it takes from those to these: CloudFormation makes or drops one at a time."""
