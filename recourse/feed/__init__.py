"""The feed: every owner's events in order, and the live channels that read it.

`feed.Feed` numbers an owner's events without gaps; `watch` waits for new ones, `live` words them
for SSE and WebSocket. `connections` keeps the open WebSockets and their leases, `pusher` sends to
them, `wake_ups` is the queue that wakes it. `sns_push` verifies what SNS posts to an endpoint.
"""
