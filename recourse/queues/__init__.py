"""Consuming SQS: messages, their source queues, dead letters, the inbox, the worker.

- `message`: what a consumer's handler is given;
- `consumer`: how a consumer or a subscriber is declared;
- `inbox`: makes the effect of an event happen once, however often it is delivered;
- `sources`: the queue that a batch came from: delay, delete or dead-letter a message;
- `deadletters`: queues for operators: count, redrive, clear;
- `reach`: how long queues have been out of reach;
- `worker`: the process that consumes a queue without Lambda.
"""
