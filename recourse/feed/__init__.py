"""Everybody's own feed of events, and the live channels that stand on it.

`feed.Feed` has positions without gaps; `watch` waits for new ones, `live` frames them for SSE and
WebSocket, `connections` keeps who is connected, `sns_push` receives what SNS posts to an endpoint.
"""
