"""Money as rows, results and answers hold it."""

from __future__ import annotations

from typing import Any


def money(amount: int, currency: str) -> dict[str, Any]:
    """So many minor units."""
    return {"amount": amount, "currency": currency}
