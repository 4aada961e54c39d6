"""The tables' indexes: what each is called, and the attribute that it finds rows by.

Apart from the tables, so that who reads them need not load the CDK.
"""

VALET_INDEXES = {"by-owner": "owner", "by-key": "key_id"}
WEBHOOK_INDEXES = {"by-webhook": "webhook_id"}
LEDGER_INDEXES = {
    "by-owner": "owner",
    "by-status": "status",
    "by-business-key": "business_key",
}
