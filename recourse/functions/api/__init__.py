"""The HTTP API: the routes that every deployment has, and what a deployment composes its own of.

`app.Api` puts them together, with a deployment's own beside them; `default` is the API of a
deployment that has none of its own. A module a group of routes, `routes` how they describe
themselves, `openapi` what makes the description of that when the project is built. Nothing here
reads a declaration when it is imported: the sagas are those that `RECOURSE_SAGAS` names.
"""
