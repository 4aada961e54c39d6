"""Webhooks: an owner's events, pushed to the owner's own HTTPS endpoint by Standard Webhooks.

Every webhook (`registrations`) has a position in its owner's feed. What comes after it is sorted
(`dispatch`) into lanes, one a saga, whose rows say what is still to be delivered and in which order
(`lanes`); a message in the queue of deliveries stands for a lane that has entries. One delivery at
a time (`deliver`) holds the lease of a lane (`leases`) and delivers from its first entry on, so a
failure delays its own saga at its own endpoint and nothing else. Each attempt is logged
(`attempts`); a range of the feed is replayed in lanes of its own (`replays`). `webhooks` makes one
object of what the table keeps, whose rows have `rows` in common.

Which addresses an endpoint may have is in `addresses`, how it is called in `sending`, how a call is
signed in `signing`, and when it is retried in `schedule`.
"""
