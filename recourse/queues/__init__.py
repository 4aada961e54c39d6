"""Whatever is taken off SQS: messages, sources, dead letters, the inbox, the worker.

`message` has what the author of a consumer is given, `inbox` the row that says that a message was
done with, `consumer` how a consumer is declared, `sources` and `deadletters` the queues, `worker`
the process that serves one without Lambda.
"""
