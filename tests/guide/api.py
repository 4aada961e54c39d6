"""The reference of the HTTP API, as pages, of lambdas/api/openapi.json.

One page: each call by its tag, with what it takes, sends and answers; then each schema once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

KINDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}
LIMITS = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("minLength", "{} or more letters"),
    ("maxLength", "at most {} letters"),
    ("minItems", "{} or more of them"),
    ("maxItems", "at most {} of them"),
    ("pattern", "matches `{}`"),
    ("const", "is `{}`"),
    ("default", "by default `{}`"),
)


def page(description: Mapping[str, Any]) -> str:
    """The page, in Markdown.

    ::

        page(json.loads(Path("lambdas/api/openapi.json").read_text()))

    Raises:
        KeyError: a tag or a schema is named and not there.
    """
    operations: dict[str, list[str]] = {tag["name"]: [] for tag in description["tags"]}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            (tag,) = operation["tags"]
            operations[tag].append("\n".join(_operation(description, method, path, operation)))
    parts = [
        "# HTTP API",
        "Made of the API's own description, `lambdas/api/openapi.json`, which the API also answers "
        "as `GET /openapi.json`, and shows as a page to try on `GET /docs`. What holds for all "
        "calls (tokens, problems, sizes) is said in [tokens](tokens.md) and "
        "[operations](operations.md).",
    ]
    for tag in description["tags"]:
        parts += [f"## {tag['name']}", tag["description"] + ".", *operations[tag["name"]]]
    parts.append("## Schemas")
    for name, schema in description["components"]["schemas"].items():
        parts += [f"### {name} {{ #schema-{name.lower()} }}", _schema(schema)]
    return "\n\n".join(parts) + "\n"


def _operation(
    description: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    scopes = [scope for one in operation.get("security", []) for scope in one["bearer"]]
    needed = f" Scope: {', '.join(f'`{one}`' for one in scopes)}." if scopes else " No token."
    yield f"{operation['summary']}.{needed}\n"
    if operation.get("parameters"):
        yield "| parameter | in | what it is |\n|---|---|---|"
        for one in operation["parameters"]:
            must = ", required" if one.get("required") else ""
            said = _cell(one.get("description", ""))
            limits = _type(one["schema"])
            yield f"| `{one['name']}` | {one['in']}{must} | {said}{'; ' if said else ''}{limits} |"
        yield ""
    if body := operation.get("requestBody"):
        for kind, content in body["content"].items():
            yield f"Body, `{kind}`: {_type(content['schema'])}\n"
            if "example" in content:
                shown = json.dumps(content["example"], indent=2, ensure_ascii=False)
                yield f"```json\n{shown}\n```\n"
    yield "| status | what it says |\n|---|---|"
    for status, answer in operation["responses"].items():
        told = answer
        if "$ref" in answer:
            told = description["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        parts = [_cell(told["description"])]
        parts += [
            _type(one["schema"]) for one in told.get("content", {}).values() if "schema" in one
        ]
        headers = ", ".join(f"`{name}`" for name in told.get("headers", {}))
        yield f"| {status} | {'; '.join(parts)}{f'; headers {headers}' if headers else ''} |"
    yield ""


def _schema(schema: Mapping[str, Any]) -> str:
    said = schema.get("description", "")
    if "properties" not in schema:
        return "\n\n".join(one for one in (said, _type(schema)) if one)
    rows = ["| field | what it is |", "|---|---|"]
    for name, field in schema["properties"].items():
        must = " (required)" if name in schema.get("required", []) else ""
        about = _cell(field.get("description", ""))
        rows.append(f"| `{name}`{must} | {_type(field)}{': ' if about else ''}{about} |")
    return (said + "\n\n" if said else "") + "\n".join(rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#schema-{name.lower()})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[choice]))
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_type({**schema, "type": one}) for one in kind)
    if "enum" in schema:
        shown = " or ".join(f"`{one}`" for one in schema["enum"])
    elif kind == "array":
        shown = f"list of {_type(schema.get('items', {}))}"
    elif kind == "object" and "properties" in schema:
        shown = "{" + ", ".join(f"`{k}`: {_type(v)}" for k, v in schema["properties"].items()) + "}"
    else:
        shown = schema.get("format") or KINDS.get(kind, kind)
    limits = [text.format(_cell(str(schema[key]))) for key, text in LIMITS if key in schema]
    return ", ".join([shown, *limits])


def _cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
