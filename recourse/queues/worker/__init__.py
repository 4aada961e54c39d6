"""The worker: receives the messages of an SQS queue and gives each to a handler, many at a time.

A message is received only when a handler has time for it, so none waits here while another worker
could have it; only in a FIFO queue those behind a message of the same group wait for it, which
nobody else could have either. What is here is kept invisible to others by a heartbeat until it is
deleted, put off or given back. Whatever happens to the worker, a message that was not deleted comes
again: once its visibility has ended, another worker has it.

`worker.Worker` is what is used from outside; it starts the threads and ends them. Each of the
others does one thing:

- `receiver` asks SQS for as many messages as `capacity` has room for;
- `lanes` says which may begin, and keeps the order of each group;
- `runner` calls the handler, and decides what a failure means;
- `settlement` carries out what becomes of a message, and says why no two threads can disagree;
- `leases` knows what is hidden from others until when, and its heartbeat tells SQS;
- `deleter` deletes what is done; a `delivery` is one message on its way through all of them.
"""
