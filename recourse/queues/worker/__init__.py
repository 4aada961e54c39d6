"""The worker: receives the messages of an SQS queue and gives each to a handler, many at a time.

A message is received only when a handler is free for it, so none waits here while another worker
could process it. Only in a FIFO queue do messages wait, behind one of the same group, which SQS
would give to no other worker either. A heartbeat keeps every received message invisible to other
workers until it is deleted, delayed or given back. Whatever happens to the worker, a message that
was not deleted is redelivered once its visibility timeout has ended.

`worker.Worker` is the public face; it starts the threads and ends them. Each of the others does one
thing:

- `receiver` requests as many messages from SQS as `capacity` has places for;
- `lanes` says which may begin, and keeps the order of each group;
- `runner` calls the handler, and decides what a failure means;
- `settlement` carries out each outcome, and explains why no two threads can disagree about it;
- `leases` knows until when each message is invisible, and its heartbeat renews that;
- `deleter` deletes what was processed;
- a `delivery` is one received message on its way through all of them.
"""
