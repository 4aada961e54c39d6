"""The HTTP API: the routes that every deployment has.

`app.Api` composes them with a deployment's own; `default` is the API of a deployment that has none
of its own. There is one module for each group of routes; `routes` is how they describe themselves,
and `openapi` makes the OpenAPI document from that when the project is built. The sagas are those
that the environment variable `RECOURSE_SAGAS` names; none of these modules imports a declaration.
"""
