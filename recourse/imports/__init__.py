"""Imports: many sagas started from one file, which its owner has uploaded by a valet key.

- `lines`: the lines of a file, however long, in whatever encoding;
- `rows`: from lines of CSV or JSON Lines to requests, and what is wrong with those that are none;
- `table`: the imports, and how far each is;
- `check`: reads a file, and writes the batches to start and the rows that are bad;
- `start`: starts the sagas of a batch;
- `finish`: joins what became of all rows into one file;
- `machine`: the state machine that does this, with a Distributed Map over the batches.

What a file's rows are called (`rows.key_of`) may not change: by it the same file starts nothing
twice. A file that waits in S3 is read by later releases: a batch's line may gain fields.
"""
