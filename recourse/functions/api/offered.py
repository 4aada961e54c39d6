"""What of an API's description a deployment offers: `recourse compile` describes all there may be.

The description is made before anybody knows which constructs the app has, and says so much less
where it has fewer: nothing of valet keys without valet keys, no choreography without steps that
listen, and no schema that only these have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

_REF = re.compile(r'"#/components/(\w+)/([^"]+)"')


def offered(
    description: Mapping[str, Any], *, without: Collection[str], choreography: bool
) -> dict[str, Any]:
    """A description without what a deployment lacks.

    Args:
        description: The whole, an OpenAPI document.
        without: The tags of the groups of routes that it lacks.
        choreography: Whether its sagas may be choreographed.
    """
    paths: dict[str, Any] = {}
    for path, calls in description["paths"].items():
        if kept := {
            method: call if choreography else _orchestrated(call)
            for method, call in calls.items()
            if not set(call["tags"]) & set(without)
        }:
            paths[path] = kept
    found = {
        **description,
        "tags": [tag for tag in description["tags"] if tag["name"] not in without],
        "paths": paths,
    }
    return found | {"components": _referred(found) if without else description["components"]}


def _orchestrated(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose parameter `coordination` may be orchestration only."""
    parameters = [
        one | {"schema": one["schema"] | {"enum": ["orchestration"]}}
        if one["name"] == "coordination"
        else one
        for one in call.get("parameters", ())
    ]
    return {**call, "parameters": parameters} if parameters else dict(call)


def _referred(description: Mapping[str, Any]) -> dict[str, Any]:
    """The components that are referred to, directly or by others; those of other kinds all."""
    components = description["components"]
    needed: set[tuple[str, str]] = {("responses", "not-allowed")}
    text = json.dumps(description["paths"])
    while new := set(_REF.findall(text)) - needed:
        needed |= new
        text = json.dumps([components[kind][name] for kind, name in new])
    return {
        kind: {name: one for name, one in those.items() if (kind, name) in needed}
        if kind in ("schemas", "responses")
        else those
        for kind, those in components.items()
    }
