"""The API's description, OpenAPI 3.1, made of what its routes say of themselves.

`recourse compile` writes it to openapi.json, which is what the API answers: no function makes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from recourse.declare.saga import Saga
from recourse.functions.api.routes import (
    FAILURES,
    SAGA_NAMES,
    Answer,
    OneOf,
    Operation,
    Parameter,
    Routes,
    Sample,
)
from recourse.problems import MEDIA_TYPE, TYPES, urn

Schema = dict[str, Any]
REF = "#/components/schemas/"


class _Wrong(TypedDict):
    field: str
    message: str


class ProblemView(TypedDict):
    """What is wrong with a request, as RFC 9457 has it; `type` is stable."""

    type: Annotated[str, OneOf([urn(kind) for kind in TYPES])]
    title: str
    status: int
    detail: str
    errors: NotRequired[list[_Wrong]]


class _Gateway(TypedDict):
    """What the gateway itself says of a token that it refuses."""

    message: str


def document(
    groups: Iterable[Routes], info: Mapping[str, str], sagas: Mapping[str, Saga], samples: Path
) -> Schema:
    """The whole description.

    Args:
        groups: The API's routes.
        info: Its title, version and description.
        sagas: The declarations of the deployment, by name.
        samples: The folder in which the examples are.
    """
    made = _Description(sagas, samples)
    paths: dict[str, Schema] = {}
    for group in groups:
        for method, path, operation in group.operations(sagas):
            found = made.operation(path, operation)
            paths.setdefault(path, {})[method.lower()] = {"tags": [group.tag]} | found
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {
        "openapi": "3.1.0",
        "info": dict(info),
        "tags": [{"name": group.tag, "description": group.about} for group in groups],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(made.schemas.items())),
            "responses": dict(sorted(made.responses.items())) | {"not-allowed": made.not_allowed},
            "securitySchemes": {"bearer": bearer},
        },
    }


def problems_of(operation: Operation) -> list[str]:
    """The kinds of problems that a call may be refused with, in the catalogue's order."""
    kinds = {*operation.problems, *(one.problem for one in operation.parameters)}
    if operation.scope:
        kinds |= {"malformed", "unauthorized", "forbidden", *FAILURES}
    if operation.takes and operation.content_type == "application/json":
        kinds |= {"malformed", "too-large", "not-json", "invalid"}
    if unknown := kinds - {None, *TYPES}:
        raise ValueError(f"{operation.name}: {unknown} must be in the catalogue of problems")
    return [kind for kind in TYPES if kind in kinds]


class _Description:
    """A description as it is made.

    Attributes:
        schemas: The components that the operations so far refer to.
        responses: Those of them that are refusals, by their kinds.
    """

    def __init__(self, sagas: Mapping[str, Saga], samples: Path) -> None:
        self._sagas = sagas
        self._samples = samples
        self.schemas: dict[str, Schema] = {}
        self.responses: dict[str, Schema] = {}

    def operation(self, path: str, operation: Operation) -> Schema:
        """An operation as the description has it."""
        found: Schema = {
            "summary": operation.summary,
            "operationId": operation.name,
            "security": [{"bearer": [operation.scope]}] if operation.scope else [],
        }
        if parameters := list(self._parameters(path, operation)):
            found["parameters"] = parameters
        if operation.takes:
            content = {"schema": self._request(operation.takes)} | self._example(operation.example)
            found["requestBody"] = {
                "required": not operation.is_bodiless,
                "content": {operation.content_type: content},
            }
        answers = {str(one.status): self._answer(one) for one in operation.answers}
        return found | {"responses": answers | self._problems(operation)}

    def _parameters(self, path: str, operation: Operation) -> Iterator[Schema]:
        known = {one.name for one in operation.parameters}
        of_path = [
            Parameter(name, f"the {name}", where="path", required=True)
            for name in re.findall(r"{(\w+)}", path)
            if name not in known
        ]
        for one in (*of_path, *operation.parameters):
            yield {
                "in": one.where,
                "name": one.name,
                "schema": dict(one.schema),
                "description": one.text,
                "required": one.required,
            } | self._example(one.example)

    def _answer(self, answer: Answer) -> Schema:
        found: Schema = {"description": answer.text}
        if answer.model:
            found["content"] = {answer.content_type: {"schema": self._view(answer.model)}}
        if answer.headers:
            found["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in answer.headers.items()
            }
        return found

    def _problems(self, operation: Operation) -> Schema:
        """The refusals of a call, one a status: it is any of the kinds that have it."""
        kinds = problems_of(operation)
        found: Schema = {}
        for status in sorted({TYPES[kind][0] for kind in kinds}):
            these = [kind for kind in kinds if TYPES[kind][0] == status]
            name = ".".join(these)
            self.responses[name] = self._refusal(these)
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return found

    @property
    def not_allowed(self) -> Schema:
        """What a path answers a method that it has not, of which no operation says anything."""
        allow = {"description": "the methods that the path has", "schema": {"type": "string"}}
        return self._refusal(["not-allowed"]) | {"headers": {"Allow": allow}}

    def _refusal(self, kinds: list[str]) -> Schema:
        narrowed = {"properties": {"type": {"enum": [urn(kind) for kind in kinds]}}}
        schema = {"allOf": [self._view(ProblemView), narrowed]}
        content = {MEDIA_TYPE: {"schema": schema}}
        if {"unauthorized", "forbidden"} & set(kinds):
            content["application/json"] = {"schema": self._view(_Gateway)}
        return {"description": "; ".join(TYPES[kind][1] for kind in kinds), "content": content}

    def _example(self, example: Any) -> Schema:
        found = example.read(self._samples) if isinstance(example, Sample) else example
        return {} if found is None else {"example": found}

    def _request(self, model: type) -> Schema:
        """The schema of a body: a component, with those of its parts; a private one stands here."""
        if model.__name__.startswith("_"):
            return self._view(model)
        whole = TypeAdapter(model).json_schema(ref_template=f"{REF}{{model}}")
        self.schemas |= whole.pop("$defs", {})
        for one in whole.get("properties", {}).values():
            if one.get("enum") == SAGA_NAMES:
                one["enum"] = list(self._sagas)
        self.schemas[model.__name__] = whole
        return {"$ref": f"{REF}{model.__name__}"}

    def _view(self, model: Any) -> Schema:
        """The schema of what is answered: a view is a component, anything else stands here."""
        whole = TypeAdapter(model).json_schema()
        parts = whole.pop("$defs", {})
        name = getattr(model, "__name__", "")
        if not name.endswith("View"):
            return self._plain(whole, parts)
        self.schemas[name.removesuffix("View")] = self._plain(whole, parts)
        return {"$ref": REF + name.removesuffix("View")}

    def _plain(self, schema: Schema, parts: Mapping[str, Schema]) -> Schema:
        """A schema without titles, with its parts in place, and null as one more type."""
        match schema:
            case {"$ref": str(ref)}:
                name = ref.rpartition("/")[2]
                found = self._plain(parts[name], parts)
                if not name.endswith("View"):
                    return found
                self.schemas[name.removesuffix("View")] = found
                return {"$ref": REF + name.removesuffix("View")}
            case {"anyOf": [one, {"type": "null"}]}:
                found = self._plain(one, parts)
                return found | {"type": [found["type"], "null"]}
        found = {name: value for name, value in schema.items() if name != "title"}
        if found.get("enum") == SAGA_NAMES:
            found["enum"] = list(self._sagas)
        if found.get("additionalProperties") is True:
            del found["additionalProperties"]
        for name in ("items", "additionalProperties"):
            if name in found:
                found[name] = self._plain(found[name], parts)
        if "properties" in found:
            properties = found["properties"].items()
            found["properties"] = {name: self._plain(one, parts) for name, one in properties}
        return found
