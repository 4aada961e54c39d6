"""Webhooks: an owner's events, pushed to the owner's own HTTPS endpoint by Standard Webhooks.

Every webhook has a position in its owner's feed (`dispatch`). What comes after it is sorted into
lanes, one a saga, whose rows say what is still to be delivered and in which order (`webhooks`); a
message in the deliveries' queue stands for a lane that has something in it. A lane is taken by one
delivery at a time, from its first event on (`deliver`), so a failure holds up its own saga at its
own endpoint and nothing else. What an endpoint may be is in `addresses`, how it is called in
`sending`, how a call is signed in `signing`, and when it is tried again in `schedule`.
"""
