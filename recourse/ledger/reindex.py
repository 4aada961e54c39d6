"""`python -m recourse.ledger.reindex TABLE`: puts into the indexes what is older than they are.

Lists and the sweeper do not see such a saga until it is written again, and one that nothing is
heard of would never be. It takes the rights to scan the table and to update its rows, which no
function has; docs/operations.md says when.
"""

from __future__ import annotations

import sys

from recourse.ledger.ledger import Ledger
from recourse.store.aws import client


def main() -> None:
    """Index what is not, and say how much that was."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recourse.ledger.reindex TABLE (the output LedgerTableName)")
    count = sum(1 for _ in Ledger(client("dynamodb"), sys.argv[1], {}).reindex())
    print(f"{count} sagas were older than the indexes, and are in them now")


if __name__ == "__main__":
    main()
