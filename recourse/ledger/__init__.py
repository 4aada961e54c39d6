"""The read model of sagas: which there are, what became of them, in which order.

`ledger.Ledger` is the table, `history` what its events say, `listing` its indexes, `reindex` the
program that fills them for rows of before.
"""
