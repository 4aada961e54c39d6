"""Events: what has happened in a saga, and how that comes from a step's transaction to a topic.

- `recourse.events.event`: the `Event`, which is made, travels and is read as one thing everywhere;
- `recourse.events.checks`: what is checked of a message before it is taken for one;
- `recourse.events.outbox`: the row that holds an event until it is published;
- `recourse.events.relay`: what publishes these rows, for the relay's function alone.

Import from here what is in `__all__`. What an event is as JSON, and what an outbox row holds, is
what other processes, releases and endpoints read: it may gain fields, and change none.
"""

from recourse.events.event import Event, error, moment, now
from recourse.events.outbox import KEPT, expiry, outbox_row

__all__ = [
    "KEPT",
    "Event",
    "error",
    "expiry",
    "moment",
    "now",
    "outbox_row",
]
