"""Sagas as state machines: the compiler, their executions, and the sweeper.

- `compiler`: from a declaration to its state machine;
- `executions`: starts, describes and cancels runs on Step Functions;
- `markers`: the events of a saga by the services' own rows;
- `notices`: keeps in operators' queues what is about sagas that are not at rest;
- `sweeper`: finds sagas that have stalled, and recovers them.

The names of a machine's errors (`Compensated`, `Parked`, `LookupFailed`) are read by other releases
and by alarms: a new name takes a sweeper that knows the old one too.
"""
