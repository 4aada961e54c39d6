"""What owners have open or under way, on the ground."""

from __future__ import annotations

from typing import Any

import pytest

from recourse.functions import kit

TABLE = "connections"


def count_slots(patch: pytest.MonkeyPatch, dynamodb: Any) -> None:
    """Make the table in which functions count what each owner has, and let them know of it."""
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "connection", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "connection")
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    patch.setattr(kit, "dynamodb", lambda: dynamodb)
    patch.setenv("CONNECTIONS_TABLE", TABLE)
    kit.slots.cache_clear()
