"""The read model of sagas: which sagas exist, their status, and their events in order.

- `ledger`: `Ledger`, the table: starts, events, operators' decisions, recoveries;
- `record`: `Record`, one saga as the table holds it, and its row;
- `history`: what a saga's events say: their order, its status, the status of each step;
- `queries`: lists of sagas, from the indexes in `listing`;
- `reindex`: the program that indexes rows which are older than the indexes.

A row may gain attributes; those it has keep their names and meanings, for every release reads the
rows of those before it.
"""
