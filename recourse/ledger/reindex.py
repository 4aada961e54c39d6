"""`python -m recourse.ledger.reindex TABLE`: indexes the sagas that are older than the indexes.

Lists and the sweeper do not see such a saga until its row is written again, which for a stalled
saga never happens. The program needs permission to scan the table and to update its rows, which no
function has; docs/operations.md says when to run it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

from recourse.ledger.listing import BY_STATUS, attributes
from recourse.ledger.record import Record
from recourse.store.aws import client
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, PRESENT
from recourse.store.table import Table


def reindex(table: Table) -> Iterator[str]:
    """Add the sagas that were written before the indexes existed; yields the id of each.

    It reads the whole table, changes nothing else of a row, and may be repeated at any time.
    """
    rows = table.scan({"saga": PRESENT, BY_STATUS.attribute: ABSENT})
    for record in map(Record.from_row, rows):
        added = attributes(record.saga_id, record.owner, record.business_key, record.status)
        # A row that has changed since it was read was indexed by that very write.
        with suppress(ConditionFailedError):
            table.update(record.saga_id, set=added, when={"version": record.version})
        yield record.saga_id


def main() -> None:
    """Index the sagas that are not, and print how many there were."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recourse.ledger.reindex TABLE (the output LedgerTableName)")
    count = sum(1 for _ in reindex(Table(client("dynamodb"), sys.argv[1])))
    print(f"{count} sagas were older than the indexes, and are in them now")


if __name__ == "__main__":
    main()
