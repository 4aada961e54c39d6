"""Events: what has happened in a saga, and how an event gets from a step's transaction to a topic.

- `recourse.events.event`: the `Event`, the one class of it everywhere;
- `recourse.events.checks`: the validation of a message that should be an event;
- `recourse.events.outbox`: the row that holds an event until it is published;
- `recourse.events.relay`: publishes these rows; only the relay's function uses it.

Import from here what is in `__all__`. Other processes, releases and endpoints read the JSON of an
event and the row of the outbox: both may gain fields, and no field may change.
"""

from recourse.events.event import Event, error, moment, now
from recourse.events.outbox import expiry, inbox_expiry, message_group, outbox_row

__all__ = [
    "Event",
    "error",
    "expiry",
    "inbox_expiry",
    "message_group",
    "moment",
    "now",
    "outbox_row",
]
